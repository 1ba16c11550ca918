"""One reveal.js deck for each chapter, which needs no network.

A section of the chapter becomes a column of slides: statements, proofs, displayed formulas, code with what it printed,
figures, tables, exercises without their solutions. Other prose goes to the speaker's notes (press S), and with it the
hints and the code that only draws. ``deck.js`` lays the blocks out in the browser, where their heights are known.
"""

from __future__ import annotations

import base64
import html
import re
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import nbformat
from markdown_it import MarkdownIt
from mathematics import mathjax_folder
from mdit_py_plugins.amsmath import amsmath_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from .myst import Block
from .plain import STATEMENTS, Book, Chapter, Exercise, Target

HERE = Path(__file__).parent
MATHJAX_PARTS = ("tex-mml-chtml.js", "input/tex/extensions", "output/chtml/fonts/woff-v2")
REVEAL_PARTS = ("dist/reveal.js", "dist/reveal.css", "dist/reset.css", "plugin/notes/notes.js", "LICENSE")
PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · slides</title>
<link rel="stylesheet" href="_deck/reveal/dist/reset.css">
<link rel="stylesheet" href="_deck/reveal/dist/reveal.css">
<link rel="stylesheet" href="_deck/deck.css">
<script src="_deck/reveal/dist/reveal.js" defer></script>
<script src="_deck/reveal/plugin/notes/notes.js" defer></script>
<script src="_deck/deck.js" defer></script>
</head>
<body>
<main class="stage">
{topics}
</main>
<div class="reveal"><div class="slides"></div></div>
</body>
</html>
"""


def markdown_to_html() -> MarkdownIt:
    md = MarkdownIt("commonmark", {"html": True, "highlight": lambda code, lang, _: coloured(code)}).enable("table")
    md.use(dollarmath_plugin, allow_labels=False).use(amsmath_plugin)

    def inline(renderer, tokens, k, *_):
        return f"\\({html.escape(tokens[k].content, quote=False)}\\)"

    def display(renderer, tokens, k, *_):
        return f'<div class="formula">\\[{html.escape(tokens[k].content, quote=False)}\\]</div>'

    md.add_render_rule("math_inline", inline)
    md.add_render_rule("math_inline_double", display)
    md.add_render_rule("math_block", display)
    md.add_render_rule("amsmath", display)
    return md


def coloured(code: str) -> str:
    return f'<pre class="code">{highlight(code, PythonLexer(), HtmlFormatter(nowrap=True)).rstrip()}</pre>'


class Deck:
    """The slides of one chapter."""

    def __init__(self, chapter: Chapter, images: Path) -> None:
        self.chapter, self.images, self.md = chapter, images, markdown_to_html()
        self.topics: list[list[str]] = []

    def link(self, target: Target, text: str) -> str:
        """References stay within the deck; another chapter's statement is named with its title."""
        return text

    def render(self, markdown: str) -> str:
        page = self.md.render(markdown).strip()
        return re.sub(r"(\\\((?:(?!\\\)).)*\\\))([,.;:!?)]+)", r'<span class="together">\1\2</span>', page)

    def add(self, content: str, kind: str = "", *, alone: bool = False, title: str = "") -> None:
        page = f' data-page="{html.escape(title)}"' if alone else ""
        self.topics[-1].append(f'<div class="block {kind}"{page}>\n{content}\n</div>')

    def note(self, content: str) -> None:
        self.topics[-1].append(f'<aside class="notes">\n{content}\n</aside>')

    # From the chapter's items to blocks

    def page(self) -> str:
        chapter = self.chapter
        for k, item in enumerate(chapter.items):
            if isinstance(item, Exercise):
                self.exercise(item)
            elif isinstance(item, Block):
                self.text(item) if item.kind == "text" else self.directive(item)
            else:
                self.code(item, setup=k < 3)
        if references := chapter.references():
            self.closing("References")
            self.add(self.render(references.split("\n", 1)[1]), "small")
        return PAGE.format(title=html.escape(chapter.title), topics="\n".join(self.sections()))

    def sections(self) -> Iterator[str]:
        for title, *parts in self.topics:
            yield f'<section class="topic" data-title="{html.escape(title)}">\n' + "\n".join(parts) + "\n</section>"

    def topic(self, title: str) -> None:
        self.topics.append([re.sub(r"^<p>|</p>$", "", self.render(title))])

    def closing(self, title: str) -> None:
        """What ends a chapter needs no slide of its own where there is room below the summary."""
        self.add(f"<h3>{self.render(title)[3:-4]}</h3>", "subheading closing")

    def text(self, block: Block) -> None:
        """Prose, paragraph by paragraph: what must be seen on the slide, the rest to the notes."""
        text = self.chapter.plain(block.body, self.link)
        lead = False
        for part in paragraphs(text):
            heading = re.fullmatch(r"(#{1,6}) (.+)", part)
            if heading and heading[1] == "#":
                self.topics.append([html.escape(heading[2])])
                self.add(f'<p class="part">{html.escape(self.chapter.part)}</p>', "cover")
                lead = True
            elif heading and heading[2] == "What's next":
                self.closing(heading[2])
                lead = True
            elif heading and heading[1] == "##":
                self.topic(heading[2])
                lead = heading[2] != "Exercises"  # these begin with the first one
            elif heading:
                self.add(f"<h3>{self.render(heading[2])[3:-4]}</h3>", "subheading", alone=True)
                lead = True
            elif re.match(r"\*\*After this chapter", part):
                self.add(self.render(part), "prose", alone=True, title="Overview")
                lead = False
            elif seen(part) or lead:
                self.add(self.render(as_points(part)), "prose")
                lead = False
            else:
                self.note(self.render(part))

    def directive(self, block: Block) -> None:
        kind = block.kind.removeprefix("prf:")
        if kind == "predict":  # asked on the slide, answered by whoever speaks
            self.add(self.render(f"**{self.chapter.plain(block.argument, self.link)}**"), "prose")
            self.note(self.render(self.chapter.plain(block.body, self.link)))
            return
        content = self.render(self.chapter.statement(block, self.link))
        if kind == "proof":
            self.add(content, "proof")
        else:
            self.add(content, "statement" if kind in STATEMENTS else "aside")

    def exercise(self, exercise: Exercise) -> None:
        content = self.render(self.chapter.plain(exercise.text, self.link))
        if exercise.stub:
            content += f"\n{coloured(exercise.stub)}"
        self.add(content, "exercise", alone=True, title=f"Exercise {exercise.number}")
        for hint in exercise.hints:
            self.note(self.render(f"**{hint.argument}.** {self.chapter.plain(hint.body, self.link)}"))

    def code(self, cell: nbformat.NotebookNode, setup: bool) -> None:
        """What was computed, with its code; the code of a figure, and what is hidden in the book, goes to the notes."""
        source, (pictures, printed) = coloured(cell.source), self.outputs(cell)
        if setup or pictures or {"hide-input", "remove-cell"} & set(cell.metadata.get("tags", [])):
            self.note(source)
            source = ""
        if (source or printed) and not setup:
            self.add(f"{source}\n{printed}", "computation")
        for picture in pictures:
            self.add(picture, "figure")

    def outputs(self, cell: nbformat.NotebookNode) -> tuple[list[str], str]:
        pictures, printed = [], ""
        meta = cell.metadata.get("mystnb", {})
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                pictures.append(self.picture(data["image/png"], meta))
            elif "text/markdown" in data:
                printed += self.render(self.chapter.book.expand("".join(data["text/markdown"])))
            elif output.output_type == "stream":
                printed += f'<pre class="output">{html.escape(output["text"].rstrip())}</pre>'
        return pictures, printed

    def picture(self, png: str, meta: dict) -> str:
        figure, alt = meta.get("figure", {}), meta.get("image", {}).get("alt", "")
        name = figure.get("name") or f"{self.chapter.stem}-{len(list(self.images.glob(self.chapter.stem + '-*')))}"
        (self.images / f"{name}.png").write_bytes(base64.b64decode(png))
        caption = self.chapter.plain(figure.get("caption", ""), self.link)
        if number := self.chapter.figures.get(figure.get("name", "")):
            caption = f"**Figure {number}.** {caption}"
        caption = f"<figcaption>{self.render(caption)}</figcaption>" if caption else ""
        return f'<figure><img src="images/{name}.png" alt="{html.escape(alt)}">{caption}</figure>'


