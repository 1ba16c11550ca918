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
from .nulls import own_losses

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


def reordered(pair, seed):
    """The right θ with its numbers in another order, the same in every row: on this body no n samples made it."""
    order = torch.randperm(pair.theta.shape[1], device="cpu", generator=seeded_generator("reordered", seed))
    return pair.theta[:, order.to(pair.theta.device)]


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


def place(pair, result):
    """Where candidates were looked for: the features over coordinates, those of the candidates, and the domain."""
    if result.latent is not None:
        return through(pair.features, pair.domain), result.latent, pair.domain
    return pair.features, result.X, Sphere() if pair.homogeneous else pair.domain


def _spare(pair, where) -> int:
    """Equations beyond the unknowns at the candidates, where coordinates on a bound are none."""
    counted = pair.count_at(*where)
    return counted.equations - counted.unknowns


def own(pair, theta, result) -> torch.Tensor:
    """Own losses (:func:`~reconlaw.auditing.nulls.own_losses`); 1 where so many free numbers explain any θ."""
    if _spare(pair, place(pair, result)) <= 0:
        return torch.ones(len(result.X), dtype=torch.float64, device="cpu")
    return own_losses(pair.features, theta, result)


def standard_errors(pair, result, trained=None):
    r"""Relative standard error of each candidate: how far it can move while θ is explained to within its residual.

    Those of :func:`~reconlaw.attack.certificate.certify`, for noise of no less than the rounding of the checkpoints;
    infinite where θ does not hold the candidate, or by numbers that no other checks. With ``trained``, the head that
    training at a low precision would make of the candidates, an error is no less than the candidate would move there.
    """
    where, theta = place(pair, result), pair.features._to(pair.theta)
    over, U, domain = where
    spare = _spare(pair, where)
    if spare <= 0:
        return torch.full((len(U),), math.inf, dtype=torch.float64, device="cpu")
    made = certify(over, theta, U, spare, domain)
    variance = made.noise * float(theta.square().sum()) / spare
    more = max(1.0, pair.rounding**2 / theta.numel() / variance) ** 0.5
    errors = torch.where(made.unchecked, math.inf, made.errors * more)
    if trained is None:
        return errors
    return torch.maximum(errors, certify(over, pair.features._to(trained), U, spare, domain).errors)
