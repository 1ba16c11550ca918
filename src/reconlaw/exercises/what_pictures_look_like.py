"""Checkers of the chapter *What pictures look like*."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ._diagnose import checker, diagnose


@checker
def check_least_parameters(least_parameters: Callable) -> None:
    """``least_parameters(n, k, K)`` is the least p with K·p > n·(k + K)."""
    cases = [(4, 16, 1), (10, 50, 1), (7, 5, 3), (5, 4, 2), (13, 9, 10)]

    def of(rule: Callable) -> torch.Tensor:
        return torch.tensor([float(rule(*case)) for case in cases], dtype=torch.float64)

    diagnose(
        of(least_parameters),
        of(lambda n, k, K: n * (k + K) // K + 1),
        [
            (of(lambda n, k, K: -(-n * (k + K) // K)), "as many equations as unknowns: one more is wanted"),
            (
                of(lambda n, k, K: n * (k + K) / K + 1),
                "a number of neurons is whole: a floor, plus one",
            ),
            (of(lambda n, k, K: n * (k + 1) // K + 1), "each sample has one coefficient an output, K of them"),
            (of(lambda n, k, K: n * (k + 1) + 1), "that is right of one output; K outputs give K equations a neuron"),
            (of(lambda n, k, K: n * k // K + 1), "the coefficients are unknown as well"),
        ],
    )


@checker
def check_to_levels(to_levels: Callable) -> None:
    """``to_levels(X, low, high, levels)`` is X rounded to evenly spaced values from low to high, both included."""
    low, high, levels = -1.0, 1.8, 8  # a gap of 0.4: low is no multiple of it
    X = torch.tensor([[-1.3, -0.7, -0.1, 0.3], [0.71, 1.25, 1.75, 2.3]], dtype=torch.float64)
    gap = (high - low) / (levels - 1)
    index = (X - low) / gap  # of the level, were it whole

    def onto(places: torch.Tensor, start: float = low, gap: float = gap) -> torch.Tensor:
        return start + places * gap

    few, within = (high - low) / levels, index.round().clamp(0, levels - 1)
    no_scale = "did you forget the scale? Levels are a gap apart: divide by it before you round, multiply afterwards"
    no_gap = "those are the numbers of the levels, 0, 1, 2, …: times the gap, plus low"
    mistakes = [
        (onto(index.floor()), "that rounds down; the nearest level is wanted"),
        (onto(index.ceil()), "that rounds up; the nearest level is wanted"),
        (X.round(), no_scale),
        (low + (X - low).round(), no_scale),
        (onto(((X - low) / few).round(), gap=few), "so many levels have one gap less between them"),
        (onto((X / gap).round(), 0.0), "the levels are counted from low, not from 0"),
    ]
    beyond = "; and entries outside of the range belong on its ends"
    diagnose(
        to_levels(X.clone(), low, high, levels),
        onto(index.round()).clamp(low, high),
        [
            (onto(index.round()), "entries outside of the range belong on its ends"),
            *((places, no_gap) for places in (index.round(), within)),
            *((onto(places, 0.0), "did you forget to add low again?") for places in (index.round(), within)),
            (onto(index.trunc()), f"that cuts the fraction off; the nearest level is wanted{beyond}"),
            *((wrong.clamp(low, high), message) for wrong, message in mistakes),
            *((wrong, message + beyond) for wrong, message in mistakes),
        ],
    )


@checker
def check_family_distance(family_distance: Callable) -> None:
    """``family_distance(X, basis, m)`` is ‖(I − P)(x − m)‖/‖x‖, P projecting on the span of the basis' rows."""
    generator = torch.Generator().manual_seed(5)
    X, basis, m = (
        torch.randn(*shape, device="cpu", generator=generator, dtype=torch.float64) for shape in ((4, 9), (3, 9), (9,))
    )
    Q = torch.linalg.qr(basis.T).Q

    def left(Y: torch.Tensor, axes: torch.Tensor) -> torch.Tensor:
        return (Y - Y @ axes @ axes.T).norm(dim=1)

    right = left(X - m, Q)
    diagnose(
        family_distance(X.clone(), basis.clone(), m.clone()),
        right / X.norm(dim=1),
        [
            (right, "that is the distance itself; it is wanted as a share of the norm of X"),
            (right / (X - m).norm(dim=1), "divide by the norm of X, not by that of X − m"),
            (left(X, Q) / X.norm(dim=1), "the family passes through m, not through the origin: subtract it first"),
            (
                left(X - m, basis.T) / X.norm(dim=1),
                "the rows of the basis are not orthonormal: make them so before you project",
            ),
            (right.square() / X.square().sum(1), "that is the share of the squared norm"),
        ],
    )
