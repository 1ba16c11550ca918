"""What every domain of inputs declares: its coordinates, how to step in them, where to start, and what they count."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn


class Inputs(ABC):
    r"""A set of inputs x ∈ R^d, described by coordinates u ∈ R^k: x = g(u), g the identity where k = d.

    The search moves in the coordinates and asks for everything here; a domain of one's own is a subclass.
    """

    @property
    def signs(self) -> bool:
        """Whether u and −u are both possible, so that the parity lift has something to settle."""
        return True

    levels: int | None = None  # of a grid that every coordinate lies on

    def check(self, d: int) -> None:  # noqa: B027  (most domains fit inputs of any dimension)
        """Raise ValueError where this domain does not fit inputs of dimension d."""

    def coordinates(self, d: int) -> int:
        """k, the dimension of the coordinates of inputs of dimension d."""
        return d

    def unknowns(self, d: int) -> int:
        """Unknown numbers of one sample, its coefficients aside: k, one less on a sphere."""
        return self.coordinates(d)

    def decoder(self, d: int) -> nn.Module | None:
        """g, a module from (n, k) to (n, d); None where it is the identity."""
        return None

    def latent(self) -> bool:
        """Whether the coordinates are worth reporting beside the inputs."""
        return False

    @abstractmethod
    def retract(self, U: torch.Tensor) -> torch.Tensor:
        """The points of the domain nearest the rows of U, (n, k), or near it."""

    def tangent(self, U: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        """δ (n, k) without what leaves the domain at U to first order, bounds aside."""
        return delta

    def moves(self, U: torch.Tensor) -> torch.Tensor | None:
        """Orthonormal columns (n k, m) along which all samples U (n, k) may move, where one's moves depend on the
        others'; None where each sample moves by itself."""
        return None

    def bounds(self, U: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Lower and upper bounds, each to broadcast against U (n, k); None where there are none."""
        return None

    def rounded(self, U: torch.Tensor) -> torch.Tensor:
        """The rows of U (n, k) on the grid of ``levels``; U itself where there are none."""
        return U

    def step(self, like: torch.Tensor) -> torch.Tensor:
        """The distance between two levels, to broadcast against ``like`` (n, k); zero where there are none."""
        return torch.zeros_like(like[:1])

    def active(self, U: torch.Tensor) -> torch.Tensor:
        """(n, k) bool: the coordinates that lie on a bound, to half the digits of their dtype."""
        bounds = self.bounds(U)
        if bounds is None:
            return torch.zeros_like(U, dtype=torch.bool)
        near = torch.finfo(U.dtype).eps ** 0.5 * (bounds[1] - bounds[0])
        return (U <= bounds[0] + near) | (U >= bounds[1] - near)

    @abstractmethod
    def starts(self, count: int, k: int, generator: torch.Generator) -> torch.Tensor:
        """(count, k) points to start from, in k coordinates, drawn in float64 on the CPU."""

    def towards(self, directions: torch.Tensor) -> torch.Tensor:
        """Points of the domain (m, k) that lie along directions (m, k) of norm √k: starts from spectral directions."""
        return self.retract(directions)
