r"""What noise in θ does to the samples: first order, expectation, and a bound that is proved.

Around samples X on the sphere and coefficients a, let F(w, τ) = Σ_i ε_i (|a_i| + τ_i) φ(V x_i(w_i)), ε_i = sign a_i,
where x_i(w_i) is the point that the geodesic from x_i along the tangent vector Q_i w_i reaches after the angle
‖w_i‖/|a_i|, so that the relative error ‖x_i(w_i) − x_i‖/√d is at most ‖w_i‖/|a_i|. Movements are weighed by the
coefficients because θ feels them so. J(z) is the derivative of F at z = (w, τ), J = J(0), which does not depend on |a|,
σ = σ_min(J), and Ω(r) bounds ‖J(z) − J‖ over ‖z‖ ≤ r. An attacker who fits F to F(0) + ξ by least squares is off by J⁺ξ
to first order; and

1. if q = Ω(r)/σ < 1/3 for r = 3‖ξ‖/σ, the squares have a local minimum in the ball ‖z‖ < r, and every stationary point
   in it that fits no worse than the truth has ‖z‖ ≤ (1 + q)/(1 − q) ‖ξ‖/σ and ‖z − J⁺ξ‖ ≤ q (‖z‖ + ‖ξ‖/σ);
2. seen from a stationary point of the attacker's, the truth lies outside the ball of radius r around it, or within
   ‖ξ‖/(σ − Ω(r)), for every r with Ω(r) < σ.

Both are proved in the book's chapter *Noise and regularisation*. Either statement takes the points where it is made:
the samples themselves, which an auditor has, or their estimates.
"""

from __future__ import annotations

import math
from functools import cached_property

import torch
from numpy.typing import ArrayLike

from ._checks import as_tensor, check_finite, check_matrix, check_positive
from .features.decompose import in_float64
from .features.feature_map import FeatureMap
from .features.random_features import RandomFeatures

# φ' = jump · 1[z > 0] + a Lipschitz part: (sup |φ'|, Lipschitz constant of that part, jump).
_GELU_STEEPEST = 0.5 * (1 + math.erf(1.0)) + math.exp(-1.0) / math.sqrt(math.pi)  # φ' at z = √2
_SLOPES = {
    "relu": (1.0, 0.0, 1.0),
    "abs": (1.0, 0.0, 2.0),
    "tanh": (1.0, 4 / math.sqrt(27), 0.0),
    "relu+tanh": (2.0, 4 / math.sqrt(27), 1.0),
    "softplus": (1.0, 0.25, 0.0),
    "gelu": (_GELU_STEEPEST, 2 / math.sqrt(2 * math.pi), 0.0),
    "silu": (1.1, 0.5, 0.0),
    "erf": (2 / math.sqrt(math.pi), 2 * math.sqrt(2 / (math.pi * math.e)), 0.0),
}
# Multiplications that the sharper bound on fourth powers may cost.
_FOURTH_COST = 4e10
_ROUNDS = 40


