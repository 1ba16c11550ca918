"""Checkers of the chapter *Many outputs*."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ._diagnose import NotYet, checker, diagnose


def _normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, device="cpu", generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _rows(m: int, p: int, seed: int) -> torch.Tensor:
    """m orthonormal rows of p numbers."""
    return torch.linalg.qr(_normal(p, m, seed=seed)).Q.T


def _matrix(name: str, answer, rows: int, p: int) -> torch.Tensor:
    """``answer`` as a float64 matrix, or what is wrong with its shape."""
    answer = torch.as_tensor(answer).detach().double()
    if answer.shape == (p, rows) and rows != p:
        raise NotYet(f"your answer has shape {(p, rows)}: {name} are columns there; return its transpose")
    if answer.shape != (rows, p):
        raise NotYet(f"your answer has shape {tuple(answer.shape)}; expected {(rows, p)}: {name} as rows")
    return answer


@checker
def check_whiten(whiten: Callable) -> None:
    """``whiten(theta, rank)`` is (rank, p): orthonormal rows that span those of θ (K, p), its noise left out."""
    K, p, rank = 5, 12, 3
    left, right = _rows(K, K, seed=1), _rows(K, p, seed=2)
    sizes = torch.tensor([4.0, 2e-2, 1e-3, 1e-9, 3e-10], dtype=torch.float64)
    theta, Q = left.T @ (sizes[:, None] * right), right[:rank]
    answer = _matrix("basis vectors", whiten(theta, rank), rank, p)
    scaled = sizes[:rank, None]
    diagnose(
        answer.T @ answer,  # does not depend on which basis it is
        Q.T @ Q,
        [
            ((scaled * Q).T @ (scaled * Q), "that is S·Q: its rows are as unequal as those of θ; take Q alone"),
            ((Q / scaled).T @ (Q / scaled), "that is Q/S: now the smallest direction outweighs all others"),
            (right[-rank:].T @ right[-rank:], "those are the last singular vectors: they hold the noise"),
            (
                torch.nn.functional.normalize(theta[:rank]).T @ torch.nn.functional.normalize(theta[:rank]),
                "those are rows of θ scaled to length one: they are not orthogonal",
            ),
            (theta[:rank].T @ theta[:rank], "those are rows of θ itself"),
        ],
    )


@checker
def check_membership(membership: Callable) -> None:
    """``membership(F, Q)`` is (m,): the share of each row of F (m, p) that lies off the span of the rows of Q."""
    m, r, p = 4, 3, 9
    Q, F = _rows(r, p, seed=3), _normal(m, p, seed=4)
    inside = (F @ Q.T).square().sum(1)
    size = F.square().sum(1)
    right = 1 - inside / size
    diagnose(
        membership(F, Q),
        right,
        [
            (inside / size, "that is the share inside the span"),
            (right.sqrt(), "did you forget to square? The share is of squared lengths"),
            (size - inside, "divide by ‖f‖²: without that, dark pictures would look like samples"),
            ((size - inside) / size.sqrt(), "divide by ‖f‖², not by ‖f‖"),
            (right.sum(), "one number for each row of F"),
            (right.mean(), "one number for each row of F"),
            ((size - inside).sum() / size.sum(), "one number for each row of F: every input stands alone"),
        ],
    )


@checker
def check_what_is_left(what_is_left: Callable) -> None:
    """``what_is_left(Q, F)`` is (r − m, p): orthonormal rows for what Q (r, p) spans beyond the features F (m, p)."""
    r, m, p = 5, 2, 11
    Q = _rows(r, p, seed=5)
    F = _normal(m, r, seed=6) @ Q  # not orthogonal to each other
    found = torch.linalg.qr(F.T).Q
    answer = _matrix("basis vectors", what_is_left(Q, F), r - m, p)
    inside, rest = Q.T @ Q, found @ found.T
    one_by_one = Q[m:]
    diagnose(
        answer.T @ answer,
        inside - rest,
        [
            (one_by_one.T @ one_by_one, "those are rows of Q: no one of them belongs to one sample"),
            (
                (Q - Q @ rest)[: r - m].T @ (Q - Q @ rest)[: r - m],
                "the rest is right, but its rows are not orthonormal: take a basis of it",
            ),
            (torch.eye(p).double() - rest, "stay inside the span of Q"),
        ],
    )
