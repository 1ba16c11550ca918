r"""The counts of the law for a recipe of fine-tuning: parameters p, unknown coordinates dn, and p/dn.

An architecture is a dictionary as in ``book/_assets/calculator/architectures.js``: ``width`` m of the features below
the head, and ``layers``, each with ``shape``, ``times``, and possibly ``head`` (replaced in fine-tuning) or ``lora``
(gets adapters). The calculator in the book computes the same in the reader's browser, and a test compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from ._checks import check_count

RECIPES = ("head", "lora-b", "lora", "full")


def parameter_count(layers: Iterable[dict]) -> int:
    """Parameters of all layers: the product of each shape, as many times as the layer is there."""
    return sum(layer["times"] * math.prod(layer["shape"]) for layer in layers)


def trained_parameters(architecture: dict, recipe: str, outputs: int, rank: int = 8) -> int:
    r"""p: parameters that a recipe trains, the new head's biases aside.

    Args:
        architecture: see the module.
        recipe: "head" trains a new head of K·m weights; "lora" that and, for each adapted matrix of o×i, two factors
            of rank r, r(o + i) numbers (a convolution counts as o × (i·height·width)); "lora-b" counts r·o of them,
            the factor B: it starts at zero, and until it has moved the other one is not trained; "full" everything.
        outputs: K.
        rank: r, of the adapters.
    """
    if recipe not in RECIPES:
        raise ValueError(f"recipe={recipe!r} is unknown; use one of {', '.join(map(repr, RECIPES))}")
    missing = [part for part in ("width", "layers") if architecture.get(part) is None]
    if missing:
        raise ValueError(
            f"architecture lacks {' and '.join(missing)}; it is {{'width': …, 'layers': [{{'shape': …}}]}}"
        )
    head = check_count("outputs", outputs) * check_count("width", architecture["width"])
    layers = architecture["layers"]
    if recipe == "full":
        return head + parameter_count(layer for layer in layers if not layer.get("head"))
    if recipe == "head":
        return head
    check_count("rank", rank)
    adapted = (layer for layer in layers if layer.get("lora"))
    both = recipe == "lora"
    sides = ((layer["times"], layer["shape"][0], math.prod(layer["shape"][1:])) for layer in adapted)
    return head + sum(times * rank * (out + both * into) for times, out, into in sides)


def law_ratio(p: int, d: int, n: int) -> float:
    """p/dn."""
    return check_count("p", p) / (check_count("d", d) * check_count("n", n))


def equation_ratio(p: int, width: int, outputs: int, d: int, n: int, softmax: bool = True) -> float:
    r"""Equations for each unknown, where the head among the p parameters counts by the rank of its change.

    (p − Km + Rm) / (n(d − 1) + nR) with R = min(n, K), or min(n, K − 1) after a softmax: the head's K rows lie in the
    span of n features, and after a softmax they add up to nothing (the chapter *Your own model*). For K > n far below
    p/dn, and for a head alone the number that its audit gives.

    Args:
        p: trained parameters, the head's K·m included.
        width: m.
        outputs: K.
        d: dimension of a sample.
        n: number of samples.
        softmax: the loss is a cross-entropy after one.
    """
    p, width, outputs = check_count("p", p), check_count("width", width), check_count("outputs", outputs)
    if p < outputs * width:
        raise ValueError(f"p={p} is less than the head's {outputs}·{width} = {outputs * width}; p includes the head")
    rank = min(check_count("n", n), outputs - 1 if softmax and outputs > 1 else outputs)
    return (p - (outputs - rank) * width) / (n * (check_count("d", d) - 1 + rank))


def most_samples(p: int, width: int, outputs: int, d: int, softmax: bool = True) -> int:
    """The largest n with at least one equation for each unknown, by :func:`equation_ratio`; 0 where there is none."""
    low, high = 0, max(1, p // max(d - 1, 1)) + 1  # the ratio falls as n grows
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if equation_ratio(p, width, outputs, d, middle, softmax) >= 1 else (low, middle)
    return low
