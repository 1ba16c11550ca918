r"""What the running statistics of batch normalisation say of the inputs of the layer below: their affine hull.

Training mode takes a running mean m and a running variance v of Z = X Wᵀ + b along, m ← (1 − μ) m + μ mean_B and
v ← (1 − μ) v + μ var_B over the batches B. After T steps, with κ = (1 − μ)^T left of what was there before,

    (m_T − κ m_0)/(1 − κ) = W x̄ + b,        (v_T − κ v_0)/(1 − κ) = (w_jᵀ C w_j)_j,

x̄ a mean of the inputs and C ∈ R^{d×d} a mean of the batches' covariances, whose rank r is at most n − 1. So x̄ comes
from p > d linear equations, and C = AᵀA from p quadratic ones for A (r, d), by Gauss–Newton: r d − r(r − 1)/2 unknowns.
The inputs are x̄ + U A where batches overlap; of r + 1 inputs r² + r numbers are left, which the trained weights must
tell (:func:`reconlaw.retrace`). It needs neither order nor sizes of the batches.

Batches that share no input, as where the same two batches alternate, are told apart by no equation: each may be shifted
as a whole, against the others, without changing any normalised feature. Then the inputs are not in the hull.

Source of the parametrisation C = AᵀA: Burer and Monteiro (2003); the reading is ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .._checks import check_count, check_finite, check_matrix
from .._random import seeded_generator
from .input_hull import InputSpan

_STARTS, _STEPS, _FIRST, _LEAST = 3, 100, 1e-2, 1e-14
_PATIENCE, _FACTOR = 8, 0.7  # so many steps must bring the misfit below this much of what it was
_MOST = 64  # of the ranks that are tried


def batch_hull(
    weight: torch.Tensor,
    before: Sequence[torch.Tensor],
    after: Sequence[torch.Tensor],
    kept: float,
    bias: torch.Tensor | None = None,
    rank: int | None = None,
) -> InputSpan:
    r"""The affine hull of the inputs of a linear layer, from the running statistics of the batch norm above it.

    Args:
        weight: W (p, d) of the layer, which did not change in training; p > d.
        before: running mean and running variance (p,) each, as training began.
        after: the same as it ended.
        kept: κ = (1 − momentum)^steps. A wrong one does not fit, so that step counts can be tried.
        bias: b (p,) of the layer.
        rank: r, where it is known: n − 1 for n inputs in batches that overlap. None tries 1, 2, … for the first
            that fits; d directions would be no hull.

    Returns:
        :class:`~reconlaw.networks.InputSpan` with the weighted mean as its ``point`` and r orthonormal directions;
        its ``inputs`` is the domain for :func:`reconlaw.retrace`. Singular values are those of A.

    Raises:
        TypeError, ValueError: what is wrong with an argument; no such hull fits the statistics.
    """
    weight = check_finite("weight", check_matrix("weight", weight).detach()).double()
    p, d = weight.shape
    if p <= d:
        raise ValueError(f"weight is ({p}, {d}); the mean of the inputs takes more rows than columns")
    m0, v0, m, v = (_statistic(one, weight) for one in (*_pair("before", before), *_pair("after", after)))
    if not isinstance(kept, float) or not 0 <= kept < 1:
        raise ValueError(f"kept={kept!r} must be (1 − momentum)^steps, a float in [0, 1)")
    given = max(torch.finfo(one.dtype).eps for one in (*before, *after))
    tol = given**0.5 / (1 - kept)
    mean, var = (m - kept * m0) / (1 - kept), (v - kept * v0) / (1 - kept)
    if bias is not None:
        mean = mean - _statistic(bias, weight)
    point = torch.linalg.lstsq(weight, mean[:, None]).solution[:, 0]
    if float((weight @ point - mean).norm()) > tol * float(mean.norm()):
        raise ValueError("the running means are no mean of this layer's outputs; check weight, bias and kept")
    ranks = range(1, min(d - 1, _MOST) + 1) if rank is None else [check_count("rank", rank)]
    for r in ranks:
        if r * d - r * (r - 1) // 2 > p:
            break
        A = _factor(weight, var, r, tol)
        if A is not None:
            _, s, V = torch.linalg.svd(A, full_matrices=False)
            return InputSpan(r + 1, point, V, s)
    raise ValueError(
        f"the running variances are those of no {'r' if rank is None else rank} independent directions, as far as {p} "
        "rows can tell; check kept, or that the layer below is linear and did not change"
    )


def _pair(name, given):
    if not isinstance(given, Sequence) or len(given) != 2:
        raise ValueError(f"{name} must be the pair of running mean and running variance")
    return given


def _statistic(value, weight):
    if not isinstance(value, torch.Tensor) or value.shape != weight.shape[:1]:
        shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise ValueError(f"a statistic is {shape}; expected ({len(weight)},), a number for each row of weight")
    return check_finite("a statistic", value.detach()).to(weight)


def _factor(W, var, r, tol):
    """A (r, d) with ‖A w_j‖² = var_j to ``tol``; None where Gauss–Newton finds none."""
    d, size = W.shape[1], float(var.norm())
    if not size:  # all inputs are one: there is no direction
        return None
    spread = (float(var.abs().mean()) / float(W.square().sum(1).mean()) / r) ** 0.5
    generator = seeded_generator("attack", 0)
    for _ in range(_STARTS):
        A = spread * torch.randn(r, d, generator=generator, dtype=torch.float64, device="cpu").to(W)
        mu, rest = _FIRST, var - (W @ A.T).square().sum(1)
        past = [float(rest.norm())]
        for _ in range(_STEPS):
            J = (2 * (W @ A.T)[:, :, None] * W[:, None]).flatten(1)
            H, g = J.T @ J, J.T @ rest
            while mu < 1e6:
                damp = mu * H.diagonal().mean() * torch.eye(r * d).to(H)
                new = A + torch.linalg.solve(H + damp, g).reshape(r, d)
                left = var - (W @ new.T).square().sum(1)
                if float(left.norm()) < float(rest.norm()):
                    break
                mu *= 4
            else:
                break
            A, rest, mu = new, left, max(mu / 5, _LEAST)
            past.append(float(rest.norm()))
            floor = past[-1] < tol * size and past[-1] > 0.5 * past[-2]
            if floor or len(past) > _PATIENCE and past[-1] > _FACTOR * past[-1 - _PATIENCE]:
                break
        if float(rest.norm()) < tol * size:
            return A
    return None
