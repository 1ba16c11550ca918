"""Notebooks for students, with stubs where the solutions were, and the same notebooks solved, for instructors."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from .myst import Block
from .plain import STATEMENTS, Book, Chapter, Exercise

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
HEADER = {
    False: "*Student copy: the solutions are left out. Write your answers where the stubs are, and run the cell; "
    "its checker prints `correct`, or says what the answer looks like.*",
    True: "*Instructor's copy, with solutions.*",
}


def with_message(stub: str) -> str:
    """The stub, with an error that says what to do."""
    name = re.search(r"^def (\w+)", stub, re.MULTILINE)[1]
    return stub.replace(
        "raise NotImplementedError", f'raise NotImplementedError("your turn: write {name}, then run this")'
    )


def stub_cell(exercise: Exercise) -> str:
    """What a student finds: the stub, and the checker's call below it."""
    return "\n\n\n".join([with_message(exercise.stub), *exercise.checks])


def text_of(chapter: Chapter, block: Block) -> str:
    if block.kind == "text":
        return chapter.plain(block.body)
    text = chapter.statement(block)
    if block.kind.removeprefix("prf:") in STATEMENTS:
        return f'<div class="alert alert-block alert-info">\n\n{text}\n\n</div>'
    return text


def write(chapter: Chapter, solved: bool) -> nbformat.NotebookNode:
    """One chapter as a notebook without MyST."""
    cells, source, at = [], [], None

    def close() -> None:
        if source:
            cells.append(new_markdown_cell("\n\n".join(source)))
            source.clear()

    for item in chapter.items:
        if isinstance(item, Block):
            if item.cell != at:
                close()
            at = item.cell
            source.append(text_of(chapter, item))
        elif isinstance(item, Exercise):
            close()
            cells += exercise_cells(chapter, item, solved)
        else:
            close()
            cells += code_cells(chapter, item, solved)
    close()
    title, _, rest = cells[0].source.partition("\n")
    cells[0].source = f"{title}\n\n{HEADER[solved]}\n{rest}"
    if references := chapter.references():
        cells.append(new_markdown_cell(references))
    for k, cell in enumerate(cells):
        cell.id = f"cell-{k}"
    return new_notebook(cells=cells, metadata=METADATA)


def code_cells(chapter: Chapter, cell: nbformat.NotebookNode, solved: bool) -> list[nbformat.NotebookNode]:
    """The cell, without its output in a student's copy; a figure's caption below it."""
    copy = new_code_cell(cell.source)
    tags = [tag for tag in cell.metadata.get("tags", []) if tag != "solution"]
    if tags:
        copy.metadata["tags"] = tags
    if "hide-input" in tags:
        copy.metadata["jupyter"] = {"source_hidden": True}
    if solved:
        copy.outputs, copy.execution_count = cell.outputs, cell.execution_count
    figure = cell.metadata.get("mystnb", {}).get("figure", {})
    if not figure.get("caption"):
        return [copy]
    number = f"Figure {chapter.figures[figure['name']]}. " if figure.get("name") in chapter.figures else ""
    return [copy, new_markdown_cell(f"*{number.strip()}* {chapter.plain(figure['caption'])}".strip())]


def exercise_cells(chapter: Chapter, exercise: Exercise, solved: bool) -> list[nbformat.NotebookNode]:
    heading = f'<a id="{exercise.label}"></a>\n### Exercise {exercise.number}\n\n'
    cells = [new_markdown_cell("\n\n".join([heading + chapter.plain(exercise.text), *hints(chapter, exercise)]))]
    if solved:
        cells += [solution_cell(chapter, part, k) for k, part in enumerate(exercise.solution)]
    elif exercise.stub:
        cell = new_code_cell(stub_cell(exercise))
        cell.metadata["tags"] = ["raises-exception"]  # so that "run all" goes on past an open exercise
        cells.append(cell)
    else:
        cells.append(new_markdown_cell("*Your answer:*"))
        cells.append(new_code_cell("# your computation, if you need one"))
    return cells


def hints(chapter: Chapter, exercise: Exercise) -> list[str]:
    """The hints, folded: JupyterLab, VS Code and Colab all show this element."""
    return [
        f"<details>\n<summary>{hint.argument}</summary>\n\n{chapter.plain(hint.body)}\n\n</details>"
        for hint in exercise.hints
    ]


def solution_cell(chapter: Chapter, part: Block | nbformat.NotebookNode, k: int) -> nbformat.NotebookNode:
    if isinstance(part, Block):
        text = text_of(chapter, part)
        return new_markdown_cell(f"**Solution.** {text}" if k == 0 else text)
    return code_cells(chapter, part, solved=True)[0]


README = """\
# {title}: {kind}

{what}

| | chapter | notebook |
|--:|:--|:--|
{rows}

The first cell of each notebook installs the package where it is missing (on Colab, say).
"""
WHAT = {
    False: """\
Each notebook is a chapter without its solutions. Where an exercise has a stub, write the function and run the cell:
the checker below it prints `correct`, or says which mistake the answer looks like. "Run all" goes on past what is
still open.""",
    True: "Each notebook is a chapter with the solutions and all outputs. For instructors; do not hand them out.",
}


def readme(book: Book, solved: bool) -> str:
    rows = "\n".join(f"| {c.number} | {c.title} | [{c.entry}.ipynb]({c.entry}.ipynb) |" for c in book.chapters)
    kind = "solutions" if solved else "notebooks for students"
    what = textwrap.dedent(WHAT[solved])
    return README.format(title=book.config["title"], kind=kind, what=what, rows=rows)


def write_all(book: Book, folder: Path, solved: bool) -> list[Path]:
    written = []
    for chapter in book.chapters:
        path = folder / f"{chapter.entry}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(write(chapter, solved), path)
        written.append(path)
    (folder / "README.md").write_text(readme(book, solved), encoding="utf-8")
    return written
