"""A feature map on the coordinates of a domain: u ↦ Φ(g(u)), so that the attack moves in what is unknown."""

from __future__ import annotations

import copy

import torch
from torch import nn

from .._random import fingerprint_of
from ..features.feature_map import FeatureMap
from ..inputs import Inputs


class Coordinates(FeatureMap):
    """Φ(g(u)) of coordinates u ∈ R^k, g a module from (n, k) to the (n, d) that ``features`` take."""

    def __init__(self, features: FeatureMap, decoder: nn.Module, k: int):
        super().__init__(k, features.p, features.dtype, features.device)
        self.features, self.positions = features, features.positions
        self._decoders: dict[torch.dtype, nn.Module] = {}
        with torch.inference_mode(False):
            self._decoder = copy.deepcopy(decoder).to(self.device, self.dtype).eval().requires_grad_(False)
        self._name = fingerprint_of(*self._decoder.state_dict().values())

    def __repr__(self):
        return f"Coordinates({self.features!r}, k={self.d}, fingerprint='{self._name}')"

    def decode(self, U):
        """g(U), in U's dtype."""
        if U.dtype == self.dtype:
            return self._decoder(U)
        if U.dtype not in self._decoders:
            self._decoders[U.dtype] = copy.deepcopy(self._decoder).to(U.dtype)
        return self._decoders[U.dtype](U)

    def apply(self, U):
        return self.features.apply(self.decode(U))

    def rank(self, count):
        """That of the features themselves: their inputs here are no draws of a sphere."""
        return self.features.rank(count)


def through(features: FeatureMap, inputs: Inputs) -> FeatureMap:
    """The feature map on the coordinates of ``inputs``: ``features`` themselves where these are the inputs.

    Raises:
        ValueError: the domain does not fit the features' inputs.
    """
    inputs.check(features.d)
    decoder = inputs.decoder(features.d)
    return features if decoder is None else Coordinates(features, decoder, inputs.coordinates(features.d))


def decoded(features: FeatureMap, U: torch.Tensor) -> torch.Tensor:
    """The inputs (n, d) of coordinates U (n, k) under what :func:`through` returned."""
    if not isinstance(features, Coordinates):
        return U
    with torch.no_grad():
        return features.decode(U)


def homogeneous(features: FeatureMap, X: torch.Tensor) -> bool:
    """Whether the features of 2x are those of x times a number, at the rows of X: then no θ tells the norm of x."""
    F, G = features(X), features(2 * X)
    along = (F * G).sum(1) / F.square().sum(1).clamp_min(1e-300)
    rounding = 1e-9 if features.dtype == torch.float64 else 1e-4
    return bool(((G - along[:, None] * F).norm(dim=1) <= rounding * G.norm(dim=1)).all())
