r"""What weight decay took of a first layer, read off its change: the factor by which the old weights shrank.

Steps of SGD with decay, by momentum and any schedule too, leave W_T = κW₀ + Σ_i β_i x_iᵀ, one κ for all weights. On the
directions orthogonal to all r inputs W_T = κW₀, so that κ is an eigenvalue of W₀⁺W_T, as often as there are such
directions: the median of all of them while 2r is less than their number. No other change of full rank loses half of
its directions by a multiple of W₀.
"""

from __future__ import annotations

import dataclasses

import torch

from ..first_layer.change import Change

_COLUMNS = 512  # that are asked: the eigenvalues of a large matrix cost more than all the rest


def without_decay(change: Change) -> tuple[Change, float]:
    """The change of W₀ shrunk by κ, and κ; the change as it is, and 1, where no decay shows.

    A bias must have decayed along: one that was spared keeps its early steps whole, which is one more direction.
    """
    W0, W = change.before, change.after
    p, m = W0.shape
    d = m - change.bias
    some = min(d, _COLUMNS)
    if p < 2 * m or some < 3 or change.spectrum[2] < m:
        return change, 1.0
    old, new = W0[:, :some], W[:, :some]
    kappa = float(torch.linalg.eigvals(torch.linalg.lstsq(old, new).solution.cpu()).real.median())
    for _ in range(2):  # by least squares on the directions that hold the least of other things
        away = torch.linalg.svd(new - kappa * old, full_matrices=False)[2][-(some // 2) :].T
        kappa = float((old @ away * (new @ away)).sum() / (old @ away).square().sum())
    made = dataclasses.replace(change, before=kappa * W0)
    return (made, kappa) if kappa > 0 and made.spectrum[2] <= some // 2 else (change, 1.0)


__all__ = ["without_decay"]
