r"""Random features Φ(X) = φ(X Vᵀ) with V fixed at random, and regression on them.

Source: Rahimi and Recht, *Random features for large-scale kernel machines* (2007); the setting and the scaling are
those of Iurada et al., arXiv 2509.22214, section 2.
"""

from __future__ import annotations

import copy
import math

import torch

from .._checks import (
    check_count,
    check_float_dtype,
    check_matrix,
    resolve_device,
)
from .._random import seeded_generator
from .activations import Activation, get_activation
from .feature_map import FeatureMap
from .lift import RandomFeaturesLift


class RandomFeatures(FeatureMap):
    r"""The feature map Φ(X) = φ(X Vᵀ) ∈ R^{n×p}, V ∈ R^{p×d} with i.i.d. N(0, 1/d) entries.

    For a row x with ‖x‖ = √d every pre-activation v_j·x is N(0, 1).

    Args:
        d: dimension of a sample, ≥ 1.
        p: number of features (the parameters of a linear model on them), ≥ 1.
        activation: a name in ``reconlaw.ACTIVATIONS``, an elementwise callable, or an
            :class:`~reconlaw.features.activations.Activation`.
        seed: of V, a whole number ≥ 0; the same seed gives the same V on every device, but not in every dtype.
        dtype: torch.float64 or torch.float32.
        device: "auto" (CUDA, else MPS for float32, else CPU) or any torch device.

    Attributes:
        V: (p, d).
        activation: the :class:`~reconlaw.features.activations.Activation`.

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

    def to(self, dtype: torch.dtype) -> RandomFeatures:
        """The same features in another dtype, V rounded."""
        other = copy.copy(self)
        other.dtype = check_float_dtype(dtype)
        other.V = self.V.to(dtype)
        return other

    def __repr__(self):
        return (
            f"RandomFeatures(d={self.d}, p={self.p}, activation={self.activation.name!r}, seed={self.seed}, "
            f"dtype={self.dtype}, device='{self.device}')"
        )

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

    def lift(self, U, lifted=True, dtype=None, derivative=None) -> RandomFeaturesLift:
        """Columns of the atoms U (one each, or two: :mod:`reconlaw.features.lift`) and products with their Jacobian."""
        return RandomFeaturesLift(self, U, lifted, dtype or self.dtype, derivative)
