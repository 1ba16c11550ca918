"""What the site needs beyond the theme: links from the environment, MathJax from disk, lazy images."""

from __future__ import annotations

import os
import shutil
from importlib import metadata
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging

logger = logging.getLogger(__name__)

# The parts of MathJax that a page with TeX in it loads: 2 MB of the 30 MB that the package holds.
MATHJAX_PARTS = ("tex-mml-chtml.js", "input/tex/extensions", "output/chtml/fonts/woff-v2")


def point_to_repository(app: Sphinx, config: Config) -> None:
    """In a fork's CI the buttons lead to the fork: GITHUB_REPOSITORY wins over `_config.yml`."""
    slug, branch = os.environ.get("GITHUB_REPOSITORY"), os.environ.get("GITHUB_REF_NAME")
    if not slug:
        return
    config.html_theme_options["repository_url"] = f"https://github.com/{slug}"
    if branch and os.environ.get("GITHUB_REF_TYPE") == "branch" and not branch.endswith("/merge"):
        config.html_theme_options["repository_branch"] = branch
    owner, name = slug.split("/")
    config.html_baseurl = f"https://{owner.lower()}.github.io/{name}/"


def mathjax_folder() -> Path | None:
    """Where `sphinx-mathjax-offline` keeps MathJax; None when it is not installed."""
    try:
        files = metadata.files("sphinx-mathjax-offline") or []
    except metadata.PackageNotFoundError:
        return None
    found = (Path(str(f.locate())) for f in files if f.name == MATHJAX_PARTS[0])
    return next((path.parent for path in found if path.is_file()), None)


def serve_mathjax_locally(app: Sphinx) -> None:
    """Copy MathJax into the site, so that the mathematics shows without a network."""
    if app.builder.format != "html":
        return
    source = mathjax_folder()
    if source is None:
        logger.info("MathJax comes from its CDN: sphinx-mathjax-offline is not installed.")
        return
    target = Path(app.outdir, "_static", "mathjax")
    for part in MATHJAX_PARTS:
        if (source / part).is_dir():
            shutil.copytree(source / part, target / part, dirs_exist_ok=True)
        else:
            (target / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / part, target / part)
    app.config.mathjax_path = f"mathjax/{MATHJAX_PARTS[0]}"


def leave_out_thebe(app: Sphinx) -> None:
    """Jupyter Book always loads sphinx-thebe, whose script declares its constants twice on every page."""
    for event in ("env-before-read-docs", "doctree-resolved"):
        listeners = app.events.listeners[event]
        listeners[:] = [one for one in listeners if one.handler.__module__ != "sphinx_thebe"]


def load_images_lazily(app: Sphinx, doctree: nodes.document) -> None:
    """All but a page's first image wait until the reader comes near them."""
    for image in list(doctree.findall(nodes.image))[1:]:
        image["loading"] = "lazy"


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", point_to_repository)
    app.connect("builder-inited", serve_mathjax_locally)
    app.connect("builder-inited", leave_out_thebe)
    app.connect("doctree-read", load_images_lazily)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
