r"""Samples from the columns of a head that Adam trained: each column tells where a feature points.

At a candidate X̂ the recipe gives errors Ê. For each column θ_j, u_j on the unit sphere of R^n is the direction with
a(u_j; Ê) ≈ θ_j, and r_j = θ_j − a(u_j; Ê) is what no direction explains. Two things are asked of X̂: that r_j vanishes,
which speaks of Ê, and that the features point along u_j, with A_j = ∂a/∂u and unit φ̂_j: q_j = A_j (φ̂_j(X̂) − u_j) = 0.
Rounds of Gauss–Newton on Cauchy's loss of both follow, since a few columns settle on a wrong u_j. The function a has
kinks, as Adam is near a sign; but within a round each u_j is found anew over the whole sphere, by a table, so that no
kink lies between X̂ and the data. Plain descent of ‖θ − θ_sim‖ is stopped by them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ...inputs import Inputs
from .adam import Adam
from .derivative import Way, difference
from .fit import retract, solved, tangent

_TABLE, _POLISH, _H = 6000, 6, 1e-5
_FIRST, _LEAST, _GROW, _SHRINK, _TRIES = 1e-1, 1e-4, 5.0, 5.0, 5
_LEAST_SCALE = 1e-9  # of Cauchy's loss


@dataclass(eq=False)
class Columns:
    """What is known: the columns that moved, θ (m, K) less the decay, their features, the labels and the recipe.

    Attributes:
        unit_features: samples (n, d) → unit rows φ̂_j (m, n) of the columns that moved.
        errors: samples → E (T, n, K).
        way: to the derivative of features and errors; None for differences.
        block: directions at a time.
    """

    recipe: Adam
    theta: torch.Tensor
    unit_features: Callable[[torch.Tensor], torch.Tensor]
    errors: Callable[[torch.Tensor], torch.Tensor]
    way: Way | None = None
    block: int = 1

    def __post_init__(self):
        self.sizes = self.theta.norm(dim=1)

    def slopes(self, E, u):
        """∂a/∂u (m, K, n), by differences, which step over kinks."""
        steps = _H * torch.eye(u.shape[1]).to(u)
        return torch.stack(
            [(self.recipe.columns(E, u + h) - self.recipe.columns(E, u - h)) / (2 * _H) for h in steps], 2
        )

    def directions(self, E, generator):
        """Unit u (m, n) with a(u; E) nearest θ: the nearest of a table, then Levenberg–Marquardt on the sphere."""
        n, target = E.shape[1], self.theta
        table = unit(torch.randn(_TABLE, n, generator=generator, dtype=torch.float64, device="cpu").to(target))
        there = self.recipe.columns(E, table)
        u = table[torch.cat([torch.cdist(part, there).argmin(1) for part in target.split(256)])]
        rest = target - self.recipe.columns(E, u)
        cost, mu, eye = rest.norm(dim=1), torch.full_like(self.sizes, 1e-2), torch.eye(n).to(target)
        for _ in range(_POLISH):
            J = self.slopes(E, u)
            A = J.mT @ J
            A = A + (mu * (A.diagonal(dim1=1, dim2=2).mean(1) + 1e-20))[:, None, None] * eye
            new = unit(u + torch.linalg.solve(A, J.mT @ rest[:, :, None])[:, :, 0])
            rest_new = target - self.recipe.columns(E, new)
            cost_new = rest_new.norm(dim=1)
            better = cost_new < cost
            u, rest = torch.where(better[:, None], new, u), torch.where(better[:, None], rest_new, rest)
            cost, mu = torch.where(better, cost_new, cost), torch.where(better, mu / 5, mu * 5)
        return u


@dataclass(eq=False)
class Round:
    """A candidate with its columns read: U (n, k), u, r and q in units of ‖θ_j‖, and A."""

    U: torch.Tensor
    u: torch.Tensor
    r: torch.Tensor
    A: torch.Tensor
    q: torch.Tensor

    def scales(self):
        return [max(float(v.norm(dim=1).median()), _LEAST_SCALE) for v in (self.r, self.q)]

    def merit(self, scales):
        parts = zip((self.r, self.q), scales, strict=True)
        return sum(float(torch.log1p((v.norm(dim=1) / s) ** 2).sum()) for v, s in parts)


def read(columns: Columns, U: torch.Tensor, generator: torch.Generator) -> Round:
    E = columns.errors(U)
    u, sizes = columns.directions(E, generator), columns.sizes[:, None]
    A = columns.slopes(E, u) / sizes[:, :, None]
    r = (columns.theta - columns.recipe.columns(E, u)) / sizes
    return Round(U, u, r, A, torch.einsum("jkn,jn->jk", A, columns.unit_features(U) - u))


def rounds(columns: Columns, U: torch.Tensor, inputs: Inputs, generator: torch.Generator, most: int, look) -> None:
    """Rounds from samples U, at most so many, while the merit falls; ``look(U)``, after each, ends them where true."""
    mu, at = _FIRST, read(columns, U, generator)
    for _ in range(most):
        scales = at.scales()
        H, g = _normal_equations(columns, at, scales, inputs)
        before, (n, k) = at.merit(scales), at.U.shape
        D = H.diagonal().reshape(n, k).mean(1).repeat_interleave(k)
        D = D.clamp_min(1e-12 * float(D.max()) + torch.finfo(D.dtype).tiny)
        bounds = inputs.bounds(at.U)
        for _ in range(_TRIES):
            delta = solved(H + torch.diag(mu * D), g, at.U, bounds)
            new = None
            if delta is not None:
                new = read(columns, retract(at.U.flatten() + delta, (n, k), inputs).reshape(n, k), generator)
                if new.merit(scales) < before:
                    break
            mu *= _GROW
        else:
            return
        at, mu = new, max(mu / _SHRINK, _LEAST)
        if look(at.U):
            return


def _normal_equations(columns, at, scales, inputs):
    """H and g of the round. Along A's range a change of E or of φ̂ is the same to u_j; across it only E's shows."""
    n, k = at.U.shape
    flat = at.U.flatten()

    def of_errors(x):
        return columns.recipe.columns(columns.errors(x.reshape(n, k)), at.u) / columns.sizes[:, None]

    by_errors = _derivative(of_errors, flat, inputs, (n, k), columns)

    def of_features(x):
        return columns.unit_features(x.reshape(n, k))

    by_features = _derivative(of_features, flat, inputs, (n, k), columns)
    along = torch.linalg.svd(at.A, full_matrices=False)[0][:, :, : max(1, n - 1)]  # A u = 0: lengths do not matter
    weights = [1 / (s * s + v.square().sum(1)) for s, v in zip(scales, (at.r, at.q), strict=True)]

    def across(B):
        return B - along @ (along.mT @ B)

    parts = [
        (across(by_errors), across(at.r[:, :, None]), weights[0]),
        (along.mT @ (by_errors + at.A @ by_features), along.mT @ (at.r - at.q)[:, :, None], weights[1]),
    ]
    H = sum(torch.einsum("jkx,j,jky->xy", B, w, B) for B, _, w in parts)
    return H, sum(torch.einsum("jkx,j,jk->x", B, w, b[:, :, 0]) for B, b, w in parts)


def _derivative(f, flat, inputs, shape, columns):
    """∂f/∂x (rows of f, columns of f, nk), on the moves that stay in the domain."""
    eye = torch.eye(len(flat), dtype=flat.dtype, device=flat.device)
    if columns.way:
        made = columns.way(f, flat, eye, columns.block)
    else:
        h = _H * float(flat.square().mean().sqrt())
        made = torch.stack([difference(f, flat, e, h) for e in eye])
    J = made.flatten(1).T
    return tangent(J, flat, shape, inputs).reshape(*made.shape[1:], len(flat))


def unit(rows):
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
