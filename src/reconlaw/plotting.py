"""The book's figures: one style, and rows of pictures."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

# Okabe and Ito's palette, told apart under every common colour blindness; yellow is left out, too light on paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def use_style() -> None:
    """Set matplotlib's defaults for the book: an opaque light ground (so that dark pages and print show it alike), the
    palette above, markers enough to tell curves apart in grey."""
    plt.rcParams.update(
        {
            "figure.figsize": (6.4, 3.8),
            "figure.dpi": 110,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "figure.constrained_layout.use": True,
            "axes.prop_cycle": plt.cycler(color=COLOURS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#e4e4e4",
            "grid.linewidth": 0.6,
            "axes.axisbelow": True,
            "lines.linewidth": 1.8,
            "lines.markersize": 5,
            "font.size": 11,
            "legend.frameon": False,
            "image.cmap": "gray",
        }
    )


def image_rows(rows, width: float = 7.0):
    """Rows of pictures with a label each.

    Args:
        rows: {label: (n, H, W) or (n, H, W, 3) array with values in [0, 1]}, every row of the same n.
        width: of the figure, in inches.

    Returns:
        The figure.
    """
    counts = {len(images) for images in rows.values()}
    if len(counts) != 1:
        raise ValueError(f"rows have {sorted(counts)} pictures; every row needs the same number")
    n, labels = counts.pop(), list(rows)
    side = (width - 1.1) / n
    figure, axes = plt.subplots(len(labels), n, figsize=(width, side * len(labels) + 0.1), squeeze=False)
    for line, label in zip(axes, labels, strict=True):
        for axis, image in zip(line, np.asarray(rows[label]), strict=True):
            axis.imshow(image, vmin=0, vmax=1, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.grid(False)
            for spine in axis.spines.values():
                spine.set_visible(False)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
    return figure
