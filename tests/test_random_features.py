import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import reconlaw as rl
from reconlaw.features.activations import ACTIVATIONS


def labels(n, K=None, seed=0):
    shape = (n,) if K is None else (n, K)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- V and the map ------------------------------------------------------------------------------------------------


def test_V_has_independent_normal_entries_of_variance_one_over_d():
    V = rl.RandomFeatures(d=50, p=2000, seed=3).V.cpu()
    assert V.shape == (2000, 50) and V.dtype == torch.float64
    assert stats.kstest(V.flatten().numpy() * math.sqrt(50), "norm").pvalue > 1e-3
    # Off-diagonal entries of VᵀV·d/p are sums of p independent products: N(0, 1/p) each.
    products = V.T @ V * 50 / 2000
    off = products[~torch.eye(50, dtype=torch.bool)]
    assert off.abs().max() < 5 / math.sqrt(2000)
    assert abs(products.diagonal().mean() - 1) < 5 * math.sqrt(2 / (2000 * 50))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_same_seed_same_V_other_seed_other_V(dtype):
    one, same, other = (rl.RandomFeatures(7, 40, seed=s, dtype=dtype).V for s in (1, 1, 2))
    assert torch.equal(one, same) and one.dtype == dtype
    assert abs(float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])) < 0.3


def test_the_global_generator_is_neither_read_nor_moved():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    V = rl.RandomFeatures(7, 40, seed=1).V
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    assert torch.equal(rl.RandomFeatures(7, 40, seed=1).V, V)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_features_are_phi_of_X_V_transposed(name):
    features = rl.RandomFeatures(d=6, p=11, activation=name)
    X, V = torch.randn(4, 6, dtype=torch.float64), features.V.cpu()
    expected = [[features.activation((X[i] * V[j]).sum()) for j in range(11)] for i in range(4)]
    torch.testing.assert_close(features(X).cpu(), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-14)


def test_features_take_the_dtype_of_V_and_leave_X_alone():
    features = rl.RandomFeatures(d=6, p=11, dtype=torch.float64)
    X = torch.randn(4, 6)
    before = X.clone()
    assert features(X).dtype == torch.float64 and torch.equal(X, before)
    assert rl.RandomFeatures(6, 11, dtype=torch.float32)(X.double()).dtype == torch.float32


def test_repr_tells_what_is_needed_to_make_it_again():
    features = rl.RandomFeatures(6, 11, "gelu", seed=4, dtype=torch.float32, device="cpu")
    again = eval("rl." + repr(features), {"rl": rl, "torch": torch})
    assert torch.equal(again.V, features.V) and again.activation == features.activation


def test_numpy_whole_numbers_are_whole_numbers():
    features = rl.RandomFeatures(np.int64(6), np.int32(11), seed=np.int64(2))
    assert torch.equal(features.V, rl.RandomFeatures(6, 11, seed=2).V)


# --- fit -----------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    n=st.integers(1, 8),
    d=st.integers(4, 12),
    extra=st.integers(8, 60),
    K=st.none() | st.integers(1, 3),
    name=st.sampled_from(ACTIVATIONS),
    seed=st.integers(0, 10**6),
)
def test_fit_is_the_minimum_norm_interpolator(n, d, extra, K, name, seed):
    features = rl.RandomFeatures(d, n + extra, name, seed=seed)
    X, y = rl.data.sphere(n, d, seed=seed).X, labels(n, K, seed)
    theta, Phi = features.fit(X, y), features(X).cpu()
    assert theta.shape == ((features.p,) if K is None else (K, features.p))
    expected = torch.linalg.lstsq(Phi, y.reshape(n, -1), driver="gelsd").solution.T.reshape(theta.shape)
    condition = float(torch.linalg.cond(Phi))
    torch.testing.assert_close(theta.cpu(), expected, rtol=1e-13 * condition**2, atol=1e-13 * condition**2)
    torch.testing.assert_close(features.predict(X, theta).cpu(), y, rtol=1e-9, atol=1e-9)


def test_columns_of_y_are_fitted_one_by_one():
    features, X, y = rl.RandomFeatures(10, 80), rl.data.sphere(6, 10).X, labels(6, 3)
    together = features.fit(X, y)
    for k in range(3):
        torch.testing.assert_close(together[k], features.fit(X, y[:, k]), rtol=1e-12, atol=1e-12)
    assert features.predict(X, together).shape == (6, 3) and features.predict(X, together[0]).shape == (6,)


