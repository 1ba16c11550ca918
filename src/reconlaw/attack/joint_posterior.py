r"""What one neuron tells of its n pre-activations together: E[z | y], Cov[z | y] for y = Σ a_i φ(z_i), z ~ N(ω, C).

Given y, z lies on a surface of n − 1 dimensions, the fibre {z: Σ a_i φ(z_i) = y}, with the density N(z; ω, C)/‖∇h‖ on
it, h(z) = Σ a_i φ(z_i). The fibre is walked along each axis in turn: for axis i the other n − 1 variables run over a
grid of their Gaussian law, z_i solves a_i φ(z_i) = y − Σ_{k≠i} a_k φ(z_k), and the point counts with

    N(z_i; given the others) · |∂_i h| s_i² / Σ_k s_k² (∂_k h)²,        s_k² = 1/(C⁻¹)_kk,

in which |∂_i h|⁻¹, the density of the fibre as seen along the axis, and the share of axis i in it, s_i²(∂_i h)² over
the sum, have been multiplied. The shares add up to 1, and no weight is singular where φ is flat or steep. Where φ is
zero on a half line (ReLU), y = 0 has a probability of its own: then z is Gaussian on the orthant of silent variables.
"""

from __future__ import annotations

import math

import torch

from ..features.activations import get_activation

_REACH = 4.0  # the grids reach so many standard deviations
_NODES = {1: 1, 2: 25, 3: 11}  # a side of the grid of the other variables, by n
_ORTHANT_NODES = {1: 101, 2: 25, 3: 9}  # of all variables
_BLOCK_NUMBERS = 1 << 19
_NEWTON = 6  # steps of the inverse of z + tanh z, whose error then is rounding


def _abs(r):
    r = torch.where(r > 0, r, math.nan)
    return r, -r


def _relu(r):
    return (torch.where(r > 0, r, math.nan),)


def _tanh(r):
    return (torch.where(r.abs() < 1, r, math.nan).atanh(),)


def _relu_tanh(r):
    z = torch.maximum(r / 2, r - 1)  # from below the root of a concave function Newton's steps stay below it
    for _ in range(_NEWTON):
        t = z.tanh()
        z = z - (z + t - r) / (2 - t * t)
    return (torch.where(r > 0, z, torch.where(r > -1, r, math.nan).atanh()),)


# Of r, every z with φ(z) = r, NaN where there is none.
INVERSES = {"abs": _abs, "relu": _relu, "tanh": _tanh, "relu+tanh": _relu_tanh}


