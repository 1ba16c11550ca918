"""What the site needs beyond the theme: links from the environment, lazy images, a lighter page."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

HANDOUT = Path(__file__).resolve().parents[2] / "_build" / "course" / "handout.pdf"
ALSO_CALLED = json.loads(Path(__file__).with_name("search_words.json").read_text(encoding="utf-8"))
PRINTED = re.compile(r'(<div class="output stream [^>]*><div class="highlight"><pre><span></span>)([^<]*)(?=</pre>)')
REPEATED_ID = re.compile(r' id="(?:proof|[a-z]+-content)"(?=>)')


def point_to_repository(app: Sphinx, config: Config) -> None:
    """In a fork's CI the buttons lead to the fork: GITHUB_REPOSITORY wins over `_config.yml`."""
    slug, branch = os.environ.get("GITHUB_REPOSITORY"), os.environ.get("GITHUB_REF_NAME")
    if slug:
        config.html_theme_options["repository_url"] = f"https://github.com/{slug}"
        if branch and os.environ.get("GITHUB_REF_TYPE") == "branch" and not branch.endswith("/merge"):
            config.html_theme_options["repository_branch"] = branch
    owner, name = config.html_theme_options["repository_url"].removeprefix("https://github.com/").split("/")
    host = f"{owner.lower()}.github.io"
    config.html_baseurl = f"https://{host}/" if name.lower() == host else f"https://{host}/{name}/"


def keep_stored_outputs(app: Sphinx, config: Config) -> None:
    """`make book EXECUTE=off` builds from the outputs in the notebooks: seconds instead of minutes."""
    if os.environ.get("EXECUTE") == "off":
        config.nb_execution_mode = "off"


def rank_pages_by_title(app: Sphinx, config: Config) -> None:
    """The search puts a page first whose own title, or list of further words, holds the words looked for."""
    scorer = Path(app.doctreedir, "search_scorer.js")
    scorer.parent.mkdir(parents=True, exist_ok=True)
    code = Path(__file__).with_name("search_scorer.js").read_text(encoding="utf-8")
    scorer.write_text(f"const ALSO_CALLED = {json.dumps(ALSO_CALLED)};\n{code}", encoding="utf-8")
    config.html_search_scorer = str(scorer)


def leave_out_thebe(app: Sphinx) -> None:
    """Jupyter Book always loads sphinx-thebe, whose script declares its constants twice on every page."""
    for event in ("env-before-read-docs", "doctree-resolved"):
        listeners = app.events.listeners[event]
        listeners[:] = [one for one in listeners if one.handler.__module__ != "sphinx_thebe"]


def begin_with_the_picture(app: Sphinx, doctree: nodes.document) -> None:
    """The two cells that set a notebook up are marked, to go side by side, and what they tell of a device goes: it is
    not the reader's."""
    cells = [cell for cell in doctree.findall(nodes.container) if cell.get("nb_element") == "cell_code"]
    for cell, following in zip(cells, cells[1:], strict=False):
        if "%pip install" in cell.astext():
            for output in [part for part in cell if part.get("nb_element") == "cell_code_output"]:
                cell.remove(output)
            for one in (cell, following):
                if not any(part.get("nb_element") == "cell_code_output" for part in one):
                    one["classes"].append("setup")


def keep_rows_apart(app: Sphinx, pagename, templatename, context, doctree) -> None:
    """Each line of what a cell printed is an element, so that one that a phone breaks goes on indented."""
    context["body"] = PRINTED.sub(
        lambda found: found[1] + re.sub(r"(?m)^(.+\n|\n)", r'<span class="row">\1</span>', found[2]),
        context.get("body", ""),
    )


def load_images_lazily(app: Sphinx, doctree: nodes.document) -> None:
    """All but a page's first image wait until the reader comes near them."""
    for image in list(doctree.findall(nodes.image))[1:]:
        image["loading"] = "lazy"


def leave_out_icon_script(app: Sphinx, exception: Exception | None) -> None:
    """The theme brings its icons twice: as fonts, and as a script of 1.5 MB. The fonts do."""
    script = Path(app.outdir, "_static", "scripts", "fontawesome.js")
    if exception is None and script.is_file():
        script.write_text("/* Icons come from the fonts. */\n", encoding="utf-8")
        for rest in script.parent.glob("*.map"):
            rest.unlink()


def mend_roles(app: Sphinx, pagename, templatename, context, doctree) -> None:
    """docutils gives the entries of a bibliography a role that ARIA has withdrawn."""
    if 'class="citation-list"' in context.get("body", ""):
        context["body"] = context["body"].replace(' role="doc-biblioentry"', ' role="listitem"')


def choose_what_search_reads(app: Sphinx) -> None:
    """Every chapter opens with the same cell, which nobody who searches for "install" is looking for; and readers have
    words for some pages that these do not use."""
    index = getattr(app.builder, "index_page", None)
    if index is None:
        return

    def index_page(pagename: str, doctree: nodes.document, title: str) -> None:
        doctree = doctree.deepcopy()
        for cell in list(doctree.findall(nodes.container)):
            if cell.get("nb_element") == "cell_code" and "%pip install" in cell.astext():
                cell.parent.remove(cell)
        if pagename in ALSO_CALLED:
            doctree += nodes.paragraph("", ALSO_CALLED[pagename])
        index(pagename, doctree, title)

    app.builder.index_page = index_page


def offer_handout(app: Sphinx, pagename, templatename, context, doctree) -> None:
    """The book as a PDF, where `make course` has printed one."""
    if pagename == app.config.root_doc and HANDOUT.is_file() and app.builder.format == "html":
        shutil.copy2(HANDOUT, Path(app.outdir, HANDOUT.name))
        link = f'<a href="{HANDOUT.name}">The whole book as a PDF</a>, without the solutions of the exercises.'
        context["body"] += f'<p class="handout">{link}</p>'


def name_once(app: Sphinx, pagename, templatename, context, doctree) -> None:
    """Ids that sphinx-proof and sphinx-exercise give to every proof and solution of a page, and the front page's title,
    which would stand twice in the browser's tab."""
    context["body"] = REPEATED_ID.sub("", context.get("body", ""))
    if pagename == app.config.root_doc:
        context["docstitle"] = ""


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", point_to_repository)
    app.connect("config-inited", keep_stored_outputs)
    app.connect("config-inited", rank_pages_by_title)
    app.connect("builder-inited", leave_out_thebe)
    app.connect("builder-inited", choose_what_search_reads)
    app.connect("doctree-read", load_images_lazily)
    app.connect("doctree-read", begin_with_the_picture)
    app.connect("html-page-context", mend_roles)
    app.connect("html-page-context", name_once)
    app.connect("html-page-context", keep_rows_apart)
    app.connect("html-page-context", offer_handout)
    app.connect("build-finished", leave_out_icon_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
