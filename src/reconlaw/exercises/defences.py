"""Checkers of the chapter *Defences*."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ..privacy import gaussian_epsilon
from ._diagnose import checker, diagnose


def _normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, device="cpu", generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@checker
def check_clipped_sum(clipped_sum: Callable) -> None:
    """``clipped_sum(Phi, theta, y, clip)``: the sum of the samples' gradients, each cut to length ``clip``, (p,)."""
    Phi, theta, y, clip = _normal(5, 12, seed=1), 0.2 * _normal(12, seed=2), _normal(5, seed=3), 2.5
    errors = Phi @ theta - y
    each = errors[:, None] * Phi
    lengths = each.norm(dim=1, keepdim=True)
    factors = (clip / lengths).clamp(max=1.0)
    right, total = (factors * each).sum(0), each.sum(0)
    by_entry = each.clamp(-clip, clip).sum(0)
    diagnose(
        clipped_sum(Phi, theta, y, clip),
        right,
        [
            (total, "nothing was clipped: a gradient longer than clip is cut to that length"),
            (
                total * min(1.0, clip / float(total.norm())),
                "that clips the sum: one sample can still move it as far as it likes; clip each gradient first",
            ),
            ((clip / lengths * each).sum(0), "short gradients stay as they are: the factor is at most 1"),
            (by_entry, "that clips every entry; privacy asks for the length of the whole gradient"),
            (right / 5, "that is the mean: return the sum"),
            (-right, "the sign is wrong: the gradient of ½(φ·θ − y)² is (φ·θ − y)φ"),
            (
                (2 * each * (clip / (2 * lengths)).clamp(max=1.0)).sum(0),
                "the loss has a factor ½: no 2 in the gradient",
            ),
            (
                (Phi * (clip / Phi.norm(dim=1, keepdim=True)).clamp(max=1.0)).T @ errors,
                "clip the gradients (φ·θ − y)φ, not the features: an error can be large, too",
            ),
        ],
    )


@checker
def check_noise_multiplier(noise_multiplier: Callable) -> None:
    """``noise_multiplier(epsilon, delta, steps)``: the least s with which noisy descent is (ε, δ)-private."""
    cases = [(1.0, 1e-5, 1), (8.0, 1e-5, 10), (3.0, 1e-6, 40)]

    def table(rule):
        return torch.tensor([float(rule(*case)) for case in cases], dtype=torch.float64)

    def right(epsilon, delta, steps):
        return 2 * math.sqrt(steps) / _mu(epsilon, delta)

    diagnose(
        table(noise_multiplier),
        table(right),
        [
            (table(lambda e, d, t: 2 / _mu(e, d)), "did you forget the steps? T of them have μ = 2√T/s"),
            (table(lambda e, d, t: 2 * t / _mu(e, d)), "steps add in squares: √T, not T"),
            (
                table(lambda e, d, t: math.sqrt(t) / _mu(e, d)),
                "replacing a sample takes one gradient out and puts another in: the sum moves by 2C, not C",
            ),
            (table(lambda e, d, t: 1 / right(e, d, t)), "more privacy takes more noise: s = 2√T/μ"),
            (table(lambda e, d, t: 2 * math.sqrt(t) / e), "ε is not μ: solve gaussian_epsilon(mu, delta) = epsilon"),
            (
                table(lambda e, d, t: 2 * math.sqrt(t) * math.sqrt(2 * math.log(1.25 / d)) / e),
                "that is the classical formula: it is proved for ε < 1 only, and not the least s",
            ),
            (table(lambda e, d, t: _mu(e, d)), "that is μ; the noise multiplier is s = 2√T/μ"),
        ],
        tolerance=1e-4,
    )


@checker
def check_success_bound(success_bound: Callable) -> None:
    """``success_bound(kappa, mu)``: the most that an attack succeeds with."""
    from scipy.special import ndtr, ndtri

    cases = [(0.5, 1.0), (0.01, 2.0), (1e-6, 3.0), (0.2, 0.0)]

    def table(rule):
        return torch.tensor([float(rule(*case)) for case in cases], dtype=torch.float64)

    diagnose(
        table(success_bound),
        table(lambda k, m: ndtr(ndtri(k) + m)),
        [
            (table(lambda k, m: ndtr(ndtri(k) - m)), "the attack gains by the model: add μ, do not subtract it"),
            (table(lambda k, m: ndtr(m)), "did you forget the prior? With μ = 0 the bound is κ"),
            (table(lambda k, m: ndtri(k) + m), "the last step is missing: Ψ turns the number back into a probability"),
            (table(lambda k, m: min(1.0, k * math.exp(m))), "that is the bound of pure ε-privacy with μ for ε"),
            (table(lambda k, m: min(1.0, k + m)), "probabilities do not shift; their normal quantiles do"),
            (table(lambda k, m: ndtr(-ndtri(k) + m)), "the quantile of a small probability is negative: keep its sign"),
        ],
    )


def _mu(epsilon: float, delta: float) -> float:
    low, high = 1e-6, 100.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if gaussian_epsilon(middle, delta) < epsilon else (low, middle)
    return low
