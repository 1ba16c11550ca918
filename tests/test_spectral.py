import math

import pytest
import torch
from helpers import normal

import reconlaw as rl
from reconlaw._random import seeded_generator
from reconlaw.features import spectral


def generator(seed=0):
    return seeded_generator("attack", seed)


def dense_moment(features, R):
    """M = (1/p) Σ_j R_j (d v_j v_jᵀ − I), (K, d, d), written out."""
    V, eye = features.V, torch.eye(features.d, dtype=R.dtype)
    return torch.stack([(features.d * V.T @ (row[:, None] * V) - row.sum() * eye) / features.p for row in R])


def overlaps(found, X):
    """Cosine of each sample with the nearest direction, up to sign."""
    unit = torch.nn.functional.normalize
    return (unit(X, dim=1) @ unit(found, dim=1).T).abs().max(1).values


def share_in_span(found, X):
    """Share of each sample's squared norm in the span of the directions."""
    Q = torch.linalg.qr(found.T).Q
    return (X @ Q).square().sum(1) / X.square().sum(1)


def mixture(name, d, n, p, K):
    """θ (K, p) in which every sample weighs about the same: coefficients ±1, then any rotation of the outputs."""
    features = rl.RandomFeatures(d, p, name, device="cpu")
    X = rl.data.sphere(n, d).X
    a = torch.linalg.qr(normal(max(n, K), max(n, K), seed=3)).Q[:K, :n] if K > 1 else 1.0 - 2 * (torch.arange(n) % 2)
    return features, X, a.double().reshape(K, n) @ features(X)


# --- the linear part -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("K", [1, 3])
def test_without_linear_part_is_the_residual_of_least_squares(monkeypatch, K):
    monkeypatch.setattr(spectral, "_BLOCK_ROWS", 700)
    features = rl.RandomFeatures(20, 4000, device="cpu")
    R = normal(K, 4000) + 3 + 5 * normal(K, 20, seed=1) @ features.V.T
    got = spectral.without_linear_part(features, R)
    A = torch.cat([torch.ones(4000, 1, dtype=torch.float64), features.V], 1)
    expected = R - (A @ torch.linalg.lstsq(A, R.T).solution).T
    # Constant and V are taken out in turn, so what is left is exact to the angle between them, of square near d/p.
    assert (got - expected).norm() < 20 / 4000 * R.norm()
    assert got.mean(1).abs().max() < 1e-12


def test_without_linear_part_takes_out_what_is_linear_and_keeps_what_is_orthogonal():
    features = rl.RandomFeatures(20, 4000, device="cpu")
    W = normal(1, 20, seed=1)
    assert spectral.without_linear_part(features, W @ features.V.T + 2).norm() < 1e-2 * (W @ features.V.T).norm()
    A = torch.cat([torch.ones(4000, 1, dtype=torch.float64), features.V], 1)
    R = normal(1, 4000)
    R = R - (A @ torch.linalg.lstsq(A, R.T).solution).T
    torch.testing.assert_close(spectral.without_linear_part(features, R), R, rtol=0, atol=1e-7)


def test_nothing_is_left_where_the_linear_part_is_everything():
    features = rl.RandomFeatures(20, 21, device="cpu")
    assert not spectral.without_linear_part(features, normal(1, 21)).any()


def test_the_even_part_of_relu_is_left(problem):
    """θ of ReLU without its linear part is that of |z|/2 but for the noise of the projection."""
    case = problem(d=20, n=5, p=20_000)
    a = torch.linalg.lstsq(case.features(case.X).T, case.theta[:, None]).solution[:, 0]
    even = a @ (case.X @ case.features.V.T).abs() / 2
    left = spectral.without_linear_part(case.features, case.theta[None])[0]
    assert torch.corrcoef(torch.stack([left, even]))[0, 1] > 0.999


