"""Checkers of the chapter *The projection loss*."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ._diagnose import NotYet, checker, diagnose


def _normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, device="cpu", generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@checker
def check_projection_value(projection_value: Callable) -> None:
    """``projection_value(Phi_hat, theta)`` is ‖P⊥θ‖²/‖θ‖² for Φ̂ of shape (n, p)."""
    Phi, theta = _normal(4, 15, seed=1), _normal(15, seed=2)
    r = theta - torch.linalg.pinv(Phi) @ (Phi @ theta)
    square = theta @ theta
    value = r @ r / square
    beta = Phi @ theta
    diagnose(
        projection_value(Phi, theta),
        value,
        [
            (1 - value, "that is the share *in* the span; the loss is the share off it"),
            (r @ r, "did you forget to divide by ‖θ‖²?"),
            (value.sqrt(), "that is ‖r‖/‖θ‖; square it"),
            (r.norm(), "that is ‖r‖: square it, and divide by ‖θ‖²"),
            (r @ r / theta.norm(), "you divided by ‖θ‖; divide by its square"),
            (
                (theta - beta @ Phi).square().sum() / square,
                "did you forget the Gram matrix? α = (Φ̂Φ̂ᵀ)⁻¹Φ̂θ, not Φ̂θ",
            ),
            (r.square().mean() / theta.square().sum(), "you took the mean of r²; take the sum"),
            (r, "that is the residual; the loss is ‖r‖²/‖θ‖²"),
        ],
    )
    near = _normal(4, seed=6) @ Phi + 1e-8 * _normal(15, seed=7)  # nearly in the span: a loss of about 1e-16
    r = near - torch.linalg.lstsq(Phi.T, near[:, None]).solution[:, 0] @ Phi
    value, answer = float(r @ r / (near @ near)), float(projection_value(Phi, near))
    if abs(answer - value) > 1e-2 * value:
        raise NotYet(
            f"near a solution, at a loss of {value:.0e}, rounding is all that is left of yours: 1 − (the share in the "
            "span) subtracts two numbers that are nearly equal. Square the residual instead"
        )


@checker
def check_projection_gradient(projection_gradient: Callable) -> None:
    """``projection_gradient(X_hat, V, theta)`` is −2[(αrᵀ) ∘ φ'(X̂Vᵀ)]V/‖θ‖² for tanh."""
    X, V, theta = _normal(3, 5, seed=3), _normal(20, 5, seed=4) / 5**0.5, _normal(20, seed=5)
    F = torch.tanh(X @ V.T)
    slope = 1 - F**2
    alpha = torch.linalg.solve(F @ F.T, F @ theta)
    r = theta - alpha @ F
    square = theta @ theta
    right = -2 * (alpha[:, None] * r * slope) @ V / square
    diagnose(
        projection_gradient(X.clone(), V.clone(), theta.clone()),
        right,
        [
            (-right, "the sign is wrong: r = θ − Φ̂ᵀα falls where Φ̂ᵀα rises, hence the minus"),
            (right / 2, "did you forget the factor 2 of the square?"),
            (-right / 2, "a factor −2 is missing: the square gives 2, and r = θ − Φ̂ᵀα the minus"),
            (right * square, "did you forget to divide by ‖θ‖²?"),
            (-2 * (alpha[:, None] * r) @ V / square, "did you forget φ'(X̂Vᵀ), the chain rule through the activation?"),
            (-2 * (alpha[:, None] * r * F) @ V / square, "you used φ where φ' belongs"),
            (-2 * (r * slope) @ V / square, "did you forget the coefficients α? Row i is weighed by α_i"),
            (
                -2 * (alpha[:, None] * theta * slope) @ V / square,
                "you used θ where the residual r = θ − Φ̂ᵀα belongs",
            ),
        ],
    )


@checker
def check_largest_step(largest_step: Callable) -> None:
    """``largest_step(eigenvalues, beta)`` is 2(1 + β)/λ_max."""
    cases = [(torch.tensor([0.1, 0.5, 2.0]), 0.9), (torch.tensor([3.0, 1.0]), 0.5), (torch.tensor([0.7, 0.2]), 0.0)]

    def table(rule):
        return [float(rule(values, beta)) for values, beta in cases]

    diagnose(
        table(largest_step),
        table(lambda values, beta: 2 * (1 + beta) / values.max()),
        [
            (table(lambda values, beta: 2 / values.max()), "that is the limit without momentum, β = 0"),
            (table(lambda values, beta: 2 * (1 - beta) / values.max()), "momentum raises the limit: 1 + β, not 1 − β"),
            (table(lambda values, beta: 2 / (1 - beta) / values.max()), "the limit grows by 1 + β, not by 1/(1 − β)"),
            (
                table(lambda values, beta: (1 + beta) / values.max()),
                "a factor 2 is missing: q(−1) > 0 reads ηλ < 2(1 + β)",
            ),
            (
                table(lambda values, beta: 2 * (1 + beta) / values.min()),
                "the sharpest direction decides: the largest λ",
            ),
            (
                table(lambda values, beta: 2 * (1 + beta) / values.mean()),
                "the sharpest direction decides: the largest λ",
            ),
        ],
    )
