r"""How sure a reconstruction is, without the truth: guesses, θ that no n samples made, needless candidates, errors."""

from __future__ import annotations

import contextlib
import dataclasses
import math

import torch

from .._random import seeded_generator
from ..attack.projection import Projection
from ..attack.tools import with_fewer
from ..attack.varpro import descend
from ..features.budget import look, patiently
from ..features.gram import StepError
from ..sphere import draw

# Guesses without descent; inputs behind a reference, for each sample; the largest Jacobian taken for standard errors.
_GUESSES = 100
INPUTS = 16
_JACOBIAN = 1 << 25


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
    r"""Relative standard error of each sample: how far it can move while θ is explained to within its residual.

    To first order θ moves by Jδ with J the derivative along samples on their spheres, coefficients following; noise of
    variance s² in each entry moves sample i by an error of covariance s² (JᵀP⊥J)⁺ restricted to it.
    """
    features, X = pair.features, result.X
    (n, d), K, p = X.shape, len(pair.theta), features.p
    if n * d * K * p > _JACOBIAN:
        return None
    theta, alpha = features._to(pair.theta), result.coefficients.reshape(n, -1)
    _, tangents = features.jacobians(X, dtype=X.dtype)
    normal = torch.nn.functional.normalize(X)
    H = torch.zeros(n * d, n * d).to(X)
    Phi = features(X)
    try:
        gram = torch.linalg.cholesky(Phi @ Phi.T)
    except RuntimeError:
        return None
    for k in range(K):
        look()
        A = alpha[:, k, None, None] * tangents
        A = A - normal[:, :, None] * (normal[:, None, :] @ A)
        A = A.reshape(n * d, p)
        A = A - (A @ Phi.T) @ torch.cholesky_solve(Phi, gram)
        H += A @ A.T
    H += float(H.diagonal().mean()) * torch.block_diag(*(normal[:, :, None] * normal[:, None, :]))  # off the sphere
    values, vectors = patiently(torch.linalg.eigh, H)
    counted = pair.count(n)
    spare = max(1, counted.equations - counted.unknowns)
    variance = max(result.loss * float(theta.square().sum()) / spare, pair.rounding**2 / theta.numel())
    inverse = (vectors.square() / values.clamp_min(1e-14 * float(values[-1]))).sum(1).reshape(n, d).sum(1)
    return (variance * inverse).sqrt().cpu() / math.sqrt(d)
