"""Write the course into a folder: `make course`.

Notebooks for students and solved ones, slides, the handout, the answers to the assessment questions, and a page that
links them. What needs Chromium (the handout, the look at the slides) is left out where there is none, with a word.
"""

from __future__ import annotations

import argparse
import html
import shutil
import sys
import time
from pathlib import Path

from . import browser, handout, notebooks, slides
from .plain import Book

ROOT = Path(__file__).resolve().parents[3]
NO_BROWSER = """\
  No Chromium here (looked for: {names}), so there is no {what}. Install one (`apt-get install chromium`, say) and run
  `make course` again; everything else was written."""

INDEX = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: the course</title>
<style>
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 17px/1.5 system-ui, sans-serif; color: #1c2126; }}
h1 {{ line-height: 1.2; }}
table {{ border-collapse: collapse; width: 100%; }}
:is(th, td) {{ padding: 0.4rem 0.8rem 0.4rem 0; border-bottom: 1px solid #c3c9d1; text-align: left; }}
a {{ color: #9a470a; }}
</style>
</head>
<body>
<h1>{title}: the course</h1>
<p>{handout} For instructors only: <a href="answers.html">answers to the assessment questions</a>, and the solutions in
the last column. The instructor's guide is <a href="{site}/teach/guide.html">in the book</a>.</p>
<table>
<thead><tr><th>Chapter</th><th>Slides</th><th>For students</th><th>Solved</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</body>
</html>
"""
ROW = """\
<tr><td>{number}. {title}</td><td><a href="slides/{stem}.html">slides</a></td>
<td><a href="student/{entry}.ipynb">notebook</a></td><td><a href="solutions/{entry}.ipynb">notebook</a></td></tr>"""

ANSWERS = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Answers to the assessment questions</title>
<style>
body {{ max-width: 46rem; margin: 2rem auto; padding: 0 1rem; font: 18px/1.55 Charter, Georgia, serif; }}
.formula {{ overflow-x: auto; }}
</style>
<script>MathJax = {{ options: {{ enableMenu: false }} }};</script>
<script src="slides/_deck/mathjax/tex-mml-chtml.js" defer></script>
</head>
<body>
{body}
</body>
</html>
"""


def write_answers(book: Book, target: Path) -> None:
    text = (book.folder / "teach" / "answers" / "assessment.md").read_text(encoding="utf-8")
    body = slides.markdown_to_html().render(book.expand(text))
    target.write_text(ANSWERS.format(body=body), encoding="utf-8")


def write_index(book: Book, folder: Path) -> None:
    rows = (ROW.format(number=c.number, title=html.escape(c.title), stem=c.stem, entry=c.entry) for c in book.chapters)
    paper = '<a href="handout.pdf">The book on paper</a>, without solutions.' * (folder / "handout.pdf").is_file()
    page = INDEX.format(title=html.escape(book.config["title"]), handout=paper, site=book.site, rows="\n".join(rows))
    (folder / "index.html").write_text(page, encoding="utf-8")


def look_at_slides(decks: list[Path]) -> bool:
    """Open every deck; whether all slides hold what is on them."""
    count, out = 0, []
    with browser.page(viewport={"width": 1280, "height": 720}) as tab:
        for deck in decks:
            count += browser.open_deck(tab, deck)
            out += [f"{deck.stem}: {slide}" for slide in browser.overflowing(tab)]
            out += [f"{deck.stem}: {complaint}" for complaint in tab.complaints]
            tab.complaints.clear()
    print(f"  {count} slides in {len(decks)} decks looked at, {len(out)} with something outside or amiss")
    for line in out:
        print(f"    {line}")
    return not out


def write(folder: Path, paper: bool = True, look: bool = True) -> bool:
    """The whole course; whether all of it is as it should be."""
    started = time.monotonic()
    book = Book(ROOT)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    students = notebooks.write_all(book, folder / "student", solved=False)
    notebooks.write_all(book, folder / "solutions", solved=True)
    print(f"  {len(students)} notebooks for students, and as many solved")
    decks = slides.write_all(book, folder / "slides")
    write_answers(book, folder / "answers.html")
    whole = True
    if browser.find() is None:
        what = " and no ".join(["handout.pdf"] * paper + ["look at the slides"] * look)
        if what:
            print(NO_BROWSER.format(names=", ".join(browser.NAMES), what=what), file=sys.stderr)
    else:
        if look:
            whole = look_at_slides(decks)
        if paper:
            pdf = handout.write(book, folder / "handout.pdf")
            print(f"  {pdf.name}, {pdf.stat().st_size / 1e6:.1f} MB")
    write_index(book, folder)
    print(f"The course is written, in {time.monotonic() - started:.0f} s: {(folder / 'index.html').as_uri()}")
    return whole


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make course", description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, default=ROOT / "_build" / "course", help="where (default: _build/course)")
    parser.add_argument("--no-handout", action="store_true", help="leave out the PDF, which takes longest")
    arguments = parser.parse_args()
    raise SystemExit(not write(arguments.to.resolve(), paper=not arguments.no_handout))
