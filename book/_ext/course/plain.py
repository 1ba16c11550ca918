"""The book's sources without MyST: what its directives and roles say, in Markdown that any notebook shows.

``Book`` knows the chapters in their order and what every label stands for; ``Chapter`` is a sequence of code, text and
exercises, and ``Chapter.plain`` rewrites the text. A directive or a role that is not known keeps its words.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import yaml
from pybtex.database import Entry, parse_file

from .myst import Block, blocks
from .works import full, who

ROLE = re.compile(r"\{(?P<name>[a-z][\w:-]*)\}`(?P<content>[^`]+)`")
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
ANCHOR = re.compile(r"^\((?P<label>[\w-]+)\)=\s*$", re.MULTILINE)
CODE = re.compile(r"(^```.*?^```\s*$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
STATEMENTS = "theorem proposition lemma corollary definition remark conjecture algorithm example".split()


@dataclass
class Target:
    """What a label stands for: where it is, and its name ("Theorem 1.2")."""

    chapter: Chapter
    name: str
    title: str = ""


@dataclass
class Exercise:
    """An exercise of a chapter, with the stub and the hints that are handed out, and what settles it."""

    label: str
    number: str
    text: str = ""
    stub: str = ""
    hints: list[Block] = field(default_factory=list)
    solution: list[Block | nbformat.NotebookNode] = field(default_factory=list)

    @property
    def code(self) -> str:
        return "\n\n\n".join(part.source for part in self.solution if not isinstance(part, Block))

    @property
    def checks(self) -> list[str]:
        """The calls of checkers in the solution."""
        return re.findall(r"^rl\.exercises\.check_\w+\(.*?\)$", self.code, re.MULTILINE | re.DOTALL)


class Chapter:
    """A notebook of the book, as a sequence of code cells, blocks of text, and exercises."""

    def __init__(self, book: Book, entry: str, number: int, part: str) -> None:
        self.book, self.entry, self.number, self.part = book, entry, number, part
        self.stem = entry.rsplit("/", 1)[-1]
        self.notebook = nbformat.read(book.folder / f"{entry}.ipynb", as_version=4)
        first = next(c.source for c in self.notebook.cells if c.cell_type == "markdown")
        self.title = re.search(r"^# (.+)$", first, re.MULTILINE)[1].strip()
        self.exercises: dict[str, Exercise] = {}
        self.figures: dict[str, str] = {}
        self._count: dict[str, int] = {}
        self.items = list(self._items())
        self.cited: list[str] = []

    def _number(self, kind: str) -> str:
        self._count[kind] = self._count.get(kind, 0) + 1
        return f"{self.number}.{self._count[kind]}"

    def _items(self) -> Iterator[nbformat.NotebookNode | Block | Exercise]:
        """Code cells, blocks and whole exercises in their order; labels are entered in the book on the way."""
        exercise, solving = None, None
        for index, cell in enumerate(self.notebook.cells):
            if cell.cell_type != "markdown":
                if solving is not None:
                    solving.solution.append(cell)
                    continue
                name = cell.metadata.get("mystnb", {}).get("figure", {}).get("name")
                if name:
                    self.figures[name] = self._number("figure")
                    self.book.labels[name] = Target(self, f"Figure {self.figures[name]}")
                yield cell
                continue
            if "remove-cell" in cell.metadata.get("tags", []):  # the macros' definitions, which are expanded here
                continue
            for block in blocks(cell.source):
                block.cell = index
                label = block.options.get("label", "")
                if block.kind == "exercise-start":
                    exercise = self.exercises[label] = Exercise(label, self._number("exercise"))
                    self.book.labels[label] = Target(self, f"Exercise {exercise.number}")
                elif block.kind == "exercise-end":
                    yield exercise
                    exercise = None
                elif block.kind == "solution-start":
                    solving = self.exercises[block.argument]
                elif block.kind == "solution-end":
                    solving = None
                elif exercise is not None and block.kind == "dropdown":
                    exercise.hints.append(block)
                elif exercise is not None:
                    self._add(exercise, block)
                elif solving is not None:
                    solving.solution.append(block)
                else:
                    self._name(block)
                    yield block

    def _add(self, exercise: Exercise, block: Block) -> None:
        """A piece of an exercise; the stub is kept apart from the text."""

        def take(match: re.Match) -> str:
            if "raise NotImplementedError" not in match[1]:
                return match[0]
            exercise.stub = match[1].strip("\n")
            return ""

        text = block.body if block.kind == "text" else self.statement(block)
        text = re.sub(r"^```python\n(.*?)^```\s*$", take, text, flags=re.MULTILINE | re.DOTALL)
        exercise.text = f"{exercise.text}\n\n{text}".strip()

    def _name(self, block: Block) -> None:
        kind = block.kind.removeprefix("prf:")
        if block.kind.startswith("prf:") and kind in STATEMENTS:
            block.name = f"{kind.capitalize()} {self._number(kind)}"
            self.book.labels[block.options.get("label", block.name)] = Target(self, block.name, block.argument)
        if block.kind == "text":
            for label in ANCHOR.findall(block.body):
                self.book.labels[label] = Target(self, "")

    # What is written out

    def plain(self, text: str, link: Callable[[Target, str], str] | None = None) -> str:
        """The text without roles, macros and labels; ``link`` writes a reference to a target."""
        link = link or self.link
        parts = CODE.split(ROLE.sub(lambda m: self._role(m, link), text))
        for k in range(0, len(parts), 2):  # the odd ones are code
            part = ANCHOR.sub(r'<a id="\g<label>"></a>\n', parts[k])
            part = LINK.sub(lambda m: self._link(m, link), part)
            parts[k] = self.book.expand(part)
        return "".join(parts)

    def statement(self, block: Block, link: Callable[[Target, str], str] | None = None) -> str:
        """A directive in plain Markdown: a heading in bold, then the body."""
        kind, body = block.kind.removeprefix("prf:"), self.plain(block.body, link)
        title = self.plain(block.argument, link)
        if block.kind == "predict":
            return f"**{title}**\n\n<details><summary>Answer</summary>\n\n{body}\n\n</details>"
        if block.kind == "math":
            return f"$$\n{body}\n$$"
        if block.kind in ("code-block", "code"):
            return f"```{block.argument}\n{block.body}\n```"
        if block.kind == "table":
            return f"**{title}**\n\n{body}" if title else body
        if block.kind in ("image", "figure"):
            return f"![{block.options.get('alt', '')}]({block.argument})\n\n{body}".strip()
        new = "\n\n" if re.match(r"([-*]|\d+\.) ", body) else " "  # a list, or its first point, needs a line of its own
        if kind == "proof":
            end = "\n\n" if body.endswith("$$") else " "
            return f"*Proof.*{new}{body}{end}$\\square$"
        name = block.name or kind.replace("-", " ").capitalize()
        return f"**{name}{f' ({title})' if title else ''}.**{new}{body}"

    def link(self, target: Target, text: str) -> str:
        """A link from this chapter's notebook to another chapter's."""
        if target.chapter is self:
            return text
        return f"[{text}]({self.path_to(target.chapter)})"

    def path_to(self, other: Chapter) -> str:
        here, there = self.entry.split("/"), other.entry.split("/")
        return f"{there[-1]}.ipynb" if here[:-1] == there[:-1] else f"../{other.entry}.ipynb"

    def _role(self, match: re.Match, link: Callable[[Target, str], str]) -> str:
        name, content = match["name"], match["content"]
        if name.startswith("cite"):
            return self._cite(name, [key.strip() for key in content.split(",")])
        if name == "math":
            return f"${content}$"
        written = re.fullmatch(r"(.*?)\s*<([^>]+)>", content)
        text, label = written.groups() if written else ("", content)
        if label not in self.book.labels:
            return text or (label if name == "term" else f"*{label}*")
        target = self.book.labels[label]
        text = text.replace("{number}", target.name.split(" ")[-1]).replace("{name}", target.title)
        return link(target, text or target.name)

    def _cite(self, role: str, keys: list[str]) -> str:
        self.cited += [key for key in keys if key not in self.cited]
        works = [(who(self.book.works[key]), self.book.works[key].fields["year"]) for key in keys]
        if role == "cite:t":
            return ", ".join(f"{names} ({year})" for names, year in works)
        return "(" + "; ".join(f"{names}, {year}" for names, year in works) + ")"

    def _link(self, match: re.Match, link: Callable[[Target, str], str]) -> str:
        text, target = match["text"], match["target"]
        if re.match(r"[a-z]+:", target):
            return match[0]
        path, _, anchor = target.partition("#")
        if not path or path in self.book.labels:
            return link(self.book.labels[path or anchor], text) if (path or anchor) in self.book.labels else text
        entry = posixpath.normpath(posixpath.join(posixpath.dirname(self.entry), path)).rsplit(".", 1)[0]
        if entry in self.book.by_entry:
            other = self.book.by_entry[entry]
            return link(Target(other, other.title), text or other.title)
        return f"[{text or self.book.title_of(entry)}]({self.book.site}/{entry}.html{'#' * bool(anchor)}{anchor})"

    def references(self) -> str:
        """The works that were cited since the chapter was last asked."""
        works, self.cited = [self.book.works[key] for key in sorted(self.cited)], []
        return "## References\n\n" + "\n".join(f"- {full(work)}" for work in works) if works else ""


class Book:
    """The chapters of the numbered parts, in the order of the table of contents."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "book"
        self.config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
        self.toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
        owner, name = self.config["repository"]["url"].removeprefix("https://github.com/").split("/")
        self.site = f"https://{owner.lower()}.github.io/{name}"
        self.macros = self.config["sphinx"]["config"]["mathjax3_config"]["tex"]["macros"]
        self.works: dict[str, Entry] = parse_file(str(self.folder / "references.bib"), "bibtex").entries
        self.labels: dict[str, Target] = {}
        self.chapters: list[Chapter] = []
        numbered = [part for part in self.toc["parts"] if part.get("numbered")]
        pages = [(c["file"], part["caption"]) for part in numbered for c in part["chapters"]]
        pages = [(entry, part) for entry, part in pages if not entry.endswith("/quiz")]  # these have no number
        for number, (entry, part) in enumerate(pages, start=1):
            if (self.folder / f"{entry}.ipynb").is_file():
                self.chapters.append(Chapter(self, entry, number, part))
        self.by_entry = {chapter.entry: chapter for chapter in self.chapters}

    def title_of(self, entry: str) -> str:
        """The title of a page that is no chapter."""
        for suffix in (".md", ".ipynb"):
            if (path := self.folder / f"{entry}{suffix}").is_file():
                text = path.read_text(encoding="utf-8")
                if suffix == ".ipynb":
                    text = "\n".join(cell.source for cell in nbformat.reads(text, as_version=4).cells)
                if title := re.search(r"^# (.+)$", text, re.MULTILINE):
                    return title[1].strip()
        return entry.rsplit("/", 1)[-1]

    def expand(self, text: str) -> str:
        r"""Replace the book's TeX macros, which only its own pages know: ``\R``, ``\norm{…}`` and their like."""
        for name, macro in self.macros.items():
            meaning, count = (macro, 0) if isinstance(macro, str) else macro
            pattern, start = re.compile(rf"\\{name}(?![A-Za-z])"), 0
            while found := pattern.search(text, start):
                end, written = found.end(), meaning
                for k in range(1, count + 1):
                    argument, end = brace_group(text, end)
                    written = written.replace(f"#{k}", argument)
                if count == 0 and re.match(r"[A-Za-z]", text[end : end + 1]):
                    written += " "
                text = text[: found.start()] + written + text[end:]
                start = found.start() + (0 if count else len(written))
        return text


def brace_group(text: str, start: int) -> tuple[str, int]:
    """The argument of a macro that begins at ``start``, and where it ends."""
    while text[start] == " ":
        start += 1
    if text[start] != "{":
        one = re.match(r"\\[A-Za-z]+|\\.|.", text[start:])[0]
        return one, start + len(one)
    depth, end = 1, start + 1
    while depth:
        depth += {"{": 1, "}": -1}.get(text[end], 0) if text[end - 1] != "\\" else 0
        end += 1
    return text[start + 1 : end - 1], end
