"""Checkers of the chapter *Random features*."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ._diagnose import Made, checker, diagnose


def _normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, device="cpu", generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@checker
def check_kernel_estimate(kernel_estimate: Callable) -> None:
    """``kernel_estimate(Phi)`` is ΦΦᵀ/p for Φ of shape (n, p)."""
    Phi = _normal(4, 30, seed=1).relu()
    n, p = Phi.shape
    gram = Phi @ Phi.T
    centred = Phi - Phi.mean(dim=1, keepdim=True)
    diagnose(
        kernel_estimate(Phi),
        gram / p,
        [
            (gram, "did you forget the factor 1/p? The entries of ΦΦᵀ are sums of p terms; the kernel is their mean"),
            (gram / n, "you divided by n, the number of samples; the mean is over the p features"),
            (gram / math.sqrt(p), "you divided by √p; a mean of p terms divides by p"),
            (Phi.T @ Phi / p, "you formed ΦᵀΦ, which compares features; ΦΦᵀ compares samples"),
            (Phi.T @ Phi, "you formed ΦᵀΦ, which compares features; ΦΦᵀ compares samples"),
            (centred @ centred.T / p, "you subtracted each row's mean; the kernel is E[φφ], not a covariance"),
            (torch.cov(Phi), "that is a covariance: the means are subtracted; the kernel is E[φφ]"),
        ],
    )


@checker
def check_minimum_norm(minimum_norm: Callable) -> None:
    """``minimum_norm(Phi, y, theta0)`` is θ₀ + Φᵀ(ΦΦᵀ)⁻¹(y − Φθ₀)."""
    Phi, y, theta0 = _normal(5, 12, seed=2), _normal(5, seed=3), _normal(12, seed=4)
    inverse = torch.linalg.pinv(Phi)
    with Made() as made:
        answer = minimum_norm(Phi, y, theta0)
    diagnose(
        answer,
        theta0 + inverse @ (y - Phi @ theta0),
        [
            (inverse @ y, "you ignored θ₀: that is the interpolator nearest to 0, not to θ₀"),
            (inverse @ (y - Phi @ theta0), "did you forget to add θ₀ back? That is the change θ* − θ₀"),
            (theta0 + inverse @ y, "you fit y from θ₀; fit what θ₀ leaves unexplained, y − Φθ₀"),
            (theta0 - inverse @ (y - Phi @ theta0), "the sign of the change is wrong: θ₀ *plus* Φ⁺(y − Φθ₀)"),
            (
                torch.linalg.solve(Phi @ Phi.T, y - Phi @ theta0),
                "those are the n coefficients a; the parameters are θ₀ + Φᵀa",
            ),
        ],
        tolerance=1e-5,
    )
    made.refuse(lambda shape: shape == (12, 12), "you formed a p × p matrix; solve with the n × n matrix ΦΦᵀ")


@checker
def check_step_kernel(step_kernel: Callable) -> None:
    """``step_kernel(rho)`` is P(u > 0, w > 0) = (π − arccos ρ)/2π for standard normal u, w of correlation ρ."""
    rho = torch.tensor([-1.0, -0.6, 0.0, 0.3, 0.8, 1.0], dtype=torch.float64)
    angle = torch.arccos(rho)
    diagnose(
        step_kernel(rho),
        (math.pi - angle) / (2 * math.pi),
        [
            ((math.pi - angle) / math.pi, "a factor 2 too large: for ρ = 1 the probability that u > 0 is 1/2"),
            (angle / (2 * math.pi), "that is P(u > 0, w < 0): the sector where both are positive spans π − ω, not ω"),
            (angle / math.pi, "that is the probability of opposite signs; you want both positive"),
            ((math.pi - rho) / (2 * math.pi), "you used the correlation ρ where the angle ω = arccos ρ belongs"),
            (math.pi - angle, "did you forget to divide by the full turn, 2π?"),
            (
                (torch.sin(angle) + (math.pi - angle) * rho) / (2 * math.pi),
                "that is the kernel of ReLU; the step has φ(z) = 1 for z > 0",
            ),
        ],
    )


@checker
def check_features_needed(features_needed: Callable) -> None:
    """``features_needed(n, t, delta)`` is the least whole p with √(3s/p) + 2s/p ≤ t, s = log(n(n+1)/δ)."""
    cases = [(10, 0.1, 0.05), (20, 0.05, 0.01), (100, 0.5, 0.5), (2, 3.0, 0.1)]

    def least(s, t):
        return s / ((math.sqrt(3 + 8 * t) - math.sqrt(3)) / 4) ** 2

    def table(rule):
        return [float(rule(*case)) for case in cases]

    def s(n, delta):
        return math.log(n * (n + 1) / delta)

    diagnose(
        table(features_needed),
        table(lambda n, t, delta: math.ceil(least(s(n, delta), t))),
        [
            (table(lambda n, t, delta: least(s(n, delta), t)), "p counts features: round up to a whole number"),
            (
                table(lambda n, t, delta: math.floor(least(s(n, delta), t))),
                "you rounded down, so the bound is just missed; round up",
            ),
            (
                table(lambda n, t, delta: math.ceil(least(math.log(2 / delta), t))),
                "did you forget the union bound? s = log(n(n+1)/δ) covers all entries and both tails",
            ),
            (
                table(lambda n, t, delta: math.ceil(least(math.log(n * (n + 1) / (2 * delta)), t))),
                "that is one tail: each of the n(n+1)/2 entries may be off upwards or downwards, so s = log(n(n+1)/δ)",
            ),
            (
                table(lambda n, t, delta: math.ceil(s(n, delta) / (math.sqrt(3 + 8 * t) - math.sqrt(3)) ** 2)),
                "did you forget the factor ¼? The positive root is u = (√(3 + 8t) − √3)/4",
            ),
            (
                table(lambda n, t, delta: math.ceil(least(math.log(1 / delta), t))),
                "did you forget the union bound? s = log(n(n+1)/δ) covers all entries and both tails",
            ),
            (
                table(lambda n, t, delta: math.ceil(least(math.log(n * (n + 1)), t))),
                "your answer does not depend on δ: s = log(n(n+1)/δ)",
            ),
            (
                table(lambda n, t, delta: math.ceil(3 * s(n, delta) / t**2)),
                "you dropped the term 2s/p; it matters unless t is small",
            ),
        ],
        tolerance=1e-12,
    )
