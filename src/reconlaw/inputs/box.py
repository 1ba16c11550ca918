r"""Boxes and free space: pixels between their least and greatest value, and inputs of which nothing is known.

A bound is knowledge. Half of the pixels of a handwritten digit are exactly 0, and a coordinate that rests on its bound
is one unknown less, so that a box can be solved where free space cannot.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from numpy.typing import ArrayLike

from .._checks import as_tensor, check_count, check_finite
from .._random import fingerprint_of
from .inputs import Inputs


class Free(Inputs):
    """All of R^d: d unknown numbers a sample. For maps that see norms, such as a body with biases.

    Args:
        scale: standard deviation of a coordinate of a start.
    """

    def __init__(self, scale: float = 1.0):
        self.scale = float(scale)
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale={scale!r} must be a finite number > 0")

    def __repr__(self):
        return "Free()" if self.scale == 1 else f"Free(scale={self.scale:g})"

    def retract(self, U: torch.Tensor) -> torch.Tensor:
        return U

    def starts(self, count: int, k: int, generator: torch.Generator) -> torch.Tensor:
        return self.scale * torch.randn(count, k, generator=generator, dtype=torch.float64, device="cpu")

    def towards(self, directions: torch.Tensor) -> torch.Tensor:
        return self.scale * directions


class Box(Inputs):
    r"""low ≤ x ≤ high, coordinate by coordinate.

    Args:
        low: a number, or (d,) numbers.
        high: the same; nowhere below ``low``. A coordinate with low = high is known.
        levels: of the values a coordinate may take, evenly spaced from low to high: 256 for pixels of eight bits. The
            samples are rounded to them at the end where that explains θ better than their neighbours do.

    Raises:
        TypeError, ValueError: bounds that are no numbers, of unequal length, or the wrong way round; fewer than two
            levels.

    Example:
        >>> Box(0.0, 1.0).retract(torch.tensor([[-0.5, 0.5, 1.5]]))
        tensor([[0.0000, 0.5000, 1.0000]])
    """

    def __init__(self, low: ArrayLike, high: ArrayLike, levels: int | None = None) -> None:
        self.low, self.high = (_bound(name, value) for name, value in (("low", low), ("high", high)))
        if self.low.ndim and self.high.ndim and len(self.low) != len(self.high):
            raise ValueError(f"low has {len(self.low)} coordinates and high {len(self.high)}; pass d of each, or one")
        crossed = self.low > self.high
        if bool(crossed.any()):
            where = int(crossed.reshape(-1).nonzero()[0]) if crossed.ndim else 0
            ends = [float(b.reshape(-1)[where if b.ndim else 0]) for b in (self.low, self.high)]
            raise ValueError(
                f"low = {ends[0]:g} is above high = {ends[1]:g} in {int(crossed.sum())} coordinates, the first "
                f"of them {where}; swap the two bounds"
            )
        if not bool((self.low < self.high).any()):
            raise ValueError("low equals high in every coordinate: the samples are known, nothing is left to find")
        self.levels = None if levels is None else check_count("levels", levels, minimum=2)

    def __repr__(self):
        low, high = (
            f"{float(b):g}" if b.ndim == 0 else f"({len(b)} numbers {fingerprint_of(b)})" for b in (self.low, self.high)
        )
        return f"Box({low}, {high}" + (f", levels={self.levels})" if self.levels else ")")

    @property
    def signs(self) -> bool:
        """Whether −x is in the box for some x near none of its sides: then low and high are of opposite sign."""
        return bool((self.low < 0).all() and (self.high > 0).all() and torch.allclose(-self.low, self.high, rtol=0.2))

    def check(self, d: int) -> None:
        for name, bound in (("low", self.low), ("high", self.high)):
            if bound.ndim and len(bound) != d:
                raise ValueError(f"the box's {name} has {len(bound)} coordinates; inputs of these features have {d}")

    def unknowns(self, d: int) -> int:
        return d if self.low.ndim == self.high.ndim == 0 else int((self.low < self.high).sum())

    def bounds(self, U: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.low.to(U), self.high.to(U)

    def retract(self, U: torch.Tensor) -> torch.Tensor:
        return torch.minimum(torch.maximum(U, self.low.to(U)), self.high.to(U))

    def starts(self, count: int, k: int, generator: torch.Generator) -> torch.Tensor:
        draw = torch.rand(count, k, generator=generator, dtype=torch.float64, device="cpu")
        return self.low + draw * (self.high - self.low)

    def towards(self, directions: torch.Tensor) -> torch.Tensor:
        """From the middle of the box a quarter of its width a standard deviation along the directions."""
        low, high = self.bounds(directions)
        return self.retract((low + high) / 2 + directions * (high - low) / 4)

    def rounded(self, U: torch.Tensor) -> torch.Tensor:
        if self.levels is None:
            return U
        low, step = self.bounds(U)[0], self.step(U).clamp_min(torch.finfo(U.dtype).tiny)
        return self.retract(low + ((U - low) / step).round() * step)

    def step(self, like: torch.Tensor) -> torch.Tensor:
        low, high = self.bounds(like)
        return (high - low) / (self.levels - 1) if self.levels else torch.zeros_like(high)


def pixels(
    shape: Sequence[int],
    mean: ArrayLike = 0.0,
    std: ArrayLike = 1.0,
    low: float = 0.0,
    high: float = 1.0,
    levels: int | None = None,
) -> Box:
    r"""The :class:`Box` of standardised pictures: low ≤ mean + std·x ≤ high, channel by channel.

    Args:
        shape: of one picture: (C, H, W), or (H, W) of a grey one; rows of X are pictures flattened in this order.
        mean: subtracted from a pixel before the model sees it: a number, or one a channel.
        std: what it is then divided by: a number > 0, or one a channel.
        low: least value of a raw pixel: 0 for pixels in [0, 1] and for those in [0, 255].
        high: greatest value of a raw pixel.
        levels: see :class:`Box`; 256 for eight bits.

    Raises:
        ValueError: a shape that is no picture's; mean or std of another number of channels; std ≤ 0; low ≥ high.

    Example:
        >>> pixels((3, 32, 32), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)).bounds(torch.zeros(1, 3072))[1].unique()
        tensor([2.])
    """
    shape = tuple(check_count("shape", side) for side in (shape if isinstance(shape, tuple | list) else (shape,)))
    if len(shape) not in (2, 3):
        raise ValueError(f"shape={shape} is no picture; pass (C, H, W), or (H, W) of a grey one")
    channels = shape[0] if len(shape) == 3 else 1
    offset, scale = (_channels(name, value, channels, shape) for name, value in (("mean", mean), ("std", std)))
    if not bool((scale > 0).all()):
        raise ValueError(f"std={std!r} must be above 0 in every channel")
    if not float(low) < float(high):
        raise ValueError(f"low={low!r} must be below high={high!r}")
    area = math.prod(shape) // channels
    ends = [((float(end) - offset) / scale).repeat_interleave(area) for end in (low, high)]
    return Box(ends[0], ends[1], levels=levels)


def _bound(name, value):
    bound = as_tensor(value)
    if bound.is_complex() or bound.dtype == torch.bool:
        raise TypeError(f"{name} has dtype {bound.dtype}; pass a number, or d numbers")
    bound = check_finite(name, bound.detach().double().cpu())
    if bound.ndim > 1 or bound.numel() == 0:
        raise ValueError(f"{name} has shape {tuple(bound.shape)}; pass a number, or (d,) numbers in the order of a row")
    return bound


def _channels(name, value, channels, shape):
    values = check_finite(name, as_tensor(value).detach().double().cpu().reshape(-1))
    if len(values) not in (1, channels):
        raise ValueError(
            f"{name} has {len(values)} numbers; a picture of shape {shape} has {channels} "
            f"channel{'s' if channels > 1 else ''}: pass one number, or one a channel"
        )
    return values.expand(channels)
