"""Checkers of the chapter *Reading images out of weights*."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ..features.random_features import RandomFeatures
from ._diagnose import checker, diagnose


def _normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, device="cpu", generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@checker
def check_least_features(least_features: Callable) -> None:
    """``least_features(n, d, K)`` is the least whole p with pK ≥ n(d − 1) + nK."""
    cases = [(10, 64, 1), (7, 50, 3), (3, 12, 5), (20, 100, 7)]

    def table(rule):
        return [float(rule(*case)) for case in cases]

    diagnose(
        table(least_features),
        table(lambda n, d, K: math.ceil(n * (d - 1 + K) / K)),
        [
            (table(lambda n, d, K: n * (d - 1 + K) / K), "p counts features: round up to a whole number"),
            (table(lambda n, d, K: n * (d - 1 + K) // K), "you rounded down, which leaves an equation short; round up"),
            (
                table(lambda n, d, K: math.ceil(n * (d - 1) / K)),
                "did you forget the coefficients? Each sample has K of them, unknown too",
            ),
            (
                table(lambda n, d, K: math.ceil(n * (d + K) / K)),
                "did you forget the sphere? The norm is known, so a sample has d − 1 coordinates, not d",
            ),
            (table(lambda n, d, K: n * d), "you counted for one output; K outputs give K equations a feature"),
            (
                table(lambda n, d, K: n * (d - 1 + K)),
                "did you forget that each feature gives K equations, one an output?",
            ),
            (
                table(lambda n, d, K: math.ceil((n * (d - 1) + n) / K)),
                "each sample has a coefficient for every output: nK of them, not n",
            ),
        ],
        tolerance=1e-12,
    )


@checker
def check_errors_up_to_sign(errors_up_to_sign: Callable) -> None:
    """``errors_up_to_sign(X_hat, X)``: min over ± of ‖±x̂ − x‖/‖x‖ of the pairs of least total cost, (n,)."""
    X = _normal(5, 12, seed=1)
    X[1] = X[0] + 0.5 * X[1]  # alike, so that nearest neighbours are not one-to-one
    X_hat = X + 0.2 * _normal(5, 12, seed=2)
    X_hat[1] = X[1] + 1.2 * (X[1] - X[0])
    order = torch.tensor([3, 0, 4, 1, 2])
    flip = torch.tensor([1.0, -1.0, 1.0, -1.0, -1.0], dtype=torch.float64)[:, None]
    norm = X.norm(dim=1)
    shuffled = (flip * X_hat)[order]

    signed = (X[:, None] - shuffled[None]).norm(dim=2)
    either = torch.minimum(signed, (X[:, None] + shuffled[None]).norm(dim=2))
    pixels = (X[:, None].abs() - shuffled[None].abs()).norm(dim=2)
    place = torch.argsort(order)  # X_hat[i] stands in row place[i] of what the reader is given
    rows = torch.arange(5)
    right = either[rows, place] / norm
    unmatched = torch.minimum((X - shuffled).norm(dim=1), (X + shuffled).norm(dim=1))
    one_to_one = "two samples may not share an estimate: match one-to-one, with linear_sum_assignment"
    diagnose(
        errors_up_to_sign(shuffled.clone(), X.clone()),
        right,
        [
            (unmatched / norm, "you compared row i with row i; a set has no order: match the rows first"),
            (unmatched, "you compared row i with row i; a set has no order: match the rows first"),
            (either[rows, place], "did you forget to divide by ‖x‖?"),
            (right.square(), "those are squared errors; take the root"),
            (right[order], "those are the errors in the order of the estimates; give them in the order of X"),
            (either.min(dim=1).values / norm, one_to_one),
            (either.min(dim=0).values / norm, one_to_one),
            (signed[rows, place] / norm, "those are signed errors; take the better of x̂ and −x̂"),
            (
                pixels[rows, place] / norm,
                "you took the better sign in every pixel, as |x̂| against |x| does; there is one sign a picture",
            ),
        ],
    )


@checker
def check_labels_from_weights(labels_from_weights: Callable) -> None:
    """``labels_from_weights(X_hat, features, theta)`` is y = Φ(X̂)θ."""
    features = RandomFeatures(d=6, p=80, activation="relu", seed=3, device="cpu")
    X, y = _normal(4, 6, seed=4), torch.tensor([1.0, -1.0, 0.5, 2.0], dtype=torch.float64)
    theta = features.fit(X, y)
    Phi = features(X)
    a = torch.linalg.solve(Phi @ Phi.T, y)
    diagnose(
        labels_from_weights(X, features, theta),
        y,
        [
            (a, "those are the coefficients a = (ΦΦᵀ)⁻¹y; the labels are what the model says at the samples"),
            (y.sign(), "you rounded to signs; labels need not be ±1"),
            (y / features.p, "you divided by p; the model is Φθ, without a factor"),
            (X @ (features.V.T @ theta), "did you forget the activation? Φ(X) = φ(XVᵀ)"),
            (Phi, "those are the features; multiply them by θ"),
        ],
    )
