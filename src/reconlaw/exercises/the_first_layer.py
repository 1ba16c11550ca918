"""Checkers of the chapter *The first layer*."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ._diagnose import NotYet, checker, diagnose


def _normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, device="cpu", generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _problem(p: int, n: int, d: int, seed: int):
    """Weights W (p, d), samples X (n, d), coefficients c (n,) of both signs, masks M (p, n)."""
    W, X = _normal(p, d, seed=seed), _normal(n, d, seed=seed + 1)
    c = torch.tensor([(-1.0) ** i * (1 + i / 4) for i in range(n)], dtype=torch.float64)
    return W, X, c, (W @ X.T > 0).double()


@checker
def check_edges(edges: Callable) -> None:
    """``edges(U, M)`` is (n, d): the edges of the vertices U (p, d) whose masks are M (p, n), so that U = M E."""
    _, X, c, M = _problem(30, 3, 5, seed=1)
    E = c[:, None] * X
    U, signs = M @ E, 2 * M - 1
    answer = torch.as_tensor(edges(U, M)).detach()
    if answer.shape == (5, 3):
        raise NotYet("your edges are columns: return one edge a row")
    diagnose(
        answer,
        E,
        [
            (M.T @ U, "that is Mᵀ U: samples overlap in their neurons, so divide by Mᵀ M as a matrix"),
            (M.T @ U / len(U), "that is a mean: samples overlap in their neurons, so divide by Mᵀ M as a matrix"),
            ((M.T @ U) / M.sum(0)[:, None], "that is the mean vertex of each mask: the other samples are in it, too"),
            (torch.linalg.lstsq(signs, U).solution, "masks are 0 and 1 here, not signs −1 and 1"),
            (torch.nn.functional.normalize(E), "leave the lengths as they are: they hold the coefficients"),
        ],
    )


@checker
def check_round(one_round: Callable) -> None:
    """``one_round(A, s)`` is the sign of A Aᵀ s, and ‖Aᵀ s‖/√p; A (p, r) has orthonormal columns, s (p,) is ±1."""
    p, r = 40, 5
    A, s = torch.linalg.qr(_normal(p, r, seed=21)).Q, _normal(p, seed=22).sign()
    answer = one_round(A, s)
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise NotYet("return two things: the new signs, and the height before the round")
    b = A.T @ s
    diagnose(
        answer[0],
        (A @ b).sign(),
        [
            (A @ b, "take the signs of it: a mask has two values"),
            (b.sign(), "those are signs in the coordinates of the span: go back to the neurons by A"),
            (-(A @ b).sign(), "the signs are turned round"),
            (((A @ b).sign() + 1) / 2, "signs are −1 and 1 here, not 0 and 1"),
        ],
    )
    height = float(b.norm()) / p**0.5
    diagnose(
        answer[1],
        height,
        [
            (height * p**0.5, "divide the norm by √p: then a mask has the height 1"),
            (height**2, "take the root: the height is a norm"),
            (float((A.T @ (A @ b).sign()).norm()) / p**0.5, "that is the height after the round"),
        ],
    )


@checker
def check_agreement(agreement: Callable) -> None:
    """``agreement(M, W, E)`` is (n,): the share of neurons whose mask says on which side of w_j the sample lies.

    An edge is c x with c of either sign, so that the sample may lie on the other side than its edge.
    """
    W, X, c, M = _problem(40, 4, 6, seed=11)
    M = M.clone()
    M[:3, 0], M[:5, 1] = 1 - M[:3, 0], 1 - M[:5, 1]  # two masks are not half-spaces of their edges
    E = c[:, None] * X
    same = (M == (W @ E.T > 0)).double()
    share = same.mean(0)
    right = torch.maximum(share, 1 - share)
    diagnose(
        agreement(M, W, E),
        right,
        [
            (share, "an edge is c x, and c may be negative: then the mask is 1 where w·e < 0"),
            (right.mean(), "one number for each sample"),
            (torch.tensor(float(right.min())), "one number for each sample"),
            (1 - right, "that is the share of neurons that disagree"),
            (right * len(W), "that is a number of neurons: divide by how many there are"),
        ],
    )