class Perturbation:
    r"""How the samples behind θ = Φ(X)ᵀa move when θ does.

    Args:
        features: :class:`~reconlaw.features.random_features.RandomFeatures`, or a subclass.
        X: (n, d), rows of norm √d: the samples, or their estimates.
        coefficients: (n,), a of one output; none zero.

    Attributes:
        jacobian: J, (p, nd): for each sample d − 1 columns ε_i φ'(Vx_i) ∘ √d VQ_i, then the n columns ε_i φ(Vx_i).
        sigma_min: its smallest singular value σ; 0 for p < nd, where nothing is determined.

    Raises:
        TypeError, ValueError: what is wrong with an argument.
    """

    def __init__(self, features: FeatureMap, X: torch.Tensor, coefficients: ArrayLike) -> None:
        if not isinstance(features, RandomFeatures) or features.divided:
            raise TypeError(f"features is a {type(features).__name__}; the bound knows RandomFeatures only")
        self.features = features
        V = in_float64(features.V)
        X = check_matrix("X", X, features.d).detach().to(V.device, torch.float64)
        a = check_finite("coefficients", as_tensor(coefficients)).detach().to(X)
        if a.shape != X.shape[:1] or not bool((a != 0).all()):
            raise ValueError(f"coefficients have shape {tuple(a.shape)}; pass ({len(X)},), one output, none zero")
        self.n, self.d = X.shape
        if not torch.allclose(X.norm(dim=1), X.new_tensor(self.d).sqrt(), rtol=1e-6):
            raise ValueError("X has rows off the sphere of radius √d; scale each row x to x · √d/‖x‖")
        self.X, self.weight, self.sign = X, a.abs(), a.sign()
        self.G = V * math.sqrt(self.d)
        self.bases = torch.stack([torch.linalg.qr(x[:, None], mode="complete").Q[:, 1:] for x in X])
        Z = X @ self.G.T / math.sqrt(self.d)
        slopes = self.sign[:, None] * features.activation.derivative(Z)
        moves = [s[:, None] * (self.G @ Q) for s, Q in zip(slopes, self.bases, strict=True)]
        self.jacobian = torch.cat([*moves, (self.sign[:, None] * features.activation(Z)).T], dim=1)
        values, axes = torch.linalg.eigh(self.jacobian.T @ self.jacobian)
        # The Gram matrix knows σ² to its rounding, nd ε ‖J‖²: what it cannot tell from 0 counts as 0.
        values = (values - len(values) * torch.finfo(values.dtype).eps * values[-1]).clamp_min(0)
        self.sigma_min = float(values[0].sqrt()) if features.p >= len(values) else 0.0
        self._inverse = (axes / values) @ axes.T if self.sigma_min else None

    def displacement(self, xi: ArrayLike) -> tuple[torch.Tensor, torch.Tensor]:
        """J⁺ξ, what noise ξ (p,) moves to first order: the samples, (n, d), and the coefficients, (n,)."""
        inverse = self._determined()
        xi = check_finite("xi", as_tensor(xi)).to(self.jacobian)
        if xi.shape != self.jacobian.shape[:1]:
            raise ValueError(f"xi has shape {tuple(xi.shape)}; expected ({len(self.jacobian)},)")
        z, moves = inverse @ (self.jacobian.T @ xi), self.n * (self.d - 1)
        w = (self.bases @ z[:moves].reshape(self.n, self.d - 1, 1))[:, :, 0]
        return w * (math.sqrt(self.d) / self.weight)[:, None], z[moves:] * self.sign

    def expected(self, noise: float) -> torch.Tensor:
        """(n,): root mean square of the first-order relative errors, for noise of norm ``noise`` in a random direction.

        noise · (tr [(JᵀJ)⁻¹]_ii / p)^{1/2} / |a_i|, the trace over the d − 1 coordinates of w_i. The same for
        independent entries of standard deviation noise/√p.
        """
        traces = self._blocks().diagonal(dim1=1, dim2=2).sum(1)
        return check_positive("noise", noise, allow_zero=True) * (traces / self.features.p).sqrt() / self.weight

    def worst(self, noise: float) -> torch.Tensor:
        """(n,): the largest relative errors to first order, over all noise of norm ``noise``: ‖[J⁺]_i‖ noise/|a_i|."""
        largest = torch.linalg.eigvalsh(self._blocks())[:, -1]
        return check_positive("noise", noise, allow_zero=True) * largest.sqrt() / self.weight

    def bound(self, noise: float) -> torch.Tensor:
        """(n,): proved bounds on the relative errors for ‖ξ‖ ≤ noise: the better of the two that 1. above gives.

        Infinite where its condition fails: then nothing is proved, which does not mean that the errors are large.
        """
        noise = check_positive("noise", noise, allow_zero=True)
        if not self._holds(noise):
            return torch.full_like(self.weight, math.inf)
        first = noise / self.sigma_min
        r = 3 * first
        for _ in range(_ROUNDS):  # what is within r is within a smaller radius, where q is smaller
            q = self.change(r) / self.sigma_min
            r = min(r, (1 + q) / (1 - q) * first)
        return torch.minimum(r / self.weight, self.worst(noise) + q * (r + first) / self.weight)

    def largest_noise(self) -> float:
        """The largest ‖ξ‖, to a part in a thousand from below, with a finite :meth:`bound`; 0 where there is none."""
        low, high = 0.0, self.sigma_min * float(self.weight.max())
        while high > 1e-15 * self.sigma_min * float(self.weight.max()) and low < 0.999 * high:
            middle = high / 10 if low == 0 else math.sqrt(low * high)
            low, high = (middle, high) if self._holds(middle) else (low, middle)
        return low

    def gap(self, noise: float) -> tuple[float, float]:
        """(near, far): the truth has ‖z‖ ≤ near, seen from this point, or ‖z‖ > far; see 2. above.

        For X and a where the attacker's squares are stationary, and ‖ξ‖ ≤ noise. ‖w_i‖ ≤ near makes the relative error
        of sample i at most near/|a_i|. (inf, 0) where nothing follows.
        """
        noise, s = check_positive("noise", noise), self.sigma_min
        far, r = 0.0, noise / s if s else math.inf

        def within(radius):
            slack = s - self.change(radius)
            return noise / slack if slack > 0 else math.inf

        while s and self.change(r := r * 1.05) < s:
            far = r if within(r) < r else far
        near = far if far else math.inf
        for _ in range(_ROUNDS if far else 0):
            near = min(near, within(near))
        return near, far

    def change(self, radius: float) -> float:
        r"""Ω(r) ≥ ‖J(z) − J‖ for all ‖z‖ ≤ r.

        With g_j = √d v_j, N = ‖(g_j)‖, T² ≥ Σ_j (g_jᵀδ)⁴ for all unit δ, |φ'| ≤ s₁, s₂ the Lipschitz constant of φ' off
        its jump κ at 0, r_i = r/|a_i|, and S_i the neurons that change sides within the angle r_i of x_i, those with
        |g_jᵀx_i| ≤ tan r_i · (d ‖g_j‖² − (g_jᵀx_i)²)^{1/2},

            Ω(r) = max_i r_i (2 s₁²N² + (s₁N + s₂T)²)^{1/2} + κ (Σ_i ‖(g_j)_{j∈S_i}‖²)^{1/2} .

        Raises:
            ValueError: the activation is not built in: nothing is known of its second derivative.
        """
        angles = check_positive("radius", radius, allow_zero=True) / self.weight
        phi = self.features.activation
        if not phi.built_in:
            why = f"{phi.name!r} is not the built-in" if phi.name in _SLOPES else f"{phi.name!r} is not built in"
            raise ValueError(f"no bound on φ'' is known: the activation {why}; it is known for {', '.join(_SLOPES)}")
        s1, s2, jump = _SLOPES[phi.name]
        N, T = self._norm, self._fourth if s2 else 0.0
        smooth = float(angles.max()) * math.hypot(s1 * N, s1 * N, s1 * N + s2 * T)
        if not jump:
            return smooth
        if float(angles.max()) >= math.pi / 2:
            return math.inf
        crossing = self._tangents <= angles.tan()[:, None]
        return smooth + jump * math.hypot(*(_norm(self.G[rows]) for rows in crossing if rows.any()))

    def _holds(self, noise):
        """Whether the condition of 1. holds for ‖ξ‖ = noise."""
        return self.sigma_min > 0 and self.change(3 * noise / self.sigma_min) < self.sigma_min / 3

    def _determined(self):
        """(JᵀJ)⁻¹."""
        if self._inverse is None:
            raise ValueError("the samples are not determined here: J has dependent columns; more features are needed")
        return self._inverse

    def _blocks(self):
        """(n, d − 1, d − 1): the diagonal blocks of (JᵀJ)⁻¹ that belong to the samples."""
        n, m = self.n, self.d - 1
        blocks = self._determined()[: n * m, : n * m].reshape(n, m, n, m)
        return torch.stack([blocks[i, :, i] for i in range(n)])

    @cached_property
    def _norm(self):
        return _norm(self.G)

    @cached_property
    def _tangents(self):
        """(n, p): tangent of the angle from x_i to the hyperplane of neuron j."""
        along = self.X @ self.G.T / math.sqrt(self.d)
        across = (self.G.square().sum(1) - along.square()).clamp_min(0).sqrt()
        return along.abs() / across

    @cached_property
    def _fourth(self):
        r"""T with T² ≥ Σ_j (g_jᵀδ)⁴ for all unit δ, the smaller of two bounds.

        One is N max_j ‖g_j‖. The other splits δδᵀ = I/d + M into trace and rest, ‖M‖_F² = 1 − 1/d: the root of the sum
        is at most (Σ_j‖g_j‖⁴)^{1/2}/d + (1 − 1/d)^{1/2} ‖A‖, where row j of A is the traceless part of g_jg_jᵀ.
        """
        squares, d = self.G.square().sum(1), self.d
        crude = self._norm * float(squares.max().sqrt())
        m = d * (d + 1) // 2
        if len(self.G) * m**2 > _FOURTH_COST:
            return crude
        i, k = torch.triu_indices(d, d, device=self.G.device)
        A = self.G[:, i] * self.G[:, k] - (i == k) * (squares / d)[:, None]
        A *= torch.where(i == k, 1.0, math.sqrt(2))
        return min(crude, float(squares.square().sum().sqrt()) / d + math.sqrt(1 - 1 / d) * _norm(A))


def _norm(A: torch.Tensor) -> float:
    """The largest singular value, from the smaller Gram matrix."""
    gram = A.T @ A if A.shape[0] > A.shape[1] else A @ A.T
    return float(torch.linalg.eigvalsh(gram)[-1].clamp_min(0).sqrt())
