"""The book's sources hold together: notebooks, table of contents, links to the repository."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from helpers import BOOK, FIRST_CELL, NOTEBOOKS, ROOT, SLUG, code_cells, git_lists, toc_entries

LONGEST_CELL = 25
PLOTLY = "application/vnd.plotly.v1+json"

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


@each_notebook
def test_notebook_is_executed_and_free_of_errors(path):
    for cell in code_cells(path):
        if not cell.source.strip():
            continue
        assert cell.execution_count, f"not executed; run `make notebooks`:\n{cell.source}"
        if "raises-exception" not in cell.metadata.get("tags", []):
            assert not [o for o in cell.outputs if o.output_type == "error"], cell.source


@each_notebook
def test_notebook_cells_are_short(path):
    for cell in code_cells(path):
        lines = len(cell.source.splitlines())
        assert lines <= LONGEST_CELL, f"{lines} lines; what is reused belongs in src:\n{cell.source}"


@each_notebook
def test_notebook_images_have_alternative_text(path):
    for cell in code_cells(path):
        if any(mime.startswith("image/") for output in cell.outputs for mime in output.get("data", {})):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert alt.strip(), f"no mystnb.image.alt in the metadata of the cell\n{cell.source}"


@each_notebook
def test_interactive_figures_are_small_with_a_picture_and_a_caption(path):
    for cell in code_cells(path):
        for data in (output.get("data", {}) for output in cell.outputs):
            assert len(data.get("text/html", "")) < 100_000, f"a script in the stored output of\n{cell.source}"
            if PLOTLY in data:
                assert "image/png" in data, f"no still picture; show it by rl.plotting.interactive:\n{cell.source}"
                assert len(json.dumps(data[PLOTLY])) < 400_000, f"plot fewer points:\n{cell.source}"
                figure = cell.metadata.get("mystnb", {}).get("figure", {})
                assert figure.get("caption") and figure.get("name"), f"no mystnb.figure in\n{cell.source}"


@each_notebook
def test_notebook_begins_with_the_install_cell(path):
    assert code_cells(path)[0].source == FIRST_CELL


@each_notebook
def test_notebook_defines_the_macros_that_it_uses(path, monkeypatch):
    """JupyterLab, VS Code and Colab do not read `_config.yml`."""
    monkeypatch.syspath_prepend(BOOK / "_ext")
    from notebooks import set_macros

    notebook = nbformat.read(path, as_version=4)
    sources = [cell.source for cell in notebook.cells]
    set_macros(notebook)
    assert [cell.source for cell in notebook.cells] == sources, f"run `make notebooks NB={path.relative_to(ROOT)}`"


@each_notebook
def test_notebook_reads_well_without_the_book(path):
    """JupyterLab and Colab show a fenced statement as code, and a link without words as nothing."""
    text = "\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown")
    assert not re.search(r"^`{3,}\{prf:", text, re.MULTILINE), "open and close statements with ::::"
    assert "[](" not in text, "give the link the title of its page"


def test_toc_and_folder_hold_the_same_pages():
    entries = toc_entries()
    assert len(entries) == len(set(entries))
    for entry in entries:
        assert any((BOOK / entry).with_suffix(s).is_file() for s in (".md", ".ipynb")), f"{entry}: no such page"
    pages = [*NOTEBOOKS, *BOOK.glob("*.md"), *BOOK.glob("[!_]*/*.md")]
    assert {p.relative_to(BOOK).with_suffix("").as_posix() for p in pages} == set(entries)


def test_repository_is_the_same_everywhere():
    assert f'Repository = "https://github.com/{SLUG}"' in (ROOT / "pyproject.toml").read_text()
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["repository-code"] == f"https://github.com/{SLUG}"
    readme = (ROOT / "README.md").read_text()
    on_colab = re.findall(r"colab\.research\.google\.com/github/([^/]+/[^/]+)/blob/main/(\S+?\.ipynb)", readme)
    assert {path for _, path in on_colab} == {p.relative_to(ROOT).as_posix() for p in NOTEBOOKS}
    assert {slug for slug, _ in on_colab} == {SLUG}


def test_cited_works_can_be_found():
    entries = re.split(r"^@", (BOOK / "references.bib").read_text(), flags=re.MULTILINE)[1:]
    keys = [re.match(r"\w+\{([^,]+),", e).group(1) for e in entries]
    assert len(keys) == len(set(keys))
    for key, entry in zip(keys, entries, strict=True):
        assert re.search(r"^\s+(doi|eprint|url|number) = ", entry, re.MULTILINE), f"{key}: no DOI, arXiv id or address"


def test_no_file_names_a_machine_or_needs_cuda():
    listed = git_lists(ROOT, "--cached", "--others", "--exclude-standard")
    forbidden = re.compile(r"(?<!\w)/(work|home|root)/|(?<![\w/])shared/|\.cuda\(")
    for name in listed.splitlines():
        path = ROOT / name
        if path == Path(__file__).resolve() or not path.is_file():
            continue
        try:
            found = forbidden.search(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            continue
        assert not found, f"{name}: {found.group()!r}"


def test_notebooks_command_leaves_a_small_diff(tmp_path):
    path = tmp_path / "small.ipynb"
    cell = nbformat.v4.new_code_cell("print(1 + 1)", metadata={"tags": ["t"], "execution": {}, "collapsed": True})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    command = [sys.executable, BOOK / "_ext" / "notebooks.py", path]
    assert subprocess.run(command, capture_output=True, text=True).stdout.endswith("changed\n")
    once = path.read_bytes()
    assert subprocess.run(command, capture_output=True, text=True).stdout.endswith("unchanged\n")
    assert path.read_bytes() == once
    (cell,) = code_cells(path)
    assert cell.outputs[0]["text"] == "2\n" and dict(cell.metadata) == {"tags": ["t"]}


CHAPTERS = [path for path in NOTEBOOKS if path.parent.name not in ("book", "answers")]


@pytest.fixture
def tracks(monkeypatch):
    monkeypatch.syspath_prepend(BOOK / "_ext")
    import tracks

    return tracks


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_core_track_is_short(path, tracks):
    """What is longer belongs into sections marked optional, or into folds: `python book/_ext/tracks.py` counts."""
    text, cells = tracks.core(path)
    assert len(tracks.words(text)) <= 2_200
    assert cells <= 22


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_chapter_speaks_to_its_reader(path, tracks):
    """Per 1,000 words: "we" and "you", words that give reasons and examples, and few semicolons."""
    rates = tracks.voice(tracks.told(path))
    assert rates["we/you"] >= 19 and rates["connectives"] >= 7.5 and rates["semicolons"] <= 2, rates


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_chapter_can_be_tried_on_own_data(path):
    headings = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown"]
    assert any("Try it on your own data" in text for text in headings)


def test_what_is_folded_or_optional_is_not_counted(tmp_path, tracks):
    path = tmp_path / "chapter.ipynb"
    one = "# A\n\none two $x$ `three`\n\n:::{dropdown} No\nfour\n:::\n\n## B (optional)\n\nfive\n\n### C\n\nsix"
    two = "seven\n\n## D\n\neight\n\n::::{prf:theorem} E\nnine\n:::{dropdown} F\nten\n:::\neleven\n::::"
    three = "## Exercises\n\ntwelve"
    first, *rest = (nbformat.v4.new_markdown_cell(text) for text in (one, two, three))
    cells = [first, nbformat.v4.new_code_cell("1"), *rest]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    text, open_cells = tracks.core(path)
    read = set(tracks.words(text))
    assert {"one", "two", "eight", "nine", "eleven"} <= read
    assert not {"three", "four", "five", "six", "seven", "ten", "twelve", "x"} & read
    assert open_cells == 0
