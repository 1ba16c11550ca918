r"""Known columns beside the unknown ones: θ = AᵀΦ(X) + C R, with R known.

Training leaves more in θ than the samples' features where something known was added: weight decay adds a multiple of
the old weights, samples that the attacker holds already their own features. Off the span of R's rows nothing of that is
left, and with P the projector off them

    θP = AᵀΦ(X)P:

the same problem for the features Φ(x)P, of p − rank R equations an output. No number of C needs to be known.
"""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike

from .._checks import as_tensor, check_finite
from .._random import fingerprint_of
from .decompose import svd
from .feature_map import FeatureMap


class Rows:
    """The projector P off the span of rows (m, p); ``known`` is an orthonormal basis of it."""

    def __init__(self, rows: torch.Tensor):
        _, s, Q = svd(rows.double() if rows.device.type != "mps" else rows)
        self.known = Q[s > 1e-10 * s[0]]

    def off(self, C: torch.Tensor) -> torch.Tensor:
        """C P, for C of shape (…, p)."""
        Q = self.known.to(C)
        return C - (C @ Q.T) @ Q


class Apart(Rows, FeatureMap):
    """Φ(x)P, P the projector off known rows: what :func:`apart` makes."""

    def __init__(self, features: FeatureMap, rows: torch.Tensor):
        FeatureMap.__init__(self, features.d, features.p, features.dtype, features.device)
        Rows.__init__(self, rows)
        self.features, self.positions = features, features.positions
        self.known = self.known.to(self.device, self.dtype)

    def __repr__(self):
        return f"apart({self.features!r}, {len(self.known)} known rows, fingerprint='{fingerprint_of(self.known)}')"

    def apply(self, X: torch.Tensor) -> torch.Tensor:
        return self.off(self.features.apply(X).unflatten(1, (self.positions, -1))).flatten(1)

    def check_theta(self, theta, outputs=None):
        """θP of θ (p,) or (K, p): what is known of θ is taken out of it."""
        return self.off(self.features.check_theta(theta, outputs))

    def rank(self, count):
        return min(super().rank(count), self.p - len(self.known))


def apart(features: FeatureMap, rows: ArrayLike) -> FeatureMap:
    r"""The feature map off known rows: ``reconstruct(theta, apart(features, W0), n)`` undoes weight decay.

    SGD with weight decay leaves θ = (c − 1)W₀ + AᵀΦ(X), coupled, decoupled or scheduled, with or without momentum: the
    old weights only ever shrink. Pass them as ``rows``. Samples that are known are
    ``rows = features(X_known)``: what is left of θ is the others', as in a pair of models with and without one sample.

    Args:
        features: any feature map.
        rows: (m, p), or (p,), of any scale and rank < p; of a layer of :func:`reconlaw.below` also in its weight's own
            shape.

    Returns:
        A feature map of p features, m or fewer of whose equations are gone. θ is passed as it is.

    Raises:
        TypeError: no feature map.
        ValueError: rows of another width, not finite, all zero, or of rank p.

    Example:
        >>> from reconlaw import RandomFeatures
        >>> features = RandomFeatures(d=3, p=8, device="cpu")
        >>> W0 = torch.ones(2, 8, dtype=torch.float64)
        >>> bool((apart(features, W0)(torch.ones(1, 3, dtype=torch.float64)).sum().abs() < 1e-12).all())
        True
    """
    if not isinstance(features, FeatureMap):
        raise TypeError(f"features is a {type(features).__name__}; apart takes a feature map")
    if features.divided:
        raise ValueError("features divided among processes hold parts of the rows; take known rows out on one process")
    rows = check_finite("rows", as_tensor(rows)).detach()
    rows = features.check_theta(rows)
    if not bool(rows.any()):
        raise ValueError("rows are all zero: there is nothing known to take out; use the features themselves")
    made = Apart(features, rows)
    if len(made.known) >= features.p:
        raise ValueError(
            f"rows have rank {len(made.known)}, all of the p = {features.p} dimensions: nothing is left beside them"
        )
    return made
