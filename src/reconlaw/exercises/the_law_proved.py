"""Checkers of the chapter *The law, proved*."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ._diagnose import checker, diagnose

WHAT = ("fixed", "labels", "all", "free", "family", "span")


@checker
def check_unique_from(unique_from: Callable) -> None:
    """``unique_from(what, n, d, k)``: one more than the unknowns, of which there is one less where scale is free."""
    cases = [(what, n, d, k) for what in WHAT for n, d, k in ((1, 5, 2), (4, 7, 3), (6, 20, 0))]

    def table(**changes):
        rules = {
            "fixed": lambda n, d, k: n * d,
            "labels": lambda n, d, k: n * (d + 1) - 1,
            "all": lambda n, d, k: 2 * n * d - 1,
            "free": lambda n, d, k: n * (d + 1),
            "family": lambda n, d, k: n * (k + 1),
            "span": lambda n, d, k: n + d - 1,
        } | changes
        return torch.tensor([float(rules[what](*sizes) + 1) for what, *sizes in cases], dtype=torch.float64)

    given = [unique_from(*case) for case in cases]
    diagnose(
        torch.tensor([float(value) for value in given], dtype=torch.float64),
        table(),
        [
            (table() - 1, "as many equations as unknowns is not enough: one more"),
            (table(fixed=lambda n, d, k: n * (d - 1)), "did you forget the n coefficients? They are unknown too"),
            (
                table(labels=lambda n, d, k: n * (d + 1), all=lambda n, d, k: 2 * n * d),
                "where a varies as well, (β, a) may be scaled to length 1: one unknown less",
            ),
            (table(labels=lambda n, d, k: n * (d + 1)), "any labels: (β, a) may be scaled to length 1"),
            (table(all=lambda n, d, k: 2 * n * d), "any samples: (β, a) may be scaled to length 1"),
            (table(free=lambda n, d, k: n * d), "off the sphere a candidate has d coordinates and a coefficient"),
            (table(family=lambda n, d, k: n * k), "in a family the n coefficients are still unknown"),
            (table(span=lambda n, d, k: d - 1), "the n coefficients of the one candidate in the span are unknown"),
            (table(span=lambda n, d, k: d + n), "on the sphere a candidate has d − 1 coordinates"),
            (table(span=lambda n, d, k: n * d), "with the span known, samples are found one at a time"),
        ],
        tolerance=1e-9,
    )


@checker
def check_all_angles(all_angles: Callable) -> None:
    """``all_angles(theta, V)``: all t with softplus(V x(t)) parallel to θ, x(t) = √2 (cos t, sin t)."""
    for seed, p in ((0, 2), (1, 3), (2, 2), (3, 5)):
        generator = torch.Generator().manual_seed(seed)
        V = torch.randn(p, 2, device="cpu", generator=generator, dtype=torch.float64) / math.sqrt(2)
        t = 2 * math.pi * torch.rand(1, device="cpu", generator=generator, dtype=torch.float64)
        theta = 1.3 * _features(t, V)[0]
        pair, every = _parallel(theta[:2], V[:2]), _parallel(theta, V)
        answer = all_angles(theta, V)
        far = every.flip(0)
        diagnose(
            answer,
            every,
            [
                (t, "that is the true angle alone; with two neurons there are others, and they fit as well"),
                (pair, "these satisfy the first two equations; the others must hold too"),
                (far, "put the angles in increasing order"),
                (every * 180 / math.pi, "return radians"),
                (torch.where(every > math.pi, every - 2 * math.pi, every), "return angles from 0 to 2π"),
                (torch.where(every > math.pi, every - 2 * math.pi, every).sort()[0], "return angles from 0 to 2π"),
            ],
            tolerance=2e-6,
        )


def _features(t, V):
    x = math.sqrt(2) * torch.stack([t.cos(), t.sin()], dim=-1)
    return torch.nn.functional.softplus(x @ V.T)


def _parallel(theta, V):
    """All angles at which the features are parallel to θ: zeros of the first equation, kept where the others hold."""

    def f(t):
        values = _features(t, V)
        return theta[1] * values[:, 0] - theta[0] * values[:, 1]

    grid = torch.linspace(0, 2 * math.pi, 10_001, dtype=torch.float64)
    low = grid[:-1][f(grid[:-1]).sign() != f(grid[1:]).sign()]
    high, left = low + grid[1], f(low).sign()
    for _ in range(60):
        middle = (low + high) / 2
        same = f(middle).sign() == left
        low, high = torch.where(same, middle, low), torch.where(same, high, middle)
    values = _features(low, V)
    return low[values @ theta > (1 - 1e-12) * values.norm(dim=1) * theta.norm()]