class JointPosterior:
    """The posterior of a neuron's pre-activations, for known coefficients.

    Args:
        activation: "abs", "relu", "tanh" or "relu+tanh".
        a: (n,) coefficients, none zero, n ≤ 3.
        nodes: of the grid, a side; None: 25 for n = 2, 11 for n = 3.

    Raises:
        ValueError: another activation, or n, or a zero among a.
    """

    def __init__(self, activation, a, nodes=None):
        if activation not in INVERSES:
            raise ValueError(
                f"activation is {activation!r}; expected one whose inverse is known: {', '.join(INVERSES)}"
            )
        self.a = torch.as_tensor(a, dtype=torch.float64)
        if self.a.ndim != 1 or len(self.a) not in _NODES or not bool((self.a != 0).all()):
            raise ValueError(f"a is {a}; expected one to three coefficients, none of them zero")
        self.phi, self.inverse = get_activation(activation), INVERSES[activation]
        self.nodes = nodes or _NODES[len(self.a)]
        self.silent = activation == "relu"

    def h(self, z):
        """(…, n) → Σ a_i φ(z_i), (…)."""
        return self.phi(z) @ self.a.to(z)

    def __call__(self, y, omega, C, shift=None):
        """E[z | y] of every neuron (m, n), and the mean of Cov[z | y] over the neurons (n, n).

        Args:
            y: (m,) reports.
            omega: (m, n) means.
            C: (n, n) covariance, one for all neurons.
            shift: (m, n) in [0, 1), moves the grid of each neuron by parts of its spacing; ½ where None. Shifts drawn
                at random turn the error of the grid at kinks into noise.
        """
        m, n = omega.shape
        shift = torch.full_like(omega, 0.5) if shift is None else shift
        mean, total = torch.empty_like(omega), torch.zeros_like(C)
        size = max(1, _BLOCK_NUMBERS // (2 * n * self.nodes ** (n - 1)))
        for start in range(0, m, size):
            rows = slice(start, start + size)
            mean[rows] = self._fibres(y[rows], omega[rows], C, shift[rows], total)
        if self.silent and bool((none := y == 0).any()):
            mean[none] = self._orthant(omega[none], C, shift[none], total)
        return mean, total / m

    def _fibres(self, y, omega, C, shift, total):
        """E[z | y] of a block of neurons; their covariances are added to ``total``."""
        n, a = len(C), self.a.to(omega)
        s2 = 1 / torch.linalg.inv(C).diagonal()
        u = _grid(shift[:, : n - 1], self.nodes)
        places, weights = [], []
        for i in range(n):
            others = [k for k in range(n) if k != i]
            root = torch.linalg.cholesky(C[others][:, others])
            z = omega[:, None, others] + u @ root.T
            pull = torch.linalg.solve_triangular(root, C[others][:, [i]], upper=False)[:, 0]
            centre = omega[:, None, i] + u @ pull
            rest = (y[:, None] - self.phi(z) @ a[others]) / a[i]
            slopes = self.phi.derivative(z).square() @ (s2 * a.square())[others]
            far = -0.5 * u.square().sum(-1) + 0.5 * s2[i].log()
            for z_i in self.inverse(rest):
                slope = (a[i] * self.phi.derivative(z_i)).abs()
                share = slope / (s2[i] * slope.square() + slopes)
                weight = far - 0.5 * (z_i - centre).square() / s2[i] + share.log()
                weights.append(weight.nan_to_num(nan=-math.inf))
                columns = list(z.unbind(-1))
                places.append([*columns[:i], z_i.nan_to_num(), *columns[i:]])
        z = [torch.cat(column, 1) for column in zip(*places, strict=True)]
        live = torch.ones_like(y, dtype=torch.bool) if not self.silent else y != 0
        return _moments(z, torch.cat(weights, 1), omega, C, total, live)

    def _orthant(self, omega, C, shift, total):
        """The same for silent neurons: all z ≤ 0, and nothing more is known."""
        u = _grid(shift, _ORTHANT_NODES[len(C)])
        z = omega[:, None] + u @ torch.linalg.cholesky(C).T
        weight = torch.where((z <= 0).all(-1), -0.5 * u.square().sum(-1), -math.inf)
        live = torch.ones(len(omega), dtype=torch.bool, device=omega.device)
        return _moments(z.unbind(-1), weight, omega.clamp_max(0), C, total, live)


def _grid(shift, nodes):
    """(m, k) shifts in [0, 1) → (m, nodes^k, k) places on ±_REACH standard deviations."""
    m, k = shift.shape
    if k == 0:
        return shift.new_zeros(m, 1, 0)
    steps = torch.arange(nodes, device=shift.device, dtype=shift.dtype)
    u = (steps + shift[:, :, None]) * (2 * _REACH / nodes) - _REACH
    index = torch.cartesian_prod(*[torch.arange(nodes, device=shift.device)] * k).reshape(-1, k)
    return torch.stack([u[:, i, index[:, i]] for i in range(k)], -1)


def _moments(z, weight, omega, C, total, live):
    """The means (m, n) of n variables z (m, J) with log weights (m, J); ω where no point has any.

    The covariances of the ``live`` neurons are added to ``total``; C for one without a point.
    """
    empty = ~(weight > -math.inf).any(1)
    weight = torch.where(empty[:, None], 0.0, weight).softmax(1)
    weight *= (live & ~empty)[:, None]
    away = [column - omega[:, [k]] for k, column in enumerate(z)]
    weighted = [weight * column for column in away]
    shift = torch.stack([column.sum(1) for column in weighted], 1)
    for k, one in enumerate(weighted):
        for l, other in enumerate(away):
            total[k, l] += (one * other).sum() - (shift[:, k] * shift[:, l]).sum()
    total += C * (empty & live).sum()
    return omega + shift
