"""Execute notebooks in place and keep the diff small: `python book/_ext/notebooks.py [PATH ...]`.

Without a path, every notebook of the book. Timings, kernel details and interface state are dropped; a
notebook that fails is left as it was. A notebook that uses TeX macros of `_config.yml` gets a cell that defines them
for JupyterLab, VS Code and Colab; the book leaves it out.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
import yaml
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

KEEP = {"mystnb", "slideshow", "tags"}  # the cell metadata that the book means
KERNEL = ["--IPKernelApp.log_level=40"]  # errors: every kernel warns that it talks to this process unencrypted
CONFIG = Path(__file__).resolve().parents[2] / "_config.yml"


def set_macros(notebook: nbformat.NotebookNode) -> None:
    """Define the book's TeX macros in the second cell, if any is used."""
    macros = yaml.safe_load(CONFIG.read_text())["sphinx"]["config"]["mathjax3_config"]["tex"]["macros"]
    cells = [cell for cell in notebook.cells if cell.id != "macros"]
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    if re.search(rf"\\({'|'.join(macros)})(?![A-Za-z])", text):
        pairs = ((name, (macro, 0) if isinstance(macro, str) else macro) for name, macro in macros.items())
        parts = [rf"\def\{name}{''.join(f'#{k + 1}' for k in range(n))}{{{text}}}" for name, (text, n) in pairs]
        cell = nbformat.v4.new_markdown_cell(f"${''.join(parts)}$", id="macros", metadata={"tags": ["remove-cell"]})
        cells.insert(1, cell)
    notebook.cells = cells


def execute(path: Path) -> bool:
    """Run one notebook in its own folder; True if the file changed."""
    before = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(before, as_version=4)
    set_macros(notebook)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(
        notebook,
        timeout=600,
        startup_timeout=600,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=KERNEL,
        resources=resources,
    ).execute()
    notebook.metadata.clear()
    notebook.metadata.update(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    for cell in notebook.cells:
        for key in set(cell.metadata) - KEEP:
            del cell.metadata[key]
    after = nbformat.writes(notebook).rstrip("\n") + "\n"
    path.write_text(after, encoding="utf-8")
    return after != before


if __name__ == "__main__":
    book = Path(__file__).resolve().parents[1]
    paths = [Path(a).resolve() for a in sys.argv[1:]] or sorted(book.rglob("*.ipynb"))
    failed = False
    for path in [p for p in paths if ".ipynb_checkpoints" not in p.parts]:
        print(path.name, end=" … ", flush=True)
        try:
            print("changed" if execute(path) else "unchanged")
        except CellExecutionError as error:
            failed = True
            print(f"FAILED\n{error}", file=sys.stderr)
    raise SystemExit(failed)
