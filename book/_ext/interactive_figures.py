"""Figures from `rl.plotting.interactive` on the site: drawn by plotly's script from the site itself, and only on the
pages that hold one; the still picture stays where the script does not run, and in every other format."""

from __future__ import annotations

import json
import shutil
from importlib import resources, util
from pathlib import Path

from docutils import nodes
from myst_nb.core import render
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

logger = logging.getLogger(__name__)

PLOTLY = "application/vnd.plotly.v1+json"
SCRIPT = "plotly.min.js"


class KeepFigure:
    """Keeps plotly's JSON in the document tree; myst-nb would warn of an unknown output and drop it."""

    mime_priority_overrides = ()

    @staticmethod
    def handle_mime(renderer, data, inline):
        if data.mime_type != PLOTLY or inline:
            return None
        figure = json.dumps(data.content, separators=(",", ":")).replace("</", r"<\/")
        return [nodes.raw("", f'<script type="application/json">{figure}</script>', format="html")]


class PutFigureBesidePicture(SphinxPostTransform):
    """Before myst-nb chooses one form of an output: the picture and the figure's JSON in one box."""

    default_priority = 3
    formats = ("html",)

    def run(self, **kwargs) -> None:
        if not self.app.config.interactive_figures:
            return
        for bundle in list(self.document.findall(nodes.container)):
            forms = {form.get("mime_type"): form for form in bundle.children if isinstance(form, nodes.Element)}
            if bundle.get("nb_element") == "mime_bundle" and PLOTLY in forms and "image/png" in forms:
                box = nodes.container(classes=["interactive-figure"])
                for picture in forms["image/png"].findall(nodes.image):
                    picture["loading"] = "eager"
                box += forms["image/png"].children + forms[PLOTLY].children
                bundle.replace_self(box)


def bring_script(app: Sphinx) -> None:
    """Copy plotly's script from the Python package into the site; on paper figures stay still."""
    if app.builder.name not in ("html", "dirhtml"):
        app.config.interactive_figures = False
        return
    if util.find_spec("plotly") is None:
        logger.info("Interactive figures stay still: plotly is not installed.")
        app.config.interactive_figures = False
        return
    target = Path(app.outdir, "_static", SCRIPT)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(str(resources.files("plotly") / "package_data" / SCRIPT), target)


def load_where_needed(app: Sphinx, pagename, templatename, context, doctree) -> None:
    """The small script that draws the figures, and fetches plotly's when one of them comes near."""
    boxes = doctree.findall(nodes.container) if doctree else ()
    if any("interactive-figure" in box["classes"] for box in boxes):
        app.add_js_file("interactive.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    found_by_entry_point = render.load_mime_renders  # of installed packages, which this folder is not
    render.load_mime_renders = lambda: [KeepFigure, *found_by_entry_point()]
    app.add_config_value("interactive_figures", True, "html")
    app.add_post_transform(PutFigureBesidePicture)
    app.connect("builder-inited", bring_script)
    app.connect("html-page-context", load_where_needed)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
