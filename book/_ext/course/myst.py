"""A Markdown cell of the book, cut into text and MyST's directives."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

FENCE = re.compile(r"^(?P<fence>`{3,}|:{3,}|~{3,})(?P<info>.*)$")
DIRECTIVE = re.compile(r"^\{(?P<name>[\w:-]+)\}\s*(?P<argument>.*)$")
OPTION = re.compile(r"^:(?P<key>[\w-]+):\s*(?P<value>.*)$")


@dataclass
class Block:
    """A stretch of text (``kind`` "text"), or a directive with its argument, options and body."""

    kind: str
    body: str
    argument: str = ""
    options: dict[str, str] = field(default_factory=dict)
    name: str = ""  # "Theorem 1.2"
    cell: int = 0  # the cell that it stands in


def blocks(source: str) -> Iterator[Block]:
    """Cut a Markdown cell at its directives; code fences stay in the text."""
    lines, text, k = source.splitlines(), [], 0
    while k < len(lines):
        opened = FENCE.match(lines[k])
        if not opened:
            text.append(lines[k])
            k += 1
            continue
        fence, directive = opened["fence"], DIRECTIVE.match(opened["info"].strip())
        end = k + 1
        while end < len(lines) and not re.fullmatch(rf"{fence[0]}{{{len(fence)},}}\s*", lines[end]):
            end += 1
        inside = lines[k + 1 : end]
        hint = directive and directive["name"] == "dropdown" and directive["argument"].startswith("Hint")
        if directive and directive["name"] == "dropdown" and not hint:  # on paper and slides nothing is folded
            if any(line.strip() for line in text):
                yield Block("text", "\n".join(text).strip("\n"))
            text = []
            if directive["argument"].startswith("Predict"):  # a question, and its answer for later
                yield Block("predict", "\n".join(inside).strip("\n"), directive["argument"].strip())
            else:
                own = next(filter(str.strip, inside), "").lstrip(":").startswith("{prf:proof}")  # names itself
                yield from blocks("\n".join(inside if own else [f"**{directive['argument'].strip()}**", "", *inside]))
        elif directive is None:
            text += lines[k : end + 1]
        else:
            if any(line.strip() for line in text):
                yield Block("text", "\n".join(text).strip("\n"))
            text = []
            options = {}
            while inside and (option := OPTION.match(inside[0])):
                options[option["key"]] = option["value"]
                inside = inside[1:]
            yield Block(directive["name"], "\n".join(inside).strip("\n"), directive["argument"].strip(), options)
        k = end + 1
    if any(line.strip() for line in text):
        yield Block("text", "\n".join(text).strip("\n"))
