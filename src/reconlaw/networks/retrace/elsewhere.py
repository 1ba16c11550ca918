r"""Whether another set of samples gives θ back as well: descents from the solution, one sample at a time elsewhere.

A recipe of pieces can have solutions that lie apart, each held by its own derivative: behind ReLU a sample mirrored, or
of another length, may leave the others just enough to make up for it. No derivative tells; so each sample is mirrored,
all are, each is made longer and shorter, and each is drawn anew, as far as the domain has such points. Descents begin
at these, those of least mismatch first.

On the sphere fewer than d neurons that reach a sample leave it two places: it and its mirror image in the hyperplane of
those neurons' weights, from which each of them reads the same. The derivative knows the hyperplane: it is what θ sees
of the sample, bounds and sphere aside. So each sample is also mirrored in what θ sees of it, along the direction it
sees least of.
"""

from __future__ import annotations

from collections.abc import Callable

import scipy
import torch

from ..._random import seeded_generator
from ...inputs import Inputs
from .fit import Fit, begin, descend, retract
from .recipe import Recipe

_LONGER = (2.0, 0.5)
_DESCENTS, _LOOK, _FALLS = 12, 6, 0.3  # descents; those go on that so many steps bring to this share of the mismatch
_FINISH = 40


def others(
    recipe: Recipe,
    fit: Fit,
    inputs: Inputs,
    tol: float,
    mirrored: torch.Tensor,
    apart: float,
    most: int,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[list[torch.Tensor], int]:
    """Other sets (n, d) that give θ back to ``tol``, and the steps that the looking took.

    Args:
        mirrored: (n,) bool, samples of which θ does not tell the sign: their mirror images are no others.
        apart: relative distance from which a sample is another.
        most: steps of the looking.
        stop: looked at after each step; true ends the looking.
    """
    X = recipe.arguments(fit.q)[0].detach()
    found: list[torch.Tensor] = []
    steps = 0

    def look(fit):
        nonlocal steps
        steps += 1
        return over()

    def over():
        return steps >= most or stop()

    for there in _starts(recipe, fit, inputs)[:_DESCENTS]:
        first = there.mismatch
        if first > tol:
            descend(recipe, there, inputs, _LOOK, tol, look)
        if tol < there.mismatch <= _FALLS * first and not over():
            descend(recipe, there, inputs, _FINISH, tol, look)
        if there.mismatch <= tol:
            Z = recipe.arguments(there.q)[0].detach()
            if all(bool(displaced(Y, Z, mirrored, apart).any()) for Y in [X, *found]):
                found.append(Z)
        if over():
            break
    return found, steps


def displaced(X: torch.Tensor, Z: torch.Tensor, mirrored: torch.Tensor, apart: float) -> torch.Tensor:
    """(n,) bool: samples of X farther than ``apart``, relative, from their partners in the set Z, in whatever order."""
    far, turned = ((X[:, None] - s * Z[None]).norm(dim=2) for s in (1, -1))
    far = torch.where(mirrored[:, None].to(X.device), torch.minimum(far, turned), far)
    far = (far / X.norm(dim=1).clamp_min(torch.finfo(X.dtype).tiny)[:, None]).double().cpu()
    rows, columns = scipy.optimize.linear_sum_assignment((far > apart).numpy())  # as many at home as can be
    return far[rows, columns] > apart


def _starts(recipe, fit, inputs):
    """Fits not yet descended, by mismatch."""
    n, k = recipe.shape
    U, rest = fit.q[: n * k].reshape(n, k), fit.q[n * k :]
    drawn = inputs.retract(inputs.starts(n, k, seeded_generator("elsewhere", 0)).to(U))

    def with_one(i, u):
        V = U.clone()
        V[i] = u
        return V

    def begun(V):
        return begin(recipe, retract(torch.cat([V.flatten(), rest]), recipe.shape, inputs))

    made = [with_one(i, u) for i in range(n) for u in (-U[i], *(c * U[i] for c in _LONGER), drawn[i])]
    fits = [one for one in map(begun, [-U, *made]) if one.mismatch > 2 * fit.mismatch]  # not told from the solution
    fits += [begun(with_one(i, u)) for i, u in enumerate(_as_seen(recipe, fit.q, U))]
    return sorted((one for one in fits if torch.isfinite(one.residual).all()), key=lambda one: one.mismatch)


def _as_seen(recipe, q, U):
    """(n, k) samples mirrored along the direction of which θ sees least."""
    J = recipe.jacobian(q)[:, : U.numel()].reshape(-1, *U.shape)
    least = torch.stack([torch.linalg.eigh(part.T @ part)[1][:, 0] for part in J.unbind(1)])
    return U - 2 * (U * least).sum(1, keepdim=True) * least
