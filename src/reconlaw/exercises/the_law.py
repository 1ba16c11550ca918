"""Checkers of the chapter *The law*."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ._diagnose import NotYet, checker, diagnose

_NO_POSITIVE = "it works for a > 0 only: if a is negative no entry of θ is positive; active is where θ ≠ 0, not θ > 0"


@checker
def check_jacobian_rank(jacobian_rank: Callable) -> None:
    """``jacobian_rank(n, d, p, sphere, homogeneous)``: min(p, nd), or min(p, n(d + 1)) where lengths count."""
    cases = [
        (n, d, p, sphere, homogeneous)
        for n, d in ((1, 4), (3, 7), (6, 5))
        for p in (2, n * d - 1, n * d + 1, n * d + n, 100)
        for sphere in (True, False)
        for homogeneous in (True, False)
    ]

    def table(rule):
        return torch.tensor([float(rule(*case)) for case in cases], dtype=torch.float64)

    def right(n, d, p, sphere, homogeneous):
        return min(p, n * d if sphere or homogeneous else n * (d + 1))

    mistakes = [
        (
            lambda n, d, p, s, h: n * d if s or h else n * (d + 1),
            "did you forget p? A matrix with p rows has rank at most p",
        ),
        (
            lambda n, d, p, s, h: min(p, n * (d - 1) if s else n * d),
            "did you forget the n coefficients? They are unknown too",
        ),
        (
            lambda n, d, p, s, h: min(p, n * (d - 1)),
            "did you forget the n coefficients? And off the sphere a sample has d coordinates, not d − 1",
        ),
        (
            lambda n, d, p, s, h: min(p, n * d if s else n * (d + 1)),
            "off the sphere a homogeneous activation loses one direction a sample: c x with α/c gives the same θ",
        ),
        (
            lambda n, d, p, s, h: min(p, n * (d - 1) if s and h else n * d if s or h else n * (d + 1)),
            "on the sphere homogeneity costs nothing more: the length is fixed already",
        ),
        (
            lambda n, d, p, s, h: min(p, n * (d + 1)),
            "on the sphere a sample has d − 1 coordinates, not d, and off it ReLU cannot tell the length",
        ),
        (
            lambda n, d, p, s, h: min(p, n * d),
            "off the sphere, a smooth activation tells the n lengths as well: n more directions",
        ),
    ]
    diagnose(table(jacobian_rank), table(right), [(table(rule), message) for rule, message in mistakes])


@checker
def check_one_sample(one_sample: Callable) -> None:
    """``one_sample(theta, V)`` is x (norm √d) and a with θ = a relu(Vx), for positive and negative a."""
    generator = torch.Generator().manual_seed(4)
    d, p = 6, 40
    V = torch.randn(p, d, device="cpu", generator=generator, dtype=torch.float64) / math.sqrt(d)
    x = torch.randn(d, device="cpu", generator=generator, dtype=torch.float64)
    x *= math.sqrt(d) / x.norm()
    for a in (1.7, -0.6):
        theta = a * (V @ x).relu()
        try:
            answer = one_sample(theta, V)
        except Exception as error:
            if a > 0:
                raise
            raise NotYet(_NO_POSITIVE) from error
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise NotYet("return the two things asked for: x, a")
        found, coefficient = answer
        if a < 0 and not torch.isfinite(torch.as_tensor(found)).all():
            raise NotYet(_NO_POSITIVE)
        everywhere = torch.linalg.lstsq(V, theta[:, None]).solution[:, 0]
        unit = everywhere / everywhere.norm() * math.sqrt(d)
        diagnose(
            found,
            x,
            [
                (a * x, "that is a·x; scale it to norm √d, the length is |a|√d"),
                (x / math.sqrt(d), "that has norm 1; samples have norm √d"),
                (
                    -x,
                    "the sign is wrong: the least squares gives a·x, and a is negative here; θ tells the sign of a",
                ),
                (unit, "you used all neurons; where θ is 0 the equation v·(ax) = θ does not hold"),
                (-unit, "you used all neurons; where θ is 0 the equation v·(ax) = θ does not hold"),
                (everywhere, "you used all neurons; where θ is 0 the equation v·(ax) = θ does not hold"),
            ],
        )
        diagnose(
            coefficient,
            a,
            [
                (abs(a), "the coefficient lost its sign: the nonzero entries of θ have the sign of a"),
                (-a, "the coefficient has the wrong sign: the nonzero entries of θ have the sign of a"),
                (a * math.sqrt(d), "did you forget to divide by √d? ‖ax‖ = |a|√d"),
                (abs(a) * math.sqrt(d), "that is ‖ax‖ = |a|√d; divide by √d, and give it the sign of θ"),
            ],
        )


@checker
def check_error_bar(error_bar: Callable) -> None:
    """``error_bar(J, s)`` is s ‖J⁺‖_F = s (tr (JᵀJ)⁻¹)^{1/2}."""
    J = torch.randn(12, 5, device="cpu", generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    s, sigma = 0.3, torch.linalg.svdvals(J)
    mean_square = s**2 * sigma.pow(-2).sum()
    diagnose(
        error_bar(J, s),
        mean_square.sqrt(),
        [
            (mean_square, "that is the mean square; take the root"),
            (s**2 * sigma.pow(-2).sum().sqrt(), "the standard deviation enters once, not squared"),
            (s / sigma[-1], "that is the bound for the worst direction, at ‖ξ‖ = s; all dn directions contribute"),
            (s * math.sqrt(12) / sigma[-1], "that is the bound ‖ξ‖/σ_min; noise is not all in the worst direction"),
            (s * sigma.square().sum().sqrt(), "you took the singular values of J; those of J⁺ are their inverses"),
            (s * sigma.pow(-1).sum(), "the singular values add up in squares"),
            (
                s * sigma.pow(-2).mean().sqrt(),
                "that is for one unknown in the mean; the norm adds the squares of all dn",
            ),
        ],
    )
