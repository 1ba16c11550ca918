"""Checkers of the chapter *Hermite expansions*."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ..features.activations import get_activation
from ..features.hermite import hermite_polynomials
from ._diagnose import checker, diagnose


def _physicists(z: torch.Tensor, degree: int) -> torch.Tensor:
    """H_k(z), orthogonal for e^{−z²}, by H_{k+1} = 2z H_k − 2k H_{k−1}."""
    H = [torch.ones_like(z), 2 * z]
    for k in range(1, degree):
        H.append(2 * z * H[k] - 2 * k * H[k - 1])
    return torch.stack(H[: degree + 1], dim=1)


@checker
def check_hermite_polynomials(orthonormal_hermite: Callable) -> None:
    """``orthonormal_hermite(z, degree)`` has the columns h_0(z), …, h_degree(z)."""
    z = torch.linspace(-2.5, 2.5, 7, dtype=torch.float64)
    for degree in (5, 1, 0):
        h = hermite_polynomials(z, degree)
        factorial = torch.tensor([math.factorial(k) for k in range(degree + 1)], dtype=torch.float64)
        powers = z[:, None] ** torch.arange(degree + 1)
        mistakes = [
            (h.T, "the polynomials go into columns: one row for each entry of z"),
            (h * factorial.sqrt(), "did you forget to divide by √k!? Those are the He_k, with leading coefficient 1"),
            (h / factorial.sqrt(), "you divided by k!; the norm of He_k is √k!"),
            (
                _physicists(z, degree),
                "those are the physicists' polynomials, orthogonal for e^{−z²}; here it is e^{−z²/2}",
            ),
            (powers, "those are the monomials zᵏ; they are not orthogonal"),
        ]
        if degree == 0:  # where all of these are right, but for the shape
            mistakes = mistakes[:1]
        diagnose(orthonormal_hermite(z, degree), h, mistakes)


@checker
def check_derivative_coefficients(derivative_coefficients: Callable) -> None:
    """``derivative_coefficients(mu)`` is √(k+1) μ_{k+1}, k = 0, …, m − 1."""
    mu = torch.randn(7, device="cpu", generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    k = torch.arange(7, dtype=torch.float64)
    diagnose(
        derivative_coefficients(mu),
        (k.sqrt() * mu)[1:],
        [
            (mu[1:], "did you forget the factor √k of h_k' = √k h_{k−1}?"),
            ((k * mu)[1:], "you took the factor k of He_k' = k He_{k−1}; the orthonormal h_k has √k"),
            ((k.sqrt() * mu)[:-1], "the degree falls by one: coefficient k of φ' comes from μ_{k+1}, not from μ_k"),
            (k[:-1].sqrt() * mu[1:], "the factor belongs to the degree before: √(k+1) μ_{k+1}, not √k μ_{k+1}"),
            (
                (k + 1).sqrt()[:-1] * mu[:-1],
                "that raises the degree: coefficient k of φ' comes from μ_{k+1}, not from μ_k",
            ),
            (k.sqrt() * mu, "φ' has degree m − 1: leave out the first entry, which is zero"),
        ],
    )


@checker
def check_flip_cosine(flip_cosine: Callable) -> None:
    """``flip_cosine(mu)`` is Σ(−1)ᵏμ_k² / Σμ_k²."""
    for name in ("softplus", "relu+tanh"):
        mu = get_activation(name).hermite(30)
        energy = mu.square()
        sign = (-1.0) ** torch.arange(31, dtype=torch.float64)
        total = energy.sum()
        diagnose(
            flip_cosine(mu),
            (sign * energy).sum() / total,
            [
                ((sign * energy).sum(), "did you forget to divide by the lengths, Σμ_k²?"),
                ((sign * mu).sum() / mu.sum(), "the kernel has μ_k squared"),
                ((sign * mu).sum(), "the kernel has μ_k squared; and divide by the lengths"),
                ((sign * energy).sum() / total.sqrt(), "both feature vectors have length √Σμ_k²: divide by Σμ_k²"),
                (1.0, "that ignores the sign (−1)ᵏ: it is the cosine of x with itself, not with −x"),
                (-(sign * energy).sum() / total, "the sign is the other way round: even degrees count with +"),
                (energy[0::2].sum() / total, "that is the share of the even degrees; the odd ones count with −"),
                (energy[1::2].sum() / total, "that is the share of the odd degrees; you want even minus odd"),
            ],
        )
