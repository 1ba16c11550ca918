"""Tangent features of two-layer networks: the formulas against autograd."""

import math

import pytest
import torch
from helpers import normal

from reconlaw.networks import TwoLayer, tangent


@pytest.fixture(scope="module")
def pairs():
    return [tangent.layers("network", TwoLayer(6, 30, seed=seed)) for seed in (0, 1)]


@pytest.fixture(scope="module")
def target(pairs):
    """Near the tangent features of samples near those of the tests, and noise."""
    (W, v), Y = pairs[0], normal(4, 6, seed=3) + 0.5 * normal(4, 6, seed=4)
    signs = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
    Phi, D, _ = tangent.tangent(W, v, Y)
    return (signs[:, None] * D).T @ Y + 0.3 * normal(30, 6, seed=5), signs @ Phi + 0.3 * normal(30, seed=6)


def by_autograd(at, target, X, signs):
    """The best fit by least squares on gradients that autograd took, as rows; a pair's come after another's."""
    rows = []
    for W, v in at:
        W, v = W.clone().requires_grad_(True), v.clone().requires_grad_(True)
        for x, sign in zip(X, signs, strict=True):
            grads = torch.autograd.grad(sign * (torch.relu(W @ x) @ v), (W, v))
            rows.append(torch.cat([g.flatten() for g in grads]))
    J, t = torch.stack(rows), torch.cat([part.flatten() for part in target])
    c = torch.linalg.lstsq(J.T, t[:, None]).solution[:, 0]
    return c.reshape(len(at), -1).T, float((t - c @ J).square().sum() / t.square().sum())


@pytest.mark.parametrize("ends", [1, 2])
def test_the_fit_is_least_squares_on_the_gradients_of_all_weights(pairs, target, ends):
    X, signs = normal(4, 6, seed=3), torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
    c, loss, gradient = tangent.fit(pairs[:ends], target, X, signs)
    expected, least = by_autograd(pairs[:ends], target, X, signs)
    torch.testing.assert_close(c, expected, rtol=1e-7, atol=1e-9)
    assert math.isclose(loss, least, rel_tol=1e-9) and 0 < loss < 1 and gradient is None


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("ends", [1, 2])
def test_the_gradient_is_that_of_the_loss(pairs, target, ends, nonnegative):
    X, signs, at = normal(4, 6, seed=3), torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64), pairs[:ends]

    def loss(X):
        return tangent.fit(at, target, X, signs, nonnegative, sharpness=3.0)[1]

    gradient = tangent.fit(at, target, X, signs, nonnegative, sharpness=3.0, gradient=True)[2]
    numeric = torch.zeros_like(X)
    for i in range(4):
        for k in range(6):
            step = torch.zeros_like(X)
            step[i, k] = 1e-6
            numeric[i, k] = (loss(X + step) - loss(X - step)) / 2e-6
    torch.testing.assert_close(gradient, numeric, rtol=1e-5, atol=1e-8)
    assert gradient.abs().max() > 1e-3


def test_bounded_coefficients_are_those_of_scipy(pairs, target):
    from scipy.optimize import nnls

    X = normal(4, 6, seed=3)
    c, loss, _ = tangent.fit(pairs[:1], target, X, nonnegative=True)
    free, lower, _ = tangent.fit(pairs[:1], target, X)
    assert (free < 0).any() and (c >= 0).all() and (c == 0).any() and loss > lower
    W, v = pairs[0]
    D = (X @ W.T > 0) * v
    J = torch.cat([(D[:, :, None] * X[:, None]).flatten(1), torch.relu(X @ W.T)], 1)
    t = torch.cat([target[0].flatten(), target[1]])
    torch.testing.assert_close(c[:, 0], torch.as_tensor(nnls(J.T.numpy(), t.numpy())[0]), rtol=1e-6, atol=1e-9)


def test_the_smoothed_relu_sharpens_to_the_relu(pairs, target):
    X = normal(4, 6, seed=3)
    losses = [tangent.fit(pairs[:1], target, X, sharpness=s)[1] for s in (3.0, 1e2, 1e6, math.inf)]
    assert math.isclose(losses[2], losses[3], rel_tol=1e-4) and not math.isclose(losses[0], losses[3], rel_tol=1e-3)
    W, v = pairs[0]
    scaled = [tangent.tangent(c * W, v, X, 10.0)[1] for c in (1.0, 7.0)]  # sharpness has no unit
    torch.testing.assert_close(*scaled)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_the_loss_has_no_unit(pairs, target, size):
    X = normal(4, 6, seed=3)
    loss, scaled = (tangent.fit(pairs[:1], (s * target[0], s * target[1]), X)[1] for s in (1.0, size))
    assert math.isclose(loss, scaled, rel_tol=1e-9)


def steep_relu(z):
    return torch.relu(3 * z)


steep_relu.__name__ = "relu"


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (torch.nn.Linear(3, 1), TypeError, "net is a Linear; pass a reconlaw.networks.TwoLayer"),
        (TwoLayer(3, 4, outputs=2), ValueError, "net must have ReLU, no bias and one output"),
        (TwoLayer(3, 4, activation="gelu"), ValueError, "net must have ReLU"),
        (TwoLayer(3, 4, activation=steep_relu), ValueError, "net must have ReLU"),
        (TwoLayer(3, 4, bias=True), ValueError, "no bias"),
    ],
)
def test_networks_of_another_kind(network, error, message):
    with pytest.raises(error, match=message):
        tangent.layers("net", network)
