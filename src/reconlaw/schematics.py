"""The book's schematics: who knows what, the span and what is left of θ, unknowns against equations, layers.

Drawn on the light ground of :func:`reconlaw.plotting.use_style`; matplotlib is loaded by who draws.
"""

from __future__ import annotations

import numpy as np

from .plotting import COLOURS

KNOWN, HIDDEN, FREE, CHECK = COLOURS[1], "#5f6368", COLOURS[0], COLOURS[2]


def pipeline():
    """The way from the data to θ, with what the attacker holds in one colour.

    Returns:
        The figure.
    """
    import matplotlib.pyplot as plt
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

    figure, axis = plt.subplots(figsize=(5.8, 2.6))
    boxes = (
        ("$X$", "private\nsamples", "$dn$ numbers", False),
        ("$V$", "random\nlayer", "drawn once", True),
        (r"$\phi$", "activation", "$\\Phi = \\phi(XV^T)$", True),
        ("$a$", "coefficients", "$n$ numbers", False),
        (r"$\theta = \Phi^T a$", "what training\nchanged", "$p$ numbers", True),
    )
    for place, (symbol, name, size, known) in enumerate(boxes):
        colour = KNOWN if known else HIDDEN
        style = {"boxstyle": "round,pad=0.02,rounding_size=0.08", "lw": 2.2 if known else 1.4, "ec": colour}
        style |= {"ls": "-" if known else (0, (4, 3)), "fc": "#fdeee3" if known else "#f3f3f3"}
        axis.add_patch(FancyBboxPatch((1.45 * place, 0), 1.15, 1, **style))
        axis.text(1.45 * place + 0.575, 0.62, symbol, ha="center", va="center", fontsize=15 - 3 * (place == 4))
        axis.text(1.45 * place + 0.575, 0.2, size, ha="center", va="center", fontsize=8.5)
        axis.text(1.45 * place + 0.575, -0.12, name, ha="center", va="top", fontsize=9, color=colour)
        if place:
            ends = (1.45 * place - 0.28, 0.5), (1.45 * place - 0.02, 0.5)
            axis.add_patch(FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=13, color="#222222", lw=1.6))
    back = {"arrowstyle": "-|>", "mutation_scale": 16, "color": KNOWN, "lw": 1.6, "connectionstyle": "arc3,rad=0.16"}
    axis.add_patch(FancyArrowPatch((6.375, 1.08), (0.575, 1.08), ls=(0, (4, 2)), **back))
    axis.text(3.475, 1.72, "the attack goes back", ha="center", color=KNOWN, fontsize=10)
    axis.text(0, -0.92, "solid, orange: the attacker holds it (and $n$)", color=KNOWN, fontsize=9)
    axis.text(6.95, -0.92, "dashed, grey: private", color=HIDDEN, fontsize=9, ha="right")
    axis.set(xlim=(-0.1, 7.05), ylim=(-1.0, 1.95))
    axis.axis("off")
    return figure


def span_and_residual():
    """θ, the plane that a guess's two feature vectors span, the best fit in it, and the residual that sticks out.

    The picture is of n = 2 and p = 3, and to scale: the fit is computed by least squares.

    Returns:
        The figure.
    """
    import matplotlib.pyplot as plt

    features = np.array([[1.0, 0.15, 0.1], [0.25, 1.0, 0.2]])
    theta = np.array([0.75, 0.7, 0.95])
    fit = features.T @ np.linalg.lstsq(features.T, theta, rcond=None)[0]
    figure = plt.figure(figsize=(6.0, 4.2))
    axis = figure.add_subplot(projection="3d", computed_zorder=False)
    corners = np.array([features.T @ c for c in ((-0.25, -0.25), (1.3, -0.25), (1.3, 1.3), (-0.25, 1.3))])
    plane = axis.plot_trisurf(*corners.T, triangles=[[0, 1, 2], [0, 2, 3]], color="#cfe3f1", alpha=0.75, shade=False)
    plane.set_edgecolor("none")
    arrows = (
        (features[0], COLOURS[0], r"$\phi(V\hat x_1)$", (0.24, 0.02, -0.01)),
        (features[1], COLOURS[0], r"$\phi(V\hat x_2)$", (0, 0.1, 0.06)),
        (fit, COLOURS[2], "best fit", (0.22, -0.02, -0.14)),
        (theta, COLOURS[1], r"$\theta$", (0, 0, 0.05)),
    )
    for end, colour, label, aside in arrows:
        axis.quiver(0, 0, 0, *end, color=colour, lw=2.4, arrow_length_ratio=0.09)
        axis.text(*(end + aside), label, color=colour, fontsize=12, ha="center")
    axis.plot(*np.stack([fit, theta]).T, color="#222222", lw=2, ls="--")
    middle = (fit + theta) / 2
    axis.text(*(middle + (0.06, 0.06, 0)), "residual $r$", fontsize=12)
    up, along = (theta - fit) / np.linalg.norm(theta - fit), -fit / np.linalg.norm(fit)
    mark = np.array([fit + 0.09 * along, fit + 0.09 * (along + up), fit + 0.09 * up])
    axis.plot(*mark.T, color="#222222", lw=1.2)
    axis.text(*(corners[1] + (-0.35, -0.02, -0.08)), "span of the guess", color=COLOURS[0], fontsize=10, ha="center")
    axis.view_init(elev=20, azim=-62)
    axis.set_box_aspect((1.3, 1.3, 0.9), zoom=1.35)
    axis.set_axis_off()
    return figure


