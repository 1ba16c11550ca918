r"""The kernel that random features approach: K(x, z) = E_v[φ(v·x) φ(v·z)] for v ~ N(0, I/d).

Φ(X)Φ(Z)ᵀ/p is an average of p independent terms of this mean. K depends on x and z only by
σ = ‖x‖/√d, τ = ‖z‖/√d and the angle ω between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from .._checks import check_matrix
from .activations import Activation, get_activation

RADIUS = 10.0  # e^{−r²/2} is 2e-22 there
RADIAL_NODES, ANGULAR_NODES = 40, 32
CHUNK = 2**17  # evaluations of φ held at a time: what a cache holds, ten times faster than 2**21


def expected_kernel(activation: str | Callable, X: torch.Tensor, Z: torch.Tensor | None = None) -> torch.Tensor:
    r"""K_ij = E_v[φ(v·x_i) φ(v·z_j)], v ~ N(0, I/d).

    In closed form, with σ, τ, ω as above:

    - "relu": στ/(2π) (sin ω + (π − ω) cos ω), the arc-cosine kernel of order 1 (Cho and Saul, 2009);
    - "abs": (2στ/π) (sin ω + (π/2 − ω) cos ω), the relu kernels of z and −z added;
    - "erf": (2/π) arcsin(2στ cos ω/√((1 + 2σ²)(1 + 2τ²))) (Williams, 1998).

    For any other φ by quadrature in polar coordinates of the plane of x and z,

        K = (1/2π) ∫₀^{2π} ∫₀^∞ φ(σ r cos ψ) φ(τ r cos(ψ − ω)) r e^{−r²/2} dr dψ.

    A kink of φ at 0 lies on the four rays ψ = ±π/2, ω ± π/2 whatever r is; with the integral over ψ cut
    there, Gauss–Legendre is accurate at every angle, to about 1e-13 on rows of norm √d and 1e-10 at three
    times that norm (a kink elsewhere leaves some 1e-4), at 5,120 evaluations of φ for each pair of rows.

    Args:
        activation: a name in ``reconlaw.ACTIVATIONS``, a callable or an
            :class:`~reconlaw.features.activations.Activation`.
        X: (n, d) rows of any norm.
        Z: (m, d); None stands for X.

    Returns:
        (n, m), float64 on the CPU, as all of this is computed there.

    Raises:
        TypeError, ValueError: X or Z is no finite floating matrix, or d differs; an unknown activation.
    """
    activation = get_activation(activation)
    X = check_matrix("X", X).detach().cpu().double()
    Z = X if Z is None else check_matrix("Z", Z, X.shape[1]).detach().cpu().double()
    root_d = math.sqrt(X.shape[1])
    sigma, tau, omega = X.norm(dim=1, keepdim=True) / root_d, Z.norm(dim=1)[None, :] / root_d, _angles(X, Z)
    closed_forms = {"relu": _relu, "abs": _abs, "erf": _erf}
    if activation.built_in and activation.name in closed_forms:
        return closed_forms[activation.name](sigma, tau, omega)
    return _polar_quadrature(activation, sigma, tau, omega)


def _angles(X: torch.Tensor, Z: torch.Tensor) -> torch.Tensor:
    """(n, m) angles by 2 atan2(‖x̂ − ẑ‖, ‖x̂ + ẑ‖): arccos of the cosine is only good to 1e-8 near 0 and π."""
    unit_x, unit_z = (torch.nn.functional.normalize(rows, dim=1) for rows in (X, Z))
    apart, together = (
        torch.cdist(unit_x, signed, compute_mode="donot_use_mm_for_euclid_dist") for signed in (unit_z, -unit_z)
    )
    return 2 * torch.atan2(apart, together)


def _relu(sigma, tau, omega):
    return sigma * tau / (2 * math.pi) * (torch.sin(omega) + (math.pi - omega) * torch.cos(omega))


def _abs(sigma, tau, omega):
    return sigma * tau * 2 / math.pi * (torch.sin(omega) + (math.pi / 2 - omega) * torch.cos(omega))


def _erf(sigma, tau, omega):
    return (
        2 / math.pi * torch.asin(2 * sigma * tau * torch.cos(omega) / torch.sqrt((1 + 2 * sigma**2) * (1 + 2 * tau**2)))
    )


def _polar_quadrature(activation: Activation, sigma, tau, omega) -> torch.Tensor:
    n, m = omega.shape
    r, r_weight = _legendre(0.0, RADIUS, RADIAL_NODES)
    r_weight = r_weight * r * torch.exp(-0.5 * r * r) / (2 * math.pi)
    node, weight = _legendre(0.0, 1.0, ANGULAR_NODES)
    sigma, tau, omega = (t.expand(n, m).reshape(-1) for t in (sigma, tau, omega))
    step = max(1, CHUNK // (RADIAL_NODES * 4 * ANGULAR_NODES))
    kernel = []
    for s, t, angle in zip(sigma.split(step), tau.split(step), omega.split(step), strict=True):
        # For ω in [0, π] the rays come in this order: −π/2, ω − π/2, π/2, ω + π/2, and round to 3π/2.
        half = torch.full_like(angle, math.pi / 2)
        rays = torch.stack([-half, angle - half, half, angle + half, 3 * half], dim=1)
        start, width = rays[:, :-1, None], rays.diff(dim=1)[:, :, None]
        psi, psi_weight = (start + width * node).flatten(1), (width * weight).flatten(1)  # (pairs, angles)
        u = (s[:, None] * torch.cos(psi))[:, :, None] * r
        v = (t[:, None] * torch.cos(psi - angle[:, None]))[:, :, None] * r
        kernel.append(torch.einsum("kar,ka,r->k", activation(u) * activation(v), psi_weight, r_weight))
    return torch.cat(kernel).reshape(n, m)


def _legendre(a: float, b: float, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    node, weight = np.polynomial.legendre.leggauss(count)
    return torch.from_numpy(a + (b - a) * (node + 1) / 2), torch.from_numpy(weight * (b - a) / 2)
