r"""All exact solutions of a small problem: every (X̂, β) with Φ(X̂)ᵀβ = θ that many starts can find.

A search as wide as it is naive, for problems of a dozen unknowns: damped Gauss–Newton steps (Levenberg–Marquardt) on
samples and coefficients together, all starts at once. What it returns are solutions to rounding; that there are no
others it cannot know. :func:`reconlaw.reconstruct` is the attack; this is a microscope for the book's theorem on
uniqueness.
"""

from __future__ import annotations

import itertools
import math

import torch

from .._checks import as_tensor, check_count, check_finite
from .._random import seeded_generator

_APART = 1e-5  # of two solutions, relative
_LEAST, _MOST = 1e-15, 1e8  # damping, in units of the mean diagonal; a start that needs more has ended


def all_solutions(theta, features, n, starts=200, seed=0, max_steps=200, tol=1e-12, family=None, k=None):
    r"""Solutions of Φ(X̂)ᵀβ = θ from many random starts, each once, up to the order of its rows.

    For an activation of pure parity, whose θ knows no signs, also up to the signs of the rows.

    Args:
        theta: (p,), θ.
        features: random features.
        n: number of candidates.
        starts: random starts; the codes z are standard normal.
        seed: of the attacker's draws.
        max_steps: damped steps of each start.
        tol: a start has arrived where ‖θ − Φ(X̂)ᵀβ‖ ≤ tol ‖θ‖.
        family: what the samples are known to belong to, a function of codes Z (…, k) that returns points (…, d) and
            their derivatives (…, d, k); None: the sphere of radius √d.
        k: dimension of z; needed with ``family``.

    Returns:
        A list of (X̂ (n, d), β (n,), number of starts that arrived there), the most frequent first.

    Raises:
        ValueError: θ has another shape than (p,), or ``family`` comes without ``k``.
    """
    theta = check_finite("theta", as_tensor(theta)).to(features.V)
    if theta.shape != (features.p,):
        raise ValueError(f"theta has shape {tuple(theta.shape)}; expected ({features.p},), one output")
    if (family is None) != (k is None):
        raise ValueError("family and k belong together: pass the family and the dimension of its codes, or neither")
    shape = check_count("starts", starts), check_count("n", n), features.d if k is None else check_count("k", k)
    Z = torch.randn(*shape, device="cpu", generator=seeded_generator("attack", seed), dtype=theta.dtype).to(theta)
    problem = _Equations(theta / theta.norm(), features, family or _sphere)
    X, beta = problem.solve(Z, check_count("max_steps", max_steps), tol)
    signed = features.activation.parity == "mixed"
    return [(points, theta.norm() * b, times) for points, b, times in _distinct(X, beta, signed)]


def _sphere(Z):
    """√d z/‖z‖ for every z, and its derivatives."""
    d, length = Z.shape[-1], Z.norm(dim=-1, keepdim=True)
    unit, root = Z / length, math.sqrt(d)
    return root * unit, (root / length)[..., None] * (torch.eye(d).to(Z) - unit[..., None] * unit[..., None, :])


class _Equations:
    """Σ_k β_k φ(V x(z_k)) = θ for many (z, β) at once: shapes (starts, n, k) and (starts, n)."""

    def __init__(self, theta, features, family):
        self.theta, self.V, self.phi, self.family = theta, features.V, features.activation, family

    def linearise(self, Z, beta):
        """Residual (starts, p) and derivative of Φ(X̂)ᵀβ (starts, p, nk + n)."""
        X, tangents = self.family(Z)
        pre = X @ self.V.T
        values = self.phi(pre)
        moves = (beta[:, :, None] * self.phi.derivative(pre))[..., None] * (self.V @ tangents)
        J = torch.cat([moves.permute(0, 2, 1, 3).flatten(2), values.mT], 2)
        return self.theta - (beta[:, None, :] @ values)[:, 0], J

    def solve(self, Z, steps, tol):
        """X̂ and β of the starts that arrive."""
        Phi = self.phi(self.family(Z)[0] @ self.V.T)
        eye = torch.eye(Z.shape[1]).to(Z)
        beta = torch.linalg.solve(Phi @ Phi.mT + 1e-6 * Phi.square().mean() * len(self.theta) * eye, Phi @ self.theta)
        mu, there = torch.ones(len(Z)).to(Z), []
        at = [Z, beta, *self.linearise(Z, beta)]
        for _ in range(steps):
            at, mu = self._step(at, mu)
            arrived = at[2].norm(dim=1) <= tol
            there.append((self.family(at[0][arrived])[0], at[1][arrived]))
            going = ~arrived & (mu < _MOST)
            at, mu = [part[going] for part in at], mu[going]
            if not len(mu):
                break
        return torch.cat([X for X, _ in there]), torch.cat([b for _, b in there])

    def _step(self, at, mu):
        """A damped Gauss–Newton step of every start, refused where it does not lower the loss."""
        Z, beta, r, J = at
        A, g, cut = J.mT @ J, (J.mT @ r[:, :, None])[:, :, 0], Z[0].numel()
        A.diagonal(dim1=1, dim2=2).add_((mu * A.diagonal(dim1=1, dim2=2).mean(1))[:, None])
        step = torch.linalg.solve(A, g)
        trial = Z + step[:, :cut].view_as(Z), beta + step[:, cut:]
        trial = [*trial, *self.linearise(*trial)]
        good = trial[2].square().sum(1) < r.square().sum(1)  # NaN is no fall
        kept = [torch.where(good.view(-1, *[1] * (new.ndim - 1)), new, old) for new, old in zip(trial, at, strict=True)]
        return kept, torch.where(good, mu / 5, 3 * mu).clamp_min(_LEAST)


def _distinct(X, beta, signed):
    """(X̂, β, times found) of each different solution; ``signed``: x and −x are two."""
    orders = torch.tensor(list(itertools.permutations(range(X.shape[1]))), device=X.device)
    size, left, found = _APART * X.norm(dim=2).amax(1), torch.arange(len(X), device=X.device), []
    while len(left):
        one, others = X[left[0]], X[left][:, orders]  # (left, orders, n, d)
        far = (others - one).norm(dim=3)
        if not signed:
            far = torch.minimum(far, (others + one).norm(dim=3))
        same = (far.amax(2) < size[left][:, None]).any(1)
        found.append((one, beta[left[0]], int(same.sum())))
        left = left[~same]
    return sorted(found, key=lambda entry: -entry[2])
