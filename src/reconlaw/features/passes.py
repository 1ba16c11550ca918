r"""The currency of budgets: passes of an atom through the feature map, the same on every machine.

A *pass* takes one row through the features once, in either direction:

- random features: a row times Vᵀ or V, dp multiplications. φ(Vu) and φ(−Vu) share one; a product with J or Jᵀ is one an
  atom; the products of message passing, of power iterations on a moment and of the linear fit are one a row.
- a module: a row through it, forward or backward. f(u) and f(−u) are two, and so are the products with their
  Jacobians; the whole Jacobian of a column is d.

A *step* is a pass there and one back for each of the n atoms sought, 2n passes; of "sparse", which has no n, for one
atom. So an iteration of "sgd", one of the conjugate gradients within a step of "varpro" and one of message passing cost
about a step each, and ``max_steps`` of one method is that of another. Passes in float32 and float64 count alike, as do
candidates that a search throws away; a pass through some of the features counts as their share. What is made once for a
feature map and kept for all its reconstructions is not counted, since the first alone would pay: the moments'
regression, the metric and the rank of a module.

The kernels call ``count_passes``; a run listens by ``counted``.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

_Held = TypeVar("_Held")


@dataclass
class Passes:
    """How many passes were made."""

    made: float = 0

    def add(self, rows: float) -> None:
        self.made += rows


class _Share(Passes):
    """Those through a share of the features, added to passes through all."""

    def __init__(self, whole: Passes, share: float):
        super().__init__()
        self._whole, self._share = whole, share

    def add(self, rows: float) -> None:
        self._whole.add(rows * self._share)


_LISTENING: ContextVar[Passes | None] = ContextVar("passes", default=None)


def count_passes(rows: float) -> None:
    """Say that so many rows pass through the features, once."""
    passes = _LISTENING.get()
    if passes is not None:
        passes.add(rows)


@contextlib.contextmanager
def opened(place: ContextVar[_Held], value: _Held) -> Iterator[_Held]:
    """What is inside finds ``value`` in ``place``, and what comes after it what was there before."""
    token = place.set(value)
    try:
        yield value
    finally:
        place.reset(token)


def counted(passes: Passes | None) -> contextlib.AbstractContextManager[Passes | None]:
    """Add what is counted inside to ``passes`` (None: to nothing); the innermost alone counts."""
    return opened(_LISTENING, passes)


def counted_in_share(share: float) -> contextlib.AbstractContextManager[Passes | None]:
    """Count what is inside as passes through a share, above 0 and at most 1, of the features.

    The share is rounded up to a multiple of 1/1024, so that sums are exact: they do not depend on their order.
    """
    passes = _LISTENING.get()
    return opened(_LISTENING, None if passes is None else _Share(passes, math.ceil(1024 * share) / 1024))
