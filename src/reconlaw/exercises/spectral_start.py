"""Checkers of the chapter *The spectral start*."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ._diagnose import Made, checker, diagnose


def _normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, device="cpu", generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@checker
def check_outlier_ratio(outlier_ratio: Callable) -> None:
    """``outlier_ratio(mu)`` is κ = Σ_{k≥2} μ_k² / (2 μ₂²), a number."""
    mu = torch.tensor([0.7, 0.5, -0.3, 0.2, 0.1, -0.05], dtype=torch.float64)
    energy, signal = mu.square(), mu[2].square()
    right = energy[2:].sum() / (2 * signal)
    diagnose(
        outlier_ratio(mu.clone()),
        right,
        [
            (
                energy.sum() / (2 * signal),
                "constant and linear part are projected out: leave out μ₀ and μ₁",
            ),
            (energy[1:].sum() / (2 * signal), "the linear part has been projected out, too: leave out μ₁"),
            (
                energy[3:].sum() / (2 * signal),
                "degree 2 is part of the noise as well: the sum starts at k = 2",
            ),
            (energy[2:].sum() / signal, "did you forget the factor 2? The signal is √2 μ₂ a_i"),
            (2 * signal / energy[2:].sum(), "upside down: much noise needs a large p/dn"),
            (energy[2:].sum() / (2 * mu[2].abs()), "μ₂ enters squared"),
            (energy[2:].sum() / (2 * mu[2]), "μ₂ enters squared, so its sign does not matter"),
            (4 * right, "compare the signal with σ√(d/p), not with the edge 2σ√(d/p)"),
            (right.sqrt(), "p/dn is the square of noise over signal: do not take the root"),
            (mu[2:].sum().square() / (2 * signal), "sum the squares, not square the sum"),
        ],
    )


@checker
def check_apply_moment(apply_moment: Callable) -> None:
    """``apply_moment(V, theta, Q)`` is M Q, (d, m)."""
    p, d, m = 40, 6, 2
    V, theta, Q = _normal(p, d, seed=1) / math.sqrt(d), _normal(p, seed=2) + 0.5, _normal(d, m, seed=3)
    sandwich = V.T @ (theta[:, None] * (V @ Q))
    right = d / p * sandwich - theta.mean() * Q
    given = V.clone(), theta.clone(), Q.clone()
    with Made() as made:
        answer = apply_moment(*given)
    diagnose(
        answer,
        right,
        [
            (d / p * sandwich, "did you forget the identity in d v vᵀ − I?"),
            (sandwich / p - theta.mean() * Q, "did you forget the factor d? The rows of V have variance 1/d"),
            (d * sandwich - theta.sum() * Q, "did you forget the factor 1/p?"),
            (d / p * sandwich - theta.sum() * Q, "the identity has the weight Σ_j θ_j / p: the mean, not the sum"),
            (d / p * sandwich - Q, "the identity is weighted, too: Σ_j θ_j (d v_j v_jᵀ − I) holds Σ_j θ_j times I"),
            (d / p * sandwich + theta.mean() * Q, "the identity is subtracted"),
            (d / p * V.T @ (V @ Q) - Q, "did you forget the weights θ_j?"),
            (
                d / p * V.T @ (theta.square()[:, None] * (V @ Q)) - theta.square().mean() * Q,
                "θ_j enters once: weigh VQ or Vᵀ, not both",
            ),
            (
                d / p * (V.T * theta) @ V - theta.mean() * torch.eye(d, dtype=V.dtype),
                "that is M itself; return M Q, without ever forming a d × d matrix",
            ),
            (right.T, "transpose it: M Q has the shape of Q"),
        ],
    )
    made.refuse(lambda shape: shape == (d, d), "you formed a d × d matrix; let V, the weights and Vᵀ act on Q in turn")


@checker
def check_third_moment_gradient(third_moment_gradient: Callable) -> None:
    """``third_moment_gradient(V, theta, u)`` is ∇T(u) = (√3/p) Σ_j θ_j h₂(v_j·u) v_j, (d,)."""
    p, d = 50, 5
    V, theta, u = _normal(p, d, seed=4) / math.sqrt(d), _normal(p, seed=5), _normal(d, seed=6)
    u = u * math.sqrt(d) / u.norm()
    z = V @ u
    h1, h2, h3 = z, (z * z - 1) / math.sqrt(2), (z**3 - 3 * z) / math.sqrt(6)

    def pull(h, scale=1 / p):
        return scale * (theta * h) @ V

    right = pull(math.sqrt(3) * h2)
    T = (theta * h3).mean()
    tangent = right - (right @ u) * u / d
    diagnose(
        third_moment_gradient(V.clone(), theta.clone(), u.clone()),
        right,
        [
            (T, "that is T(u), a number; its gradient has d entries"),
            (pull(h3), "that weighs v_j with h₃: the derivative of h₃ is √3 h₂"),
            (pull(h2), "did you forget the factor √3? h_k' = √k h_{k−1}"),
            (pull(math.sqrt(2) * h2), "that weighs v_j with z² − 1 = √2 h₂; h₃' is √3 h₂"),
            (pull(3 * h2), "h₃' = √3 h₂, not 3 h₂: the polynomials are normalised"),
            (pull(3 * z * z - 3), "that is the derivative of He₃; divide by √6"),
            (pull((3 * z * z - 3) / 6), "h₃ = He₃/√6, not He₃/6"),
            (pull(math.sqrt(3) * h1), "h₃ differentiates to degree 2"),
            (math.sqrt(3) * (h2 @ V) / p, "did you forget the weights θ_j?"),
            (p * right, "did you forget the factor 1/p?"),
            (d * right, "z_j = v_j·u differentiates to v_j; there is no factor d"),
            (tangent, "that is the part along the sphere; here the gradient in R^d is asked for, radial part included"),
            (right * math.sqrt(d) / right.norm(), "return the gradient itself, before it is put back on the sphere"),
            (T * right, "that is the gradient of T²/2, the step of the power iteration; here that of T is asked for"),
            (-right, "the sign is the other way round"),
        ],
    )
