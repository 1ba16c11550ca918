"""Formulas set while the site is built: MathJax runs in V8, and pages carry what it made.

Nothing moves when a page opens, formulas show without JavaScript, and no reader's browser loads or runs MathJax. What
`_config.yml` says under `mathjax3_config` holds here too. Screen readers get MathJax's MathML.
"""

from __future__ import annotations

import atexit
import functools
import json
import re
import shutil
from html import escape, unescape
from importlib import metadata
from pathlib import Path

import line_breaks
from docutils import nodes
from py_mini_racer import MiniRacer
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.math import get_node_equation_number

STYLES = "formulas.css"
FONTS = "output/chtml/fonts/woff-v2"
MODULES = (
    "startup.js",
    "core.js",
    "adaptors/liteDOM.js",
    "input/tex-full.js",
    "output/chtml.js",
    "output/chtml/fonts/tex.js",
    "a11y/assistive-mml.js",
)
OPENING, CLOSING = re.compile(r"[(\[“‘]+$"), re.compile(r"[^\s—–/]{1,12}(?=[\s—–/]|$)")  # what goes on a formula's line
NARROW = 21  # ems of a display on a phone, within a proof or an exercise, at 13 pixels
LINE, CELL = 13, 8  # ems of a formula that fit on a phone's line, and in a cell of a table
PACKAGES = ["base", "ams", "newcommand", "configmacros", "textmacros"]
# No browser is there to measure the text around: 1.09 gives MathJax's letters (x-height 0.442 em) the height of those
# of the serifs in custom.css, 0.48 em.
SETUP = """(settings) => {
  const { adaptors, handlers, input, output, mathjax, a11y } = MathJax._;
  const adaptor = adaptors.liteAdaptor.liteAdaptor();
  a11y["assistive-mml"].AssistiveMmlHandler(handlers.html_ts.RegisterHTMLHandler(adaptor));
  const font = new output.chtml.fonts.tex_ts.TeXFont({ fontURL: settings.fonts });
  const page = mathjax.mathjax.document("", {
    InputJax: new input.tex_ts.TeX({ packages: settings.packages, ...settings.tex }),
    OutputJax: new output.chtml_ts.CHTML({ font, adaptiveCSS: false, matchFontHeight: false, scale: 1.09 }),
  });
  globalThis.set = (tex, display) => adaptor.outerHTML(page.convert(tex, { display }));
  globalThis.ems = (tex, display) => {
    const item = new page.options.MathItem(tex, page.inputJax[0], display);
    item.setMetrics(16, 8, 1e6, 1e6, 1.09);
    item.compile(page);
    return page.outputJax.getBBox(item, page).w;
  };
  globalThis.styles = () => adaptor.textContent(page.outputJax.styleSheet(page));
}"""


def mathjax_folder() -> Path:
    """Where `sphinx-mathjax-offline` keeps MathJax."""
    files = metadata.files("sphinx-mathjax-offline") or []
    return next(Path(str(f.locate())).parent for f in files if f.name == "tex-mml-chtml.js")


class Typesetter:
    """MathJax with the book's macros, ready to set formulas."""

    def __init__(self, tex: dict):
        self.engine = MiniRacer()
        atexit.register(self.engine.close)  # V8's thread keeps Python from ending otherwise
        self.engine.eval("var global = globalThis, console = { log() {}, warn() {}, error() {} };")
        self.engine.eval("MathJax = { loader: { load: [] }, startup: { typeset: false } }")
        for module in MODULES:
            self.engine.eval((mathjax_folder() / module).read_text(encoding="utf-8"))
        settings = {"fonts": "mathjax", "packages": PACKAGES, "tex": tex}
        self.engine.eval(f"({SETUP})({json.dumps(settings)})")
        self.set, self.ems = functools.cache(self.set), functools.cache(self.ems)

    def set(self, tex: str, display: bool) -> str:
        """HTML of one formula; an error in it is an error of the build."""
        html = self.engine.call("set", tex, display)
        if wrong := re.search(r'data-mjx-error="([^"]*)"', html):
            raise ValueError(f"MathJax cannot set {tex!r}: {unescape(wrong[1])}")
        return html

    def ems(self, tex: str, display: bool = True) -> float:
        """How wide a formula is, in ems of its own size."""
        return self.engine.call("ems", tex, display)

    def styles(self) -> str:
        return self.engine.call("styles")


@functools.cache
def typesetter(tex: str) -> Typesetter:
    return Typesetter(json.loads(tex))


def typesetter_of(translator) -> Typesetter:
    return typesetter(json.dumps(translator.config.mathjax3_config["tex"]))


def formula(translator, tex: str, display: bool) -> str:
    return typesetter_of(translator).set(tex, display)


