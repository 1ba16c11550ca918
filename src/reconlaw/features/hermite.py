r"""Hermite expansion of an activation: φ = Σ_k μ_k h_k in L²(N(0,1)).

h_k = He_k/√k! are the probabilists' Hermite polynomials made orthonormal, E[h_j(g) h_k(g)] = δ_jk for g ~
N(0,1). For unit-variance Gaussians of correlation ρ, E[h_j(u) h_k(v)] = δ_jk ρ^k (Mehler), so that the kernel
of random features is Σ_k μ_k² ρ^k. Even k make up the even part of φ, odd k the odd part.

Source: O'Donnell, *Analysis of Boolean Functions* (2014), section 11.2.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from .._checks import as_tensor, check_count
from .built_in import Elementwise, built_in

REACH = 14  # e^{−z²/4} is 5e-22 there, and |h_k(z)| e^{−z²/4} ≤ 1.09 for every k and z (Cramér's inequality)
NODES = 32  # a panel
_MOST_DEGREE = 8  # of what counts as a polynomial


def hermite_polynomials(z: torch.Tensor, degree: int) -> torch.Tensor:
    r"""h_0(z), …, h_degree(z) by √(k+1) h_{k+1}(z) = z h_k(z) − √k h_{k−1}(z).

    Args:
        z: (…), floating.
        degree: the last k, ≥ 0.

    Returns:
        z.shape + (degree + 1,).

    Raises:
        ValueError: degree is no whole number ≥ 0.
        TypeError: z is no floating tensor of plain numbers.
    """
    check_count("degree", degree, minimum=0)
    z = as_tensor(z)
    if not z.is_floating_point():
        raise TypeError(f"z has dtype {z.dtype}; pass a floating tensor (z.double() makes one)")
    h = [torch.ones_like(z)]
    previous = torch.zeros_like(z)
    for k in range(degree):
        h.append((z * h[k] - math.sqrt(k) * previous) / math.sqrt(k + 1))
        previous = h[k]
    return torch.stack(h, dim=-1)


def gaussian_quadrature() -> tuple[torch.Tensor, torch.Tensor]:
    r"""Nodes z_m and weights w_m with Σ_m w_m f(z_m) ≈ E f(g), g ~ N(0,1), float64.

    Gauss–Legendre with 32 nodes on each unit interval of [−14, 14], times the Gaussian density. Gauss–Hermite
    quadrature is the textbook rule, but a kink at 0 (ReLU, |z|) leaves it at 2e-3 with a hundred nodes;
    with 0, and every whole number, an end of an interval the rule is exact to rounding on both sides.
    """
    node, weight = np.polynomial.legendre.leggauss(NODES)
    left = np.arange(-REACH, REACH)[:, None]
    z = (left + 0.5 * (node + 1)).ravel()
    w = np.tile(0.5 * weight, 2 * REACH) * np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    return torch.from_numpy(z), torch.from_numpy(w)


def hermite_coefficients(phi: str | Elementwise, degree: int) -> torch.Tensor:
    r"""μ_k = E[φ(g) h_k(g)], g ~ N(0,1), for k = 0, …, degree.

    Args:
        phi: a name in ``reconlaw.ACTIVATIONS``, or elementwise, called on a float64 tensor; of polynomial growth,
            smooth but at whole numbers for full accuracy (about 1e-14; a kink elsewhere leaves some 1e-4).
        degree: the last k, 0…200.

    Returns:
        (degree + 1,) float64.

    Raises:
        ValueError: degree outside its range, or φ gives NaN or infinity on [−14, 14].
    """
    check_count("degree", degree, minimum=0)
    if degree > 200:
        raise ValueError(f"degree={degree} is beyond 200, where the quadrature no longer resolves h_k; use 200 or less")
    phi = built_in(phi)[0] if isinstance(phi, str) else phi
    z, w = gaussian_quadrature()
    return (w * _values(phi, z)) @ hermite_polynomials(z, degree)


def parity(phi: Elementwise) -> str:
    r"""``"even"`` if φ(−z) = φ(z), ``"odd"`` if φ(−z) = −φ(z), else ``"mixed"``.

    Decided on [−6, 6] to a relative 1e-9: a part below that is rounding, and no solver could read a sign from
    it.

    Raises:
        ValueError: φ is zero on [−6, 6], or gives NaN or infinity there.
    """
    z = torch.linspace(0.0, 6.0, 601, dtype=torch.float64, device="cpu")
    right, left = _values(phi, z), _values(phi, -z)
    size = torch.maximum(right.abs().max(), left.abs().max())
    if size == 0:
        raise ValueError("the activation is zero on [−6, 6]: it has no parity, and its features carry nothing")
    if (right - left).abs().max() <= 2e-9 * size:
        return "even"
    if (right + left).abs().max() <= 2e-9 * size:
        return "odd"
    return "mixed"


def most_samples(phi: Elementwise) -> float:
    r"""The most samples that one output of random features can determine, however many the features: ∞, mostly.

    Where φ is a polynomial of degree 2 at most, θ depends on the samples by Σ a_i, Σ a_i x_i and Σ a_i x_i x_iᵀ alone.
    A quadratic form of rank n is such a sum in n(n−1)/2 dimensions of ways, of which Σ a_i x_i, where φ has a linear
    term, takes n: two samples are determined then; three up to finitely many alternatives; else but one.
    """
    z = torch.linspace(-6.0, 6.0, 601, dtype=torch.float64, device="cpu")
    values = _values(phi, z)
    low, middle, high = values[[0, 300, 600]].tolist()
    linear, square = (high - low) / 12, (high + low - 2 * middle) / 72
    rounding = 1e-9 * float(values.abs().max())
    if float((values - middle - linear * z - square * z * z).abs().max()) > rounding:
        return math.inf
    return 2 if min(abs(linear), abs(square)) > rounding else 1


def polynomial_degrees(phi: Elementwise) -> tuple[int, ...]:
    """The highest even and the highest odd power in φ, where it is a polynomial of degree 8 at most; () else."""
    z = torch.linspace(-6.0, 6.0, 601, dtype=torch.float64, device="cpu")
    values = _values(phi, z).detach().numpy()
    powers = (z.numpy()[:, None] / 6) ** np.arange(_MOST_DEGREE + 1)
    weights = np.linalg.lstsq(powers, values, rcond=None)[0]
    rounding = 1e-9 * abs(values).max()
    if abs(values - powers @ weights).max() > rounding:
        return ()
    there = [k for k in range(_MOST_DEGREE + 1) if abs(weights[k]) > rounding]
    return tuple(max(k for k in there if k % 2 == odd) for odd in (0, 1) if any(k % 2 == odd for k in there))


def _values(phi: Elementwise, z: torch.Tensor) -> torch.Tensor:
    try:
        value = phi(z)
    except Exception as error:
        raise ValueError(f"the activation fails on a float64 tensor ({type(error).__name__}: {error})") from error
    if not isinstance(value, torch.Tensor) or value.shape != z.shape:
        raise ValueError("the activation must map a tensor to one of the same shape, entry by entry")
    if not bool(torch.isfinite(value).all()):
        at = z[~torch.isfinite(value)][0].item()
        raise ValueError(f"the activation is NaN or infinite at z = {at:.3g}; it must be finite on the real line")
    return value.double()
