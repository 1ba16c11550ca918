import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reconlaw.features.activations import ACTIVATIONS, get_activation
from reconlaw.features.hermite import gaussian_quadrature, hermite_coefficients
from reconlaw.features.kernel import expected_kernel


def rows(n, d, seed, unit=True):
    X = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return X * math.sqrt(d) / X.norm(dim=1, keepdim=True) if unit else X


@pytest.mark.parametrize("name", ["relu", "abs", "erf"])
@pytest.mark.parametrize("unit", [True, False])
def test_closed_form_is_the_quadrature(name, unit):
    X, Z = rows(4, 7, 0, unit), rows(5, 7, 1, unit)
    X[1] = -Z[2]
    X[2] = Z[3] + 1e-7
    f = get_activation(name).f
    # Wrapped, it is a callable like any other, and goes by quadrature.
    by_quadrature = expected_kernel(lambda z: f(z), X, Z)
    torch.testing.assert_close(expected_kernel(name, X, Z), by_quadrature, rtol=0, atol=1e-10)


def test_identity_is_the_dot_product():
    X, Z = rows(3, 5, 0, unit=False), rows(4, 5, 1, unit=False)
    torch.testing.assert_close(expected_kernel(lambda z: z, X, Z), X @ Z.T / 5, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["tanh", "gelu", "softplus", "silu", "relu+tanh"])
def test_mehler_series(name):
    X = rows(6, 40, 0)
    rho = X @ X.T / 40
    mu = hermite_coefficients(get_activation(name).f, 120)
    series = sum(m.item() ** 2 * rho**k for k, m in enumerate(mu))
    apart = ~torch.eye(6, dtype=torch.bool)
    kernel = expected_kernel(name, X)
    torch.testing.assert_close(kernel[apart], series[apart], rtol=0, atol=1e-11)
    z, w = gaussian_quadrature()
    square = (w * get_activation(name)(z) ** 2).sum()
    torch.testing.assert_close(kernel.diagonal(), square.expand(6), rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_monte_carlo(name):
    X, p = rows(4, 6, 3, unit=False), 200_000
    V = torch.randn(p, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / math.sqrt(6)
    Phi = get_activation(name)(X @ V.T)
    terms = Phi[:, None] * Phi[None]
    spread = terms.std(dim=2) / math.sqrt(p)
    assert ((terms.mean(dim=2) - expected_kernel(name, X)).abs() < 5 * spread).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), name=st.sampled_from(ACTIVATIONS))
def test_kernel_is_a_kernel(seed, name):
    X = rows(5, 8, seed)
    K = expected_kernel(name, X)
    torch.testing.assert_close(K, K.T, rtol=0, atol=1e-12)
    assert torch.linalg.eigvalsh(K).min() > -1e-12
    Q = torch.linalg.qr(rows(8, 8, seed + 1)).Q
    torch.testing.assert_close(expected_kernel(name, X @ Q), K, rtol=0, atol=1e-11)


def test_a_reader_s_own_relu_is_not_the_built_in():
    def relu(z):
        return z**2

    X = rows(3, 10, 0)
    rho = X @ X.T / 10
    torch.testing.assert_close(expected_kernel(relu, X), 1 + 2 * rho**2, rtol=0, atol=1e-11)


def test_takes_zero_rows_and_float32():
    X = torch.zeros(2, 4)
    X[1] = 1.0
    K = expected_kernel("relu", X)
    assert K.dtype == torch.float64
    torch.testing.assert_close(K, torch.tensor([[0.0, 0.0], [0.0, 0.5]]).double(), rtol=0, atol=1e-12)


def test_bad_input():
    X = rows(3, 5, 0)
    with pytest.raises(ValueError, match=r"Z has shape \(3, 4\)"):
        expected_kernel("relu", X, X[:, :4])
    with pytest.raises(ValueError, match="unknown activation"):
        expected_kernel("step", X)
    with pytest.raises(ValueError, match="X holds 1 NaN"):
        bad = X.clone()
        bad[0, 0] = torch.nan
        expected_kernel("relu", bad)
    with pytest.raises(TypeError, match="pass a torch tensor"):
        expected_kernel("relu", X.numpy())
