"""What a published site has beside its pages: a description of each for search engines and chats, a picture that stands
for the book, a sitemap, and a page for addresses that lead nowhere."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from textwrap import wrap
from urllib.parse import urlsplit

import matplotlib.image
from docutils import nodes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sphinx.application import Sphinx

SITES = ("html", "dirhtml")  # other builders print
PREVIEW = "social.png"
SUBTITLE = "Training data, read back out of a model's parameters"
PREVIEW_SIZE = (1200, 630)  # pixels, as the Open Graph protocol's readers want it
PREVIEW_ALT = (
    "Rows of six small portraits: noise where a model has few parameters, the training set where it has enough."
)
UNSPEAKABLE = "\ufffd"
SYMBOLS = {r"\\gg": "≫", r"\\le": "≤", r"\\ge": "≥", r"\\phi": "φ", r"\\theta": "θ", r"\\lambda": "λ", r"\\ell": "ℓ"}

MISSING = """
<section><h1>There is no such page</h1>
<p>The address may have been misspelt, or the page has moved.
Start from <a href="{home}">the front page</a>, or <a href="search.html">search the book</a>.</p></section>
<script>
  // Relative addresses start from the site's root here; those within the page must not.
  document.querySelectorAll('a[href^="#"]').forEach((a) => (a.href = location.pathname + a.getAttribute("href")));
</script>
"""


def spoken(node: nodes.Element) -> str:
    """The text of a paragraph without those of its sentences whose formulas plain letters cannot say."""
    node = node.deepcopy()
    for formula in list(node.findall(nodes.math)):
        tex = formula.astext()
        for command, symbol in SYMBOLS.items():
            tex = re.sub(command + r"(?![a-zA-Z])", symbol, tex)
        formula.replace_self(nodes.Text(UNSPEAKABLE if re.search(r"[\\\\{}_^]", tex) else tex))
    sentences = re.split(r"(?<=[.!?:])\s+", " ".join(node.astext().split()))
    return " ".join(sentence for sentence in sentences if UNSPEAKABLE not in sentence)


def description(doctree: nodes.document, longest: int = 200) -> str:
    """A page's first sentences, whole where they fit."""
    paragraphs = (p for p in doctree.findall(nodes.paragraph) if isinstance(p.parent, nodes.section))
    paragraphs = (
        p for p in paragraphs if p.astext().endswith((".", "!", "?")) and not p.astext().startswith("Needed:")
    )
    text = ""
    for sentence in (s for p in paragraphs for s in re.split(r"(?<=[.!?]) ", spoken(p)) if s):
        if text and len(text) + len(sentence) >= longest:
            break
        text = f"{text} {sentence}".strip()
    return text if len(text) <= longest else text[: longest - 1].rsplit(" ", 1)[0].rstrip(",;:") + "…"


def describe(app: Sphinx, pagename, templatename, context, doctree) -> None:
    """Meta elements: what a search engine shows below a page's name, and a chat beside its picture."""
    if doctree is None or app.builder.name not in SITES:
        return
    base, book, root = app.config.html_baseurl, app.config.html_title, pagename == app.config.root_doc
    title, text = app.env.titles[pagename].astext(), description(doctree)
    properties = {
        "og:type": "website",
        "og:site_name": book,
        "og:title": book if root else f"{title} · {book}",
        "og:description": text,
        "og:url": base if root else f"{base}{app.builder.get_target_uri(pagename)}",
        "og:image": f"{base}_static/{PREVIEW}",
        "og:image:width": PREVIEW_SIZE[0],
        "og:image:height": PREVIEW_SIZE[1],
        "og:image:alt": PREVIEW_ALT,
    }
    lines = [
        f'<meta property="{name}" content="{escape(str(value))}" />' for name, value in properties.items() if value
    ]
    lines += ['<meta name="twitter:card" content="summary_large_image" />']
    lines += [f'<meta name="description" content="{escape(text)}" />'] if text else []
    context["metatags"] = "\n".join([context.get("metatags", ""), *lines, ""])


def draw_preview(picture: Path, title: str) -> Figure:
    """The book's own picture beside its title."""
    width, height = PREVIEW_SIZE
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor="white")
    image = matplotlib.image.imread(picture)
    share = 0.9 * height * image.shape[1] / image.shape[0] / width
    axes = figure.add_axes((0.98 - share, 0.05, share, 0.9))
    axes.imshow(image, interpolation="lanczos")
    axes.set_axis_off()
    text = {"family": "DejaVu Sans", "color": "#1f2328", "linespacing": 1.3}
    figure.text(0.04, 0.5, "\n".join(wrap(title, 14)), fontsize=30, weight="bold", va="bottom", **text)
    figure.text(0.04, 0.38, "\n".join(wrap(SUBTITLE, 24)), fontsize=18, va="top", **text)
    figure.add_artist(Line2D([0.042, 0.122], [0.445, 0.445], color="#e07b28", linewidth=6))
    return figure


def save_preview(app: Sphinx) -> None:
    if app.builder.name in SITES:
        target = Path(app.outdir, "_static", PREVIEW)
        target.parent.mkdir(parents=True, exist_ok=True)
        draw_preview(Path(app.srcdir, "_assets", "front.png"), app.config.html_title).savefig(target)


def collect_missing_page(app: Sphinx):
    """404.html, which GitHub Pages answers with, whatever the address."""
    if app.builder.name in SITES:
        base = urlsplit(app.config.html_baseurl).path
        context = {"title": "No such page", "body": MISSING.format(home=base), "metatags": f'<base href="{base}" />'}
        yield "404", context, "page.html"


def write_sitemap(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.name not in SITES:
        return
    base, root = app.config.html_baseurl, app.config.root_doc
    pages = [root, *sorted(app.env.found_docs - {root})]
    places = [base if page == root else base + app.builder.get_target_uri(page) for page in pages]
    lines = [f"  <url><loc>{escape(place)}</loc></url>" for place in places]
    head = '<?xml version="1.0" encoding="utf-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
    Path(app.outdir, "sitemap.xml").write_text("\n".join([head, *lines, "</urlset>", ""]), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", save_preview)
    app.connect("html-page-context", describe)
    app.connect("html-collect-pages", collect_missing_page)
    app.connect("build-finished", write_sitemap)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
