"""Questions that need no kernel: ``{quiz}`` sets one, each answer opens what is to be said about it.

    ```{quiz}
    How many unknowns are there?

    ( ) $d$
    : That is one sample. There are $n$.
    (x) $dn$
    : $d - 1$ coordinates and a coefficient for each sample.
    ```

Every answer is a ``<details>``: it works with a keyboard, without a network, and where scripts are off. A page of
questions has no chapter number, and does not count among the chapters.
"""

from __future__ import annotations

import re

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.environment.collectors.toctree import TocTreeCollector
from sphinx.util.docutils import SphinxDirective

CHOICE = re.compile(r"^\((?P<mark>[x ])\) (?P<text>.+)$")
FEEDBACK = re.compile(r"^: (?P<text>.+)$")
VERDICT = {True: "Right.", False: "Not quite."}


def parse(lines: list[str]) -> tuple[list[str], list[tuple[bool, str, list[str]]]]:
    """The question's lines, and of each choice whether it is right, its text, and what is said about it."""
    question, choices = [], []
    for line in lines:
        if choice := CHOICE.match(line):
            choices.append((choice["mark"] == "x", choice["text"], []))
        elif not choices:
            question.append(line)
        elif feedback := FEEDBACK.match(line):
            choices[-1][2].append(feedback["text"])
        elif choices[-1][2]:
            choices[-1][2].append(line)
        elif line.strip():
            raise ValueError(f"neither a choice, `( ) …` or `(x) …`, nor what is said about one, `: …`: {line!r}")
    if sum(right for right, *_ in choices) != 1:
        raise ValueError("exactly one choice must be marked (x)")
    if not all(feedback for *_, feedback in choices):
        raise ValueError("every choice needs a line `: …` that says why it is right or wrong")
    return question, choices


class Quiz(SphinxDirective):
    """One question with its answers."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        try:
            question, choices = parse(list(self.content))
        except ValueError as error:
            raise self.error(str(error)) from error
        known = self.env.metadata[self.env.docname]
        number = known["quiz"] = known.get("quiz", 0) + 1
        name = f"quiz-{number}"
        box = nodes.container(classes=["quiz"])
        box += raw(f'<div role="group" aria-labelledby="{name}"><div class="quiz-question" id="{name}">')
        box += raw(f'<span class="quiz-number">Question {number}</span>')
        box += self.parsed(question)
        box += raw("</div>")
        for right, text, feedback in choices:
            box += raw(f'<details class="quiz-choice" data-right="{str(right).lower()}"><summary>')
            box += nodes.inline("", "", *self.parsed([text])[0].children)
            box += raw(f'</summary><div class="quiz-feedback"><p class="quiz-verdict">{VERDICT[right]}</p>')
            box += self.parsed(feedback)
            box += raw("</div></details>")
        box += raw("</div>")
        return [box]

    def parsed(self, lines: list[str]) -> list[nodes.Node]:
        inside = nodes.Element()
        self.state.nested_parse(StringList(lines, self.env.docname), self.content_offset, inside)
        return inside.children


def raw(html: str) -> nodes.raw:
    return nodes.raw("", html, format="html")


def leave_unnumbered(app: Sphinx) -> None:
    """Pages of questions stand within a numbered part, and take no number."""
    number = TocTreeCollector.assign_section_numbers
    if getattr(number, "skips_quizzes", False):
        return

    def assign_section_numbers(self, env):
        tocs = {page: env.tocs[page] for page, known in env.metadata.items() if "quiz" in known and page in env.tocs}
        env.tocs.update({page: nodes.bullet_list() for page in tocs})
        try:
            return number(self, env)
        finally:
            env.tocs.update(tocs)

    assign_section_numbers.skips_quizzes = True
    TocTreeCollector.assign_section_numbers = assign_section_numbers


def load_where_needed(app: Sphinx, pagename, templatename, context, doctree) -> None:
    if doctree and any("quiz" in box["classes"] for box in doctree.findall(nodes.container)):
        app.add_css_file("quiz.css")
        app.add_js_file("quiz.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("quiz", Quiz)
    app.connect("builder-inited", leave_unnumbered)
    app.connect("html-page-context", load_where_needed)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
