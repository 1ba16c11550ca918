"""Feature maps of layers of a network: one with given weights, and a body on the inputs of a subspace."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from .._checks import check_matrix
from .._random import fingerprint_of
from ..sphere import to_sphere
from .activations import check_device, get_activation
from .decompose import pinv
from .feature_map import FeatureMap
from .random_features import RandomFeatures


class _InSpan:
    """Coordinates in ``basis``, scaled to (r, d) rows of norm √(d/r); None where they are the inputs themselves."""

    basis: torch.Tensor | None

    def inputs(self, C: torch.Tensor) -> torch.Tensor:
        """Inputs of coordinates C, (n, r) to (n, d)."""
        return C if self.basis is None else C @ self.basis.to(C)

    def coordinates(self, X: torch.Tensor) -> torch.Tensor:
        """Coordinates of inputs X, (n, d) to (n, r), at norm √r; X itself without a basis."""
        return X if self.basis is None else to_sphere(X @ pinv(self.basis.to(X)))


class LayerFeatures(_InSpan, RandomFeatures):
    r"""Φ(X) = φ(X Vᵀ) with V given, such as the first layer of a :class:`TwoLayer` network without bias.

    Faster than :class:`~reconlaw.features.module_features.ModuleFeatures` on the same layer. The spectral start and
    message passing take the rows of V for draws from N(0, I/d): near it, as after small steps of training, they still
    serve.

    Args:
        V: (p, d).
        activation: as for :class:`~reconlaw.features.random_features.RandomFeatures`.
        basis: (r, d) orthonormal rows, see :func:`input_span`: seek samples in their span, as c Q √(d/r) with c of
            norm √r; ``inputs`` maps c back.
        device: as for RandomFeatures; the dtype is V's.
    """

    def __init__(
        self,
        V: torch.Tensor,
        activation: str | Callable = "relu",
        basis: torch.Tensor | None = None,
        device: str | torch.device = "auto",
    ) -> None:
        V = check_matrix("V", V).detach()
        self.basis = None
        if basis is not None:
            basis = check_matrix("basis", basis, V.shape[1]).detach()
            self.basis = basis.to(V) * math.sqrt(basis.shape[1] / basis.shape[0])
            V = V @ self.basis.T
        FeatureMap.__init__(self, V.shape[1], V.shape[0], V.dtype, device)
        self.activation = get_activation(activation)
        check_device(self.activation, self.device)
        self.V = V.clone().to(self.device)
        self.fingerprint = fingerprint_of(V)

    def __repr__(self):
        return self._selection or (
            f"LayerFeatures(d={self.d}, p={self.p}, activation={self.activation.name!r}, dtype={self.dtype}, "
            f"device='{self.device}', fingerprint='{self.fingerprint}')"
        )


class Restricted(_InSpan, nn.Module):
    r"""A body on the inputs of a subspace: c ↦ body(√(d/r)·c Q), Q (r, d) orthonormal rows.

    A c of norm √r becomes an input of norm √d. ``reconstruct`` on its features finds X̂ = C Q √(d/r), r numbers a sample
    in place of d; ``inputs`` maps them back.
    """

    def __init__(self, body: nn.Module, basis: torch.Tensor) -> None:
        super().__init__()
        self.body, basis = body, check_matrix("basis", basis)
        self.register_buffer("basis", basis.detach().clone() * math.sqrt(basis.shape[1] / basis.shape[0]))

    def forward(self, C: torch.Tensor) -> torch.Tensor:
        return self.body(self.inputs(C))
