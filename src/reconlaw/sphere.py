"""The sphere of radius √d."""

from __future__ import annotations

import math

import torch


def to_sphere(U: torch.Tensor) -> torch.Tensor:
    """Rows of U put at norm √d."""
    return U * (math.sqrt(U.shape[1]) / U.norm(dim=1, keepdim=True).clamp_min(torch.finfo(U.dtype).tiny))


def distances(X: torch.Tensor, Y: torch.Tensor, parity: str) -> torch.Tensor:
    """(m, n) distances of rows, up to sign where features of that parity do not tell x from −x."""
    far = torch.cdist(X, Y)
    return far if parity == "mixed" else torch.minimum(far, torch.cdist(X, -Y))


def draw(count: int, d: int, generator: torch.Generator, like: torch.Tensor | None = None) -> torch.Tensor:
    """Rows uniform on the sphere, (count, d): drawn on the CPU in the dtype of ``like``, and moved to where that is.

    float64 on the CPU where there is none.
    """
    dtype = torch.float64 if like is None else like.dtype
    made = torch.randn(count, d, device="cpu", generator=generator, dtype=dtype)
    return to_sphere(made if like is None else made.to(like.device))
