r"""Part of the parameters: the feature map of the coordinates that an attacker knows.

With θ = Φ(X)ᵀa and a set S of known coordinates, θ_S = Φ_S(X)ᵀa, Φ_S the columns of Φ in S. For random features these
are Φ_S(X) = φ(X V_Sᵀ), V_S the rows of V in S: the same problem with |S| features, and, where S was chosen without a
look at V, rows of the same law.

Source: the setting is that of Iurada et al., arXiv 2509.22214; its restriction to coordinates is ours.
"""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike

from .._checks import as_tensor
from .feature_map import FeatureMap


def known(features: FeatureMap, index: ArrayLike) -> FeatureMap:
    r"""The feature map of some coordinates of θ: ``reconstruct(theta[..., index], known(features, index), n)``.

    Of random features it keeps the rows of V in ``index``, and their fast kernels; of other maps it selects features,
    so that a body is still evaluated whole.

    Args:
        features: any :class:`~reconlaw.FeatureMap`.
        index: coordinates of θ, each at most once: whole numbers from 0 to p − 1 in any order, or p booleans.

    Returns:
        A feature map of p = len(index) features, in the order of ``index``.

    Raises:
        TypeError: no feature map, or an index of other than whole numbers or booleans.
        ValueError: an index that is empty, repeats a coordinate, or leaves the range.

    Example:
        >>> from reconlaw import RandomFeatures
        >>> features = RandomFeatures(d=3, p=8, device="cpu")
        >>> part = known(features, [5, 2])
        >>> X = torch.ones(1, 3, dtype=torch.float64)
        >>> bool((part(X) == features(X)[:, [5, 2]]).all())
        True
    """
    if not isinstance(features, FeatureMap):
        raise TypeError(f"features is a {type(features).__name__}; known takes a feature map")
    return features.select(_check_index(index, features.p).to(features.device))


def _check_index(index, p: int) -> torch.Tensor:
    """``index`` as a long tensor."""
    index = as_tensor(index)
    if index.is_floating_point() and index.numel() or index.is_complex():
        raise TypeError(f"index has dtype {index.dtype}; pass whole numbers, or p = {p} booleans")
    if index.ndim != 1 or (index.dtype == torch.bool and len(index) != p):
        raise ValueError(f"index has shape {tuple(index.shape)}; expected (m,) whole numbers, or ({p},) booleans")
    index = index.nonzero()[:, 0] if index.dtype == torch.bool else index.long()
    if len(index) == 0:
        raise ValueError("index is empty: with no known coordinate there is nothing to reconstruct from")
    if int(index.min()) < 0 or int(index.max()) >= p:
        raise ValueError(f"index reaches from {int(index.min())} to {int(index.max())}; coordinates are 0 to {p - 1}")
    if len(index.unique()) < len(index):
        raise ValueError("index repeats a coordinate, which would count its equation twice; drop the copies")
    return index
