"""A residual that is more of the data is not taken for noise."""

import pytest
import torch

import reconlaw as rl
from reconlaw.attack import examine, leftover
from reconlaw.attack.projection import least_squares
from reconlaw.attack.result import Flag
from reconlaw.attack.run import Run
from reconlaw.inputs import Sphere

FOUND = (Flag.RECOVERED, Flag.UP_TO_SIGN)


def theta_of(activation, seed, third):
    """Two samples, and a third of coefficient ``third`` not far from the first; features and θ."""
    X = rl.data.sphere(3, 10, seed=seed).X
    X[2] = X[0] + 0.7 * X[2]
    X[2] *= 10**0.5 / X[2].norm()
    features = rl.RandomFeatures(10, 300, activation, seed=seed, device="cpu")
    return X, features, torch.tensor([[1.0, -0.8, third]], dtype=torch.float64) @ features(X)


def off(result, X):
    signs = (1.0, -1.0) if result.sign_identifiable is False else (1.0,)
    return torch.stack([torch.cdist(result.X, sign * X).amin(1) for sign in signs]).amin(0) / 10**0.5


@pytest.mark.parametrize("activation", ["gelu", "relu", "tanh"])
def test_a_sample_left_out_moves_the_others_by_more_than_noise_would(activation):
    """With n one too small the fit is within the tolerance, and the samples are off by ten standard errors of noise."""
    for seed in range(4):
        X, features, theta = theta_of(activation, seed, 0.05)
        result = rl.reconstruct(theta, features, 2, tol=1e-3, max_seconds=None, max_steps=2000)
        assert result.converged and "one more sample" in result.message
        error = off(result, X)
        assert float(error.max()) > 1e-2
        assert not any(flag in FOUND and e > 1e-2 for flag, e in zip(result.flags, error, strict=True))
        assert bool((error < 3 * result.standard_errors).all())


@pytest.mark.parametrize("activation", ["gelu", "relu", "tanh"])
def test_noise_is_noise(activation):
    for seed in range(3):
        X, features, _ = theta_of(activation, seed, 0.0)
        theta = torch.tensor([[1.0, -0.8]], dtype=torch.float64) @ features(X[:2])
        xi = torch.randn(1, 300, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        theta = theta + 1e-3 * theta.norm() / xi.norm() * xi
        result = rl.reconstruct(theta, features, 2, tol=2e-6, max_seconds=None, max_steps=2000)
        left = leftover.one_more(features, theta, result.X, 280, 9, Sphere(), Run(), 0)
        assert left.share == 0.0 and left.better is None
        assert all(flag in FOUND for flag in result.flags) and float(off(result, X).max()) < 1e-2


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_a_near_miss_gives_way_to_what_explains_theta_better(activation):
    X, features, theta = theta_of(activation, 1, 0.05)
    miss = X.clone()
    miss[2] += 0.1 * rl.data.sphere(1, 10, seed=9).X[0]
    miss[2] *= 10**0.5 / miss[2].norm()
    point = least_squares(features, theta, miss)
    assert 1e-8 < 3 * point.loss < least_squares(features, theta, X[:2]).loss  # nor would two explain it
    done = examine.examine(features, theta, point, point.loss, Run(), 0)
    assert done.loss < 1e-20 and set(done.flags) == {Flag.RECOVERED}
    assert float(torch.cdist(done.X, X).amin(1).max()) < 1e-8


def test_what_cannot_be_asked_counts_against_the_samples():
    X, features, theta = theta_of("gelu", 0, 0.05)
    assert leftover.one_more(features, theta, X[:2], 20, 9, Sphere(), Run(), 0).share == 1.0
    assert leftover.one_more(features, theta, X[:2], 280, 9, Sphere(), Run(max_steps=0), 0).share == 1.0
