"""Checkers of the chapter *Deep residual networks*."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from ._diagnose import NotYet, checker, close, diagnose


def _normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, device="cpu", generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@checker
def check_head_width(head_width: Callable) -> None:
    """``head_width(ratio, n, image_shape, kernel)``: the fewest channels with p ≥ ratio·dn, for a padding of 1."""
    cases = [(4, 6, (8, 8), 4), (2.5, 10, (32, 32, 3), 28), (3, 5, (12, 9), 5)]

    def table(rule, padding=2, colours=True, whole=math.ceil, square=False):
        values = []
        for ratio, n, shape, kernel in cases:
            height, width = (side + padding + 1 - kernel for side in shape[:2])
            d = math.prod(shape if colours else shape[:2])
            values.append(float(whole(rule(ratio, n, d, height * (height if square else width)))))
        return torch.tensor(values, dtype=torch.float64)

    def channels(ratio, n, d, positions):
        return ratio * d * n / positions

    diagnose(
        torch.tensor([float(head_width(*case)) for case in cases], dtype=torch.float64),
        table(channels),
        [
            (table(channels, padding=0), "did you forget the padding? One pixel on each side: a side has H + 3 − k"),
            (table(channels, padding=1), "the padding is one pixel on each of two sides: H + 2 − k + 1 positions"),
            (table(channels, colours=False), "an input of three colours has d = 3HW numbers"),
            (table(channels, whole=math.floor), "round up: with fewer channels p stays below ratio·dn"),
            (table(channels, whole=float), "channels are whole: round up"),
            (table(channels, square=True), "the picture need not be square: positions along H times those along W"),
            (table(lambda r, n, d, m: r * d * n), "that is p; each channel has a feature at every position"),
            (table(lambda r, n, d, m: r * d / m), "n samples of d numbers each: did you forget n?"),
            (table(lambda r, n, d, m: d * n / m), "that is p = dn; did you forget the ratio?"),
        ],
        tolerance=1e-9,
    )


class _Stairs(nn.Module):
    """z plus many tiny steps: the derivative is the identity, and a difference quotient sees the jumps."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z + 1e-3 * torch.floor(1e12 * z).remainder(2)


@checker
def check_tangents(tangents: Callable) -> None:
    """``tangents(body, X, delta)`` is J(x_i)δ_i in row i, (n, p), J the derivative of the body, no difference."""
    body = nn.Sequential(nn.Linear(5, 6), nn.Softplus(), nn.Linear(6, 7), nn.Softplus()).double()
    with torch.no_grad():
        for k, parameter in enumerate(body.parameters()):
            parameter.copy_(_normal(*parameter.shape, seed=10 + k))
    X, delta = _normal(3, 5, seed=1), _normal(3, 5, seed=2)
    J = torch.stack([torch.autograd.functional.jacobian(body, x) for x in X])  # (n, p, d)

    def along(direction):
        return (J @ direction[:, :, None])[:, :, 0]

    right = along(delta)
    answer = tangents(body, X.clone(), delta.clone())
    stepped = tangents(nn.Sequential(*body, _Stairs()), X.clone(), delta.clone())  # of the same derivative
    if close(answer, right, 1e-2) and not close(stepped, answer, 1e-6):
        raise NotYet("those are finite differences, close but not exact: let `torch.autograd.grad` differentiate")
    diagnose(
        answer,
        right,
        [
            (body(X + delta) - body(X), "that is the step itself, not its first order: differentiate"),
            (right.sum(0), "one row for each sample: do not add the samples up"),
            (right.mean(0), "one row for each sample: do not average over the samples"),
            (right.T, "transpose it: a row for each sample, (n, p)"),
            (along(X), "that is J(x)x: the direction is δ"),
            (along(torch.ones_like(X)), "that is J times ones: did you forget δ in the second backward pass?"),
            (along(delta.mean(0).expand_as(delta)), "each sample has a direction of its own, row i of δ"),
            ((J.transpose(1, 2) @ right[:, :, None])[:, :, 0], "that is JᵀJδ, (n, d); stop at Jδ"),
            (J.sum(1), "that is Jᵀ1, the first backward pass; differentiate ⟨δ, Jᵀc⟩ along c"),
            (torch.zeros_like(X), "the derivative of Jᵀc is wanted along c, not along X; at c = 0 that one vanishes"),
            (-right, "the sign is wrong"),
        ],
    )


