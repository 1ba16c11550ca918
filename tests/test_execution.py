"""A build that executes notebooks ends well on a machine where some of them fail, and says which; not so under CI."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parents[1]
CELLS = {
    "index": ["print('live' * 2)"],
    "wrong": ["print('fre' + 'sh')", "x = 1\nassert x > 2, 'too small'", "print('never')"],
    "slow": ["import time; time.sleep(3600)"],
    "dead": ["import os; os._exit(3)"],
}
CONFIG = """
title: A book
only_build_toc_files: true
execute: {{execute_notebooks: force, timeout: 600}}
repository: {{url: https://github.com/someone/book}}
html: {{use_issues_button: true}}
sphinx:
  local_extensions: {{execution: {extensions}, hurried: {here}}}
"""
# A page that never ends need not be waited for as long as one that ends.
HURRIED = """
import execution

run = execution.run


def hurried(notebook, folder, timeout):
    return run(notebook, folder, timeout // 150 if "sleep" in notebook.cells[1].source else timeout)


def setup(app):
    execution.run = hurried
"""


def build(folder, **environment):
    """jupyter-book's exit status and log, and the pages, of a book whose outputs are stored as "stored 1" and so on."""
    source = folder / "book"
    source.mkdir()
    (source / "_config.yml").write_text(CONFIG.format(extensions=ROOT / "book" / "_ext", here=source))
    (source / "hurried.py").write_text(HURRIED)
    toc = "format: jb-book\nroot: index\nchapters:\n"
    (source / "_toc.yml").write_text(toc + "".join(f"  - file: {name}\n" for name in CELLS if name != "index"))
    for name, cells in CELLS.items():
        notebook = new_notebook(cells=[new_markdown_cell(f"# The page {name}\n\nSome text.")])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        for k, code in enumerate(cells, 1):
            output = new_output("stream", name="stdout", text=f"stored {k}\n")
            notebook.cells.append(new_code_cell(code, execution_count=k, outputs=[output]))
        nbformat.write(notebook, source / f"{name}.ipynb")
    command = [Path(sys.executable).with_name("jupyter-book"), "build", source, "-W", "--keep-going", "-n", "--all"]
    kept = {key: value for key, value in os.environ.items() if key not in ("CI", "EXECUTE")}
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=kept | environment)
    pages = {name: source / "_build" / "html" / f"{name}.html" for name in CELLS}
    text = {name: page.read_text(encoding="utf-8") if page.exists() else "" for name, page in pages.items()}
    return ran.returncode, ran.stdout + ran.stderr, text


@pytest.fixture(scope="module")
def at_home(tmp_path_factory):
    return build(tmp_path_factory.mktemp("home"))


def test_a_reader_gets_every_page(at_home):
    status, log, pages = at_home
    assert status == 0, log
    assert "livelive" in pages["index"] and "stored" not in pages["index"]
    for name in ("wrong", "slow", "dead"):
        assert "stored 1" in pages[name] and "fresh" not in pages[name]
    assert "stored 3" in pages["wrong"]  # all of the page, not what came before the failure


def test_a_page_that_was_not_executed_says_so(at_home):
    banner = '<div class="not-executed admonition warning">'
    for name, page in at_home[2].items():
        assert (banner in page) == (name != "index")
    page = at_home[2]["wrong"]
    shown = page[page.index(banner) : page.index("Some text.")]
    assert "<h1>The page wrong" in page[: page.index(banner)]
    assert "AssertionError: too small" in shown and "https://github.com/someone/book/issues/new" in shown


def test_the_log_ends_with_what_failed_and_where_to_report_it(at_home):
    end = at_home[1][at_home[1].rindex("3 of the pages could not be executed") :]
    assert "wrong: cell [2], “assert x > 2, 'too small'”: AssertionError: too small" in end
    assert "slow: cell [1], “import time; time.sleep(3600)”: CellTimeoutError" in end
    assert "dead: cell [1], “import os; os._exit(3)”: DeadKernelError" in end
    assert "https://github.com/someone/book/issues/new" in end and "Python 3" in end


def test_the_log_holds_no_warning_of_the_kernel(at_home):
    assert "[IPKernelApp] WARNING" not in at_home[1]


def test_under_ci_the_build_fails_and_names_all(tmp_path):
    status, log, _ = build(tmp_path, CI="true")
    assert status == 1
    for name in ("wrong", "slow", "dead"):
        assert f"WARNING: {tmp_path / 'book' / name}.ipynb was not executed: cell [" in log
