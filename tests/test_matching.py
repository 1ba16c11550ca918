import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reconlaw.matching import match


def points(n, d, seed):
    Z = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return math.sqrt(d) * Z / Z.norm(dim=1, keepdim=True)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 12), d=st.integers(3, 30), seed=st.integers(0, 10**6), data=st.data())
def test_finds_permutation_and_signs(n, d, seed, data):
    X = points(n, d, seed)
    permutation = torch.tensor(data.draw(st.permutations(range(n))))
    sign = torch.tensor(data.draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=n, max_size=n))).double()
    X_hat = torch.empty_like(X)
    X_hat[permutation] = sign[:, None] * X
    report = match(X_hat, X)
    assert torch.equal(report.order, permutation)
    assert torch.equal(report.sign, sign)
    assert torch.equal(report.error_up_to_sign, torch.zeros(n, dtype=torch.float64))
    torch.testing.assert_close(report.error, 1 - sign, rtol=0, atol=1e-13)
    assert torch.equal(report.recovered(), sign > 0)
    assert report.recovered_up_to_sign().all()


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 8), extra=st.integers(-3, 3), seed=st.integers(0, 10**6))
def test_report_is_coherent(n, extra, seed):
    X, X_hat = points(n, 6, seed), points(max(1, n + extra), 6, seed + 1)
    report = match(X_hat, X)
    matched = report.order >= 0
    assert int(matched.sum()) == min(len(X), len(X_hat))
    assert report.order[matched].unique().numel() == int(matched.sum())
    pairs, truth, sign = X_hat[report.order[matched]], X[matched], report.sign[matched, None]
    norm = truth.norm(dim=1)
    torch.testing.assert_close(report.error[matched], (pairs - truth).norm(dim=1) / norm)
    torch.testing.assert_close(report.error_up_to_sign[matched], (sign * pairs - truth).norm(dim=1) / norm)
    assert (report.error_up_to_sign <= report.error).all()
    assert report.error[~matched].isinf().all() and (report.order[~matched] == -1).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3))
def test_relative_errors_do_not_change_with_scale_or_rotation(seed, scale):
    X = points(5, 8, seed)
    X_hat = X.flip(0) + 0.1 * points(5, 8, seed + 1)
    Q = torch.linalg.qr(points(8, 8, seed + 2)).Q
    plain, moved = match(X_hat, X), match(scale * X_hat @ Q, scale * X @ Q)
    assert torch.equal(plain.order, moved.order)
    torch.testing.assert_close(plain.error, moved.error)


def test_tiny_errors_are_measured_right():
    X = points(6, 50, 0)
    direction = torch.nn.functional.normalize(points(6, 50, 1), dim=1)
    report = match(X + 1e-12 * math.sqrt(50) * direction, X)
    torch.testing.assert_close(report.error, torch.full((6,), 1e-12).double(), rtol=1e-2, atol=0)


def test_prefers_the_right_sign_among_both():
    X = points(3, 20, 0)
    X_hat = torch.cat([-X, X + 1e-6])
    report = match(X_hat, X)
    assert report.order.tolist() == [3, 4, 5]
    assert report.recovered().all()


def test_flipped_samples_stay_with_their_own():
    # On signed distance alone these two would be paired crosswise, √2·√d away each.
    X = math.sqrt(2) * torch.eye(2, dtype=torch.float64)
    report = match(-X, X)
    assert report.order.tolist() == [0, 1]
    assert report.error.tolist() == [2, 2] and report.error_up_to_sign.tolist() == [0, 0]


def test_recovered_agrees_with_the_signed_assignment():
    from scipy.optimize import linear_sum_assignment

    for seed in range(20):
        X = points(10, 20, seed)
        X_hat = X[torch.randperm(10, generator=torch.Generator().manual_seed(seed))].clone()
        X_hat[:3] = points(3, 20, seed + 100)
        X_hat[3] *= -1
        signed = torch.cdist(X, X_hat).numpy()
        rows, columns = linear_sum_assignment(signed)
        assert match(X_hat, X).recovered().tolist() == (signed[rows, columns] / math.sqrt(20) < 1e-2).tolist()


def test_rows_with_nan_are_left_unmatched():
    X = points(4, 5, 0)
    X_hat = X.clone()
    X_hat[1, 2] = torch.nan
    X_hat[2, 0] = torch.inf
    report = match(X_hat, X)
    assert report.order.tolist() == [0, -1, -1, 3]
    assert report.recovered().tolist() == [True, False, False, True]
    assert "2 of 4 samples have no estimate" in str(report)
    assert match(torch.full_like(X, torch.nan), X).error.isinf().all()


def test_mixes_dtypes_and_reads_out():
    X = points(4, 5, 0)
    report = match(X.float().requires_grad_(), X)
    assert report.error.dtype == torch.float64 and report.recovered(1e-6).all()
    assert "4 of 4" in str(report)


@pytest.mark.parametrize(
    ("X_hat", "X", "error", "words"),
    [
        (torch.ones(2, 3), torch.ones(2, 4), ValueError, r"X_hat has shape \(2, 3\)"),
        (torch.ones(2, 3), torch.zeros(2, 3), ValueError, "zero rows"),
        (torch.ones(2, 3), torch.full((2, 3), torch.nan), ValueError, "X holds 6 NaN"),
        (torch.ones(2, 3), torch.ones(2, 3, dtype=torch.int64), TypeError, "dtype torch.int64"),
        ([[1.0]], torch.ones(1, 1), TypeError, "X_hat is a list"),
    ],
)
def test_bad_input(X_hat, X, error, words):
    with pytest.raises(error, match=words):
        match(X_hat, X)


def test_bad_tolerance():
    report = match(torch.ones(1, 2), torch.ones(1, 2))
    with pytest.raises(ValueError, match="tol"):
        report.recovered(-1.0)
    with pytest.raises(ValueError, match="tol"):
        report.recovered_up_to_sign(math.nan)
