r"""How sure a reconstruction is, without the truth: guesses, θ that no n samples made, needless candidates, errors."""

from __future__ import annotations

import contextlib
import dataclasses
import math

import torch

from .._random import seeded_generator
from ..attack.certificate import certify
from ..attack.projection import Projection
from ..attack.tools import with_fewer
from ..attack.varpro import descend
from ..features.gram import StepError
from ..sphere import draw

# Guesses without descent; inputs behind a reference, for each sample.
_GUESSES = 100
INPUTS = 16


def random_theta(pair, n, inputs, seed):
    """θ as training on so many random inputs would leave it, with the rank of the real one; and the inputs."""
    generator = seeded_generator("audit", seed)
    Z = draw(inputs, pair.features.d, generator)
    A = torch.randn(len(pair.theta), inputs, device="cpu", generator=generator, dtype=torch.float64)
    theta = A.to(pair.features.device) @ pair.features(Z)
    theta = theta * (pair.size / theta.norm())
    rounding = torch.randn(theta.shape, device="cpu", generator=generator, dtype=torch.float64).to(theta)
    return theta + rounding * (pair.rounding / math.sqrt(theta.numel())), Z


def guesses(pair, n, seed):
    """Losses of random candidates, without descent."""
    generator, found = seeded_generator("guesses", seed), []
    for _ in range(_GUESSES):
        U = pair.features._to(draw(n, pair.features.d, generator))
        try:
            found.append(Projection(pair.features, pair.features._to(pair.theta), U).loss)
        except StepError:
            continue
    return found


def prune(pair, result):
    """The result without candidates that θ does not need: with n too large, some fit rounding or double a sample.

    The cheapest to remove go one by one, for as long as the others, descending without them, explain θ.
    """
    if result.loss > pair.tolerance:
        return result
    features, theta, tol = pair.features, pair.features._to(pair.theta), pair.tolerance

    def without(U):
        return descend(features, theta, U, False, 1e-3 * tol, 50, patience=(5, 0.5)).point

    with contextlib.suppress(StepError):
        for point in with_fewer(Projection(features, theta, result.X), without, lambda _: tol):
            result = dataclasses.replace(result, X=point.U, coefficients=point.alpha, loss=point.loss)
    return result


def standard_errors(pair, result):
    r"""Relative standard error of each candidate: how far it can move while θ is explained to within its residual.

    Those of :func:`~reconlaw.attack.certificate.certify`, for noise of no less than the rounding of the checkpoints;
    infinite where θ does not hold the candidate, or by numbers that no other checks.
    """
    features, theta, n = pair.features, pair.features._to(pair.theta), len(result.X)
    counted = pair.count(n)
    spare = counted.equations - counted.unknowns
    made = certify(features, theta, result.X, spare)
    variance = made.noise * float(theta.square().sum()) / max(1, spare)
    more = max(1.0, pair.rounding**2 / theta.numel() / variance) ** 0.5
    return torch.where(made.unchecked | (spare <= 0), math.inf, made.errors * more)