def visit_math(self, node: nodes.math) -> None:
    tex = node.astext()
    long = " long" * (len(tex) > LINE and typesetter_of(self).ems(tex, False) > LINE)  # which custom.css sets smaller
    start = self.starttag(node, "span", "", CLASS=f"math notranslate nohighlight{long}", **{"data-tex": tex})
    self.body.append(f"{start}{formula(self, tex, False)}</span>")
    raise nodes.SkipNode


def visit_displaymath(self, node: nodes.math_block) -> None:
    tex = node.astext() if node["nowrap"] else aligned(node.astext())
    numbered = node["number"] and not node["nowrap"]
    beside = 3 if numbered or line_breaks.TAG.search(tex) else 0
    ems = typesetter_of(self).ems(tex) + beside
    style = f"--ems: {ems:.2f}"  # custom.css sets the formula smaller where its place is narrower
    self.body.append(self.starttag(node, "div", CLASS="math notranslate nohighlight", STYLE=style, **{"data-tex": tex}))
    if numbered:
        self.body.append(f'<span class="eqno">({escape(get_node_equation_number(self, node))})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append(displayed(self, tex, ems, beside))
    self.body.append("</div>\n")
    raise nodes.SkipNode


def displayed(translator, tex: str, ems: float, beside: float = 0) -> str:
    """A display and, if a phone is too narrow for it, the same in lines: custom.css shows one of them."""
    measure = typesetter_of(translator).ems
    whole = formula(translator, tex, True)
    lines = line_breaks.in_lines(tex, lambda part: measure(part) + beside <= NARROW) if ems > NARROW else None
    if lines is None:
        return whole
    broken = re.sub(r' id="mjx-eqn:[^"]*"', "", formula(translator, lines, True))  # the whole has it
    style = f"--ems: {measure(lines) + beside:.2f}"
    return f'<div class="whole">{whole}</div><div class="lines" style="{style}">{broken}</div>'


def aligned(tex: str) -> str:
    r"""As Sphinx has it: lines that end in ``\\`` are split, paragraphs are equations below one another."""
    parts = [part for part in tex.split("\n\n") if part.strip()]
    parts = [rf"\begin{{split}}{part}\end{{split}}" if r"\\" in part else part for part in parts]
    return parts[0] if len(parts) == 1 else r"\begin{aligned}" + r"\\".join(parts) + r"\end{aligned}"


def break_long(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """A formula of the text that is wider than a phone's line becomes several, between which the line may end."""
    measure = typesetter(json.dumps(app.config.mathjax3_config["tex"])).ems
    for node in list(doctree.findall(nodes.math)):
        tex = node.astext()
        room = CELL if isinstance(node.parent.parent, nodes.entry) else LINE
        if len(tex) > room and measure(tex, False) > room:  # a letter of TeX is an em at most
            parts = line_breaks.after_relations(tex, lambda part, room=room: measure(part, False) <= room)
            place = node.parent.index(node)
            node.parent[place : place + 1] = [nodes.math(part, part) for part in parts]


def keep_together(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """A browser may break a line on either side of a formula: its full stop and its brackets stay with it."""
    for node in list(doctree.findall(nodes.math)):
        parent, place = node.parent, node.parent.index(node)
        around = [parent[k] if 0 <= k < len(parent) else None for k in (place - 1, place + 1)]
        before, after = (str(one) if isinstance(one, nodes.Text) else "" for one in around)
        opening, closing = OPENING.search(before), CLOSING.match(after)
        if not opening and not closing:
            continue
        whole = nodes.inline(classes=["together"])
        if opening:
            parent[place - 1] = nodes.Text(before[: opening.start()])
            whole += nodes.Text(opening[0])
        parent[place] = whole  # by its place: equal texts are equal to docutils, wherever they stand
        whole += node
        if closing:
            parent[place + 1] = nodes.Text(after[closing.end() :])
            whole += nodes.Text(closing[0])


def choose_renderer(app: Sphinx, config: Config) -> None:
    config.html_math_renderer = "mathematics"


def serve_styles_and_fonts(app: Sphinx) -> None:
    if app.builder.format == "html":
        target = Path(app.outdir, "_static")
        shutil.copytree(mathjax_folder() / FONTS, target / "mathjax", dirs_exist_ok=True)
        styles = typesetter(json.dumps(app.config.mathjax3_config["tex"])).styles()
        (target / STYLES).write_text(styles, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathematics", (visit_math, None), (visit_displaymath, None))
    app.connect("config-inited", choose_renderer)
    app.connect("doctree-resolved", break_long)
    app.connect("doctree-resolved", keep_together)
    app.connect("builder-inited", serve_styles_and_fonts)
    app.add_css_file(STYLES)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
