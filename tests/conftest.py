"""Reproducible property tests, and what the tests get as fixtures."""

import os

import pytest
import torch
from helpers import make_problem
from hypothesis import settings

pytest_plugins = ["browsing"]

# Seconds pass twenty times more slowly for the package: a test that is about time is handed a clock, and no other
# outcome may depend on how fast the machine is.
os.environ.setdefault("RECONLAW_CLOCK_SPEED", "0.05")
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
