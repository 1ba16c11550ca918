"""Checkers of the chapter *When n is unknown*."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ._diagnose import checker, diagnose


def _normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, device="cpu", generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@checker
def check_one_atom(one_atom: Callable) -> None:
    """``one_atom(column, theta, lam)`` minimises ½‖θ − α·column‖² + λ|α| over the number α."""
    theta, columns = _normal(9, seed=1), _normal(6, 9, seed=2)
    products, squares = columns @ theta, columns.square().sum(1)
    lam = float(products.abs().sort().values[2:4].mean())  # some coefficients are zero, some are not
    soft = products.sign() * (products.abs() - lam).clamp_min(0)
    over = products.abs() > lam
    diagnose(
        torch.stack([torch.as_tensor(one_atom(column, theta, lam)).double() for column in columns]),
        soft / squares,
        [
            (soft, "did you forget to divide by the squared length of the column?"),
            (soft / squares.sqrt(), "divide by the squared length of the column, not by its length"),
            (products / squares, "that is the least-squares coefficient; the penalty is missing"),
            (products / (squares + lam), "that is the answer to a penalty ½λα² (a ridge), not to λ|α|"),
            (over * products / squares, "you cut small coefficients off, but did not shrink the others by λ"),
            (soft.abs() / squares, "did you forget the sign of the correlation?"),
            ((products - lam * products.sign()) / squares, "where |⟨column, θ⟩| ≤ λ the minimum is at α = 0"),
            (
                products.sign() * (products.abs() - lam / 2).clamp_min(0) / squares,
                "you shrank by λ/2: mind the ½ before the square",
            ),
        ],
    )


@checker
def check_certificate(certificate: Callable) -> None:
    """``certificate(columns, fitted, alpha, theta, lam)`` is η at the points with these feature columns."""
    theta, columns, fitted = _normal(12, seed=3), _normal(5, 12, seed=4), _normal(3, 12, seed=5)
    alpha, lam = _normal(3, seed=6), 0.7
    r = theta - alpha @ fitted
    eta = columns @ r / lam
    diagnose(
        certificate(columns, fitted, alpha, theta, lam),
        eta,
        [
            (columns @ r, "did you forget to divide by λ?"),
            (-eta, "the sign is wrong: r = θ − (the fit)"),
            (eta.abs(), "keep the sign: η equals the sign of α on the support"),
            (columns @ theta / lam, "did you forget the fit? η is the correlation with the residual, not with θ"),
            (eta / columns.norm(dim=1), "the columns are not normalised: the penalty weighs every atom alike"),
            (eta * lam**2, "you multiplied by λ; divide by it"),
            (fitted @ r / lam, "that is η at the atoms; evaluate it at the points of ``columns``"),
        ],
    )


@checker
def check_shrunk_coefficients(shrunk_coefficients: Callable) -> None:
    """``shrunk_coefficients(Phi_hat, theta, signs, lam)`` minimises ½‖θ − Φ̂ᵀα‖² + λ⟨signs, α⟩ over α."""
    Phi_hat, theta, lam = _normal(4, 15, seed=7), _normal(15, seed=8), 0.9
    signs = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
    G = Phi_hat @ Phi_hat.T
    free, shift = torch.linalg.solve(G, Phi_hat @ theta), torch.linalg.solve(G, signs)
    one = torch.ones_like(signs)
    diagnose(
        shrunk_coefficients(Phi_hat, theta, signs, lam),
        free - lam * shift,
        [
            (free, "those are the coefficients without the penalty"),
            (free + lam * shift, "the penalty pulls toward zero: subtract λG⁻¹s"),
            (free - lam * signs, "did you forget G⁻¹ on the penalty? The atoms are not orthogonal"),
            (free - lam * torch.linalg.solve(G, one), "did you forget the signs? |α_i| has the slope s_i"),
            (free - lam / 2 * shift, "you shrank by half: mind the ½ before the square"),
            (free - 2 * lam * shift, "you shrank by twice as much: mind the ½ before the square"),
            (Phi_hat @ theta - lam * signs, "did you forget to solve with the Gram matrix?"),
            (
                torch.linalg.solve(G + lam * torch.eye(4, dtype=G.dtype), Phi_hat @ theta),
                "that is the answer to a penalty ½λ‖α‖² (a ridge), not to λ‖α‖₁",
            ),
        ],
    )


@checker
def check_duality_gap(duality_gap: Callable) -> None:
    """``duality_gap(r, theta, alpha, lam, largest)``: an upper bound of the objective's distance from its minimum."""
    theta, alpha, lam = _normal(11, seed=9), _normal(3, seed=10), 0.4
    r = 0.3 * _normal(11, seed=11)

    def table(rule):
        return torch.stack([torch.as_tensor(rule(r, theta, alpha, lam, top)).double() for top in (0.8, 1.0, 1.7, 4.0)])

    def gap(half=0.5, scale=lambda top: max(1.0, top), penalty=lam):
        def rule(r, theta, alpha, lam, top):
            lower = half * (theta @ theta - (theta - r / scale(top)).square().sum())
            return half * (r @ r) + penalty * alpha.abs().sum() - lower

        return rule

    diagnose(
        table(duality_gap),
        table(gap()),
        [
            (table(gap(half=1.0)), "did you forget the factor ½ before the squares?"),
            (table(gap(scale=lambda top: 1.0)), "divide r by the largest |η| where it exceeds 1: q must be feasible"),
            (
                table(gap(scale=lambda top: top)),
                "where the largest |η| is below 1, r is feasible as it is: divide by 1",
            ),
            (table(gap(penalty=0.0)), "did you forget the penalty λ‖α‖₁ in the objective?"),
            (table(gap(penalty=1.0)), "did you forget λ before ‖α‖₁?"),
            (-table(gap()), "the gap is the objective minus the lower bound, not the other way round"),
        ],
    )
