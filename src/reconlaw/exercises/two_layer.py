"""Checkers of the chapter *Two-layer networks*."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch

from ._diagnose import NotYet, checker, diagnose


def _normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, device="cpu", generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@checker
def check_first_layer_gradient(first_layer_gradient: Callable) -> None:
    """``first_layer_gradient(W1, W2, X, E)`` is the gradient of ½‖F − Y‖² along W₁ for ReLU, (m, d); E = F − Y."""
    W1, W2, X, E = _normal(9, 4, seed=1), _normal(3, 9, seed=2), _normal(5, 4, seed=3), _normal(5, 3, seed=4)
    Z = X @ W1.T
    pulled, active = E @ W2, (Z > 0).double()
    right = (pulled * active).T @ X
    diagnose(
        first_layer_gradient(W1, W2, X, E),
        right,
        [
            (right.T, "that is the transpose: row j belongs to neuron j"),
            (-right, "that is the direction of the step; the gradient points the other way"),
            (right / len(X), "the loss is a sum over the samples, not a mean"),
            (2 * right, "did you forget the ½ of the loss?"),
            (pulled.T @ X, "did you forget φ'? A neuron that is off at a sample passes nothing on"),
            ((pulled * Z.clamp_min(0)).T @ X, "you took φ(z) where the chain rule has φ'(z)"),
            ((pulled * Z).T @ X, "you took the pre-activation z where the chain rule has φ'(z)"),
            (((E @ W2) * (Z < 0)).T @ X, "φ' of a ReLU is 1 where z > 0, and 0 elsewhere"),
            ((E.sum(1, keepdim=True) * active).T @ X, "the errors come down through the head: did you forget W₂?"),
        ],
        tolerance=1e-9,
    )


@checker
def check_least_width(least_width: Callable) -> None:
    """``least_width(d, n, K, spanned)``: the least width at which θ gives as many equations as there are unknowns."""
    cases = [
        (64, 10, 1, False),
        (64, 10, 4, False),
        (64, 10, 25, False),
        (50, 7, 3, True),
        (50, 7, 20, True),
        (17, 5, 5, False),
        (90, 20, 10, True),
    ]

    def table(rule):
        return torch.tensor([float(rule(*case)) for case in cases], dtype=torch.float64)

    def width(d, n, K, spanned, rank=min, sphere=1, coefficients=1, rounded=math.ceil):
        r = rank(n, K)
        dimension = n if spanned else d
        return rounded(n * (dimension - sphere + coefficients * r) / r)

    diagnose(
        table(least_width),
        table(width),
        [
            (
                table(partial(width, rank=lambda n, K: K)),
                "θ has rank min(n, K): beyond n outputs every further row is a combination of the others",
            ),
            (
                table(partial(width, coefficients=0)),
                "did you forget the coefficients? min(n, K) a sample",
            ),
            (
                table(partial(width, sphere=0)),
                "a sample lies on a sphere: one unknown less than dimensions",
            ),
            (
                table(partial(width, rounded=math.floor)),
                "round up: one equation too few is too few",
            ),
            (
                table(lambda d, n, K, spanned: width(d, n, K, False)),
                "inside the span of ΔW₁ a sample has n coordinates, not d",
            ),
            (
                table(lambda d, n, K, spanned: min(n, K) * width(d, n, K, spanned)),
                "that is p, or near it; the question is for the width",
            ),
            (
                table(lambda d, n, K, spanned: width(d, n, 1, spanned)),
                "that is for one output; each independent row of θ gives m equations",
            ),
            (
                table(lambda d, n, K, spanned: math.ceil((n if spanned else d) * n / K)),
                "p ≥ dn is the rule of thumb; count unknowns and equations exactly",
            ),
        ],
        tolerance=1e-12,
    )


@checker
def check_movement_bounds(movement_bounds: Callable) -> None:
    """``movement_bounds(X, e, gamma, head, slope)`` bounds the Frobenius norms of ΔW₁ and of θ: two numbers.

    e is F − Y at the start, head a bound on ‖W₂‖, slope one on |φ'|, gamma one on the eigenvalues of ΦΦᵀ from below.
    """
    X, e = _normal(6, 11, seed=5), _normal(6, 4, seed=6)
    gamma, head, slope = 3.7, 1.3, 0.8
    spectral, error = float(torch.linalg.matrix_norm(X, 2)), float(e.norm())
    one, two = slope * head * spectral * error / gamma, error / math.sqrt(gamma)
    answer = movement_bounds(X, e, gamma, head, slope)
    if isinstance(answer, tuple | list):
        answer = torch.tensor([float(value) for value in answer], dtype=torch.float64)
    small = float(torch.linalg.matrix_norm(e, 2)) / error
    wrong = [
        (one * float(X.norm()) / spectral, two, "‖X‖ is the largest singular value; the Frobenius norm is larger"),
        (one * small, two * small, "‖e(0)‖ is the Frobenius norm here"),
        (one / head, two, "did you forget the bound on ‖W₂‖? The errors come down through the head"),
        (one / slope, two, "did you forget the largest slope of φ?"),
        (one, error / gamma, "for the head, √γ: its gradient eᵀΦ is at least √γ‖e‖"),
        (one * math.sqrt(gamma), two, "for the first layer, γ and not √γ: integrate the decay of ‖e‖"),
        (one, error, "did you forget √γ in the second bound?"),
        (one * gamma, two, "did you forget γ in the first bound?"),
        (one**2, two**2, "these are the squares; the norms are asked for"),
        (two, one, "ΔW₁ first, then θ"),
    ]
    diagnose(
        answer,
        torch.tensor([one, two], dtype=torch.float64),
        [(torch.tensor([a, b], dtype=torch.float64), message) for a, b, message in wrong],
        tolerance=1e-9,
    )


@checker
def check_read_n(read_n: Callable) -> None:
    """``read_n(before, after, eps)``: number of samples, from W₁ before and after, both rounded to relative ``eps``."""
    for n, seed, eps in ((6, 7, 2.0**-23), (9, 8, 2.0**-10), (3, 9, 2.0**-10)):
        m, d = 400, 40
        before = _normal(m, d, seed=seed) / math.sqrt(d)
        change = 0.05 * _normal(m, n, seed=seed + 10) @ _normal(n, d, seed=seed + 20) / math.sqrt(d)
        rounded = [_round(W, eps, seed + 30 + k) for k, W in enumerate((before, before + change))]
        answer = read_n(*rounded, eps)
        answer = int(answer)
        if answer == d:
            raise NotYet(
                f"you read n = {d}, which is d: rounding fills every direction. Its size goes with the weights, not "
                "with their change; singular values below what it can reach must not count"
            )
        if answer < n:
            raise NotYet(
                f"you read n = {answer} where there are {n} samples: your threshold is too high. The largest singular "
                "value of an m × d matrix of independent entries of variance s² is about s(√m + √d)"
            )
        if answer > n:
            raise NotYet(
                f"you read n = {answer} where there are {n} samples: your threshold is too low. An entry of the "
                "difference is off by two rounding errors, and m·d of them add up to a norm of about s(√m + √d)"
            )


def _round(W: torch.Tensor, eps: float, seed: int) -> torch.Tensor:
    """Relative rounding errors, uniform of width eps."""
    noise = torch.rand(W.shape, device="cpu", generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.5
    return W + eps * W.abs() * noise