def test_fit_from_theta0_adds_only_what_the_samples_span():
    features, X, y = rl.RandomFeatures(10, 80), rl.data.sphere(6, 10).X, labels(6)
    theta0 = labels(80, seed=9)
    theta, Phi = features.fit(X, y, theta0=theta0).cpu(), features(X).cpu()
    torch.testing.assert_close(features.predict(X, theta).cpu(), y, rtol=1e-10, atol=1e-10)
    assert rl.projection_loss(X, features, theta - theta0) < 1e-24
    assert rl.projection_loss(X, features, theta) > 0.1  # θ* itself is not in the span
    # Among interpolators it is the one nearest to θ₀: ‖θ − θ₀‖ grows along every direction of the null space.
    null = labels(80, seed=10)
    null -= torch.linalg.lstsq(Phi, Phi @ null[:, None], driver="gelsd").solution[:, 0]
    assert abs(float((theta - theta0) @ null)) < 1e-10 * float(null.norm() * (theta - theta0).norm())


def test_fit_from_theta0_with_outputs():
    features, X, y = rl.RandomFeatures(10, 80), rl.data.sphere(6, 10).X, labels(6, 2)
    theta0 = labels(2, 80, seed=9)
    theta = features.fit(X, y, theta0=theta0)
    assert theta.shape == (2, 80)
    for k in range(2):
        torch.testing.assert_close(theta[k], features.fit(X, y[:, k], theta0=theta0[k]), rtol=1e-11, atol=1e-11)


def test_theta0_is_not_written_to():
    features, X, y = rl.RandomFeatures(10, 80), rl.data.sphere(6, 10).X, labels(6)
    theta0 = labels(80, seed=9)
    before, X_before, y_before = theta0.clone(), X.clone(), y.clone()
    features.fit(X, y, ridge=0.1, theta0=theta0)
    assert torch.equal(theta0, before) and torch.equal(X, X_before) and torch.equal(y, y_before)


@settings(max_examples=25)
@given(ridge=st.floats(1e-3, 1e3), n=st.integers(1, 30), from_theta0=st.booleans())
def test_ridge_is_stationary_for_its_objective(ridge, n, from_theta0):
    features, X, y = rl.RandomFeatures(8, 20, "gelu"), rl.data.sphere(n, 8).X, labels(n)
    theta0 = labels(20, seed=3) if from_theta0 else torch.zeros(20, dtype=torch.float64)
    theta = features.fit(X, y, ridge=ridge, theta0=theta0 if from_theta0 else None).cpu()
    Phi = features(X).cpu()
    gradient = Phi.T @ (Phi @ theta - y) + ridge * (theta - theta0)
    assert gradient.norm() < 1e-9 * max(1.0, float((Phi.T @ y).norm()))
    # θ − θ₀ stays in the span of the features; where n < p that says something.
    rest = theta - theta0 - torch.linalg.lstsq(Phi.T, (theta - theta0)[:, None], driver="gelsd").solution.T[0] @ Phi
    assert rest.norm() < 1e-9 * (1 + theta.norm())


def test_small_ridge_tends_to_the_interpolator():
    features, X, y = rl.RandomFeatures(10, 80), rl.data.sphere(6, 10).X, labels(6)
    exact = features.fit(X, y)
    gaps = [float((features.fit(X, y, ridge=r) - exact).norm()) for r in (1e-1, 1e-3, 1e-5)]
    assert gaps[1] < gaps[0] / 50 and gaps[2] < gaps[1] / 50


def test_labels_may_be_whole_numbers_lists_or_numpy():
    features, X = rl.RandomFeatures(10, 80), rl.data.sphere(3, 10).X
    expected = features.fit(X, torch.tensor([1.0, -1.0, 1.0]))
    for y in ([1, -1, 1], np.array([1, -1, 1]), torch.tensor([1, -1, 1])):
        assert torch.equal(features.fit(X, y), expected)
    y = [0.1, 0.2, 0.3]  # not to be rounded to float32 on the way
    theta = features.fit(X, y)
    predicted = features.predict(X, theta).cpu()
    torch.testing.assert_close(predicted, torch.tensor(y, dtype=torch.float64), rtol=1e-12, atol=0)
    assert torch.equal(features.predict(X, theta.tolist()).cpu(), predicted)


def test_float32_interpolates_to_float32():
    features, X, y = rl.RandomFeatures(20, 500, dtype=torch.float32), rl.data.sphere(6, 20).X, labels(6)
    theta = features.fit(X, y)
    assert theta.dtype == torch.float32
    torch.testing.assert_close(features.predict(X, theta).cpu().double(), y, rtol=1e-4, atol=1e-4)


