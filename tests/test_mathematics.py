"""Formulas set at build time: macros, errors, MathML for those who listen, and Sphinx's way with several lines."""

import json
import sys
from types import SimpleNamespace

import pytest
import yaml
from docutils import nodes
from docutils.utils import new_document
from helpers import BOOK, ROOT

sys.path.insert(0, str(BOOK / "_ext"))
import line_breaks
from mathematics import CELL, LINE, NARROW, aligned, break_long, keep_together, typesetter

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


SHORT = 20  # letters


def rows(tex, longest=SHORT):
    """In lines of so many letters, macros and spaces as they are."""
    broken = line_breaks.in_lines(tex, lambda part: len(part.replace(line_breaks.INDENT, "")) <= longest)
    if broken is None:
        return None
    inside = broken.removeprefix(r"\begin{aligned}").partition(r"\end{aligned}")
    return [line.removeprefix("& ") for line in inside[0].split(r" \\ ")], inside[2]


Q = line_breaks.INDENT


@pytest.mark.parametrize(
    "tex, lines",
    [
        (r"a = b, \qquad c = d, \qquad e = f .", [r"a = b, \quad c = d,", "e = f ."]),
        (r"f(x + y = z, u) = g(x, y) = h(x)", ["f(x + y = z, u)", rf"{Q} = g(x, y) = h(x)"]),
        (r"f(x) = aaaaaaaaaa + bbbbbbbbbb - c", ["f(x) = aaaaaaaaaa", rf"{Q}{Q} + bbbbbbbbbb - c"]),
        (r"f = aaaaaaaaaaaa = -bbbbbbbb", ["f = aaaaaaaaaaaa", rf"{Q} = -bbbbbbbb"]),
        (r"\left( a = bbbbbbbbb \right] = x_{a+b} \le 1", [r"\left( a = bbbbbbbbb \right]", rf"{Q} = x_{{a+b}} \le 1"]),
        (r"f(x, y, z, u) = 0 \quad \text{if } x > 0", ["f(x, y, z, u) = 0", r"\text{if } x > 0"]),
        (r"aaaaaaaaaa=1 \quad\text{with}\quad b=1", ["aaaaaaaaaa=1", r"\text{with}\ b=1"]),
        (r"\begin{split}aaaaa &= bbbbbbb \\ &= ccccc \\ &+ d\end{split}", ["aaaaa = bbbbbbb", rf"{Q} = ccccc + d"]),
        (r"aaaaaaaaaaaa \not= bbbb - cc", [r"aaaaaaaaaaaa \not= bbbb", rf"{Q}{Q} - cc"]),
    ],
)
def test_a_wide_display_is_broken_where_one_may(tex, lines):
    assert rows(tex) == (lines, "")


def test_what_has_no_place_to_break_stays_and_a_number_stays_with_its_formula():
    assert rows(r"\frac{aaaaaaaaaaaaaaaa = b}{c + d}") is None
    assert rows(r"aaaaaaaaaaaa = bbbbbbbbbb \tag{3}") == (["aaaaaaaaaaaa", rf"{Q} = bbbbbbbbbb"], r"\tag{3}")


def test_a_wide_display_is_set_twice_and_its_lines_fit_a_phone(mathjax):
    tex = r"\E\,(J\delta)^\T(J\delta') = \sum_{i,l}K_{il}\,\delta_i^\T\delta'_l, \qquad K = SS^\T/d, \qquad J = K ."
    lines = line_breaks.in_lines(tex, lambda part: mathjax.ems(part) <= NARROW)
    assert mathjax.ems(lines) <= NARROW < mathjax.ems(tex)
    assert mathjax.set(lines, True).count("<mjx-mtr") == 2


def test_a_wide_formula_of_the_text_may_be_broken_after_relations(mathjax):
    app = SimpleNamespace(config=SimpleNamespace(mathjax3_config={"tex": TEX}))
    long = r"\norm{\theta\Pperp}^2 = \norm{SQ\Pperp}^2 = \sum_k s_k^2\norm{\Pperp q_k}^2"
    short, cell = "a = b", r"\sum_k\beta_k\phi(v) - \sum_ia_i\phi(v)"
    document = new_document("page")
    document += nodes.paragraph(
        "", "", nodes.math("", long), nodes.Text(". "), nodes.math("", short), nodes.math("", cell)
    )
    document += nodes.entry("", nodes.paragraph("", "", nodes.math("", cell)))
    break_long(app, document, "page")
    first, second = document.findall(nodes.paragraph)
    assert [one.astext() for one in first.findall(nodes.math)] == [
        r"\norm{\theta\Pperp}^2 ={}",
        r" \norm{SQ\Pperp}^2 ={}",
        r" \sum_k s_k^2\norm{\Pperp q_k}^2",
        short,
        cell,
    ]
    assert len(list(second.findall(nodes.math))) == 2
    assert mathjax.ems(cell, False) <= LINE < mathjax.ems(long, False) and mathjax.ems(cell, False) > CELL


@pytest.mark.parametrize(
    "tex, parts",
    [
        ("f(a = b, c) = d", ["f(a = b, c) ={}", " d"]),
        ("f(a) + g(b) - h(c) = d", ["f(a) +{}", " g(b) -{}", " h(c) ={}", " d"]),
        (r"\{(c, V) : c \in C, f = 0\}", [r"\{(c, V) : c \in{}", " C, f ={}", r" 0\}"]),
        (r"a = (f(x)^2 g)/(hhhhh) \to b", ["a ={}", " (f(x)^2 g)/{}", r"(hhhhh) \to{}", " b"]),
        (r"\sqrt{a + b + c + d + e}", [r"\sqrt{a + b + c + d + e}"]),
    ],
)
def test_a_formula_of_the_text_is_broken_as_deep_as_it_must(tex, parts):
    found = list(line_breaks.after_relations(tex, lambda part: len(part.replace("{}", "")) <= 13))
    assert found == parts and "".join(found).replace("{}", "") == tex