def unknowns_and_equations(n: int = 2, d: int = 3, cases=(4, 6, 7)):
    """dn unknowns as boxes above p equations as boxes, for each p of ``cases``.

    An unknown without an equation is free; an equation without an unknown is left to check the answer.

    Returns:
        The figure.
    """
    import matplotlib.pyplot as plt

    samples = [[f"$x_{{{i}{k}}}$" for k in range(1, d)] + [f"$a_{i}$"] for i in range(1, n + 1)]
    unknowns = [name for sample in samples for name in sample]
    count = len(unknowns)
    width = max(count, *cases)
    figure, axes = plt.subplots(len(cases), 1, figsize=(6.6, 1.35 * len(cases)))
    for axis, p in zip(np.atleast_1d(axes), cases, strict=True):
        for k, name in enumerate(unknowns):
            _box(axis, k, 1.15, name, HIDDEN if k < p else FREE, "#f3f3f3" if k < p else "#dcebf6", k >= p)
        for j in range(p):
            extra = j >= count
            edge, face = (CHECK, "#dff3ec") if extra else (KNOWN, "#fdeee3")
            _box(axis, j, 0, rf"$\theta_{{{j + 1}}}$", edge, face, extra)
            if not extra:
                axis.plot([j + 0.45] * 2, [0.9, 1.15], color="#222222", lw=1.2)
        free, extra = max(count - p, 0), max(p - count, 0)
        verdict = "as many as unknowns:\nno other set near by"
        verdict = f"{free} unknown{'s' * (free > 1)} free:\nother samples fit" if free else verdict
        verdict = f"{extra} left to check:\nwrong samples fail" if extra else verdict
        colour = FREE if free else CHECK if extra else "#222222"
        axis.text(width + 0.25, 1.0, verdict, va="center", fontsize=11, color=colour)
        axis.text(-0.2, 0.45, f"$p = {p}$", ha="right", va="center", fontsize=11)
        axis.text(-0.2, 1.6, f"$dn = {count}$", ha="right", va="center", fontsize=11)
        axis.set(xlim=(-1.6, width + 3.2), ylim=(-0.15, 2.2))
        axis.axis("off")
    return figure


def layers(rows, over=()):
    """Networks as rows of boxes: what is private, what stands still, what training moves, and where the attack reads.

    Args:
        rows: {name: boxes from left to right}, each box (symbol, words, role), with a role "private", "frozen",
            "trained" or "read". A box that is read was trained, too.
        over: places of boxes, from 0, that a connection passes over in every row, as the skip of a residual block does.

    Returns:
        The figure.

    Raises:
        ValueError: for a role that is none of the four, and for no rows.
    """
    import matplotlib.pyplot as plt
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

    looks = {  # edge, face, width and dashes of the edge, and the word of the key
        "private": (HIDDEN, "#f3f3f3", 1.4, (0, (4, 3)), "private"),
        "frozen": ("#222222", "white", 1.2, "-", "stands still"),
        "trained": (FREE, "#dcebf6", 2.2, "-", "trained"),
        "read": (KNOWN, "#fdeee3", 2.6, "-", "trained and attacked"),
    }
    roles = {role for boxes in rows.values() for *_, role in boxes}
    if not rows or roles - set(looks):
        raise ValueError(f"roles {sorted(roles)} of {len(rows)} rows; pass one row or more, with roles {list(looks)}")
    count = max(map(len, rows.values()))
    figure, axis = plt.subplots(figsize=(1.0 + 1.1 * count, 0.55 + 0.95 * len(rows) + 0.35 * bool(over)))
    arrow = {"arrowstyle": "-|>", "mutation_scale": 12, "color": "#222222", "lw": 1.4}
    for line, (name, boxes) in enumerate(rows.items()):
        low = -1.4 * line
        axis.text(-0.2, low + 0.5, name, ha="right", va="center", fontsize=10)
        for place, (symbol, words, role) in enumerate(boxes):
            edge, face, width, dashes, _ = looks[role]
            style = {"boxstyle": "round,pad=0.02,rounding_size=0.08", "ec": edge, "fc": face, "lw": width, "ls": dashes}
            axis.add_patch(FancyBboxPatch((1.6 * place, low), 1.25, 1, **style))
            axis.text(1.6 * place + 0.625, low + 0.66, symbol, ha="center", va="center", fontsize=12)
            axis.text(1.6 * place + 0.625, low + 0.24, words, ha="center", va="center", fontsize=8.5)
            if place:
                ends = (1.6 * place - 0.31, low + 0.5), (1.6 * place - 0.03, low + 0.5)
                axis.add_patch(FancyArrowPatch(*ends, **arrow))
        for place in over:
            left, right, top = 1.6 * place - 0.1, 1.6 * place + 1.36, low + 1.22
            axis.plot([left, left, right], [low + 0.5, top, top], color="#222222", lw=1.4)
            axis.add_patch(FancyArrowPatch((right, top + 0.02), (right, low + 0.56), shrinkA=0, **arrow))
    below, start = -1.4 * (len(rows) - 1) - 0.4, 0.0
    for role in (role for role in looks if role in roles):
        axis.text(start, below, looks[role][4], color=looks[role][0], fontsize=9.5, va="center")
        start += 0.5 + 0.12 * len(looks[role][4])
    axis.set(xlim=(-1.5 if any(rows) else -0.1, 1.6 * count - 0.2), ylim=(below - 0.25, 1.5 if over else 1.1))
    axis.axis("off")
    return figure