def test_fit_keeps_nothing_of_the_data():
    features, X, y = rl.RandomFeatures(10, 80), rl.data.sphere(6, 10).X, labels(6)
    _ = features.activation.parity
    before = dict(vars(features))
    features.fit(X, y)
    features(X)
    assert vars(features).keys() == before.keys()
    assert all(vars(features)[key] is value for key, value in before.items())


# --- bad inputs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"d": 0}, ValueError, "d=0 must be a whole number of at least 1"),
        ({"d": -1}, ValueError, "d=-1"),
        ({"d": 2.0}, ValueError, "d=2.0"),
        ({"d": "3"}, ValueError, "d='3'"),
        ({"d": True}, ValueError, "d=True"),
        ({"p": 0}, ValueError, "p=0"),
        ({"p": 1e4}, ValueError, "p=10000.0"),
        ({"p": None}, ValueError, "p=None"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"seed": 0.5}, ValueError, "seed=0.5"),
        ({"seed": None}, ValueError, "seed=None"),
        ({"activation": "rleu"}, ValueError, "unknown activation 'rleu'"),
        ({"activation": 1}, TypeError, "int"),
        ({"dtype": torch.float16}, TypeError, "float32 or torch.float64"),
        ({"dtype": torch.int64}, TypeError, "int64"),
        ({"dtype": "float64"}, TypeError, "float64"),
        ({"device": "gpu"}, ValueError, "device='gpu'"),
        ({"device": None}, ValueError, "device=None"),
        ({"device": 1.5}, ValueError, "device=1.5"),
        ({"device": "mps", "dtype": torch.float64}, ValueError, "MPS has no float64"),
    ],
)
def test_bad_arguments_of_the_features(arguments, error, message):
    with pytest.raises(error, match=message):
        rl.RandomFeatures(**({"d": 3, "p": 10} | arguments))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="device='cuda' is not available"):
        rl.RandomFeatures(3, 10, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_V_is_the_same_on_the_gpu():
    on_cpu, on_gpu = (rl.RandomFeatures(7, 40, seed=1, device=device) for device in ("cpu", "auto"))
    assert on_gpu.V.is_cuda and torch.equal(on_gpu.V.cpu(), on_cpu.V)


def with_value(value):
    X = rl.data.sphere(3, 6).X
    X[1, 2] = value
    return X


BAD_X = [
    (rl.data.sphere(3, 6).X.numpy(), TypeError, "pass a torch tensor"),
    (rl.data.sphere(3, 6).X.tolist(), TypeError, "pass a torch tensor"),
    (None, TypeError, "NoneType"),
    (torch.ones(3, 6, dtype=torch.int64), TypeError, "int64"),
    (torch.ones(3, 6, dtype=torch.bool), TypeError, "bool"),
    (torch.ones(3, 6, dtype=torch.complex64), TypeError, "complex64"),
    (torch.ones(6, dtype=torch.float64), ValueError, r"shape \(6,\); expected \(n ≥ 1, 6\)"),
    (torch.ones(3, 5, dtype=torch.float64), ValueError, r"shape \(3, 5\)"),
    (torch.ones(1, 3, 6, dtype=torch.float64), ValueError, r"shape \(1, 3, 6\)"),
    (torch.ones(0, 6, dtype=torch.float64), ValueError, r"shape \(0, 6\)"),
    (torch.tensor(1.0), ValueError, r"shape \(\)"),
    (with_value(torch.nan), ValueError, "1 NaN or infinite"),
    (with_value(torch.inf), ValueError, "1 NaN or infinite"),
]


@pytest.mark.parametrize(("X", "error", "message"), BAD_X)
def test_bad_X_is_refused_everywhere(X, error, message):
    features = rl.RandomFeatures(d=6, p=20)
    theta = labels(20)
    for call in (
        lambda: features(X),
        lambda: features.fit(X, labels(3)),
        lambda: features.predict(X, theta),
        lambda: rl.projection_loss(X, features, theta),
    ):
        with pytest.raises(error, match=message):
            call()


def test_zero_and_equal_samples_are_refused():
    features, X = rl.RandomFeatures(6, 20), rl.data.sphere(4, 6).X
    X[2] = 0
    with pytest.raises(ValueError, match=r"zero rows \[2\]"):
        features.fit(X, labels(4))
    X[2] = X[0]
    with pytest.raises(ValueError, match="duplicate rows"):
        features.fit(X, labels(4))
    with pytest.raises(ValueError, match="duplicate rows"):
        features.fit(X, labels(4), ridge=1.0)


def nearly_equal(gap):
    X = rl.data.sphere(4, 6).X
    X[2] = X[0]
    X[2, 0] += gap
    return X


@pytest.mark.parametrize("gap", [1e-8, 1e-9, 1e-12, 1e-15])
def test_nearly_equal_samples_are_refused(gap):
    features, X = rl.RandomFeatures(6, 20), nearly_equal(gap)
    with pytest.raises(ValueError, match="singular to working precision"):
        features.fit(X, labels(4))
    assert torch.isfinite(features.fit(X, labels(4), ridge=1.0)).all()


def test_samples_as_close_as_the_precision_allows_are_fitted():
    X, y = nearly_equal(1e-5), labels(4)
    features = rl.RandomFeatures(6, 20)
    torch.testing.assert_close(features.predict(X, features.fit(X, y)).cpu(), y, rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match="use float64"):
        rl.RandomFeatures(6, 20, dtype=torch.float32).fit(X, y)


@pytest.mark.parametrize("name", ["relu", "abs"])
def test_samples_that_are_multiples_are_refused(name):
    features, X = rl.RandomFeatures(6, 20, name), rl.data.sphere(4, 6).X
    X[2] = 2.5 * X[0]  # φ(2.5z) = 2.5φ(z)
    with pytest.raises(ValueError, match="singular"):
        features.fit(X, labels(4))


def test_fewer_features_than_samples_need_a_ridge():
    features, X = rl.RandomFeatures(6, 3), rl.data.sphere(4, 6).X
    with pytest.raises(ValueError, match="n = 4 .* p = 3 < n"):
        features.fit(X, labels(4))
    assert features.fit(X, labels(4), ridge=1e-3).shape == (3,)


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (labels(4), ValueError, r"y has shape \(4,\); expected \(3,\) or \(3, K\)"),
        (labels(3, 2).T, ValueError, r"\(2, 3\)"),
        (torch.tensor(1.0), ValueError, r"\(\)"),
        (torch.ones(3, 1, 1), ValueError, r"\(3, 1, 1\)"),
        (torch.ones(3, 0), ValueError, r"\(3, 0\)"),
        (torch.tensor([1.0, torch.nan, 2.0]), ValueError, "y holds 1 NaN"),
        (torch.tensor([1.0, -torch.inf, 2.0]), ValueError, "y holds 1 NaN or infinite"),
    ],
)
def test_bad_y_is_refused(y, error, message):
    with pytest.raises(error, match=message):
        rl.RandomFeatures(6, 20).fit(rl.data.sphere(3, 6).X, y)


