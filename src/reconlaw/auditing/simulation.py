r"""Errors where the body moved: the same attack on heads of the same recipe, whose samples the audit drew itself.

A body that was trained along leaves no features that span θ, and a set that is explained to within the movement may be
the right one, nearly, or a wrong one: standard errors speak of the neighbourhood alone, and are too small. Here the
audit makes heads for which it knows the samples, and looks at how far the attack ends from them. Such a head is

    θ = Σ_t w_t A_tᵀ Φ_t(Z),     t = 0, ½, 1,   w_t ∝ e^{−st},

Φ_t the features of the body before, midway and after, so that they move as they did in training, and as far as those of
the candidates did, because a body moves most at what it is trained on; Z inputs drawn in the domain, with the norms of
the candidates where norms are free; A_t random weights of the candidates' sizes that change by a half on the way; s,
how fast training slowed down, between 0 and 3. Rounding is added as files have it. The road from one body to the other
is taken to be straight, and to be that of other samples: errors are calibrated for the recipe, not for these samples.
"""

from __future__ import annotations

import math

import torch

from .._random import seeded_generator
from ..attack.result import Result
from ..inputs import Free
from ..sphere import distances

# How much the weights of a sample change on the way, and how fast training may slow down.
_CHANGE, _SLOWEST = 0.5, 3.0
# Of the errors, what is reported; and beyond which a candidate counts as wrong.
QUANTILE, WRONG = 0.9, 0.1
# Training moves a body in step with its samples, and drawn ones do not: real candidates were off by up to so many times
# the error of simulated ones of the same loss, in nine of ten (``benchmarks/precision.py``: 72 candidates, seeds 0–7;
# of the 108 of the other seeds, nine in ten are off by no more than 1.01 times what is then stated).
_COHERENT = 1.8
# How many simulated candidates a candidate is compared with, of losses within this factor; so many in any case.
_LIKE, _FACTOR, _LEAST = 9, 100.0, 5


def simulate(pair, result: Result, n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A head of the same recipe, as θ, and the samples that made it, (n, d) as the features take them."""
    generator = seeded_generator("simulated", seed)

    def draw(*shape):
        return torch.randn(shape, device="cpu", generator=generator, dtype=torch.float64)

    Z, which = drawn_like(pair, result.X, n, generator)
    sizes = result.coefficients.reshape(len(result.X), -1).double().cpu().norm(dim=1)[which]
    A = draw(len(pair.theta), n) * sizes
    rate = _SLOWEST * float(torch.rand((), device="cpu", generator=generator, dtype=torch.float64))
    start, middle, end = _path(pair, Z)
    further = max(1.0, _movement(*_path(pair, result.X)) / max(_movement(start, middle, end), math.ulp(0.0)))
    theta = torch.zeros_like(pair.theta)
    for t, Phi in zip((0.0, 0.5, 1.0), (start, middle, end), strict=True):
        weights = math.exp(-rate * t) * A * (1 + _CHANGE * draw(*A.shape))
        theta = theta + (weights @ (middle + further * (Phi - middle))).to(theta)
    theta = theta * (pair.size / theta.norm())
    noise = draw(*theta.shape).to(theta) * (pair.rounding / math.sqrt(theta.numel()))
    return (theta + noise).to(pair.theta), Z


def drawn_like(pair, X, count: int, generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (count, d) drawn in the domain, and which of the candidates X each takes after, in norm if free."""
    Z = pair.draws(count, generator).double().cpu()
    which = torch.randint(len(X), (count,), device="cpu", generator=generator)
    if isinstance(pair.domain, Free) and not pair.homogeneous:
        Z = Z * (X.double().cpu().norm(dim=1)[which] / Z.norm(dim=1))[:, None]
    return Z, which


def _path(pair, X):
    """(n, p) features of X by the body before, midway and after."""
    return [features(X).double().cpu() for features in (pair.ends[0], pair.features, pair.ends[1])]


def _movement(start, middle, end) -> float:
    return float((end - start).norm() / middle.norm())


def errors(found: torch.Tensor, Z: torch.Tensor, parity: str) -> list[float]:
    """How far each candidate is from the nearest sample, relative to its length; up to sign where that is not told."""
    Z = Z.double().cpu()
    return (distances(found.double().cpu(), Z, parity) / Z.norm(dim=1)).amin(1).tolist()


def calibrated(losses: torch.Tensor, simulated: tuple[tuple[float, float], ...]) -> torch.Tensor:
    """The error that nine in ten candidates keep, by simulated ones of like own loss; NaN without any.

    Near a sample an own loss is quadratic in the error, so an error at a loss ℓ' says √(ℓ/ℓ') as much at ℓ. A wrong set
    of a like loss stays wrong by that, and one of a far higher loss, which says nothing, is left out.

    Args:
        losses: (m,) own losses ℓ (:mod:`reconlaw.auditing.nulls`).
        simulated: own loss and error of each candidate on simulated heads; the ``_LIKE`` nearest by the logarithm of
            the loss are alike, where they are within ``_FACTOR``, and the ``_LEAST`` nearest anyway.
    """
    if not simulated:
        return torch.full_like(losses, math.nan)
    known, errors = torch.tensor(simulated, dtype=torch.float64, device="cpu").clamp_min(1e-300).T
    apart = losses.double().cpu().clamp_min(1e-300).log()[:, None] - known.log()
    near = apart.abs().topk(min(_LIKE, len(known)), largest=False)
    scaled = errors[near.indices] * (apart.gather(1, near.indices) / 2).exp()
    alike = near.values <= math.log(_FACTOR)
    alike[:, :_LEAST] = True
    return (_COHERENT * torch.where(alike, scaled, math.nan).nanquantile(QUANTILE, dim=1)).to(losses)
