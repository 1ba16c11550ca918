"""The sphere of radius √d."""

from __future__ import annotations

import math

import torch


def to_sphere(U: torch.Tensor) -> torch.Tensor:
    """Rows of U put at norm √d."""
    return U * (math.sqrt(U.shape[1]) / U.norm(dim=1, keepdim=True).clamp_min(torch.finfo(U.dtype).tiny))


def draw(count: int, d: int, generator: torch.Generator) -> torch.Tensor:
    """Rows uniform on the sphere, (count, d), float64, on the CPU."""
    return to_sphere(torch.randn(count, d, device="cpu", generator=generator, dtype=torch.float64))