@pytest.mark.parametrize("ridge", [-1e-9, torch.nan, torch.inf, None, "a"])
def test_bad_ridge_is_refused(ridge):
    with pytest.raises(ValueError, match="ridge="):
        rl.RandomFeatures(6, 20).fit(rl.data.sphere(3, 6).X, labels(3), ridge=ridge)


@pytest.mark.parametrize(
    ("theta", "error", "message"),
    [
        (labels(19), ValueError, r"theta has shape \(19,\); expected \(20,\) or \(K, 20\)"),
        (labels(20, 2), ValueError, r"\(20, 2\)"),
        (labels(20)[None, None], ValueError, r"\(1, 1, 20\)"),
        (torch.tensor(1.0), ValueError, r"\(\)"),
        (torch.zeros(0), ValueError, r"\(0,\)"),
        (torch.full((20,), torch.nan), ValueError, "theta holds 20 NaN"),
        (torch.full((20,), torch.inf), ValueError, "theta holds 20 NaN or infinite"),
        (torch.ones(20, dtype=torch.complex64), TypeError, "complex64"),
    ],
)
def test_bad_theta_is_refused_everywhere(theta, error, message):
    features, X = rl.RandomFeatures(6, 20), rl.data.sphere(3, 6).X
    for call in (
        lambda: features.predict(X, theta),
        lambda: rl.projection_loss(X, features, theta),
        lambda: rl.reconstruct(theta, features, 3),
    ):
        with pytest.raises(error, match=message):
            call()
    with pytest.raises(error):
        features.fit(X, labels(3), theta0=theta)


def test_theta0_needs_as_many_rows_as_y_has_columns():
    with pytest.raises(ValueError, match=r"expected \(20,\) or \(2, 20\)"):
        rl.RandomFeatures(6, 20).fit(rl.data.sphere(3, 6).X, labels(3, 2), theta0=labels(3, 20))
