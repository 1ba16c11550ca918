"""Reproducible property tests, and what the tests get as fixtures."""

import pytest
import torch
from helpers import make_problem
from hypothesis import settings

pytest_plugins = ["browsing"]

settings.register_profile("reconlaw", deadline=None, derandomize=True)
settings.load_profile("reconlaw")


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
