"""Checkers of the chapter *Partial information*."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ._diagnose import checker, diagnose


def _normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, device="cpu", generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@checker
def check_partial_count(partial_count: Callable) -> None:
    """``partial_count(known, outputs, n, d, span)`` is (equations, unknowns), outputs ≤ n."""
    cases = [(500, 1, 10, 50, False), (80, 1, 5, 64, True), (375, 4, 10, 50, False), (90, 3, 6, 40, True)]

    def table(rule):
        return torch.tensor([[float(value) for value in rule(*case)] for case in cases], dtype=torch.float64)

    def right(m, K, n, d, span):
        return K * m, n * ((n if span else d) - 1) + n * K

    diagnose(
        table(partial_count),
        table(right),
        [
            (
                table(lambda m, K, n, d, span: (m, right(m, K, n, d, span)[1])),
                "each known coordinate of each known output is an equation",
            ),
            (
                table(lambda m, K, n, d, span: (K * m, n * (d - 1) + n * K)),
                "did you forget the span? Within it a sample has n coordinates, not d",
            ),
            (
                table(lambda m, K, n, d, span: (K * m, n * (n if span else d) + n * K)),
                "a sample is a point of a sphere, also within the span: one coordinate less",
            ),
            (
                table(lambda m, K, n, d, span: (K * m, n * ((n if span else d) - 1))),
                "did you forget the coefficients? They are unknown too",
            ),
            (
                table(lambda m, K, n, d, span: (K * m, n * (n if span else d))),
                "each sample has a coefficient for each known output, not only one",
            ),
            (
                table(lambda m, K, n, d, span: (K * m, n * (d - n - 1 if span else d - 1) + n * K)),
                "the span leaves n dimensions; it does not take n away",
            ),
            (table(lambda *case: right(*case)[::-1]), "equations first, then unknowns"),
        ],
    )


@checker
def check_linear_share(linear_share: Callable) -> None:
    """``linear_share(theta, V)`` is the share of centred θ (p,) that the centred columns of V (p, d) explain."""
    p, d = 60, 7
    V = _normal(p, d, seed=1) + 0.7
    theta = V @ _normal(d, seed=2) + 2 * _normal(p, seed=3) + 4.0

    def share(theta, V, power=2):
        Q = torch.linalg.qr(V).Q
        return (Q.T @ theta).norm() ** power / theta.norm() ** power

    c, W = theta - theta.mean(), V - V.mean(0)
    right = share(c, W)
    diagnose(
        linear_share(theta, V),
        right,
        [
            (share(theta, V), "centre both: a mean of θ and of V's columns is not what tells the seed"),
            (share(c, V), "centre the columns of V as well: each loses its own mean"),
            (share(theta, W), "centre θ as well"),
            (share(theta - theta.mean(), V - V.mean()), "each column loses its own mean, not the mean of all of V"),
            (1 - right, "that is the share left over; the share explained was asked for"),
            (share(c, W, 1), "a share is of squared norms: did you forget the square?"),
            (right * c.square().sum(), "divide by the squared norm of the centred θ"),
            (
                (W.T @ c).square().sum() / c.square().sum(),
                "the columns of V are not orthonormal: project on their span (a QR factor, or least squares)",
            ),
        ],
    )


@checker
def check_blurred_relu(blurred_relu: Callable) -> None:
    """``blurred_relu(z, s)`` is E ReLU(vᵀx) given v'ᵀx = z, for v' = v + s·noise."""
    z = torch.linspace(-3, 3, 25, dtype=torch.float64)

    def smooth(mean, deviation):
        density = torch.exp(-0.5 * (mean / deviation) ** 2) / math.sqrt(2 * math.pi)
        return mean * torch.special.ndtr(mean / deviation) + deviation * density

    def table(rule):
        return torch.stack([torch.as_tensor(rule(z, s)) for s in (0.3, 0.8)])

    diagnose(
        table(blurred_relu),
        table(lambda z, s: smooth(z / (1 + s**2), s / math.sqrt(1 + s**2))),
        [
            (
                table(lambda z, s: smooth(z, torch.tensor(s))),
                "that is ReLU blurred about z; given v', the mean of vᵀx is z/(1 + s²)",
            ),
            (
                table(lambda z, s: smooth(z, torch.tensor(s / math.sqrt(1 + s**2)))),
                "the variance is right; the mean of vᵀx is z/(1 + s²), not z",
            ),
            (
                table(lambda z, s: smooth(z / (1 + s**2), torch.tensor(s))),
                "the mean is right; the variance of vᵀx given v' is s²/(1 + s²), not s²",
            ),
            (
                table(lambda z, s: smooth(z / (1 + s**2), torch.tensor(s**2 / (1 + s**2)))),
                "s²/(1 + s²) is the variance: take its root for the deviation",
            ),
            (
                table(lambda z, s: smooth(z / math.sqrt(1 + s**2), s / math.sqrt(1 + s**2))),
                "divide the mean by 1 + s², the variance of v'ᵀx, not by its root",
            ),
            (
                table(lambda z, s: torch.relu(z / (1 + s**2))),
                "ReLU of the mean is not the mean of ReLU: what s leaves unknown is missing",
            ),
            (
                table(lambda z, s: z / (1 + s**2) * torch.special.ndtr(z / (s * math.sqrt(1 + s**2)))),
                "the density's term is missing: E ReLU(m + τg) = m·P(g < m/τ) + τ·density(m/τ)",
            ),
        ],
        tolerance=1e-5,
    )


@checker
def check_start_noise(start_noise: Callable) -> None:
    """``start_noise(Phi, y, theta0)`` is ‖θ* − Φ⁺y‖/‖Φ⁺y‖ for θ* trained from θ₀: Phi (n, p), y (n,), theta0 (p,)."""
    n, p = 4, 11
    Phi, y, theta0 = _normal(n, p, seed=4), _normal(n, seed=5), _normal(p, seed=6)
    pinv = torch.linalg.pinv(Phi)
    made, within = pinv @ y, pinv @ (Phi @ theta0)
    off = theta0 - within
    right = off.norm() / made.norm()
    diagnose(
        start_noise(Phi, y, theta0),
        right,
        [
            (theta0.norm() / made.norm(), "training replaces θ₀'s part within the span: only the part off it remains"),
            (within.norm() / made.norm(), "that is the part within the span, the one that training replaces"),
            (
                off.norm() / (off + made).norm(),
                "relative to what the samples made from zero, ‖Φ⁺y‖, not to θ* itself",
            ),
            (
                off.norm() / (pinv @ (y - Phi @ theta0)).norm(),
                "relative to Φ⁺y; you divided by what training added, which depends on θ₀",
            ),
            (right**2, "a quotient of norms: did you forget the square root?"),
            (1 / right, "the other way round: noise over signal"),
            (off.norm(), "divide by ‖Φ⁺y‖"),
        ],
    )
