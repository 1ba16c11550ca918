r"""How sure a reconstruction is, without the truth: guesses, θ that no n samples made, needless candidates, errors."""

from __future__ import annotations

import dataclasses
import math

import torch

from .._random import seeded_generator
from ..attack.projection import Projection
from ..attack.search import pair_costs
from ..attack.varpro import descend
from ..features.budget import look, patiently
from ..features.gram import StepError

# Guesses without descent; inputs behind a reference, for each sample; the largest Jacobian taken for standard errors.
_GUESSES = 100
INPUTS = 16
_JACOBIAN = 1 << 25
# Candidates whose removal is tried before all are taken to be needed.
_TRIED = 2


def random_theta(pair, n, inputs, seed):
    """θ as training on so many random inputs would leave it, with the rank of the real one; and the inputs."""
    generator = seeded_generator("audit", seed)
    draw = torch.randn(inputs, pair.features.d, device="cpu", generator=generator, dtype=torch.float64)
    Z = draw * (math.sqrt(pair.features.d) / draw.norm(dim=1, keepdim=True))
    A = torch.randn(len(pair.theta), inputs, device="cpu", generator=generator, dtype=torch.float64)
    theta = A.to(pair.features.device) @ pair.features(Z)
    theta = theta * (pair.size / theta.norm())
    rounding = torch.randn(theta.shape, device="cpu", generator=generator, dtype=torch.float64).to(theta)
    return theta + rounding * (pair.rounding / math.sqrt(theta.numel())), Z


def guesses(pair, n, seed):
    """Losses of random candidates, without descent."""
    generator, found = seeded_generator("guesses", seed), []
    for _ in range(_GUESSES):
        draw = torch.randn(n, pair.features.d, device="cpu", generator=generator, dtype=torch.float64)
        U = pair.features._to(draw * (math.sqrt(pair.features.d) / draw.norm(dim=1, keepdim=True)))
        try:
            found.append(Projection(pair.features, pair.features._to(pair.theta), U).loss)
        except StepError:
            continue
    return found


def prune(pair, result):
    """The result without candidates that θ does not need: with n too large, some fit rounding or double a sample.

    The cheapest to remove go one by one, for as long as the others, descending without them, explain θ.
    """
    features, theta, tol, X = pair.features, pair.features._to(pair.theta), pair.tolerance, result.X
    fewer, alpha, loss = result.loss <= tol, result.coefficients, result.loss
    while fewer and len(X) > 1:
        fewer = False
        try:
            for i in pair_costs(Projection(features, theta, X)).argsort()[:_TRIED].tolist():
                rest = X[[k for k in range(len(X)) if k != i]]
                found = descend(features, theta, rest, False, 1e-3 * tol, 50, patience=(5, 0.5)).point
                if found.loss <= tol:
                    X, alpha, loss, fewer = found.U, found.alpha, found.loss, True
                    break
        except StepError:
            break
    return dataclasses.replace(result, X=X, coefficients=alpha, loss=loss)


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
    with torch.inference_mode(False), torch.enable_grad():
        W = X.detach().clone().requires_grad_(True)
        Y = features.apply(W)
        c = torch.zeros_like(Y, requires_grad=True)
        (pulled,) = torch.autograd.grad(Y, W, c, create_graph=True)
        tangents = torch.empty(n, d, p).to(X)
        for i, e in enumerate(torch.eye(d).to(X)):
            look()
            tangents[:, i] = torch.autograd.grad(pulled, c, e.expand_as(X), retain_graph=True)[0]
    normal = torch.nn.functional.normalize(X)
    H = torch.zeros(n * d, n * d).to(X)
    Phi = Y.detach()
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
