r"""Gauss–Newton steps between bounds: the linear model of :mod:`reconlaw.attack.varpro` where samples live in a box.

With J_i the derivative of column i along its coordinates, P = P⊥ and A = ααᵀ, the matrix of the step needs one product
whatever the number of outputs:

    H_(ia)(jb) = A_ij ⟨P J_ia, P J_jb⟩,        g_ia = ⟨J_ia, Σ_k α_ik r_k⟩.

A step minimises ½δᵀ(H + μD)δ − gᵀδ over low ≤ u + δ ≤ high by an active set: coordinates on a bound whose gradient
points outward leave the system; those that a step carries over a bound are put on it, and the rest is solved again.

Source: Bertsekas, *Projected Newton methods* (1982), for the active set.
"""

from __future__ import annotations

import torch

from ..features.gram import factor_gram
from ..inputs import Inputs
from .projection import Projection

# Numbers that the Jacobians may hold, and multiplications of a step, where H itself is formed.
MOST_NUMBERS = 1 << 26
MOST_COST = 4e10
# Passes of the active set in one step.
_PASSES = 12
# Above this loss Jacobians in float32 are as good.
_FINE = 1e-7


def affordable(point: Projection) -> bool:
    """Whether the Jacobians of the columns, and their Gram matrix, are small enough to be formed."""
    (m, p), k = point.lift.columns.shape, point.U.shape[1]
    if point.features.positions > 1:  # of the samples' columns only their sum for each output is multiplied out
        return m * k * p <= MOST_NUMBERS and (point.lift.n * k) ** 2 * p * point.alpha.shape[1] <= MOST_COST
    return m * k * p <= MOST_NUMBERS and (m * k) ** 2 * p <= MOST_COST


def solve_bounded(H, g, low, high):
    """δ that minimises ½δᵀHδ − gᵀδ over low ≤ δ ≤ high, (m,), by passes of an active set; low ≤ 0 ≤ high.

    Raises:
        SpanError: H is not positive definite.
    """
    fixed = ((low >= 0) & (g <= 0)) | ((high <= 0) & (g >= 0))
    delta = torch.zeros_like(g)
    for _ in range(_PASSES):
        free = torch.nonzero(~fixed)[:, 0]
        if not len(free):
            break
        right = g[free]
        moved = fixed & (delta != 0)
        if bool(moved.any()):
            right = right - H[free][:, moved] @ delta[moved]
        delta[free] = torch.cholesky_solve(right[:, None], factor_gram(H[free][:, free]))[:, 0]
        out = (delta < low) | (delta > high)
        delta = torch.minimum(torch.maximum(delta, low), high)
        if not bool(out.any()):
            break
        fixed = fixed | out
    return delta


class BoundedStep:
    """The linear model at a point, formed; the same calls as :class:`reconlaw.attack.varpro._Step`."""

    taken = None
    ahead = 0

    def __init__(self, point: Projection, inputs: Inputs, fine: bool = False):
        self.point, self.inputs, lift = point, inputs, point.lift
        lift.linearise(point.alpha)
        self.gradient = lift.vjp(point.residual)
        n, k = point.U.shape
        W = torch.cat([point.U, -point.U]) if lift.lifted else point.U
        dtype = lift.columns.dtype if fine or point.loss <= _FINE else None
        J = point.features.jacobians(W, dtype=dtype)[1]
        H = self._of_one_column(J) if point.features.positions == 1 else self._of_several(J)
        H = H.reshape(n * k, n * k)
        self.H = (H + H.T) / 2
        self.D = self.H.diagonal().reshape(n, k).mean(1)
        self.D = self.D.clamp_min(1e-12 * self.D.max() + torch.finfo(self.D.dtype).tiny)

    def _of_one_column(self, J):
        point, B, alpha, k = self.point, self.point.lift.columns, self.point.alpha, self.point.U.shape[1]
        J, n = J.reshape(len(B) * k, -1), len(point.U)
        BJ = (B.to(J) @ J.T).to(B)
        gram = (J @ J.T).to(B) - BJ.T @ torch.cholesky_solve(BJ, point.factor)
        H = gram.reshape(len(B), k, len(B), k) * (alpha @ alpha.T)[:, None, :, None]
        if point.lift.lifted:  # f(−u) moves against u
            H = H[:n, :, :n] - H[:n, :, n:] - H[n:, :, :n] + H[n:, :, n:]
        return H

    def _of_several(self, J):
        """Σ_k A_kᵀ P⊥ A_k with A_k = Σ_t α_itk J_it, the columns of a sample together."""
        point, B, T, H = self.point, self.point.lift.columns, self.point.features.positions, 0
        scale = float(point.alpha.abs().max()) or 1.0  # in float32 J must stay within range
        J = J.unflatten(2, (T, -1))  # (m, k, T, p)
        for alpha in (point.alpha / scale).to(J).unflatten(0, (T, -1)).unbind(2):  # (T, m)
            A = point.lift.fold(torch.einsum("tm,mktp->mkp", alpha, J)).flatten(0, 1)
            BA = (B.to(A) @ A.T).to(B)
            H = H + (A @ A.T).to(B) - BA.T @ torch.cholesky_solve(BA, point.factor)
        return scale**2 * H

    def solve(self, mu, tolerance, limit):
        """δ, and the fall of ‖r‖² that the linear model promises for it, a tensor."""
        U = self.point.U
        damped = self.H + torch.diag((mu * self.D).repeat_interleave(U.shape[1]))
        g, bounds = self.gradient.reshape(-1), self.inputs.bounds(U)
        if bounds is None:
            delta = torch.cholesky_solve(g[:, None], factor_gram(damped))[:, 0]
        else:
            low, high = ((b - U).reshape(-1) for b in bounds)
            delta = solve_bounded(damped, g, low.clamp(max=0), high.clamp(min=0))
        fall = 2 * delta @ g - delta @ (self.H @ delta)
        return delta.reshape(U.shape), fall
