"""The sphere of radius √d."""

from __future__ import annotations

import math

import torch


def to_sphere(U: torch.Tensor) -> torch.Tensor:
    """Rows of U put at norm √d."""
    return U * (math.sqrt(U.shape[1]) / U.norm(dim=1, keepdim=True).clamp_min(torch.finfo(U.dtype).tiny))
