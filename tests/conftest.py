"""Shared by the tests: reproducible property tests, and small problems with a known answer."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import settings

import reconlaw as rl

settings.register_profile("reconlaw", deadline=None, derandomize=True)
settings.load_profile("reconlaw")


def make_problem(d=20, n=5, p=1000, activation="relu", seed=0, outputs=None, dtype=torch.float64):
    """Samples X on the sphere, labels y, the features, and the θ that fits them; ``outputs`` K labels a sample."""
    features = rl.RandomFeatures(d, p, activation, seed=seed, dtype=dtype, device="cpu")
    data = rl.data.sphere(n, d, seed=seed)
    y = data.y
    if outputs is not None:
        y = torch.randn(n, outputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return SimpleNamespace(features=features, X=data.X, y=y, theta=features.fit(data.X, y), n=n)


@pytest.fixture(scope="session")
def problem():
    return make_problem


@pytest.fixture(scope="session")
def near():
    """``near(X, size, seed)``: points of the sphere at a relative distance of about ``size`` from the rows of X."""

    def perturb(X, size, seed=0):
        noise = torch.randn(X.shape, generator=torch.Generator().manual_seed(seed), dtype=X.dtype)
        moved = X + size * noise
        return moved * (X.shape[1] ** 0.5 / moved.norm(dim=1, keepdim=True))

    return perturb
