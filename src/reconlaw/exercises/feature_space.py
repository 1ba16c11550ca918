"""Checkers of the chapter *The geometry of feature space*."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ._diagnose import checker, diagnose


@checker
def check_off_span(off_span: Callable) -> None:
    """``off_span(feature, Phi)`` is ‖(I − Φ⁺Φ)f‖²/‖f‖² for a feature vector f (p,) and Φ (n, p)."""
    generator = torch.Generator().manual_seed(1)
    Phi = torch.randn(4, 9, device="cpu", generator=generator, dtype=torch.float64)
    f = 3 * torch.randn(9, device="cpu", generator=generator, dtype=torch.float64)
    part = torch.linalg.pinv(Phi) @ Phi @ f
    rest = f - part
    share = rest.square().sum() / f.square().sum()
    diagnose(
        off_span(f, Phi),
        share,
        [
            (rest.square().sum(), "did you forget to divide by ‖f‖²? The share lies between 0 and 1"),
            (rest.norm() / f.norm(), "that is the ratio of the lengths; the share is of the squares"),
            (rest.norm(), "that is the length of the residual; the share is ‖residual‖²/‖f‖²"),
            (1 - share, "that is the share *in* the span; you want what is off it"),
            (part.square().sum(), "that is the squared length of the projection; you want the share off the span"),
            (rest.square().sum() / len(f), "you divided by p; divide by ‖f‖²"),
            (rest, "you returned the residual; its squared length over ‖f‖² is wanted"),
        ],
    )


@checker
def check_feature_distance(feature_distance: Callable) -> None:
    """``feature_distance(omega)`` is the limit of ‖φ(Vx) − φ(Vx')‖²/p for ReLU at angle ω, 2 (K(0) − K(ω))."""
    omega = torch.tensor([0.2, 0.9, math.pi / 2, 2.5, math.pi], dtype=torch.float64)
    K = (torch.sin(omega) + (math.pi - omega) * torch.cos(omega)) / (2 * math.pi)
    diagnose(
        feature_distance(omega),
        1 - 2 * K,
        [
            (
                0.5 - K,
                "a factor 2 is missing: ‖f − f'‖² = ‖f‖² + ‖f'‖² − 2 f·f', each of the first two near p/2",
            ),
            (1 - K, "the cross term enters twice: ‖f − f'‖² = ‖f‖² + ‖f'‖² − 2 f·f'"),
            ((1 - 2 * K).sqrt(), "that is the distance; the squared distance is wanted"),
            (1 + 2 * K, "the cross term has the wrong sign: that is ‖f + f'‖²/p"),
            (2 - 2 * K, "K(0) is 1/2 for ReLU, not 1: half of the neurons are inactive"),
            (2 - 2 * torch.cos(omega), "that is the distance of the *inputs*, ‖x − x'‖²/d; their features are closer"),
            (1 - 4 * K, "K enters twice, not four times: it is already the mean of the product"),
        ],
    )


@checker
def check_closest_angle(closest_angle: Callable) -> None:
    """``closest_angle(tolerance)`` is (12π · tolerance)^{1/3}."""
    tolerance = torch.tensor([1e-10, 1e-7, 1e-5], dtype=torch.float64)
    right = (12 * math.pi * tolerance) ** (1 / 3)
    diagnose(
        closest_angle(tolerance),
        right,
        [
            ((12 * math.pi * tolerance) ** 0.5, "a square root undoes ω²; the loss of a merged pair grows as ω³"),
            ((12 * math.pi * tolerance) ** 0.25, "ω⁴ is the law of smooth activations; for ReLU it is ω³"),
            ((6 * math.pi * tolerance) ** (1 / 3), "did you forget ‖θ‖² in the denominator? 1 + 2K(ω) tends to 2"),
            ((tolerance / (12 * math.pi)) ** (1 / 3), "the constant is upside down: ω³ = 12π · tolerance"),
            (tolerance ** (1 / 3), "did you forget the constant 12π?"),
            (12 * math.pi * tolerance, "that is ω³; take the cube root"),
            (right * 180 / math.pi, "that is the angle in degrees; give radians"),
        ],
        tolerance=0.02,
    )
