r"""Samples of several columns that can be cut and put together otherwise, with θ as it is.

A convolution sees a sample through windows, and θ holds the columns of all windows of all samples, not which belong
together. Where two samples agree on what lies between two parts of them, as on a blank margin, either part of one may
go with the other part of the other: the windows stay the same, and so does θ. Parts are the connected components of the
coordinates in which the two differ, two being connected where some column depends on both.
"""

from __future__ import annotations

import torch

from .._random import seeded_generator
from ..features.passes import count_passes

# Coordinates agree within so many standard errors of the samples, and within this share of their norms.
_ERRORS, _ROUNDING = 10.0, 1e-9


def spliced(features, X, errors) -> torch.Tensor:
    """(n,) bool: samples of which another sample could take over a part.

    Args:
        errors: (n,) relative standard errors; a sample of infinite ones agrees with none.
    """
    found, size = torch.zeros(len(X), dtype=torch.bool, device=X.device), X.norm(dim=1)
    if features.positions == 1 or len(X) == 1:
        return found
    together = _together(features, X)
    errors = torch.where(torch.isfinite(errors), errors, 0.0).to(X)
    near = (_ERRORS * errors + _ROUNDING) * size
    for i in range(len(X)):
        for j in range(i):
            apart = (X[i] - X[j]).abs() > torch.maximum(near[i], near[j])
            if bool(apart.any()) and not _connected(together[apart][:, apart]):
                found[i] = found[j] = True
    return found


def _together(features, X):
    """(k, k) bool: coordinates on which one column depends together, at any of the samples."""
    T = features.positions
    count_passes(len(X) * (1 + T))
    with torch.enable_grad():
        at = X.detach().clone().requires_grad_(True)
        columns = features.apply(at).unflatten(1, (T, -1))
        g = torch.randn(columns.shape[2], device="cpu", generator=seeded_generator("spliced", 0), dtype=torch.float64)
        sums = (columns @ g.to(columns)).sum(0)
        moved = [torch.autograd.grad(sums[t], at, retain_graph=t + 1 < T)[0] for t in range(T)]
    depends = torch.stack([(part != 0).any(0) for part in moved]).to(X)
    return depends.T @ depends > 0


def _connected(near):
    """Whether a graph, (m, m) bool, has one component."""
    seen = torch.zeros(len(near), dtype=torch.bool, device=near.device)
    seen[0] = True
    while True:
        more = seen | near[seen].any(0)
        if bool((more == seen).all()):
            return bool(seen.all())
        seen = more
