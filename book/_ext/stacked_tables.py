"""Tables that a phone is too narrow for: custom.css makes a card of each row, and cells carry their column's name."""

from __future__ import annotations

import re
from html import escape

from docutils import nodes
from site_presence import SYMBOLS
from sphinx.application import Sphinx

PHONE = 350  # pixels
LETTER, PADDING = 8, 18  # pixels, of what cannot be broken, and of a cell


def spoken(node: nodes.Element) -> str:
    """A heading's text, its formulas in plain letters."""
    text = node.astext()
    for command, symbol in SYMBOLS.items():
        text = re.sub(command + r"(?![a-zA-Z]) ?", symbol, text)
    return text


def narrowest(rows: list[list[str]]) -> int:
    """How many pixels a table needs at least: in each column its longest word."""
    longest = (
        max(len(word) for cell in column for word in re.split(r"[ \n-]", cell)) for column in zip(*rows, strict=True)
    )
    return sum(LETTER * letters + PADDING for letters in longest)


def label_cells(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for table in doctree.findall(nodes.table):
        heads, bodies = list(table.findall(nodes.thead)), list(table.findall(nodes.tbody))
        if not heads or "symbols" in table["classes"] or any("morecols" in e for e in table.findall(nodes.entry)):
            continue
        rows = [list(row) for part in (*heads, *bodies) for row in part]
        if narrowest([[spoken(entry) for entry in row] for row in rows]) <= PHONE:
            continue
        table["classes"].append("stacked")
        for row in rows[1:]:
            for head, entry in zip(rows[0], row, strict=True):
                entry["label"] = spoken(head)


def visit_entry(self, node: nodes.entry) -> None:
    type(self).visit_entry(self, node)
    if label := node.get("label"):
        self.body[-1] = self.body[-1].replace("<td", f'<td data-label="{escape(label)}"', 1)


def depart_entry(self, node: nodes.entry) -> None:
    type(self).depart_entry(self, node)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-resolved", label_cells)
    app.add_node(nodes.entry, override=True, html=(visit_entry, depart_entry))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
