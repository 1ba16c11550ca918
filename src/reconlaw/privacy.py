r"""Differential privacy of Gaussian noise on a linear model: what it costs, and what it rules out.

Two training sets are neighbours where one sample, with its label, is *replaced* by another; n is public. A randomised
training is μ-Gaussian private (μ-GDP) if telling neighbours apart by its outcome is no easier than telling N(0, 1) from
N(μ, 1). A function of sensitivity Δ, released with independent N(0, s²) on every coordinate, is so with μ = Δ/s, and T
releases, each of which may depend on those before, with √(μ₁² + … + μ_T²).

Sources: Dong, Roth and Su, *Gaussian differential privacy* (2022), for μ-GDP; Balle and Wang, arXiv 1805.06530, for its
δ(ε); Abadi et al., arXiv 1607.00133, for clipped noisy descent; Chaudhuri, Monteleoni and Sarwate (2011) for noise on
the minimiser; Balle, Cherubin and Hayes, arXiv 2201.04845, Hayes, Mahloujifar and Balle, arXiv 2302.07225, and Kaissis,
Hayes, Ziller and Rueckert, arXiv 2307.03928, for what privacy says of reconstruction; Gill and Levit (1995) for van
Trees' inequality.
"""

from __future__ import annotations

import math

import scipy
import torch
from numpy.typing import ArrayLike

from ._checks import as_tensor, check_count, check_finite, check_matrix, check_positive
from ._random import seeded_generator


def gaussian_delta(mu: float, epsilon: float) -> float:
    r"""The least δ with which μ-GDP implies (ε, δ)-differential privacy.

    δ(ε) = Ψ(−ε/μ + μ/2) − e^ε Ψ(−ε/μ − μ/2), Ψ the distribution function of N(0, 1).

    Args:
        mu: μ > 0.
        epsilon: ε ≥ 0.
    """
    mu, epsilon = check_positive("mu", mu), check_positive("epsilon", epsilon, allow_zero=True)
    first = scipy.special.log_ndtr(mu / 2 - epsilon / mu)
    second = epsilon + scipy.special.log_ndtr(-mu / 2 - epsilon / mu)
    return float(math.exp(first) * -math.expm1(min(second - first, 0.0)))


def gaussian_epsilon(mu: float, delta: float = 1e-5) -> float:
    r"""The least ε with which μ-GDP implies (ε, δ)-differential privacy; 0 where δ alone covers it.

    Args:
        mu: μ > 0.
        delta: 0 < δ < 1.
    """
    mu, delta = check_positive("mu", mu), check_positive("delta", delta)
    if delta >= 1:
        raise ValueError(f"delta={delta} must be below 1")
    if gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    most = mu * mu / 2 + mu * math.sqrt(2 * math.log(1 / delta))  # the tail bound of the same law
    return float(
        scipy.optimize.brentq(lambda epsilon: gaussian_delta(mu, epsilon) - delta, 0.0, most + 1.0, xtol=1e-12)
    )


def ridge_sensitivity(n: int, ridge: float, radius: float, bound: float = 1.0) -> float:
    r"""How far the ridge solution moves, at most, when one of the n samples is replaced.

    For θ minimising Σ_i (φ_i·θ − y_i)² + λ‖θ‖² with ‖φ_i‖ ≤ R and |y_i| ≤ B, over all training sets,

        ‖θ − θ'‖ ≤ 2γ (B + R B √(n−1)/(2√λ)),   γ = max_{0 ≤ h ≤ R²/λ} √(h/λ)/(1 + h).

    Args:
        n: samples.
        ridge: λ > 0, as in ``features.fit``.
        radius: R, of the features.
        bound: B, of the labels; one output.
    """
    n, ridge = check_count("n", n), check_positive("ridge", ridge)
    radius, bound = check_positive("radius", radius), check_positive("bound", bound)
    h = min(radius**2 / ridge, 1.0)
    gamma = math.sqrt(h / ridge) / (1 + h)
    return 2 * gamma * bound * (1 + radius * math.sqrt(n - 1) / (2 * math.sqrt(ridge)))


def noise(p: int, seed: int = 0) -> torch.Tensor:
    """Standard normal numbers, (p,), float64 on the CPU, of a stream that no other draw of the package shares."""
    return torch.randn(
        check_count("p", p), device="cpu", generator=seeded_generator("noise", seed), dtype=torch.float64
    )


