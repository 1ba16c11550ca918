"""Which figures a dark page may turn round: plots are drawn dark on white and read as well light on black, but a face
turned round is a negative, and a caption that speaks of black or of light must stay true."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx

PAPER = 215  # from this level on, in all three colours, a pixel counts as the ground, tinted or not
LEAST = 0.8  # share of it in a plot; plots have 0.86 and more of it, rows of pictures and heat maps 0.66 and less
SHADES = re.compile(r"\b(black|white|dark|darker|bright|brighter|pale|light)\b", re.IGNORECASE)


def is_plot(path: Path) -> bool:
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    return bool((pixels.min(axis=2) >= PAPER).mean() >= LEAST)


def speaks_of_shades(image: nodes.image) -> bool:
    figure = image.parent if isinstance(image.parent, nodes.figure) else image
    return bool(SHADES.search(f"{image.get('alt', '')} {figure.astext()}"))


def mark_plots(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Give them the class ``plot``, and the box of an interactive figure the class of its picture."""
    if app.builder.format != "html":
        return
    for image in doctree.findall(nodes.image):
        path = Path(app.srcdir, image["uri"])
        if path.suffix == ".png" and path.is_file() and is_plot(path) and not speaks_of_shades(image):
            image["classes"].append("plot")
            box = image.parent
            while box is not None and "interactive-figure" not in box.get("classes", ()):
                box = box.parent
            if box is not None:
                box["classes"].append("plot")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-resolved", mark_plots)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
