"""Checkers of the chapter *Your own model*."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ._diagnose import checker, diagnose


def _normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, device="cpu", generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@checker
def check_head_count(head_count: Callable) -> None:
    """``head_count(p, d, n, rank)`` is (equations, unknowns) of a head's change of that rank ≤ n, inputs unknown."""
    cases = [(512, 64, 6, 2), (3000, 625, 10, 9), (100, 20, 5, 1)]

    def table(rule):
        return torch.tensor([[float(value) for value in rule(*case)] for case in cases], dtype=torch.float64)

    diagnose(
        table(head_count),
        table(lambda p, d, n, r: (r * p, n * d + n * r)),
        [
            (table(lambda p, d, n, r: (p, n * d + n * r)), "each of the rank's rows gives p equations"),
            (
                table(lambda p, d, n, r: (r * p, n * (d - 1) + n * r)),
                "that is the count on a sphere; of these inputs no norm is known: d unknowns, not d − 1",
            ),
            (table(lambda p, d, n, r: (r * p, n * d)), "did you forget the coefficients? They are unknown too"),
            (table(lambda p, d, n, r: (r * p, n * d + n)), "each sample has a coefficient for each row, not only one"),
            (table(lambda p, d, n, r: (n * d + n * r, r * p)), "equations first, then unknowns"),
            (table(lambda p, d, n, r: (n * p, n * d + n * r)), "θ has rank·p free numbers, not np"),
        ],
    )


@checker
def check_undo_decay(undo_decay: Callable) -> None:
    """``undo_decay(before, after, rate, decay, steps)`` is the part of the head that the samples made, (K, p)."""
    before, made = _normal(2, 7, seed=1), _normal(2, 7, seed=2)
    rate, decay, steps = 0.1, 0.02, 40
    shrink = (1 - rate * decay) ** steps
    after = shrink * before + made
    diagnose(
        undo_decay(before, after, rate, decay, steps),
        made,
        [
            (after - before, "that is the plain difference: the old head has shrunk on the way"),
            (after - (1 - decay) ** steps * before, "a step shrinks by 1 − rate·decay, not by 1 − decay"),
            (after - (1 - rate * decay) * before, "that is one step; it was taken ``steps`` times"),
            (after - (1 - rate * decay * steps) * before, "the factors multiply: a power, not a multiple"),
            (after / shrink - before, "the samples' part is what is left over, after the old head's part is taken off"),
            (shrink * after - before, "the old head has shrunk, not the new one"),
            (-made, "the sign is wrong: after less what is left of before"),
        ],
        tolerance=1e-9,
    )


@checker
def check_standard_errors(standard_errors: Callable) -> None:
    """``standard_errors(J, r, n)``: J is (p, n(d − 1)), r is (p,); the answer is (n,)."""
    n, d, p = 3, 5, 60
    J, r = _normal(p, n * (d - 1), seed=3) * torch.linspace(0.5, 2, n * (d - 1)).double(), _normal(p, seed=4) * 1e-3
    J = J + _normal(p, 1, seed=5)  # samples are not estimated independently of each other
    H = J.T @ J
    inverse = torch.linalg.inv(H).diagonal().reshape(n, d - 1)
    alone = torch.stack([torch.linalg.inv(block).trace() for block in _blocks(H, n)])
    spare, total = p - n * d, r @ r
    right = (total / spare * inverse.sum(1)).sqrt()
    diagnose(
        standard_errors(J, r, n),
        right,
        [
            (right**2, "did you forget the square root?"),
            ((total / p * inverse.sum(1)).sqrt(), "divide by the spare equations, p − nd: the fit used up nd of them"),
            (
                (total / (p - n * (d - 1)) * inverse.sum(1)).sqrt(),
                "the coefficients are fitted too: nd unknowns, not n(d − 1)",
            ),
            ((total * inverse.sum(1)).sqrt(), "‖r‖² is a sum over all equations: divide it by how many are spare"),
            ((total / spare * alone).sqrt(), "invert the whole matrix: the other samples may move along"),
            (
                (total / spare / torch.stack([block.trace() for block in _blocks(H, n)])).sqrt(),
                "the trace of an inverse is not the inverse of a trace",
            ),
            ((total / spare * inverse.mean(1)).sqrt(), "add the variances of a sample's coordinates, do not average"),
            ((total / spare * inverse).sqrt(), "one number for each sample: add its coordinates' variances"),
        ],
    )


def _blocks(H: torch.Tensor, n: int):
    side = len(H) // n
    return [H[i * side : (i + 1) * side, i * side : (i + 1) * side] for i in range(n)]