def paragraphs(text: str) -> list[str]:
    """Blocks of Markdown: paragraphs, lists with their items, tables, formulas, fences."""
    parts: list[str] = []
    fenced = formula = False
    for chunk in text.splitlines():
        blank = not chunk.strip()
        if blank and not fenced and not formula:
            parts.append("")
            continue
        formula ^= chunk.count("$$") % 2 == 1 and not fenced
        fenced ^= chunk.startswith("```")
        heading = not fenced and re.match(r"#{1,6} ", chunk)
        if parts and parts[-1] and not heading and not re.match(r"#{1,6} ", parts[-1]):
            parts[-1] += f"\n{chunk}"
        else:
            parts.append(chunk)
    joined: list[str] = []
    for part in filter(str.strip, parts):
        item = r"([-*]|\d+\.) "  # a loose list stays one
        listed = re.match(item, part)
        loose = joined and re.match(item, joined[-1]) and (listed or part.startswith("  "))
        introduced = joined and listed and joined[-1][-1] not in ".!?|`$" and not joined[-1].startswith("#")
        if loose or introduced:
            joined[-1] += f"\n\n{part}"
        else:
            joined.append(part)
    return joined


def seen(part: str) -> bool:
    """Whether a paragraph belongs on the slide: it displays, lists, defines, or introduces what does."""
    marks = ("$$", "```", "**", "|")
    emphasis = re.search(r"(?<![*\w])\*[^*\s][^*\n]*\*(?!\*)", part)
    return (
        part.startswith(marks)
        or "$$" in part
        or "**" in part
        or bool(emphasis)
        or bool(re.match(r"([-*]|\d+\.) ", part))
        or part.rstrip().endswith(":")
    )


