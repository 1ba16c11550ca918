"""Checkers of the chapter *How it was trained*."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ._diagnose import checker, diagnose


def _normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, device="cpu", generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@checker
def check_adam_first_step(first_step: Callable) -> None:
    """``first_step(gradient, rate, eps)`` is −η g/(|g| + ε), the first step of Adam."""
    g, rate, eps = 0.1 * _normal(4, 9, seed=1), 0.02, 0.01
    g[1, 3] = 0.0
    right = -rate * g / (g.abs() + eps)
    diagnose(
        first_step(g.clone(), rate, eps),
        right,
        [
            (-right, "a step goes against the gradient"),
            (-rate * g.sign(), "ε is missing: small gradients move by less"),
            (-rate * g / (g.square() + eps), "v is a mean of squares: the step divides by its root"),
            (-rate * g / (g.square() + eps).sqrt(), "ε stands beside the root, not under it"),
            (
                -rate * 0.1 * g / (0.001**0.5 * g.abs() + eps),
                "divide the means by 1 − β first, since they began at zero",
            ),
            (-rate * g, "that is a step of gradient descent"),
        ],
    )


@checker
def check_flatness(flatness: Callable) -> None:
    """``flatness(theta)`` is the mean of |θ| over its root mean square, columns that are zero left out."""
    theta = _normal(5, 30, seed=2) * _normal(30, seed=3).exp()
    theta[:, 4:11] = 0.0
    theta[2, 20] = 0.0  # a number that did not move, in a column that did

    def ratio(values: torch.Tensor) -> torch.Tensor:
        return values.abs().mean() / values.square().mean().sqrt()

    moved = theta[:, theta.norm(dim=0) > 0]
    right = ratio(moved)
    diagnose(
        flatness(theta.clone()),
        right,
        [
            (ratio(theta), "columns that are zero belong to features that no sample turns on: leave them out"),
            (ratio(theta[theta != 0]), "leave out whole columns, not every number that is zero"),
            (right**2, "that is the square of it: take the root of the mean of squares"),
            (1 / right, "the other way round: the mean size stands above"),
            (moved.abs().mean() / moved.norm(), "a norm is the root of a sum of squares; the root of a mean is wanted"),
            (moved.abs().mean() / moved.std(), "a deviation takes the mean away first; the root mean square does not"),
            (moved.mean() / moved.square().mean().sqrt(), "the mean of sizes, without signs"),
        ],
    )
