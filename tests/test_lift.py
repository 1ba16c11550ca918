import pytest
import torch
from helpers import normal
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import reconlaw as rl
from reconlaw.features import lift as lift_module


def fit(U, features, alpha, lifted):
    """The model αᵀB(U), written out; torch.func differentiates it."""
    phi, Z = features.activation, U @ features.V.T
    B = torch.cat([phi(Z), phi(-Z)]) if lifted else phi(Z)
    return alpha.T @ B


@pytest.fixture(params=[(1 << 18, 1024), (1, 1024), (1 << 18, 1)], ids=["one block", "many blocks", "as for long rows"])
def blocks(request, monkeypatch):
    """p = 1300 in one block, in blocks of 512, 512 and 276 rows of V, or in one with V read as where d is large."""
    numbers, long = request.param
    monkeypatch.setattr(lift_module, "_BLOCK_NUMBERS", numbers)
    monkeypatch.setattr(lift_module, "_LONG_ROWS", long)
    return 1 if numbers > 1 else 3


def linearised(name="gelu", K=1, lifted=True, n=4, d=6, p=1300, seed=0):
    features = rl.RandomFeatures(d, p, name, seed=seed, device="cpu")
    U, alpha = normal(n, d, seed=seed + 1), normal((2 if lifted else 1) * n, K, seed=seed + 2)
    made = features.lift(U, lifted)
    made.linearise(alpha)
    return features, U, alpha, made


each_case = pytest.mark.parametrize(("K", "lifted"), [(1, True), (1, False), (3, True), (3, False)])


