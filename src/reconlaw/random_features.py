r"""Random features Φ(X) = φ(X Vᵀ) with V fixed at random, and regression on them.

Source: Rahimi and Recht, *Random features for large-scale kernel machines* (2007); the setting and the scaling are
those of Iurada et al., arXiv 2509.22214, section 2.
"""

from __future__ import annotations

import math

import torch

from ._checks import (
    as_tensor,
    check_count,
    check_finite,
    check_float_dtype,
    check_matrix,
    check_positive,
    check_samples,
    resolve_device,
)
from ._random import seeded_generator
from .activations import Activation, get_activation
from .lift import RandomFeaturesLift
from .projection import SpanError, factor_gram


class RandomFeatures:
    r"""The feature map Φ(X) = φ(X Vᵀ) ∈ R^{n×p}, V ∈ R^{p×d} with i.i.d. N(0, 1/d) entries.

    For a row x with ‖x‖ = √d every pre-activation v_j·x is N(0, 1).

    Args:
        d: dimension of a sample, ≥ 1.
        p: number of features (the parameters of a linear model on them), ≥ 1.
        activation: a name in ``reconlaw.ACTIVATIONS``, an elementwise callable, or an
            :class:`~reconlaw.activations.Activation`.
        seed: of V, a whole number ≥ 0; the same seed gives the same V on every device, but not in every dtype.
        dtype: torch.float64 or torch.float32.
        device: "auto" (CUDA, else MPS for float32, else CPU) or any torch device.

    Attributes:
        V: (p, d).
        activation: the :class:`~reconlaw.activations.Activation`.

    Raises:
        TypeError: dtype is neither float32 nor float64, or the activation is neither name nor callable.
        ValueError: d, p or seed outside its range, an unknown activation or device, or one that is not there.
    """

    def __init__(self, d, p, activation="relu", seed=0, dtype=torch.float64, device="auto"):
        self.d, self.p = check_count("d", d), check_count("p", p)
        self.activation: Activation = get_activation(activation)
        self.seed, self.dtype = check_count("seed", seed, minimum=0), check_float_dtype(dtype)
        self.device = resolve_device(device, dtype)
        # Drawn on the CPU whatever the device, since the generators of CPU and CUDA differ; scaled in place, so that
        # V is never held twice.
        V = torch.randn(self.p, self.d, generator=seeded_generator("features", seed), dtype=dtype)
        self.V = V.div_(math.sqrt(self.d)).to(self.device)

    def __repr__(self):
        return (
            f"RandomFeatures(d={self.d}, p={self.p}, activation={self.activation.name!r}, seed={self.seed}, "
            f"dtype={self.dtype}, device='{self.device}')"
        )

    def _to(self, X: torch.Tensor) -> torch.Tensor:
        return X.to(self.device, self.dtype)

    def __call__(self, X: torch.Tensor) -> torch.Tensor:
        """Features of the rows of X.

        Args:
            X: (n, d), finite.

        Returns:
            (n, p), on the features' device and in their dtype.

        Raises:
            TypeError, ValueError: X is no floating (n, d) tensor of finite numbers.
        """
        return self.activation(self._to(check_matrix("X", X, self.d)) @ self.V.T)

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
            θ*: (p,) for y of shape (n,), (K, p) for (n, K).

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

    def lift(self, U, lifted=True, dtype=None, derivative=None) -> RandomFeaturesLift:
        """Columns of the atoms U (one each, or two: :mod:`reconlaw.lift`) and products with their Jacobian."""
        return RandomFeaturesLift(self, U, lifted, dtype or self.dtype, derivative)