def noisy_descent(
    Phi: torch.Tensor, y: ArrayLike, clip: float, multiplier: float, steps: int, rate: float, seed: int = 0
) -> tuple[torch.Tensor, float]:
    r"""Full-batch gradient descent on ½Σ_i (φ_i·θ − y_i)² from zero, every sample's gradient clipped, noise added.

    θ ← θ − η (Σ_i g_i min(1, C/‖g_i‖) + s C ξ),  g_i = (φ_i·θ − y_i) φ_i,  ξ ~ N(0, I) anew in every step.

    Replacing a sample moves the sum by at most 2C, so T steps are μ-GDP with μ = 2√T/s.

    Args:
        Phi: (n, p) features, row by row.
        y: (n,).
        clip: C > 0.
        multiplier: s ≥ 0, of the noise; 0 is no privacy, μ = ∞.
        steps: T.
        rate: η.
        seed: of the noise.

    Returns:
        θ, (p,), and μ.
    """
    clip, multiplier = check_positive("clip", clip), check_positive("multiplier", multiplier, allow_zero=True)
    check_count("steps", steps)
    Phi, rate = check_matrix("Phi", Phi), check_positive("rate", rate)
    y = check_finite("y", as_tensor(y)).to(Phi)
    if y.shape != Phi.shape[:1]:
        raise ValueError(f"y has shape {tuple(y.shape)}; expected ({len(Phi)},), one output")
    generator = seeded_generator("noisy descent", seed)
    lengths = Phi.norm(dim=1)
    theta = torch.zeros_like(Phi[0])
    for _ in range(steps):
        errors = Phi @ theta - y
        kept = errors * (clip / (errors.abs() * lengths).clamp_min(1e-300)).clamp(max=1.0)
        xi = torch.randn(len(theta), device="cpu", generator=generator, dtype=theta.dtype).to(theta.device)
        theta = theta - rate * (kept @ Phi + multiplier * clip * xi)
    return theta, 2 * math.sqrt(steps) / multiplier if multiplier else math.inf


def reconstruction_bound(mu: float, log_prior: float) -> float:
    r"""The most that any attack on a μ-GDP training succeeds with: Ψ(Ψ⁻¹(κ) + μ).

    The attacker knows all samples but one, how it was drawn, and the training. κ is the chance of a success *without*
    the trained model: the most that any fixed guess has.

    Args:
        mu: μ ≥ 0.
        log_prior: ln κ < 0, since κ itself may be too small for a float.
    """
    mu = check_positive("mu", mu, allow_zero=True)
    if not log_prior < 0:
        raise ValueError(f"log_prior={log_prior} must be below 0; it is the logarithm of a probability")
    return float(math.exp(scipy.special.log_ndtr(scipy.special.ndtri_exp(log_prior) + mu)))


def log_cap(d: int, error: float) -> float:
    r"""ln κ: the most likely any guess ẑ ∈ R^d is to lie within a relative distance of a uniform sample of the sphere.

    ½ I_x((d − 1)/2, ½) with x = η², I the regularised incomplete beta function and η = ``error``. The best guess lies
    inside the sphere, at the centre of the largest cap that a ball of radius η√d cuts out; one on the sphere has
    x = η² − η⁴/4 only.

    Args:
        d: of the sample, ≥ 2.
        error: 0 < η < 1, of ‖ẑ − z‖/‖z‖; from 1 on the guess 0 is always right.
    """
    check_count("d", d, minimum=2)
    error = check_positive("error", error)
    if error >= 1:
        raise ValueError(f"error={error} is no error: the guess 0 is within 1 of every sample; use less than 1")
    a, x = (d - 1) / 2, error**2
    log_beta = a * math.log(x) + 0.5 * math.log1p(-x) - math.log(a) - scipy.special.betaln(a, 0.5)
    return float(math.log(0.5) + log_beta + math.log(scipy.special.hyp2f1(a + 0.5, 1.0, a + 1.0, x)))


def least_error(information: float, d: int) -> float:
    r"""A root mean square error, relative, that no estimate of a sample uniform on the sphere goes below.

    (1 + T/(d − 1)²)^{−1/2}, whatever else the attacker knows, biased estimates included: van Trees' inequality on the
    sphere (the chapter *Defences*).

    Args:
        information: T ≥ 0, the mean over the sample of ‖∂θ/∂u‖_F²/s², for Gaussian noise of standard deviation s on
            each coordinate of θ and relative movements u of the sample along the sphere.
        d: of the sample, ≥ 2.
    """
    information = check_positive("information", information, allow_zero=True)
    return (1 + information / (check_count("d", d, minimum=2) - 1) ** 2) ** -0.5
