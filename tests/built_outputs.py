"""The outputs with which the book was built against those stored, as strictly as nbval: `make compare`.

Where the book is executed as on another machine, this is that machine's strict run, without executing it all again.
"""

import nbformat
import pytest
from helpers import BOOK, ROOT
from nbval.plugin import IPyNbFile, coalesce_streams

EXECUTED = ROOT / "_build" / "jupyter_execute"
NOTEBOOKS = [path.relative_to(EXECUTED) for path in sorted(EXECUTED.rglob("*.ipynb"))]


def test_a_book_was_built():
    assert NOTEBOOKS, "nothing was executed: run make book first"


@pytest.mark.parametrize("name", NOTEBOOKS, ids=str)
def test_outputs_are_those_stored(request, name):
    stored = IPyNbFile.from_parent(request.session, path=BOOK / name)
    stored.setup_sanitize_files()
    cells = list(stored.collect())
    made = [cell for cell in nbformat.read(EXECUTED / name, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.cell.source for cell in cells] == [cell.source for cell in made], "changed since the book was built"
    for cell, executed in zip(cells, made, strict=True):
        if cell.options["check"] and not cell.options["skip"]:
            same = cell.compare_outputs(coalesce_streams(executed.outputs), coalesce_streams(cell.cell.outputs))
            assert same, "\n".join([f"cell {cell.cell_num}:", *cell.comparison_traceback])
