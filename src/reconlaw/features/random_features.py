r"""Random features Φ(X) = φ(X Vᵀ) with V fixed at random, and regression on them.

Source: Rahimi and Recht, *Random features for large-scale kernel machines* (2007); the setting and the scaling are
those of Iurada et al., arXiv 2509.22214, section 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch

from .._checks import check_count, check_float_dtype, check_matrix
from .._precision import full_precision
from .._random import fingerprint_of, seeded_generator
from . import spectral
from .activations import Activation, check_device, get_activation
from .feature_map import FeatureMap
from .gram import StepError, as_step
from .hermite import most_samples, polynomial_degrees
from .lift import Lift, RandomFeaturesLift
from .passes import count_passes

COARSE_NUMBERS = 1 << 28
_DRAWN_AT_ONCE = 1 << 24  # numbers of V that the CPU holds at a time, for another device


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
        device: "auto" (CUDA, else MPS for float32, else CPU) or any torch device. Consumer cards do float64 at 1/32 to
            1/64 of their float32 speed, and may be slower at it than the CPU; MPS has none.

    Attributes:
        V: (p, d).
        activation: the :class:`~reconlaw.features.activations.Activation`.

    Raises:
        TypeError: dtype is neither float32 nor float64, or the activation is neither name nor callable.
        ValueError: d, p or seed outside its range, an unknown activation or device, or one that is not there.
    """

    activation: Activation
    V: torch.Tensor
    _selection = ""
    _lift_type: type[RandomFeaturesLift] = RandomFeaturesLift

    def __init__(
        self,
        d: int,
        p: int,
        activation: str | Callable = "relu",
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "auto",
    ) -> None:
        super().__init__(d, p, dtype, device)
        self.activation = get_activation(activation)
        check_device(self.activation, self.device)
        self.seed = check_count("seed", seed, minimum=0)
        try:
            with as_step():
                self.V = _draw_rows(self.p, self.d, seeded_generator("features", seed), dtype, self.device)
        except StepError as error:
            raise ValueError(f"p={p} features of d={d} numbers do not fit into memory ({error}); pass fewer") from error

    def to(self, dtype: torch.dtype) -> RandomFeatures:
        """The same features in another dtype, V rounded."""
        return self._changed(dtype=check_float_dtype(dtype), V=self.V.to(dtype))

    def __repr__(self):
        return self._selection or (
            f"RandomFeatures(d={self.d}, p={self.p}, activation={self.activation.name!r}, seed={self.seed}, "
            f"dtype={self.dtype}, device='{self.device}')"
        )

    def apply(self, X: torch.Tensor) -> torch.Tensor:
        """φ(XVᵀ), (n, p), of rows that are trusted."""
        return self.activation(X @ self.V.to(X.dtype).T)

    @full_precision()
    def __call__(self, X: torch.Tensor) -> torch.Tensor:
        """As of :class:`FeatureMap`, with a graph where X asks for it."""
        return self.apply(self._to(check_matrix("X", X, self.d)))

    def lift(
        self,
        U: torch.Tensor,
        lifted: bool = True,
        dtype: torch.dtype | None = None,
        derivative: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> Lift:
        return self._lift_type(self, U, lifted, dtype or self.dtype, derivative)

    @cached_property
    def parity(self) -> str:
        """That of the activation."""
        return self.activation.parity

    def rank(self, count: int) -> int:
        r"""p, since independent neurons have independent features; or what a polynomial φ leaves of it.

        φ of degree m gives polynomials in x, on the sphere those of the highest even and of the highest odd degree k
        among its powers: C(d + k − 1, k) dimensions each.
        """
        spans = [math.comb(self.d + k - 1, k) for k in polynomial_degrees(self.activation)]
        return min([self.p, sum(spans)]) if spans else self.p

    def most_samples(self) -> float:
        """2 or 1 where φ is a polynomial of degree 2 at most (:func:`~reconlaw.features.hermite.most_samples`)."""
        return most_samples(self.activation)

    def directions(self, R: torch.Tensor, k: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """By the moments of V (:mod:`reconlaw.features.spectral`)."""
        return spectral.directions(self, R, k, generator)

    def without_linear_part(self, R: torch.Tensor) -> torch.Tensor:
        """R less its fit by the constant and the columns of V."""
        return spectral.without_linear_part(self, R)

    def column_norm(self, generator: torch.Generator) -> float:
        """(p E φ(z)²)^{1/2}, z ~ N(0, 1)."""
        z = torch.randn(1 << 16, device="cpu", generator=generator, dtype=torch.float64)
        return (float(self.activation(z).square().mean()) * self.p) ** 0.5

    def coarse(self) -> RandomFeatures | None:
        """These in float32, where the copy of V takes a gigabyte at most."""
        return self.to(torch.float32) if self.dtype == torch.float64 and self.V.numel() <= COARSE_NUMBERS else None

    def jacobians(
        self, W: torch.Tensor, taken: Any = None, dtype: torch.dtype | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """By φ' and V; taken anew each time."""
        count_passes(len(W) * (1 + self.d))
        V = self.V.to(dtype or torch.float32)
        return W, self.activation.derivative(W.to(V) @ V.T)[:, None, :] * V.T

    def sample(self, count: int, generator: torch.Generator) -> tuple[FeatureMap, torch.Tensor] | None:
        """With these rows of V, in their order."""
        index = torch.randperm(self.p, device="cpu", generator=generator)[:count].sort().values.to(self.device)
        # Not by select, whose name holds a digest of V: seconds where V is large.
        return self._changed(V=self.V[index], p=count, _selection=f"{count} of {self!r}"), index

    def select(self, index: torch.Tensor) -> RandomFeatures:
        """Random features of the rows of V in ``index``."""
        V = self.V[index]
        name = f"known({self!r}, {len(V)} coordinates, fingerprint='{fingerprint_of(V)}')"
        return self._changed(V=V, p=len(V), _selection=name)


def _draw_rows(p, d, generator, dtype, device) -> torch.Tensor:
    """(p, d) entries N(0, 1/d), the same on every device: drawn on the CPU, since generators differ, and moved.

    In blocks, so that the CPU never holds all of what another device shall hold. Torch's normal draws come by sixteens:
    blocks of whole sixteens, the last with what remains, give the numbers of one draw.
    """
    scale = math.sqrt(d)
    rows = 16 * max(1, _DRAWN_AT_ONCE // (16 * d))
    if device.type == "cpu" or p < 2 * rows:  # scaled in place, so that V is never held twice
        return torch.randn(p, d, device="cpu", generator=generator, dtype=dtype).div_(scale).to(device)
    V = torch.empty(p, d, dtype=dtype, device=device)
    starts = list(range(0, p - rows + 1, rows))
    for start, end in zip(starts, [*starts[1:], p], strict=True):
        block = torch.randn(end - start, d, device="cpu", generator=generator, dtype=dtype)
        V[start:end] = block.div_(scale).to(device)
    return V