def as_points(part: str) -> str:
    """Prose written one sentence a line: a point for each."""
    lines = part.splitlines()
    prose = not re.search(r"^([-*|>] |\||\d+\. |```|\$\$|<)|\$\$|^$", part, re.MULTILINE)
    if not prose or len(lines) < 2:
        return part
    return "\n".join(f"- {line}" for line in lines)


def reveal_folder() -> Path:
    """Where the package sphinx-revealjs keeps reveal.js."""
    files = metadata.files("sphinx-revealjs") or []
    found = (Path(str(f.locate())) for f in files if f.name == "reveal.js" and f.parent.name == "dist")
    return next(found).parent.parent


def write_all(book: Book, folder: Path) -> list[Path]:
    """All decks, with reveal.js, MathJax and the figures beside them."""
    deck = folder / "_deck"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    source = reveal_folder()
    for part in REVEAL_PARTS:
        (deck / "reveal" / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / part, deck / "reveal" / part)
    mathjax = mathjax_folder()
    for part in MATHJAX_PARTS:
        (deck / "mathjax" / part).parent.mkdir(parents=True, exist_ok=True)
        if (mathjax / part).is_dir():
            shutil.copytree(mathjax / part, deck / "mathjax" / part, dirs_exist_ok=True)
        else:
            shutil.copy2(mathjax / part, deck / "mathjax" / part)
    style = HtmlFormatter(style="a11y-high-contrast-light").get_style_defs(".code")
    (deck / "deck.css").write_text((HERE / "deck.css").read_text(encoding="utf-8") + style, encoding="utf-8")
    shutil.copy2(HERE / "deck.js", deck / "deck.js")
    written = []
    for chapter in book.chapters:
        path = folder / f"{chapter.stem}.html"
        path.write_text(Deck(chapter, folder / "images").page(), encoding="utf-8")
        written.append(path)
    return written