# --- second moment -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("K", [1, 3])
def test_second_moment_directions_are_the_dense_eigenvectors(monkeypatch, K):
    monkeypatch.setattr(spectral, "_BLOCK_ROWS", 900)
    features, R = rl.RandomFeatures(12, 2000, device="cpu"), normal(K, 2000)
    M = dense_moment(features, R)
    M = M[0] if K == 1 else (M @ M).sum(0)
    values, vectors = torch.linalg.eigh(M)
    order = values.abs().argsort(descending=True)[:4]
    found, eigenvalues = spectral.second_moment_directions(features, R, 4, generator())
    torch.testing.assert_close(eigenvalues, values[order], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.norm(dim=1), torch.full((4,), math.sqrt(12), dtype=torch.float64))
    cosines = (found / math.sqrt(12) * vectors[:, order].T).sum(1).abs()
    torch.testing.assert_close(cosines, torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("K", [1, 2])
def test_block_iteration_above_256_dimensions_finds_the_same(K):
    features, _, theta = mixture("abs", 300, 4, 12_000, K)
    R = theta - theta.mean(1, keepdim=True)
    M = dense_moment(features, R)
    M = M[0] if K == 1 else (M @ M).sum(0)
    values, vectors = torch.linalg.eigh(M)
    order = values.abs().argsort(descending=True)[:4]
    found, eigenvalues = spectral.second_moment_directions(features, R, 4, generator())
    torch.testing.assert_close(eigenvalues, values[order], rtol=1e-2, atol=0)
    assert share_in_span(found, vectors[:, order].T).min() > 0.99
    torch.testing.assert_close(found @ found.T, 300 * torch.eye(4, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def test_no_more_directions_than_dimensions():
    features = rl.RandomFeatures(3, 100, device="cpu")
    found, values = spectral.second_moment_directions(features, normal(1, 100), 7, generator())
    assert found.shape == (3, 3) and values.shape == (3,)


def test_mean_of_the_moment_is_the_formula(problem):
    """E M = μ₂√2 Σ_i a_i x_i x_iᵀ / d, to the Monte Carlo error of p features."""
    case = problem(d=10, n=2, p=200_000, activation="abs")
    a = torch.linalg.lstsq(case.features(case.X).T, case.theta[:, None]).solution[:, 0]
    mu = case.features.activation.hermite(2)[2]
    expected = mu * math.sqrt(2) * (case.X.T * a) @ case.X / 10
    M = dense_moment(case.features, case.theta[None])[0]
    assert (M - expected).norm() < 0.05 * expected.norm()


def test_turning_V_turns_the_directions():
    features, turned = (rl.RandomFeatures(12, 2000, device="cpu") for _ in range(2))
    turn = torch.linalg.qr(normal(12, 12, seed=2)).Q
    turned.V = features.V @ turn
    R = normal(1, 2000)
    found, values = spectral.second_moment_directions(features, R, 4, generator())
    found_turned, values_turned = spectral.second_moment_directions(turned, R, 4, generator())
    torch.testing.assert_close(values_turned, values, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close((found_turned * (found @ turn)).sum(1).abs() / 12, torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("K", [1, 3])
@pytest.mark.parametrize("name", ["relu", "abs", "gelu"])
def test_second_moment_spans_the_samples_where_p_is_large(name, K):
    features, X, theta = mixture(name, 20, 4, 40_000, K)
    R = spectral.without_linear_part(features, theta)
    found, _ = spectral.directions(features, R, 4, generator())
    assert share_in_span(found, X).min() > 0.9
    assert share_in_span(normal(4, 20), X).min() < 0.5  # random directions do not


# --- third moment --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("K", [1, 3])
@pytest.mark.parametrize("name", ["tanh", "erf"])
def test_third_moment_finds_samples_of_odd_activations(name, K):
    features, X, theta = mixture(name, 15, 3, 60_000, K)
    R = spectral.without_linear_part(features, theta)
    found, strength = spectral.directions(features, R, 3, generator())
    assert (overlaps(found, X) > 0.9).sum() >= 2  # near samples may share a direction
    assert overlaps(normal(3, 15), X).max() < 0.8  # random directions find none
    assert (strength[:-1] >= strength[1:]).all() and (strength > 0).all()
    torch.testing.assert_close(found.norm(dim=1), torch.full((len(found),), math.sqrt(15), dtype=torch.float64))


def test_third_moment_strength_is_T_and_directions_are_apart():
    features, R = rl.RandomFeatures(8, 3000, "tanh", device="cpu"), normal(1, 3000)
    found, strength = spectral.third_moment_directions(features, R, 4, generator())

    def T(U):
        return rl.hermite_polynomials(U @ features.V.T, 3)[..., 3] @ R[0] / 3000

    torch.testing.assert_close(strength, T(found).abs(), rtol=1e-9, atol=1e-12)
    cosines = (found @ found.T / 8 - torch.eye(len(found), dtype=torch.float64)).abs()
    assert cosines.max() < 0.5
    # Each is a local maximum of |T| on the sphere: no nearby point does better.
    for k in range(len(found)):
        near = found[k] + 0.05 * normal(200, 8, seed=k)
        near = near * (math.sqrt(8) / near.norm(dim=1, keepdim=True))
        assert T(near).abs().max() < strength[k] * 1.02


def test_third_moment_strength_is_that_of_the_formula():
    """|E T(x_i)| = |μ₃ a_i| for orthogonal samples, to the Monte Carlo error of p features."""
    features = rl.RandomFeatures(6, 200_000, "tanh", device="cpu")
    X = math.sqrt(6) * torch.linalg.qr(normal(6, 6, seed=4)).Q[:2]
    theta = torch.tensor([[1.0, -2.0]], dtype=torch.float64) @ features(X)
    R = spectral.without_linear_part(features, theta)
    found, strength = spectral.third_moment_directions(features, R, 2, generator())
    assert overlaps(found, X).min() > 0.97
    mu = features.activation.hermite(3)[3].abs()
    torch.testing.assert_close(strength, mu * torch.tensor([2.0, 1.0], dtype=torch.float64), rtol=0.1, atol=0)


def test_the_moment_is_chosen_by_parity(problem, monkeypatch):
    called = []
    for name in ("second_moment_directions", "third_moment_directions"):
        monkeypatch.setattr(spectral, name, lambda *a, name=name: called.append(name))
    for name in ("tanh", "abs", "relu"):
        spectral.directions(problem(activation=name).features, None, 1, None)
    assert called == ["third_moment_directions", "second_moment_directions", "second_moment_directions"]


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_nothing_has_no_directions_that_are_not_finite(activation):
    features = rl.RandomFeatures(8, 9, activation, device="cpu")
    zero = torch.zeros(1, 9, dtype=torch.float64)
    found, strength = spectral.directions(features, zero, 2, torch.Generator().manual_seed(0))
    assert bool(torch.isfinite(found).all()) and bool(torch.isfinite(strength).all())
