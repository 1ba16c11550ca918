"""Where to go on from where descent does not: other orders of the samples, and kicks.

Where batches or labels tell samples apart, the right samples in the wrong order are a valley of their own. So pairs are
exchanged, the best exchange and the best after it, while the mismatch falls: before descents, and after. Where none
lowers it by itself, the best few are tried with a descent after each.

Near θ a descent may end at a neuron whose outputs on a batch nearly agree, because normalisation divides by their
spread. A small random kick goes past it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch

from ...inputs import Inputs
from .fit import Fit, begin, retract
from .recipe import Recipe

_SAME = 1e-6  # exchanges that change the mismatch by less, relative, are of samples that the recipe does not tell apart
_PAIRS = 66  # that are looked at: all of twelve samples
_WORSE = 3  # exchanges that are tried though none is better
_NEAR, _KICKS = 0.05, (0.03, 0.1, 0.03, 0.1)  # mismatch from which kicks help; their sizes, in root mean squares


def in_order(recipe: Recipe, fit: Fit, inputs: Inputs, generator: torch.Generator) -> Fit:
    """``fit``, or one not yet descended whose samples are in an order of lower mismatch."""
    while True:
        others = _exchanges(recipe, fit, inputs, generator)
        if not others or others[0].mismatch >= fit.mismatch:
            return fit
        fit = others[0]


def hops(recipe: Recipe, fit: Fit, inputs: Inputs, generator: torch.Generator) -> Iterator[Fit]:
    """Fits not yet descended, near the end of a descent, the most promising first."""
    if fit.mismatch < _NEAR:
        yield from _kicked(recipe, fit, inputs, generator)
    best = in_order(recipe, fit, inputs, generator)
    if best is not fit:
        yield best
    yield from _exchanges(recipe, fit, inputs, generator)[:_WORSE]


def _kicked(recipe, fit, inputs, generator):
    n, k = recipe.shape
    U = fit.q[: n * k]
    for size in _KICKS:
        draw = torch.randn(n * k, generator=generator, dtype=torch.float64, device="cpu").to(U)
        q = torch.cat([U + size * U.square().mean().sqrt() * draw, fit.q[n * k :]])
        yield begin(recipe, retract(q, recipe.shape, inputs))


def _exchanges(recipe, fit, inputs, generator):
    """One fit for each pair exchanged that the recipe tells apart, by mismatch."""
    n, k = recipe.shape
    pairs, made = list(itertools.combinations(range(n), 2)), []
    if len(pairs) > _PAIRS:
        drawn = torch.randperm(len(pairs), generator=generator, device="cpu")[:_PAIRS]
        pairs = [pairs[i] for i in drawn.tolist()]
    U, rest = fit.q[: n * k].reshape(n, k), fit.q[n * k :]
    for i, j in pairs:
        V = U.clone()
        V[[i, j]] = U[[j, i]]
        made.append(begin(recipe, retract(torch.cat([V.flatten(), rest]), recipe.shape, inputs)))
    told = (one for one in made if abs(one.mismatch - fit.mismatch) > _SAME * fit.mismatch)
    return sorted(told, key=lambda one: one.mismatch)
