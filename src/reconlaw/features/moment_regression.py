r"""Directions of the samples for any feature map: its Hermite moments, learned by regression on random inputs.

For random features, Stein's lemma makes M = (1/p) Σ_j θ_j (d v_j v_jᵀ − I) an estimate of Σ_i a_i x_i x_iᵀ
(:mod:`reconlaw.features.spectral`). For another map f no formula is known, but the attacker can draw inputs z_s on
the sphere and learn the linear map that takes f(z) to z zᵀ. Ridge regression gives

    M(θ) = Σ_s β_s z_s z_sᵀ,        β = (FFᵀ + λI)⁻¹ F θ,    F = f(Z) ∈ R^{m×p},

and, being linear, it takes θ = Σ_i a_i f(x_i) near Σ_i a_i x_i x_iᵀ as far as f(x) determines x xᵀ. So probes stand
where the neurons v_j stood, and β where θ did. λ is the one that predicts z zᵀ best at probes held out; where none
predicts it at all, the third moment is taken, as it is for maps of odd parity.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch

from .budget import look
from .gram import SpanError, factor_gram
from .spectral import second_moment_directions, third_moment_directions, without_linear_part

_MOST_PROBES = 3000
_NUMBERS = 1 << 27  # that F may hold
_HELD_OUT = 64
_ROWS = 256  # that pass through the features, and of a Gram matrix of more multiplications, between looks at the clock
_AT_ONCE = 1 << 34
_RIDGES = tuple(10.0 ** (-k) for k in range(6))  # λ in units of the mean of ‖f(z)‖²


class MomentRegression:
    """The learned moments of a feature map, in float32; made once, used for θ and for every residual.

    Attributes:
        explained: share of the variance of z zᵀ that f(z) predicts at held-out probes; at most 0 where it does not.
    """

    def __init__(self, features):
        self.d = features.d
        self.m = max(2, min(features.p, _MOST_PROBES, _NUMBERS // features.p))
        Z = features.probes(self.m, "moments")
        self.F = torch.empty(self.m, features.p, device=Z.device)
        for start in range(0, self.m, _ROWS):
            look()
            self.F[start : start + _ROWS] = features(Z[start : start + _ROWS]).float()
        self.Z = Z.float()
        gram = torch.empty(self.m, self.m, device=Z.device)
        rows = self.m if self.m**2 * features.p < _AT_ONCE else _ROWS
        for start in range(0, self.m, rows):
            look()
            torch.mm(self.F[start : start + rows], self.F.T, out=gram[start : start + rows])
        unit = gram.diagonal().mean()
        kept = self.m - max(1, min(_HELD_OUT, self.m // 4))
        # Inner products of the traceless parts of z zᵀ.
        target = (self.Z @ self.Z.T / self.d).square() - 1 / self.d
        variance = float(target.diagonal().mean())
        best = (math.inf, _RIDGES[0])
        for ridge in _RIDGES:
            look()
            try:
                factor = self._factor(gram[:kept, :kept], ridge * unit)
            except SpanError:
                break  # below the rounding of the Gram matrix
            W = torch.cholesky_solve(gram[:kept, kept:], factor)
            miss = variance - float((W * (2 * target[:kept, kept:] - target[:kept, :kept] @ W)).sum(0).mean())
            if miss < best[0]:
                best = (miss, ridge)
        self.explained = 1 - best[0] / variance if variance > 0 else 0.0  # z zᵀ is constant in one dimension
        self.factor = self._factor(gram, best[1] * unit)

    @staticmethod
    def _factor(gram, ridge):
        gram = gram.clone()
        gram.diagonal().add_(ridge)
        return factor_gram(gram)

    def directions(self, R, k, generator):
        """Up to k candidate atoms, rows of norm √d, for a residual R (K, p), and how strong they are."""
        scale = R.norm().clamp_min(torch.finfo(R.dtype).tiny)
        beta = torch.cholesky_solve(self.F @ (R / scale).float().T, self.factor).T
        dual = SimpleNamespace(p=self.m, d=self.d, V=self.Z / math.sqrt(self.d), summed=lambda part: part)
        if self.explained > 0:
            U, strength = second_moment_directions(dual, beta, k, generator)
        elif self.m <= self.d + 1:  # the linear part of so few probes is all that they tell
            U, strength = self.Z[:0], self.Z[:0, 0]
        else:
            U, strength = third_moment_directions(dual, without_linear_part(dual, beta), k, generator)
        return U.to(R), strength.to(R) * scale