@each_case
@pytest.mark.parametrize("name", ["gelu", "relu", "relu+tanh"])
def test_columns_and_products_are_those_of_the_written_out_model(blocks, name, K, lifted):
    features, U, alpha, made = linearised(name, K, lifted)
    assert len(made._rows) == blocks
    Z = U @ features.V.T
    B = torch.cat([features.activation(Z), features.activation(-Z)]) if lifted else features.activation(Z)
    torch.testing.assert_close(made.columns, B, rtol=1e-12, atol=1e-13)

    delta, R = normal(4, 6, seed=7), normal(K, 1300, seed=8)
    _, along = torch.func.jvp(lambda U: fit(U, features, alpha, lifted), (U,), (delta,))
    _, pull = torch.func.vjp(lambda U: fit(U, features, alpha, lifted), U)
    torch.testing.assert_close(made.jvp(delta), along, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(made.vjp(R), pull(R)[0], rtol=1e-11, atol=1e-11)


@each_case
def test_block_gram_is_the_dense_formula(blocks, K, lifted):
    features, U, alpha, made = linearised("gelu", K, lifted)
    Z, slope = U @ features.V.T, features.activation.derivative
    expected = torch.zeros(4, 4, dtype=torch.float64)
    for k in range(K):
        S = alpha[:4, k : k + 1] * slope(Z) - (alpha[4:, k : k + 1] * slope(-Z) if lifted else 0)
        expected += S @ S.T / 6
    torch.testing.assert_close(made.block_gram(), expected, rtol=1e-11, atol=1e-11)


@settings(max_examples=40)
@given(
    name=st.sampled_from(rl.ACTIVATIONS),
    n=st.integers(1, 5),
    d=st.integers(1, 8),
    p=st.integers(1, 1100),
    K=st.integers(1, 3),
    lifted=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_jvp_and_vjp_are_adjoint(name, n, d, p, K, lifted, seed):
    _, _, _, made = linearised(name, K, lifted, n, d, p, seed)
    made._rows = [slice(start, min(start + 512, p)) for start in range(0, p, 512)]
    delta, R = normal(n, d, seed=seed), normal(K, p, seed=seed + 9)
    forward, backward = made.jvp(delta), made.vjp(R)
    assert forward.shape == (K, p) and backward.shape == (n, d)
    scale = float(forward.norm() * R.norm()) + 1e-12
    assert abs(float((forward * R).sum() - (delta * backward).sum())) < 1e-12 * scale
    both = made.jvps(torch.stack([delta, -2 * delta])), made.vjps(torch.stack([R, -2 * R]))
    for made, one in zip(both, (forward, backward), strict=True):
        torch.testing.assert_close(made, torch.stack([one, -2 * one]), rtol=1e-12, atol=1e-12 * scale)


def test_block_gram_is_the_mean_of_JtJ_on_directions_orthogonal_to_the_atoms():
    n, d, p = 3, 24, 60_000
    features, U, _, made = linearised("gelu", 1, True, n, d, p)
    away = torch.linalg.qr(torch.cat([U, normal(1, d, seed=5)]).T).Q[:, n]  # a unit vector orthogonal to all atoms
    J = torch.stack([made.jvp(row[:, None] * away)[0] for row in torch.eye(n, dtype=torch.float64)])
    K = made.block_gram()
    assert (J @ J.T - K).norm() < 5 * K.norm() / p**0.5


@each_case
@pytest.mark.parametrize("name", ["gelu", "relu"])
def test_linearising_again_elsewhere_starts_from_the_atoms(blocks, name, K, lifted):
    features, U, alpha, made = linearised(name, K, lifted)
    other = normal(*alpha.shape, seed=12)
    made.linearise(other)
    delta = normal(4, 6, seed=7)
    _, along = torch.func.jvp(lambda U: fit(U, features, other, lifted), (U,), (delta,))
    torch.testing.assert_close(made.jvp(delta), along, rtol=1e-11, atol=1e-12)


def test_another_slope_stands_in_for_the_derivative():
    features = rl.RandomFeatures(6, 700, "relu", device="cpu")
    U, alpha = normal(4, 6, seed=1), normal(4, 1, seed=2)
    made = features.lift(U, lifted=False, derivative=lambda z: torch.where(z > 0, 1.0, 0.02).to(z.dtype))
    made.linearise(alpha)
    Z, delta = U @ features.V.T, normal(4, 6, seed=3)
    slope = torch.where(Z > 0, 1.0, 0.02).double()
    expected = (alpha * slope * (delta @ features.V.T)).sum(0, keepdim=True)
    torch.testing.assert_close(made.jvp(delta), expected, rtol=1e-12, atol=1e-12)


def test_arithmetic_may_be_wider_than_V():
    features = rl.RandomFeatures(6, 700, "gelu", dtype=torch.float32, device="cpu")
    U = normal(4, 6, seed=1)
    made = features.lift(U, True, dtype=torch.float64)
    assert made.columns.dtype == torch.float64
    exact = features.activation(U @ features.V.double().T)
    torch.testing.assert_close(made.columns[:4], exact, rtol=1e-13, atol=1e-13)


class Largest(TorchDispatchMode):
    """The most numbers in any storage that an operation makes, the ones given left out."""

    def __init__(self, *given):
        super().__init__()
        self.given, self.numbers = {t.untyped_storage().data_ptr() for t in given}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, tuple | list) else (out,):
            if isinstance(t, torch.Tensor) and t.untyped_storage().data_ptr() not in self.given:
                self.numbers = max(self.numbers, t.untyped_storage().nbytes() // t.element_size())
        return out


@pytest.mark.parametrize("V_dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("K", [1, 3])
def test_nothing_of_the_size_of_V_is_made(monkeypatch, K, V_dtype):
    monkeypatch.setattr(lift_module, "_BLOCK_NUMBERS", 1)
    n, d, p = 3, 200, 4000
    features = rl.RandomFeatures(d, p, "gelu", dtype=V_dtype, device="cpu")
    U, alpha, delta, R = normal(n, d), normal(2 * n, K), normal(n, d), normal(K, p)
    with Largest(features.V) as largest:
        made = features.lift(U, True, dtype=torch.float64)
        made.linearise(alpha)
        made.jvp(delta)
        made.vjp(R)
        made.block_gram()
    assert 2 * n * p <= largest.numbers <= max(2 * n * p, 512 * d) < p * d / 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["relu", "relu+tanh"])
def test_slopes_that_the_columns_tell_are_those_of_the_derivative(blocks, name, dtype):
    features = rl.RandomFeatures(6, 1300, name, seed=0, dtype=dtype, device="cpu")
    U, alpha = normal(4, 6, seed=1).to(dtype), normal(8, 1, seed=2).to(dtype)
    U[2] = 0  # no neuron takes a side
    made, Z = features.lift(U, True), U @ features.V.T
    made.linearise(alpha)
    assert made._tell and made._Z is None
    expected = alpha[:4] * features.activation.derivative(Z) - alpha[4:] * features.activation.derivative(-Z)
    off = 0.0 if name == "relu" else 4 * torch.finfo(dtype).eps * float(alpha.abs().max())
    torch.testing.assert_close(made._S, expected, rtol=0, atol=off)
    assert name != "relu" or not made._S[2].any()
