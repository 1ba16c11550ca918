"""The book as one PDF without the solutions: Sphinx writes one long page, Chromium prints it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from pypdf import PdfReader

from . import browser
from .plain import Book

HERE = Path(__file__).resolve().parent
EXTENSIONS = HERE.parent
ON_SCREEN_ONLY = ("playground", "teach/", "changelog")  # without a number, so that chapters keep theirs

FOOTER = """<div style="width: 100%; font: 8pt sans-serif; color: #555; text-align: center">
<span class="pageNumber"></span></div>"""


PAPER = {
    "prefer_css_page_size": True,
    "print_background": True,
    "display_header_footer": True,
    "header_template": "<span></span>",
    "footer_template": FOOTER,
    "outline": True,
    "tagged": True,
}
# The contents get their page numbers from a first printing; three digits keep their place in it.
NUMBER = """pages => {
  for (const link of document.querySelectorAll('.contents a'))
    link.querySelector('.page').textContent = pages[decodeURIComponent(link.hash.slice(1))] ?? '';
}"""
# A window cannot scroll on paper: it shows as many whole parts as a page holds, as wide as the text of the page.
WINDOWS = """() => {
  for (const frame of document.querySelectorAll('.bd-article iframe')) {
    const inside = frame.contentDocument.documentElement;
    frame.style.width = '174mm';
    inside.querySelector('body').style.padding = '0.5rem 1rem';
    const parts = [...inside.querySelectorAll('main > section')];
    while (parts.length > 1 && inside.offsetHeight > 940) parts.pop().remove();
    frame.style.height = `${Math.min(inside.offsetHeight + 4, 940)}px`;
  }
}"""


def settings(book: Book) -> tuple[dict, dict]:
    """The book's configuration and contents, for paper: stored outputs, no pages that only live on a screen."""
    config = {**book.config, "execute": {"execute_notebooks": "off"}}
    extensions = {name: str(EXTENSIONS) for name in book.config["sphinx"]["local_extensions"]}
    config["sphinx"] = {
        **book.config["sphinx"],
        "local_extensions": {**extensions, "course.singlehtml": str(EXTENSIONS)},
        "config": {**book.config["sphinx"]["config"], "suppress_warnings": ["myst.xref_missing", "myst.header"]},
    }
    toc, parts = dict(book.toc), []
    for part in book.toc["parts"]:
        kept = [c for c in part["chapters"] if not c["file"].startswith(ON_SCREEN_ONLY)]
        if kept:
            parts.append({**part, "chapters": kept})
    toc["parts"] = parts
    return config, toc


def one_page(book: Book, folder: Path) -> Path:
    """Build the whole book as one HTML page."""
    config, toc = settings(book)
    (folder / "config.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    (folder / "toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False), encoding="utf-8")
    command = [Path(sys.executable).with_name("jupyter-book"), "build", book.folder, "--builder", "singlehtml"]
    command += ["--config", folder / "config.yml", "--toc", folder / "toc.yml", "--path-output", folder, "--quiet"]
    ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    page = folder / "_build" / "singlehtml" / "index.html"
    if ran.returncode or not page.is_file():
        raise RuntimeError(f"the book could not be built as one page:\n{ran.stdout[-3000:]}{ran.stderr[-3000:]}")
    return page


def print_page(book: Book, page: Path, target: Path) -> None:
    words = f"""<p>A handout of the book by {book.config["author"]}, without the solutions of the exercises. In the book
    itself, {book.site}, these are folded, and you can use the playground and the risk calculator.</p>
    <p>Prose and figures: CC BY 4.0. Code: MIT.</p>"""
    with browser.page(viewport={"width": 794, "height": 1123}) as tab:
        tab.set_default_timeout(300_000)
        tab.goto(page.resolve().as_uri(), wait_until="load")
        tab.evaluate(
            (HERE / "handout.js").read_text(encoding="utf-8"),
            [book.config["title"], words, [part["caption"] for part in settings(book)[1]["parts"]]],
        )
        tab.add_style_tag(path=HERE / "handout.css")
        tab.evaluate("() => Promise.all([...document.images].map(i => i.decode().catch(() => null)))")
        tab.emulate_media(media="print", color_scheme="light")
        tab.evaluate(WINDOWS)
        number_contents(tab)
        tab.pdf(path=target, **PAPER)


def number_contents(tab) -> None:
    """Print once to see on which page each chapter begins, and write that into the contents."""
    reader = PdfReader(io.BytesIO(tab.pdf(**PAPER)))
    found = reader.named_destinations.items()
    begins = {name.removeprefix("/"): reader.get_destination_page_number(to) + 1 for name, to in found}
    tab.evaluate(NUMBER, begins)


def write(book: Book, target: Path) -> Path:
    with tempfile.TemporaryDirectory() as folder:
        print_page(book, one_page(book, Path(folder)), target)
    return target
