"""Formulas set at build time: macros, errors, MathML for those who listen, and Sphinx's way with several lines."""

import json
import sys

import pytest
import yaml
from docutils import nodes
from docutils.utils import new_document
from helpers import BOOK, ROOT

sys.path.insert(0, str(BOOK / "_ext"))
from mathematics import aligned, keep_together, typesetter

TEX = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["sphinx"]["config"]["mathjax3_config"]["tex"]


@pytest.fixture(scope="module")
def mathjax():
    return typesetter(json.dumps(TEX))


@pytest.mark.parametrize("tex", [r"\norm{\Pperp\theta}^2", r"\alpha = \frac1n \text{ where } n > 0", r"x'_\perp"])
@pytest.mark.parametrize("display", [False, True])
def test_a_formula_is_drawn_and_can_be_heard(mathjax, tex, display):
    html = mathjax.set(tex, display)
    assert html.startswith("<mjx-container") and ('display="true"' in html) == display
    assert "<mjx-assistive-mml" in html and 'aria-hidden="true"' in html and "tabindex" not in html


@pytest.mark.parametrize("macro", TEX["macros"])
def test_every_macro_of_the_book_is_known(mathjax, macro):
    takes = TEX["macros"][macro][1] if isinstance(TEX["macros"][macro], list) else 0
    assert mathjax.set(f"\\{macro}" + "{x}" * takes, False)


@pytest.mark.parametrize("wrong", [r"\notamacro", r"\frac{1}", r"\begin{align}x", "x}"])
def test_a_formula_that_cannot_be_set_stops_the_build(mathjax, wrong):
    with pytest.raises(ValueError, match="MathJax cannot set"):
        mathjax.set(wrong, True)


def test_lines_and_paragraphs_of_a_display_are_aligned(mathjax):
    assert aligned("a &= b") == "a &= b"
    assert aligned(r"a &= b \\ &= c") == r"\begin{split}a &= b \\ &= c\end{split}"
    two = aligned("a &= b\n\nc &= d")
    assert two.startswith(r"\begin{aligned}") and two.count(r"\\") == 1
    assert mathjax.set(two, True).count("<mjx-mtr") == 2


def test_the_style_sheet_names_fonts_beside_it_and_hides_what_is_only_heard(mathjax):
    styles = mathjax.styles()
    assert 'url("mathjax/MathJax_Main-Regular.woff")' in styles and "http" not in styles
    assert "clip: rect" in styles.partition("mjx-assistive-mml {")[2].partition("}")[0]


def test_a_formula_keeps_its_brackets_and_its_full_stop():
    parts = ["Take (", "n", "), for example ", "n", ". ", "p", " is ", "k", "-th; see ", "a", "/", "b", "—or “", "c"]
    paragraph = nodes.paragraph("", "", nodes.emphasis("", "Words"), nodes.Text("), for example "))
    for k, part in enumerate(parts):  # equal texts stay where they are
        paragraph += nodes.math("", part) if k % 2 else nodes.Text(part)
    paragraph += [nodes.Text(". "), nodes.math("", "m"), nodes.Text("), for example ")]
    before = paragraph.astext()
    document = new_document("page")
    document += paragraph
    keep_together(None, document, "page")
    assert paragraph.astext() == before
    kept = [one.astext() for one in document.findall(nodes.inline)]
    assert kept == ["(n),", "n.", "k-th;", "“c.", "m),"]
    assert len(list(document.findall(nodes.math))) == 8
