"""Singular values of matrices with one very long side."""

import pytest
import torch

from reconlaw.attack.count import independent_rows
from reconlaw.features import decompose


def graded(p, k, seed=0):
    """(p, k) with singular values from 1 to 1e-10, and their right singular vectors."""
    generator = torch.Generator().manual_seed(seed)

    def orthonormal(m):
        return torch.linalg.qr(torch.randn(m, k, generator=generator, dtype=torch.float64)).Q

    s, turn = torch.logspace(0, -10, k, dtype=torch.float64), orthonormal(k)
    return orthonormal(p) * s @ turn.T, s, turn


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("long", [50, 64, 99, 100])
def test_blocks_give_small_singular_values_that_a_gram_matrix_would_lose(monkeypatch, wide, long):
    monkeypatch.setattr(decompose, "_LONG", long)
    A, s, turn = graded(201 if long != 99 else 200, 6)
    U, found, Vh = decompose.svd(A.T if wide else A)
    assert U.shape == ((6, 6) if wide else (len(A), 6)) and Vh.shape == ((6, len(A)) if wide else (6, 6))
    assert float((found - s).abs().max()) < 1e-14
    assert float((U * found @ Vh - (A.T if wide else A)).norm()) < 1e-14
    for Q in (U, Vh.T):
        assert float((Q.T @ Q - torch.eye(6, dtype=torch.float64)).norm()) < 1e-13
    right = U if wide else Vh.T
    assert torch.allclose((right * turn).sum(0).abs(), torch.ones(6, dtype=torch.float64), atol=1e-4)


def test_blocks_agree_with_one_factorisation_where_the_matrix_lacks_rank(monkeypatch):
    A = graded(150, 3)[0]
    A = torch.cat([A, A[:, :1], torch.zeros(150, 1, dtype=torch.float64)], 1)
    whole = decompose.svd(A)[1]
    monkeypatch.setattr(decompose, "_LONG", 40)
    U, s, Vh = decompose.svd(A)
    assert torch.allclose(s, whole, atol=1e-15) and float((U * s @ Vh - A).norm()) < 1e-14


def test_a_change_of_more_parameters_than_one_factorisation_is_handed():
    p = decompose._LONG + 3
    theta = torch.randn(1, p, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows, turn = independent_rows(torch.cat([theta, -2 * theta]))
    assert rows.shape == (1, p) and turn.shape == (2, 1)
    assert torch.allclose(turn @ rows, torch.cat([theta, -2 * theta]), atol=1e-12)
