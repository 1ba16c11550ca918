"""Checkers of the chapter *Adapters and middle layers*."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ._diagnose import checker, diagnose


def _normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, device="cpu", generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@checker
def check_decay_factor(decay_factor: Callable) -> None:
    """``decay_factor(theta, W0)`` is c, with θ = (c − 1)W₀ + AᵀΦ (K, p), a sample's coefficients summing to 0."""
    n, K, p, c = 3, 5, 20, 0.83
    A = _normal(n, K, seed=1)
    A = A - A.mean(1, keepdim=True)  # as after a softmax
    W0 = _normal(K, p, seed=2)
    theta = (c - 1) * W0 + A.T @ _normal(n, p, seed=3)
    whole = float((theta * W0).sum() / W0.square().sum())
    first = float((theta[0] @ W0[0]) / W0[0].square().sum())
    diagnose(
        decay_factor(theta, W0),
        torch.tensor(c, dtype=torch.float64),
        [
            (torch.tensor(c - 1).double(), "that is c − 1: the old weights are in θ once already, with a minus"),
            (torch.tensor(1 - c).double(), "that is 1 − c, the share that decay took"),
            (
                torch.tensor(1 + whole).double(),
                "that fits all of θ, and the samples' part disturbs it: sum the rows first",
            ),
            (
                torch.tensor(1 + first).double(),
                "one row holds the samples too; only the sum of all rows is free of them",
            ),
        ],
    )


@checker
def check_most_samples(most_samples: Callable) -> None:
    """``most_samples(p, T, d)`` is the largest n with T·p ≥ d + n·T·T: K ≥ n·T outputs, one sample at a time."""
    cases = [(576, 4, 64), (90, 9, 49), (512, 1, 64), (40, 3, 200)]
    right, p_only, no_d = [], [], []
    for p, T, d in cases:
        right.append(max(0, (T * p - d) // (T * T)))
        p_only.append(p // T)
        no_d.append(max(0, p - d))
    diagnose(
        torch.tensor([float(most_samples(*case)) for case in cases], dtype=torch.float64),
        torch.tensor(right, dtype=torch.float64),
        [
            (
                torch.tensor(p_only).double(),
                "that is where n·T columns fill the space; the d numbers of the input are unknown, too",
            ),
            (torch.tensor(no_d).double(), "each position gives p equations and takes n·T coefficients of its own"),
            (
                torch.tensor([(T * p - d) / (T * T) for p, T, d in cases]).double(),
                "a number of samples is whole, and no less than zero",
            ),
        ],
    )
