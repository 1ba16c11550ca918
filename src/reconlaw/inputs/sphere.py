"""The sphere: samples of one norm, the setting of the law."""

from __future__ import annotations

import math

import torch
from torch import nn

from .._checks import check_positive
from ..sphere import draw, to_sphere
from .inputs import Inputs


class _Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, U):
        return U * self.factor


def domain_of(inputs: Inputs | None) -> Inputs:
    """The domain that is asked for; the sphere of radius √d where None.

    Raises:
        TypeError: it is none.
    """
    if inputs is None:
        return Sphere()
    if not isinstance(inputs, Inputs):
        raise TypeError(f"inputs is a {type(inputs).__name__}; pass one of reconlaw.inputs, such as Box(0.0, 1.0)")
    return inputs


class Sphere(Inputs):
    """Inputs of one norm: d − 1 unknown numbers a sample.

    Args:
        radius: of the sphere; √d where None.

    Raises:
        ValueError: the radius is no finite number > 0.
    """

    def __init__(self, radius: float | None = None) -> None:
        self.radius = None if radius is None else check_positive("radius", radius)

    def __repr__(self):
        return "Sphere()" if self.radius is None else f"Sphere({self.radius:g})"

    def unknowns(self, d: int) -> int:
        return d - 1

    def decoder(self, d: int) -> nn.Module | None:
        """Coordinates have norm √d whatever the radius: starts and spectral directions are made for it."""
        if self.radius is None or math.isclose(self.radius, math.sqrt(d), rel_tol=1e-12):
            return None
        return _Scale(self.radius / math.sqrt(d))

    def retract(self, U: torch.Tensor) -> torch.Tensor:
        return to_sphere(U)

    def tangent(self, U: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        return delta - U * ((delta * U).sum(1, keepdim=True) / (U * U).sum(1, keepdim=True))

    def starts(self, count: int, k: int, generator: torch.Generator) -> torch.Tensor:
        return draw(count, k, generator)
