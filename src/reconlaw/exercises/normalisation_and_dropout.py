"""Checkers of the chapter *Batch normalisation and dropout*."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ._diagnose import Made, checker, diagnose


def _normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, device="cpu", generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@checker
def check_steps_needed(steps_needed: Callable) -> None:
    """``steps_needed(momentum, share)`` is the least whole k with (1 − momentum)^k ≤ share."""
    cases = [(0.1, 0.01), (0.01, 0.5), (0.3, 1e-6)]

    def table(rule):
        return torch.tensor([float(rule(*case)) for case in cases], dtype=torch.float64)

    def exact(m, s):
        return math.log(s) / math.log(1 - m)

    diagnose(
        table(steps_needed),
        table(lambda m, s: math.ceil(exact(m, s))),
        [
            (table(exact), "return a whole number: round up"),
            (table(lambda m, s: math.floor(exact(m, s))), "round up: with one step fewer the share is still too large"),
            (
                table(lambda m, s: math.ceil(math.log(s) / math.log(m))),
                "a step keeps the share 1 − momentum of the old: PyTorch's momentum is the weight of the new",
            ),
            (table(lambda m, s: math.ceil((1 - s) / m)), "the shares multiply: a power, not a multiple"),
            (table(lambda m, s: math.ceil(math.log(1 - s) / math.log(1 - m))), "share is what is left of the old"),
        ],
        tolerance=1e-9,
    )


@checker
def check_another_batch(another_batch: Callable) -> None:
    """``another_batch(X, e, t)`` is X + 1cᵀ, c = κb + te, with rows of norm √d and the smaller |κ|."""
    n, d, t = 3, 8, 1.1
    X = _normal(n, d, seed=4)
    X *= math.sqrt(d) / X.norm(dim=1, keepdim=True)
    e, b = torch.linalg.svd(X).Vh[-1], torch.linalg.pinv(X).sum(1)
    root = torch.sqrt(1 - b @ b * t**2)

    def shifted(kappa):
        return X + kappa * b + t * e

    moved = X + t * e
    diagnose(
        another_batch(X, e, t),
        shifted((root - 1) / (b @ b)),
        [
            (moved, "the rows have left the sphere: κb has to make up for the length that te adds"),
            (
                moved * math.sqrt(d) / moved.norm(dim=1, keepdim=True),
                "put back by a factor, the samples have not moved by one vector c, and their batch features differ",
            ),
            (shifted((-1 - root) / (b @ b)), "that is the other root of the quadratic, of larger |κ|"),
            (shifted(-(t**2) / 2), "that holds to first order in t²: κ solves ‖b‖²κ² + 2κ + t² = 0"),
            (shifted((1 - root) / (b @ b)), "the sign of κ is wrong: it has to shorten the rows"),
        ],
        tolerance=1e-9,
    )


@checker
def check_dropout_minimiser(dropout_minimiser: Callable) -> None:
    """``dropout_minimiser(Phi, y, rate)`` is D⁻¹Φᵀ(ΦD⁻¹Φᵀ + cI)⁻¹y, c = rate/(1 − rate), D = diag ΦᵀΦ."""
    Phi, y, rate = _normal(4, 15, seed=6), _normal(4, seed=7), 0.3
    D = Phi.square().sum(0)

    def minimiser(c, weights=D):
        scaled = Phi / weights
        return torch.linalg.solve(scaled @ Phi.T + c * torch.eye(4).double(), y) @ scaled

    c = rate / (1 - rate)
    a = torch.linalg.solve(Phi / D @ Phi.T + c * torch.eye(4).double(), y)
    with Made() as made:
        answer = dropout_minimiser(Phi, y, rate)
    diagnose(
        answer,
        minimiser(c),
        [
            (minimiser(0.0), "that interpolates: dropout adds the penalty c/2 · θᵀDθ"),
            (
                minimiser(c, torch.ones_like(D)),
                "the penalty weighs feature j with D_jj = Σ_i Φ_ij²: it is no plain ridge",
            ),
            (minimiser(rate), "the strength is c = rate/(1 − rate), the variance of a mask entry"),
            (minimiser(1 / (1 - rate)), "the strength is the variance of a mask entry, 1/(1 − rate) − 1"),
            (minimiser((1 - rate) / rate), "rate is the share that is dropped, not the share that is kept"),
            (minimiser(c, D.sqrt()), "D_jj is Σ_i Φ_ij², not its root"),
            (minimiser(c, 1 / D), "D and its inverse are exchanged: heavy features are held back more"),
            (a @ Phi, "did you forget D⁻¹ in front? θ = D⁻¹Φᵀa"),
        ],
    )
    made.refuse(lambda shape: shape == (15, 15), "you formed a p × p matrix; with θ = D⁻¹Φᵀa an n × n system is left")
