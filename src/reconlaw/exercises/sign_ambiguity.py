"""Checkers of the chapter *The sign ambiguity*."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ._diagnose import NotYet, checker, diagnose


def _normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, device="cpu", generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@checker
def check_flip_change(flip_change: Callable) -> None:
    """``flip_change(V, X, a, F)`` is V Σ_{i∈F} a_i x_i, for ReLU."""
    V, X, a, F = _normal(12, 4, seed=1), _normal(5, 4, seed=2), _normal(5, seed=3), [0, 2, 3]
    rest = [1, 4]
    right = V @ (a[F] @ X[F])
    phi = (X @ V.T).relu()
    diagnose(
        flip_change(V, X, a, F),
        right,
        [
            (-right, "the sign is the other way round: θ − Φ(X^F)ᵀa, what the flip takes away"),
            (2 * right, "a factor 2 too large: φ(z) − φ(−z) = z for ReLU, not 2z"),
            (right / 2, "half of it: the odd part is z/2, and a flip changes it by twice that"),
            (V @ X[F].sum(0), "did you forget the coefficients a_i?"),
            (V @ (a @ X), "that flips all samples; sum over F only"),
            (V @ (a[rest] @ X[rest]), "that is the sum over the samples *not* in F"),
            (a[F] @ X[F], "that is the partial sum in R^d; multiply by V to get to parameters"),
            (a[F] @ phi[F], "that removes the samples of F; a flip puts their negatives in their place"),
            (
                (X @ V.T).abs().T[:, F] @ a[F],
                "|z| is twice the even part, which a flip leaves alone; the odd part changes",
            ),
        ],
    )


@checker
def check_unnoticed_flips(unnoticed_flips: Callable) -> None:
    """``unnoticed_flips(X, a)`` is the set of nonempty F, as sorted tuples, whose partial sum vanishes."""
    turn = 2 * math.pi / 3 * torch.arange(3, dtype=torch.float64)
    three = math.sqrt(2) * torch.stack([turn.cos(), turn.sin()], 1)
    other = math.sqrt(2) * torch.tensor([[math.cos(0.4), math.sin(0.4)]], dtype=torch.float64)
    triangle = torch.cat([three[:2], other, three[2:]])
    eye = 2.0 * torch.eye(4, dtype=torch.float64)
    cases: list[tuple[torch.Tensor, list[float], set]] = [
        (triangle, [2.0, 2.0, 1.0, 2.0], {(0, 1, 3)}),
        (eye, [1.0, -1.0, 2.0, 0.5], set()),
        (eye, [1.0, 0.0, 2.0, 0.0], {(1,), (3,), (1, 3)}),
    ]
    for X, weights, expected in cases:
        a = torch.tensor(weights, dtype=torch.float64)
        found = unnoticed_flips(X, a)
        found = {tuple(int(i) for i in F) for F in found}
        if () in found:
            raise NotYet("leave out the empty set: flipping nothing is no flip")
        if found == expected:
            continue
        if any(tuple(sorted(F)) != F for F in found):
            raise NotYet("give every set as a sorted tuple of indices counted from 0")
        if expected == {(0, 1, 3)} and not found:
            raise NotYet("you found no set where there is one: did you weigh x_i with a_i, and allow for rounding?")
        if found < expected:
            raise NotYet(f"you missed {sorted(expected - found)}: a sample with a_i = 0 can be flipped freely")
        raise NotYet(
            f"the sums over {sorted(found - expected)} do not vanish; all sets of any size count, and a_i weighs x_i"
        )


@checker
def check_read_signs(read_signs: Callable) -> None:
    """``read_signs(theta, V, U)`` is the samples ±u_i with the signs that θ = Σ a_i ReLU(Vx_i) has."""
    X, V = _normal(5, 8, seed=4), _normal(60, 8, seed=6) / math.sqrt(8)  # V on which a column fitted alone misleads
    X = math.sqrt(8) * X / X.norm(dim=1, keepdim=True)
    a = torch.tensor([1.0, -2.0, 0.5, -0.7, 1.5], dtype=torch.float64)
    theta = (X @ V.T).relu().T @ a
    for seed in range(2):
        sign = torch.where(_normal(5, seed=10 + seed) > 0, 1.0, -1.0).double()
        U = sign[:, None] * X
        odd = torch.linalg.lstsq(V, theta[:, None]).solution[:, 0]  # all of θ on the linear part alone
        alone = torch.linalg.lstsq(U.T, odd[:, None]).solution[:, 0]
        apart = [torch.linalg.lstsq(Z.T, theta[:, None]).solution[:, 0] for Z in ((U @ V.T).abs(), U @ V.T)]
        together = "fit the even and the odd columns together: |Vu_i| and Vu_i overlap at finite p"
        diagnose(
            read_signs(theta, V, U),
            X,
            [
                (-X, "every sign is wrong: ε_i is the sign of the product of the two coefficients"),
                (U, "that is U as it was given: multiply each row by its sign"),
                (
                    (sign * a.sign())[:, None] * U,
                    "you took the sign of one coefficient, ε_i a_i; a_i may be negative: compare the two",
                ),
                (
                    a.sign()[:, None] * U,
                    "you took the sign of a_i; it must be compared with the other coefficient, ε_i a_i",
                ),
                (alone.sign()[:, None] * U, together),
                ((apart[0] * apart[1]).sign()[:, None] * U, together),
                (sign, "return the samples, ε_i u_i, not the signs"),
            ],
            tolerance=1e-4,
        )