def one_vector_or_the_span():
    """The plane that the features of two samples span, with one vector of it, and with several and a curve of features.

    The curve holds the features (1, t, t²) of the inputs t. It meets the plane of two samples at these two alone, since
    its distance from the plane is a polynomial of degree 2.

    Returns:
        The figure.
    """
    import matplotlib.pyplot as plt

    samples = np.array([-0.55, 0.75])
    features = np.stack([samples**0, samples, samples**2], axis=1)
    figure = plt.figure(figsize=(7.4, 3.5))
    shares = (np.array([[0.55, 0.5]]), np.array([[0.55, 0.5], [0.85, 0.2], [0.2, 0.62]]))
    names = "one output: one vector of the span", "many outputs: the whole span"
    for place, (coefficients, name) in enumerate(zip(shares, names, strict=True)):
        axis = figure.add_subplot(1, 2, place + 1, projection="3d", computed_zorder=False)
        corners = np.array([c @ features for c in ((-0.2, -0.2), (1.2, -0.35), (1.1, 1.05), (-0.3, 1.15))])
        plane = axis.plot_trisurf(
            *corners.T, triangles=[[0, 1, 2], [0, 2, 3]], color="#cfe3f1", alpha=0.75, shade=False
        )
        plane.set_edgecolor("none")
        for vector in coefficients @ features:
            axis.quiver(0, 0, 0, *vector, color=KNOWN, lw=2.2, arrow_length_ratio=0.1)
        if place:
            t = np.linspace(-1.1, 1.2, 80)
            axis.plot(t**0, t, t**2, color=CHECK, lw=1.8)
            axis.plot(*features.T, "o", color="black", ms=6)
            for feature, label, shift in zip(features, ("$f(x_1)$", "$f(x_2)$"), (-0.22, -0.1), strict=True):
                axis.text(*(feature + (0, 0.08, shift)), label, fontsize=11)
            axis.text(1, 1.12, 1.5, "all $f(x)$", color=CHECK, fontsize=11, ha="right")
        else:
            axis.text(*(coefficients[0] @ features + (0, 0, 0.1)), r"$\theta$", color=KNOWN, fontsize=13)
            about = {"transform": axis.transAxes, "ha": "center", "color": FREE, "fontsize": 10}
            axis.text2D(0.55, 0.68, "span of the samples' features", **about)
        axis.set(xlim=(0, 1.4), ylim=(-1.1, 1.2), zlim=(0, 1.4))
        axis.view_init(elev=24, azim=-38)
        axis.set_box_aspect((1, 1.2, 0.9), zoom=1.1)
        axis.set_axis_off()
        axis.text2D(0.5, -0.02, name, transform=axis.transAxes, ha="center", fontsize=11)
    return figure


def _box(axis, k, height, name, edge, face, thick) -> None:
    from matplotlib.patches import Rectangle

    axis.add_patch(Rectangle((k, height), 0.9, 0.9, ec=edge, fc=face, lw=2.4 if thick else 1.2))
    axis.text(k + 0.45, height + 0.45, name, ha="center", va="center", fontsize=11)
