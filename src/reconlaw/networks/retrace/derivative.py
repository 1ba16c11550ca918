r"""The derivative of a function that somebody else wrote, along several directions at a time.

Two ways are exact. *Twice backward* (:mod:`reconlaw.features.autograd`): the graph of f is made once for all
directions, and kept meanwhile. *Forward mode* keeps none, but torch takes the way through Python wherever
a tensor meets one that does not depend on q, and a small training takes several times as long. Each is believed where
it gives what a difference gives; where neither does, :func:`difference` is left, which any function has.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
from torch.func import jvp, vmap

from ..._random import seeded_generator
from ...features.autograd import backward_graph, tangents

Function = Callable[[torch.Tensor], torch.Tensor]
Way = Callable[[Function, torch.Tensor, torch.Tensor, int], torch.Tensor]

# An exact derivative is believed where it agrees with a difference along two directions to this.
_AGREES = 0.05
# Bytes that the graph of a function may keep.
_KEPT = 1 << 28
# Directions at a time, at most, and numbers that its largest tensor may have for all of them.
_DIRECTIONS, _NUMBERS = 256, 1 << 22


def twice_backward(f: Function, q: torch.Tensor, directions: torch.Tensor, block: int) -> torch.Tensor:
    """Jv for the rows v of ``directions`` (r, q), ``block`` at a time: (r, …)."""
    with torch.inference_mode(False):
        graph = backward_graph(f, q)
        made = [tangents(graph, part) for part in directions.split(block)]
    return torch.cat(made).detach()


def forward_mode(f: Function, q: torch.Tensor, directions: torch.Tensor, block: int) -> torch.Tensor:
    """The same."""
    made = [vmap(lambda v: jvp(f, (q,), (v,))[1], randomness="same")(part) for part in directions.split(block)]
    return torch.cat(made).detach()


def difference(f: Function, q: torch.Tensor, v: torch.Tensor, h: float) -> torch.Tensor:
    """Jv by a central difference."""
    return (f(q + h * v) - f(q - h * v)).detach() / (2 * h)


class _Graph:
    """Looks at what the graph of a function keeps: all of it in bytes, and the numbers of its largest tensor.

    Raises:
        MemoryError: it keeps too much.
    """

    def __init__(self) -> None:
        self.kept, self.largest = 0, 1

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        self.kept, self.largest = self.kept + tensor.nbytes, max(self.largest, tensor.numel())
        if self.kept > _KEPT:
            raise MemoryError("the graph of the function keeps too much")
        return tensor


def exact_way(f: Function, q: torch.Tensor, step: Callable[[torch.Tensor], float]) -> tuple[Way | None, int]:
    """The way that is believed at q, the first of two, and how many directions it takes at a time.

    Args:
        step: of a difference along a direction.

    Returns:
        None for the way where differences are left.
    """
    draw = torch.randn(2, len(q), generator=seeded_generator("recipe", 0), dtype=torch.float64, device="cpu").to(q)
    measured, graph = torch.stack([difference(f, q, v, step(v)) for v in draw]), _Graph()
    for way in (twice_backward, forward_mode):
        looking = torch.autograd.graph.saved_tensors_hooks(graph, lambda tensor: tensor)
        try:
            with looking if way is twice_backward else contextlib.nullcontext():
                made = way(f, q, draw, 2)
        except Exception:  # whatever torch, or the function, makes of it
            continue
        if float((made - measured).norm()) <= _AGREES * float(measured.norm()):
            return way, max(1, min(_DIRECTIONS, _NUMBERS // max(graph.largest, measured[0].numel())))
    return None, 1
