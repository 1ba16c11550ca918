"""Checkers of the chapter *Noise and regularisation*."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ._diagnose import Made, NotYet, checker, diagnose


def _normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, device="cpu", generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@checker
def check_stopped_coefficients(stopped_coefficients: Callable) -> None:
    """``stopped_coefficients(Phi, y, rate, steps)`` is G⁻¹(I − (I − ηG)^k) y, (n,), G = ΦΦᵀ."""
    Phi, y, steps = _normal(4, 30, seed=1), _normal(4, seed=2), 7
    G = Phi @ Phi.T
    rate, eye = 0.4 / float(torch.linalg.eigvalsh(G)[-1]), torch.eye(4).double()

    def after(k, eta=rate):
        return torch.linalg.solve(G, y - torch.linalg.matrix_power(eye - eta * G, k) @ y)

    with Made() as made:
        answer = stopped_coefficients(Phi, y, rate, steps)
    diagnose(
        answer,
        after(steps),
        [
            (after(steps) @ Phi, "that is θ, of length p; give its coefficients a"),
            (after(steps, 2 * rate), "the step as written has no factor 2"),
            (after(steps - 1), "that is one step too few"),
            (after(steps + 1), "that is one step too many"),
            (torch.linalg.solve(G, y), "those are the coefficients after infinitely many steps"),
            (G @ after(steps), "those are the predictions after k steps; did you forget G⁻¹?"),
            (y - G @ after(steps), "that is what remains unexplained, (I − ηG)^k y"),
            (steps * rate * y, "that holds to first order in η: later steps see smaller residuals"),
        ],
    )
    made.refuse(lambda shape: math.prod(shape) == 30, "you took steps of length p; the n coefficients have a step, too")


@checker
def check_int8_noise(int8_noise: Callable) -> None:
    """``int8_noise(theta)`` is ‖ξ‖/‖θ‖ after a round trip through multiples of max |θ|/127."""
    theta = _normal(500, seed=3)
    theta[7] = -1.2 * theta.abs().max()

    def back(step):
        return (theta / step).round() * step

    step = theta.abs().max() / 127
    right = (back(step) - theta).norm() / theta.norm()
    codes = (theta / step).round()
    diagnose(
        int8_noise(theta),
        right,
        [
            ((back(step) - theta).norm(), "that is ‖ξ‖; divide it by ‖θ‖"),
            (right**2, "that is the square; take the root"),
            ((back(theta.abs().max() / 128) - theta).norm() / theta.norm(), "the largest integer is 127, not 128"),
            (
                (back(2 * step) - theta).norm() / theta.norm(),
                "the integers run to −127 as well: step max |θ|/127",
            ),
            ((back(theta.max() / 127) - theta).norm() / theta.norm(), "the largest entry in absolute value may be < 0"),
            ((codes - theta).norm() / theta.norm(), "did you forget to multiply the integers by the step again?"),
            (
                ((theta / step).trunc() * step - theta).norm() / theta.norm(),
                "that cuts the fraction off; round to the nearest integer",
            ),
            (
                ((theta / step).floor() * step - theta).norm() / theta.norm(),
                "that rounds down; round to the nearest integer",
            ),
            (
                (theta.round() - theta).norm() / theta.norm(),
                "did you forget the scale? Divide by max |θ|/127 before you round, and multiply by it afterwards",
            ),
            ((back(step) - theta).abs().mean() / theta.abs().mean(), "the norms are Euclidean"),
        ],
        tolerance=1e-9,
    )


@checker
def check_noise_bound(noise_bound: Callable) -> None:
    """``noise_bound(noise, sigma, omega)`` is (1 + q)/(1 − q) ‖ξ‖/σ with q = 3ω‖ξ‖/σ² < 1/3, else infinity."""
    cases = [(1e-3, 0.5, 20.0), (0.02, 2.0, 7.0), (0.1, 3.0, 1.0)]

    def table(rule):
        return torch.tensor([float(rule(*case)) for case in cases], dtype=torch.float64)

    def at(q, noise, sigma):
        return (1 + q) / (1 - q) * noise / sigma

    diagnose(
        table(noise_bound),
        table(lambda e, s, w: at(3 * w * e / s**2, e, s)),
        [
            (table(lambda e, s, w: at(w * e / s**2, e, s)), "q is taken at r = 3‖ξ‖/σ: did you forget the 3?"),
            (table(lambda e, s, w: at(3 * w * e / s, e, s)), "q = Ω(r)/σ: σ enters twice, in r and in q"),
            (table(lambda e, s, w: e / s), "that is the first order; the factor (1 + q)/(1 − q) makes it a bound"),
            (
                table(lambda e, s, w: e / s / (1 - 3 * w * e / s**2)),
                "that is the bound seen from the estimate; seen from the truth the factor is (1 + q)/(1 − q)",
            ),
            (
                table(lambda e, s, w: 2 * e / s / (1 - 3 * w * e / s**2)),
                "that is part 1, for any point that fits no worse; part 2 is sharper for stationary ones",
            ),
        ],
    )
    for noise, sigma, omega in ((1.0, 1.0, 1.0), (0.12, 1.0, 1.0), (1.2, 3.0, 0.9)):
        if noise_bound(noise, sigma, omega) != math.inf:
            q = 3 * omega * noise / sigma**2
            raise NotYet(f"for q = {q:.2g} the condition q < 1/3 fails: return math.inf")
