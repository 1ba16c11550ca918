"""The book's figures: one style, rows of pictures, and figures that the reader can turn.

Matplotlib is loaded by who draws: importing the package needs none of it.
"""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ._checks import check_positive, to_array

# Okabe and Ito's palette, told apart under every common colour blindness; yellow is left out, too light on paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

# The same look for plotly. Sliders and menus stand here as JupyterLab draws them; the site draws its own.
_AXIS = {"gridcolor": "#e4e4e4", "zeroline": False, "showline": True, "linecolor": "#222222", "ticks": "outside"}
_TEMPLATE = {
    "layout": {
        "autosize": True,
        "colorway": COLOURS,
        "dragmode": False,
        "font": {"family": "system-ui, Helvetica, Arial, sans-serif", "size": 14, "color": "#222222"},
        "hoverlabel": {"font": {"size": 14}},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
        "margin": {"l": 16, "r": 16, "t": 48, "b": 16},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "xaxis": _AXIS | {"automargin": True},
        "yaxis": _AXIS | {"automargin": True},
        "sliderdefaults": {"x": 0.3, "len": 0.7, "pad": {"t": 60}, "currentvalue": {"xanchor": "left"}},
        "updatemenudefaults": {
            "x": 0,
            "xanchor": "left",
            "y": 0,
            "yanchor": "top",
            "pad": {"t": 76},
            "direction": "up",
        },
    },
    "data": {"heatmap": [{"colorscale": "Cividis"}], "contour": [{"colorscale": "Cividis"}]},
}
_CONFIG = {
    "displaylogo": False,
    "responsive": True,
    "modeBarButtons": [["zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]],
}


def use_style() -> None:
    """Set matplotlib's defaults for the book: an opaque light ground (so that dark pages and print show it alike), the
    palette above, markers enough to tell curves apart in grey."""
    import matplotlib.pyplot as plt

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


def image_rows(rows: Mapping[str, Any], width: float = 7.0) -> Any:
    """Rows of pictures with a label each.

    Args:
        rows: {label: (n, H, W) or (n, H, W, 3) array or tensor with values in [0, 1]}, every row of the same n.
        width: of the figure, in inches.

    Returns:
        The figure.
    """
    import matplotlib.pyplot as plt

    if not isinstance(rows, Mapping) or not rows:
        raise TypeError(f"rows is a {type(rows).__name__}; pass a dictionary, label → pictures, with one row or more")
    rows = {label: to_array(images) for label, images in rows.items()}
    for label, images in rows.items():
        if not (images.ndim == 3 or images.ndim == 4 and images.shape[3] in (3, 4)) or not images.size:
            raise ValueError(f"the row {label!r} has shape {images.shape}; expected (n, H, W) or (n, H, W, 3)")
    counts = {len(images) for images in rows.values()}
    if len(counts) != 1:
        raise ValueError(f"rows have {sorted(counts)} pictures; every row needs the same number")
    n, labels, width = counts.pop(), list(rows), check_positive("width", width)
    if width < 2:
        raise ValueError(f"width={width} leaves no room beside the labels; pass at least 2 inches")
    side = (width - 1.1) / n
    figure, axes = plt.subplots(len(labels), n, figsize=(width, side * len(labels) + 0.1), squeeze=False)
    for line, label in zip(axes, labels, strict=True):
        for axis, image in zip(line, rows[label], strict=True):
            axis.imshow(image, vmin=0, vmax=1, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.grid(False)
            for spine in axis.spines.values():
                spine.set_visible(False)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
    return figure


def interactive(figure: Any, static: Any) -> None:
    """Show a figure that answers the reader, with a still picture where it cannot; the last statement of a cell.

    The output is a plotly figure and a PNG side by side. The book's site, JupyterLab (where the package ``plotly`` is
    installed) and VS Code draw the first, all without a network; Colab draws it with the script from plotly's server.
    GitHub, print and readers without JavaScript see the second. Caption, anchor and alternative text go into the
    cell's metadata, as for any figure. On the site, sliders and menus are the browser's own: the keyboard reaches them.

    Args:
        figure: plotly's ``{"data": [...], "layout": {...}}`` as plain dictionaries, which need no plotly (where it is
            installed, a misspelt property raises), or a ``plotly.graph_objects.Figure``. Arrays and tensors may stand
            wherever plotly takes a list. The book's look is the default of everything that is left out. ``name`` of
            a menu and ``currentvalue.prefix`` of a slider are their labels.
        static: the matplotlib figure that says the most of it in one picture; closed here.

    Numbers are rounded to four digits, and to zero below 1e-12 (of the array's largest, where that is above 1), so that
    the stored output is small and the same on every machine. Compute in float64 from the first line on (``linspace`` in
    float32 differs from machine to machine), and of a loss near rounding error plot the logarithm, with a floor.

    Labels are HTML, ``<i>x</i><sub>1</sub>``: plotly's TeX would need another MathJax than the site's.

    Example:
        >>> x = np.linspace(0, 1, 50)
        >>> still, ax = plt.subplots()
        >>> _ = ax.plot(x, x**2)
        >>> interactive({"data": [{"x": x, "y": x**2}]}, still)  # doctest: +SKIP
    """
    bundle = {"application/vnd.plotly.v1+json": plotly_json(figure), "text/plain": "Interactive figure"}
    import matplotlib.pyplot as plt
    from IPython.core.pylabtools import print_figure
    from IPython.display import display

    bundle["image/png"] = print_figure(static, "png", base64=True)
    plt.close(static)
    if "google.colab" in sys.modules:  # it draws HTML only
        from plotly.io import to_html

        parts = dict(bundle["application/vnd.plotly.v1+json"])
        config = parts.pop("config")
        bundle = {"text/html": to_html(parts, config, include_plotlyjs="cdn", full_html=False, validate=False)}
    display(bundle, raw=True)


def choices(
    traces: Iterable[tuple[dict, dict]], slider: str | None = None, menu: str | None = None, start: dict | None = None
) -> dict:
    """A figure for :func:`interactive` whose reader chooses what is drawn, by a slider, a menu, or both.

    Args:
        traces: pairs of what a trace belongs to and the trace, ``({"degree": 3, "activation": "tanh"}, {"y": ...})``.
            A trace is drawn where all of it is chosen; one that belongs to ``{}``, always.
        slider: which of these names it sets, and its label. Options stand in order of appearance.
        menu: the same of a menu.
        start: what is chosen at first, ``{"degree": 2}``; else the first options.

    Returns:
        ``{"data": [...], "layout": {"sliders": ..., "updatemenus": ...}}``, to be completed by axes.
    """
    belongs, given = zip(*traces, strict=True)
    data, start = [dict(trace) for trace in given], dict(start or {})
    layout: dict[str, Any] = {}
    for name in filter(None, (slider, menu)):
        options = list(dict.fromkeys(b[name] for b in belongs if name in b))
        if start.setdefault(name, next(iter(options), None)) not in options:
            raise ValueError(f"{start[name]!r} is no option of {name!r}; traces belong to {options}")
        # Both at once: one sets what is visible, the other what is opaque, so that neither undoes the other.
        steps = []
        for option in options:
            drawn = [b.get(name, option) == option for b in belongs]
            change: dict[str, Any] = {"visible": drawn}
            if name == menu and slider:  # hidden, silent, and out of the legend
                change = {"opacity": (1, 0), "hoverinfo": ("all", "skip")}
                if any("hovertemplate" in t for t in given):
                    change["hovertemplate"] = (None, None)
                for key, (on, off) in change.items():
                    change[key] = [t.get(key, on) if shown else off for shown, t in zip(drawn, given, strict=True)]
                change["showlegend"] = [shown and "name" in t for shown, t in zip(drawn, given, strict=True)]
            steps.append({"label": str(option), "method": "restyle", "args": [change]})
        active = options.index(start[name])
        if name == slider:
            layout["sliders"] = [{"active": active, "currentvalue": {"prefix": f"{name}: "}, "steps": steps}]
        else:
            layout["updatemenus"] = [{"active": active, "name": name, "buttons": steps}]
    for controls, held in (("sliders", "steps"), ("updatemenus", "buttons")):
        for control in layout.get(controls, ()):
            for key, values in control[held][control["active"]]["args"][0].items():
                for trace, value in zip(data, values, strict=True):
                    trace[key] = value
    return {"data": data, "layout": layout}


def plotly_json(figure: Any) -> dict:
    """What :func:`interactive` stores of a figure: its data, rounded and compact, in the book's look."""
    if not isinstance(figure, dict) and not hasattr(figure, "to_dict"):
        raise TypeError(f"figure is a {type(figure).__name__}; pass a figure of plotly, or its dictionary")
    parts = figure if isinstance(figure, dict) else figure.to_dict()
    unknown = set(parts) - {"data", "layout", "frames"}
    if unknown or not parts.get("data"):
        raise ValueError(f"a figure has data, layout and frames; this one has {sorted(parts) or 'nothing'}")
    stored = {key: _plain(value) for key, value in parts.items() if value}
    try:
        from plotly.graph_objects import Figure
    except ImportError:
        pass
    else:
        try:
            Figure(stored)
        except ValueError as error:  # a misspelt property, which plotly's script would pass over
            raise ValueError(f"the figure is none of plotly's: {str(error).strip()[:400]}") from error
    layout = {"height": 440} | stored.get("layout", {}) | {"template": _plain(_TEMPLATE)}
    return stored | {"layout": layout, "config": _plain(_CONFIG)}


def _plain(value):
    """As JSON: rounded numbers, and long arrays (not lists: one may be an option for each trace) in plotly's base64."""
    if isinstance(value, dict) and "bdata" in value:  # as plotly.graph_objects hands arrays out
        entries = np.frombuffer(base64.b64decode(value["bdata"]), dtype=value["dtype"])
        value = entries.reshape([int(side) for side in value["shape"].split(",")]) if "shape" in value else entries
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [_plain(entry) for entry in value]
    if isinstance(value, str):
        if re.search(r"\$.+\$", value):
            raise ValueError(f"{value!r}: plotly's labels are HTML; write <i>x</i><sub>1</sub> instead of $x_1$")
        return value
    if value is None:
        return None
    array = to_array(value)
    if array.dtype.kind not in "biufUO" or array.ndim == 0 and array.dtype.kind == "O":
        raise TypeError(f"a figure holds numbers, texts, lists and dictionaries, not {type(value).__name__}")
    if array.dtype.kind in "UO":
        return _plain(array.tolist())
    if array.dtype.kind == "f":
        array = _rounded(array)
    if array.size <= 32 or array.dtype.kind == "b":
        return _without_nan(array.tolist())
    dense = {"dtype": "f4", "bdata": base64.b64encode(array.astype("<f4").tobytes()).decode()}
    return dense if array.ndim == 1 else dense | {"shape": ", ".join(map(str, array.shape))}


def _rounded(array: np.ndarray) -> np.ndarray:
    """To four digits each, and zero where an entry is nothing beside 1 or the largest."""
    if not array.size:
        return array
    array = np.where(np.abs(array) <= 1e-12 * np.abs(array[np.isfinite(array)]).max(initial=1), 0.0, array)
    return np.vectorize(lambda entry: float(f"{entry:.4g}"), otypes=[float])(array)


def _without_nan(value):
    """JSON has no NaN; a gap in a short list is null."""
    if isinstance(value, list):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
