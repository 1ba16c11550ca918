r"""Gauss–Newton through a recipe: least squares of ‖θ − θ_sim(q)‖ over samples in their domain, labels and numbers.

A step minimises ‖r − Jδ‖² + μ δᵀDδ within the bounds of the domain (:func:`reconlaw.attack.bounded.solve_bounded`), D
the mean of JᵀJ's diagonal over each sample; μ falls with every step that lowers the mismatch and grows where none does.

Source: Marquardt (1963).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from ...attack.bounded import solve_bounded
from ...features.gram import SpanError
from ...inputs import Inputs
from .recipe import Recipe

_FIRST, _LEAST, _GROW, _SHRINK, _TRIES = 1e-3, 1e-12, 4.0, 5.0, 10
_PATIENCE, _FACTOR = 8, 0.9  # so many steps must bring the mismatch below this much of what it was


@dataclass(eq=False)
class Fit:
    """Where a descent is: q, the residual, the mismatch of every step, and how it ended."""

    q: torch.Tensor
    residual: torch.Tensor
    history: list[float] = field(default_factory=list)
    ended: str = ""

    @property
    def mismatch(self) -> float:
        return self.history[-1]


def tangent(J: torch.Tensor, q: torch.Tensor, shape: tuple[int, int], inputs: Inputs) -> torch.Tensor:
    """The Jacobian on the moves that stay in the domain, bounds aside."""
    n, k = shape
    U, inner = q[: n * k].reshape(n, k), J[:, : n * k].reshape(-1, n, k)
    rows = torch.stack([inputs.tangent(U, row) for row in inner.unbind()]) if len(inner) else inner
    return torch.cat([rows.reshape(len(J), n * k), J[:, n * k :]], 1)


def derivative(recipe: Recipe, q: torch.Tensor, inputs: Inputs, together: torch.Tensor | None) -> torch.Tensor:
    """The Jacobian of a recipe on those moves; ``together`` are :meth:`~reconlaw.inputs.Inputs.moves` at q."""
    n, k = recipe.shape
    if together is None:
        return tangent(recipe.jacobian(q), q, recipe.shape, inputs)
    along = torch.block_diag(together, torch.eye(len(q) - n * k).to(q)).T
    return recipe.jacobian(q, along) @ along


def retract(q: torch.Tensor, shape: tuple[int, int], inputs: Inputs) -> torch.Tensor:
    n, k = shape
    return torch.cat([inputs.retract(q[: n * k].reshape(n, k)).flatten(), q[n * k :]])


def begin(recipe: Recipe, q: torch.Tensor) -> Fit:
    residual = (recipe.goal - recipe(q)).detach()
    return Fit(q, residual, [float(residual.norm())])


def descend(recipe: Recipe, fit: Fit, inputs: Inputs, max_steps: int, tol: float, look=lambda fit: False) -> Fit:
    """Go on from ``fit``, at most so many steps, down to ``tol`` and then to the floor of rounding.

    Args:
        look: called after every step; true ends the descent.
    """
    mu, (n, k) = _FIRST, recipe.shape
    for _ in range(max_steps):
        together = inputs.moves(fit.q[: n * k].reshape(n, k))
        J = derivative(recipe, fit.q, inputs, together)
        if not bool(torch.isfinite(J).all()):
            fit.ended = "the recipe has no finite derivative there"
            return fit
        H, g = J.T @ J, J.T @ fit.residual
        D = _scales(H.diagonal(), *((n, k) if together is None else (1, n * k)))
        H = H + torch.diag(1e-14 * D.max() + torch.zeros_like(D))  # the sphere's radial directions
        bounds = inputs.bounds(fit.q[: n * k].reshape(n, k))
        for _ in range(_TRIES):
            new = _step(recipe, fit, H + torch.diag(mu * D), g, bounds, inputs)
            if new is not None:
                break
            mu *= _GROW
        if new is None:
            fit.ended = "no step lowers the mismatch"
            return fit
        mu = max(mu / _SHRINK, _LEAST)
        fit.q, fit.residual = new
        fit.history.append(float(fit.residual.norm()))
        if look(fit):
            fit.ended = "stopped"
            return fit
        past = fit.history[-1 - _PATIENCE :]
        near = fit.mismatch <= tol and fit.history[-2] < 2 * fit.mismatch  # the floor
        if near or len(past) > _PATIENCE and past[-1] > _FACTOR * past[0]:
            fit.ended = "the mismatch falls no further"
            return fit
    fit.ended = "steps spent"
    return fit


def _scales(diagonal, n, k):
    """The mean of the diagonal over each sample; of labels and numbers, their own."""
    samples = diagonal[: n * k].reshape(n, k).mean(1).repeat_interleave(k)
    return torch.cat([samples, diagonal[n * k :]]).clamp_min(1e-12 * float(diagonal.max()) + 1e-300)


def solved(H: torch.Tensor, g: torch.Tensor, U: torch.Tensor, bounds) -> torch.Tensor | None:
    """δ with Hδ = g, its first numbers moves of U (n, k) within ``bounds``, where there are any; None without one."""
    try:
        if bounds is None:
            return torch.linalg.solve(H, g)
        far = g.new_full((len(g) - U.numel(),), torch.inf)
        low, high = (torch.cat([(b - U).reshape(-1), s * far]) for b, s in zip(bounds, (-1, 1), strict=True))
        return solve_bounded(H, g, low.clamp(max=0), high.clamp(min=0))
    except (SpanError, torch.linalg.LinAlgError):
        return None


def _step(recipe, fit, H, g, bounds, inputs):
    """q and residual after one step; None where it does not lower the mismatch."""
    n, k = recipe.shape
    delta = solved(H, g, fit.q[: n * k].reshape(n, k), bounds)
    if delta is None:
        return None
    q = retract(fit.q + delta, recipe.shape, inputs)
    residual = (recipe.goal - recipe(q)).detach()
    return (q, residual) if float(residual.norm()) < fit.mismatch else None
