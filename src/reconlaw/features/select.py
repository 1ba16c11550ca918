r"""Part of the parameters: the feature map of the coordinates that an attacker knows.

With θ = Φ(X)ᵀa and a set S of known coordinates, θ_S = Φ_S(X)ᵀa, Φ_S the columns of Φ in S. For random features these
are Φ_S(X) = φ(X V_Sᵀ), V_S the rows of V in S: the same problem with |S| features, and, where S was chosen without a
look at V, rows of the same law.

Source: the setting is that of Iurada et al., arXiv 2509.22214; its restriction to coordinates is ours.
"""

from __future__ import annotations

import torch
from torch import nn

from .._checks import as_tensor
from .layer_features import LayerFeatures
from .module_features import ModuleFeatures
from .random_features import RandomFeatures


class _Outputs(nn.Module):
    """Some of a body's features."""

    def __init__(self, body, index):
        super().__init__()
        self.body = body
        self.register_buffer("index", index)

    def forward(self, x):
        return self.body(x).flatten(1)[:, self.index]


def known(features, index):
    r"""The feature map of some coordinates of θ: ``reconstruct(theta[..., index], known(features, index), n)``.

    Of random features it keeps the rows of V in ``index``, and their fast kernels; of a module's features it selects
    outputs, so that the body is still evaluated whole.

    Args:
        features: a :class:`~reconlaw.features.random_features.RandomFeatures`,
            :class:`~reconlaw.networks.LayerFeatures` or :class:`~reconlaw.features.module_features.ModuleFeatures`.
        index: coordinates of θ, each at most once: whole numbers from 0 to p − 1 in any order, or p booleans.

    Returns:
        A feature map of p = len(index) features, in the order of ``index``.

    Raises:
        TypeError: another feature map, or an index of other than whole numbers or booleans.
        ValueError: an index that is empty, repeats a coordinate, or leaves the range.

    Example:
        >>> features = RandomFeatures(d=3, p=8, device="cpu")
        >>> part = known(features, [5, 2])
        >>> X = torch.ones(1, 3, dtype=torch.float64)
        >>> bool((part(X) == features(X)[:, [5, 2]]).all())
        True
    """
    if not isinstance(features, RandomFeatures | ModuleFeatures):
        raise TypeError(f"features is a {type(features).__name__}; known takes random, layer or module features")
    index = _check_index(index, features.p).to(features.device)
    if isinstance(features, RandomFeatures):
        part = LayerFeatures(features.V[index], features.activation, device=features.device)
        part.basis = getattr(features, "basis", None)
        return part
    body = _Outputs(features._modules[features.dtype], index)
    return ModuleFeatures(body, features.input_shape, features.dtype, features.device)


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
