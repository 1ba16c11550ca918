r"""What every feature map shares: regression on its features, and the checks of θ.

Source: the setting is that of Iurada et al., arXiv 2509.22214, section 2.
"""

from __future__ import annotations

import torch

from .._checks import as_tensor, check_finite, check_positive, check_samples
from .gram import SpanError, factor_gram


class FeatureMap:
    """Base of the feature maps: a subclass has d, p, dtype, device, and maps (n, d) to (n, p) when called."""

    d: int
    p: int
    dtype: torch.dtype
    device: torch.device

    def _to(self, X: torch.Tensor) -> torch.Tensor:
        return X.to(self.device, self.dtype)

    def fit(self, X, y, ridge=0.0, theta0=None) -> torch.Tensor:
        r"""Minimum-norm interpolator, or ridge regression, started from θ₀.

        θ* = θ₀ + Φᵀ (ΦΦᵀ + λI)⁻¹ (y − Φθ₀): the limit of gradient descent from θ₀ on ‖Φθ − y‖² (λ = 0), or the
        minimiser of ‖Φθ − y‖² + λ‖θ − θ₀‖².

        Args:
            X: (n, d), n ≤ p unless λ > 0; no zero and no equal rows.
            y: (n,) or (n, K), K ≥ 1; whole numbers will do.
            ridge: λ ≥ 0, in the units of ΦΦᵀ (whose entries grow as p).
            theta0: (p,) or (K, p); zero where none is given.

        Returns:
            θ* of shape (p,) for y of shape (n,), (K, p) for (n, K).

        Raises:
            TypeError: X is no floating tensor.
            ValueError: n > p with λ = 0, bad shapes, NaN, λ < 0, or a Gram matrix that is singular to working
                precision.
        """
        X = self._to(check_samples(X, self.d))
        ridge = check_positive("ridge", ridge, allow_zero=True)
        y = as_tensor(y)
        if y.ndim not in (1, 2) or y.shape[0] != X.shape[0] or y.numel() == 0:
            raise ValueError(f"y has shape {tuple(y.shape)}; expected ({X.shape[0]},) or ({X.shape[0]}, K)")
        y = self._to(check_finite("y", y))
        if ridge == 0 and X.shape[0] > self.p:
            raise ValueError(
                f"n = {X.shape[0]} samples cannot be interpolated by p = {self.p} < n features; raise p, or set "
                "ridge > 0"
            )
        Phi = self(X)
        targets = y.reshape(X.shape[0], -1)
        if theta0 is not None:
            targets = targets - Phi @ self.check_theta(theta0, targets.shape[1]).T
        gram = Phi @ Phi.T
        gram.diagonal().add_(ridge)
        try:
            factor = factor_gram(gram, strict=True)
        except SpanError as error:
            raise ValueError(
                "the Gram matrix ΦΦᵀ is singular to working precision (near-equal samples, or p close to n); "
                "use float64, more features, or ridge > 0"
            ) from error
        a = torch.cholesky_solve(targets, factor)
        theta = (Phi.T @ a).T
        # One refinement, from θ: the Gram matrix squares the condition number of Φ, this takes it back.
        theta = theta + (Phi.T @ torch.cholesky_solve(targets - Phi @ theta.T - ridge * a, factor)).T
        if theta0 is not None:
            theta = theta + self.check_theta(theta0, targets.shape[1])
        return theta[0] if y.ndim == 1 else theta

    def check_theta(self, theta, outputs=None) -> torch.Tensor:
        """θ, (p,) or (K, p), as a finite (K, p) tensor on the features' device and in their dtype.

        Raises:
            TypeError: θ is complex.
            ValueError: θ has another shape, or holds NaN or infinity.
        """
        theta = as_tensor(theta)
        if theta.is_complex():
            raise TypeError(f"theta has dtype {theta.dtype}; parameters are real")
        theta = self._to(check_finite("theta", theta))
        rows = theta[None] if theta.ndim == 1 else theta
        if rows.ndim != 2 or rows.shape[1] != self.p or (outputs is not None and rows.shape[0] != outputs):
            wanted = f"({self.p},) or ({outputs or 'K'}, {self.p})"
            raise ValueError(f"theta has shape {tuple(theta.shape)}; expected {wanted}")
        return rows

    def predict(self, X, theta) -> torch.Tensor:
        """ŷ = Φ(X) θᵀ: (n,) for θ of shape (p,), (n, K) for (K, p); raises what calling the features on X does."""
        y = self(X) @ self.check_theta(theta).T
        return y[:, 0] if as_tensor(theta).ndim == 1 else y


def parity_of(features) -> str:
    """ "even", "odd" or "mixed": the parity of a feature map, as it says itself, or of its activation."""
    return features.parity if hasattr(features, "parity") else features.activation.parity


def counts(features, n: int, outputs: int) -> tuple[int, int]:
    """Equations in θ of so many independent outputs, and unknowns of n samples on their sphere with coefficients.

    Outputs beyond n are not independent, and count for nothing; nor do features that depend linearly on others.
    """
    R = min(n, outputs)
    unknowns = n * (features.d - 1) + n * R
    p = features.rank(-(-unknowns // R) + n) if hasattr(features, "rank") else features.p
    return R * p, unknowns
