"""The activations that have a name: φ and φ', each elementwise."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

Elementwise = Callable[[torch.Tensor], torch.Tensor]


def _gelu_derivative(z: torch.Tensor) -> torch.Tensor:
    return torch.special.ndtr(z) + z * (torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi))


def _silu_derivative(z: torch.Tensor) -> torch.Tensor:
    s = torch.sigmoid(z)
    return s * (1 + z * (1 - s))


def _step(z: torch.Tensor) -> torch.Tensor:
    return (z > 0).to(z.dtype)


def _sech2(z: torch.Tensor) -> torch.Tensor:
    return 1 - torch.tanh(z) ** 2


def relu_and_tanh(z: torch.Tensor) -> torch.Tensor:
    """φ(z) = max(z, 0) + tanh z."""
    return F.relu(z) + torch.tanh(z)


# name: (φ, φ'), each elementwise
BUILT_IN: dict[str, tuple[Elementwise, Elementwise]] = {
    "relu": (F.relu, _step),
    "tanh": (torch.tanh, _sech2),
    "gelu": (F.gelu, _gelu_derivative),
    "softplus": (lambda z: F.softplus(z, threshold=40), torch.sigmoid),  # torch's threshold of 20 is a jump of 2e-9
    "silu": (F.silu, _silu_derivative),
    "erf": (torch.erf, lambda z: 2 / math.sqrt(math.pi) * torch.exp(-z * z)),
    "abs": (torch.abs, torch.sign),
    "relu+tanh": (relu_and_tanh, lambda z: _step(z) + _sech2(z)),
}


def built_in(name: str) -> tuple[Elementwise, Elementwise]:
    """(φ, φ') of a name.

    Raises:
        ValueError: an unknown name.
    """
    if name not in BUILT_IN:
        raise ValueError(f"unknown activation {name!r}; use one of {', '.join(BUILT_IN)}, or a callable")
    return BUILT_IN[name]