def _off_span(T: torch.Tensor, Phi: torch.Tensor) -> torch.Tensor:
    Q = torch.linalg.qr(Phi.T).Q
    return T - (T @ Q) @ Q.T


@checker
def check_corrected(corrected: Callable) -> None:
    """``corrected(theta, simulated, Phi)`` is θ − P⊥θ_sim, (p,), P⊥ off the span of the rows of Φ."""
    Phi, theta, simulated = _normal(3, 8, seed=3), _normal(8, seed=4), _normal(8, seed=5)
    rest, own = _off_span(simulated, Phi), _off_span(theta, Phi)
    diagnose(
        corrected(theta.clone(), simulated.clone(), Phi.clone()),
        theta - rest,
        [
            (theta - (simulated - rest), "take off what the replay leaves *off* the span, not what it has in it"),
            (theta - simulated, "only the part off the span: the rest of the replay is what the samples put into θ"),
            (theta - own, "that takes off θ's own residual: nothing is left for the candidates to explain"),
            (own, "that is P⊥θ; the correction is P⊥θ_sim, and it is subtracted from θ"),
            (rest, "that is the correction; subtract it from θ"),
            (theta + rest, "subtract the correction: θ holds it, too"),
            (rest - theta, "the sign is wrong: θ less the correction"),
        ],
    )


@checker
def check_weakest(weakest: Callable) -> None:
    """``weakest(J, X, a, Phi)``: smallest singular value of P⊥𝒥/‖θ‖; J is (n, d, p), X (n, d) of norm √d."""
    n, d, p = 3, 5, 40
    J, a = _normal(n, d, p, seed=6), torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)
    X, Phi = _normal(n, d, seed=7), _normal(n, p, seed=8)
    X = X * (math.sqrt(d) / X.norm(dim=1, keepdim=True))
    frames = torch.stack([torch.linalg.svd(x[None]).Vh[1:] for x in X])  # (n, d − 1, d)
    size = (a @ Phi).norm()

    def values(frames=frames, a=a, project=True):
        rows = (a[:, None, None] * (frames @ J)).flatten(0, 1)
        return torch.linalg.svdvals(_off_span(rows, Phi) if project else rows)

    s, ones, everything = values(), torch.ones_like(a), torch.eye(d, dtype=J.dtype).expand(n, d, d)
    right = math.sqrt(d) * s[-1] / size
    answer = weakest(J.clone(), X.clone(), a.clone(), Phi.clone())
    if answer is not None and torch.as_tensor(answer).numel() == 1 and abs(float(answer)) < 1e-9 * float(right):
        raise NotYet(
            "zero: there are n columns too many. Each sample has d − 1 tangent directions; take an orthonormal basis "
            "of them, or leave out the n smallest singular values"
        )
    diagnose(
        answer,
        right,
        [
            (s[-1] / size, "movements are in units of √d: did you forget that factor?"),
            (d * s[-1] / size, "the unit of a movement is √d, not d"),
            (math.sqrt(d) * s[-1], "relative to ‖θ‖: did you forget to divide?"),
            (s[-1], "did you forget the unit √d and the division by ‖θ‖?"),
            (right**2, "that is its square: an eigenvalue of the Gram matrix"),
            (math.sqrt(d) * s[0] / size, "that is the largest; the weakest movement is the smallest"),
            (math.sqrt(d) * values(a=ones)[-1] / size, "did you forget the coefficients? Sample i moves θ by a_i Jδ_i"),
            (
                math.sqrt(d) * values(project=False)[-1] / size,
                "did you forget P⊥? The coefficients follow the samples, and may undo a movement",
            ),
            (
                math.sqrt(d) * values(everything)[-1] / size,
                "samples move along their sphere: leave out the direction of x_i",
            ),
        ],
    )
