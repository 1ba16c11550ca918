r"""Signs of the atoms, read off a lifted point: at a solution one of each pair's coefficients vanishes."""

from __future__ import annotations

import torch

from ..features.decompose import lstsq
from ..features.gram import StepError, as_step
from .projection import Projection

# Signs that enumeration may try all of.
_MOST_FREE_SIGNS = 16


def _carried(point):
    """What φ(Vu) and what φ(−Vu) carry of each atom, (n,) and (n,)."""
    weight = point.alpha.norm(dim=1) * point.features.norms(point.lift.columns)
    return weight.reshape(2, -1)


def read_signs(point: Projection) -> torch.Tensor:
    """+1 where φ(Vu) carries the atom, −1 where φ(−Vu) does, (n,)."""
    plus, minus = _carried(point)
    return torch.where(plus >= minus, 1.0, -1.0).to(point.U)


def read_off(point: Projection, share: float) -> bool:
    """Whether of each pair of columns the lighter carries no more than this share of what the other does."""
    pairs = _carried(point)
    return bool((pairs.amin(0) <= share * pairs.amax(0)).all())


def linear_signs(point: Projection) -> torch.Tensor | None:
    r"""Signs where read-off fails because n > d and the odd part of φ is linear (ReLU), or None.

    The even coefficients c_i = α⁺_i + α⁻_i are exact, but of the odd part only w = Σ_i (α⁺_i − α⁻_i) u_i is known:
    s ∈ {±1}ⁿ must solve Σ_i s_i c_i u_i = w. All but d of the signs are enumerated (2^(n−d) ≤ 2^16), the rest follow.
    """
    U, K = point.U, point.alpha.shape[1]
    n, d = U.shape
    free = n - K * d
    if not 0 < free <= _MOST_FREE_SIGNS:
        return None
    plus, minus = point.alpha[:n], point.alpha[n:]
    A = ((plus + minus)[:, :, None] * U[:, None, :]).reshape(n, K * d).T
    w = ((plus - minus).T @ U).reshape(K * d)
    # The lightest atoms are enumerated: the equations then rest on the heavy ones.
    order = A.norm(dim=0).argsort()
    loose, fixed = order[:free], order[free:]
    codes = torch.arange(2**free, device=U.device)[:, None] >> torch.arange(free, device=U.device)
    trial = (codes % 2 * 2 - 1).to(U)
    try:
        with as_step():
            rest = lstsq(A[:, fixed], (w - trial @ A[:, loose].T).T).T
    except StepError:
        return None
    best = int((rest.abs() - 1).square().sum(1).argmin())
    signs = torch.empty(n, dtype=U.dtype, device=U.device)
    signs[loose], signs[fixed] = trial[best], torch.where(rest[best] >= 0, 1.0, -1.0).to(U)
    return signs
