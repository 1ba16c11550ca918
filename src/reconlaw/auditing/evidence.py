r"""How sure a reconstruction is, without the truth: guesses, θ that no n samples made, standard errors."""

from __future__ import annotations

import math

import torch

from .._random import seeded_generator
from ..attack.certificate import certify
from ..attack.coordinates import through
from ..attack.projection import Projection
from ..features.gram import StepError
from ..inputs import Sphere

# Guesses without descent; inputs behind a reference, for each sample.
_GUESSES, _LEAST_GUESSES = 100, 5
INPUTS = 16


def random_theta(pair, n, inputs, seed):
    """θ as training on so many random inputs would leave it, with the rank of the real one; and the inputs."""
    generator = seeded_generator("audit", seed)
    Z = pair.draws(inputs, generator)
    A = torch.randn(
        len(pair.theta), inputs * pair.features.positions, device="cpu", generator=generator, dtype=torch.float64
    )
    theta = A.to(pair.features.device) @ pair.features.columns(pair.features(Z))
    theta = theta * (pair.size / theta.norm())
    rounding = torch.randn(theta.shape, device="cpu", generator=generator, dtype=torch.float64).to(theta)
    return theta + rounding * (pair.rounding / math.sqrt(theta.numel())), Z


def guesses(pair, n, seed, spent=lambda: False):
    """Losses of random candidates, without descent; fewer where the time for them is ``spent``."""
    generator, found = seeded_generator("guesses", seed), []
    for _ in range(_GUESSES):
        if len(found) >= _LEAST_GUESSES and spent():
            break
        U = pair.features._to(pair.draws(n, generator))
        try:
            found.append(Projection(pair.features, pair.features._to(pair.theta), U).loss)
        except StepError:
            continue
    return found


def standard_errors(pair, result):
    r"""Relative standard error of each candidate: how far it can move while θ is explained to within its residual.

    Those of :func:`~reconlaw.attack.certificate.certify`, for noise of no less than the rounding of the checkpoints;
    infinite where θ does not hold the candidate, or by numbers that no other checks.
    """
    features, theta, n = pair.features, pair.features._to(pair.theta), len(result.X)
    U = result.X if result.latent is None else result.latent
    domain = Sphere() if pair.homogeneous and result.latent is None else pair.domain
    over = features if result.latent is None else through(features, domain)
    counted = pair.count_at(over, U, domain)
    spare = counted.equations - counted.unknowns
    if spare <= 0:
        return torch.full((n,), math.inf, dtype=torch.float64)
    made = certify(over, theta, U, spare, domain)
    variance = made.noise * float(theta.square().sum()) / spare
    more = max(1.0, pair.rounding**2 / theta.numel() / variance) ** 0.5
    return torch.where(made.unchecked, math.inf, made.errors * more)
