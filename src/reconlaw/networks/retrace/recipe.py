r"""The user's training as a function of what is unknown: called, checked, and differentiated.

What is unknown is one vector q: the samples' coordinates, labels where these are free, and numbers such as a rate, by
their logarithms. It is differentiated exactly where torch can do that (:mod:`reconlaw.networks.retrace.derivative`);
else by central differences, which any function has that computes the same twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..._checks import check_finite, check_plain
from .derivative import Way, difference, exact_way

# Two calls on the same arguments may differ by so many roundings, as sums over threads do.
_SAME = 64.0


def trained(train: Callable[..., Any], X: torch.Tensor, y: Any, named: dict[str, Any]) -> list:
    """What ``train`` returns, a list of one where it is no tuple; called without y where that is None."""
    made = train(X, **named) if y is None else train(X, y, **named)
    return list(made) if isinstance(made, tuple | list) else [made]


@dataclass(eq=False)
class Recipe:
    r"""θ_sim(q) as one vector of unit scale, for one choice of labels and of what else is tried.

    Attributes:
        train: the user's function.
        target: what was observed, a tensor each.
        decode: from coordinates (n, k) to inputs (n, d).
        shape: (n, k).
        y: labels, as handed to ``train``; None where it takes none.
        free: labels are unknown numbers, of y's shape.
        names: of the unknown numbers.
        fixed: other arguments of ``train``.
        d: of an input.
        way: how the derivative is taken; None for differences, and until :meth:`exactly` has tried.
        block: along how many directions at a time; 0 until then.
    """

    train: Callable[..., Any]
    target: Sequence[torch.Tensor]
    decode: Callable[[torch.Tensor], torch.Tensor]
    shape: tuple[int, int]
    y: Any
    free: bool
    names: tuple[str, ...]
    fixed: dict[str, Any]
    d: int
    way: Way | None = None
    block: int = 0

    def __post_init__(self):
        self.scales = [float(t.norm()) or 1.0 for t in self.target]
        # Each of several tensors counts alike.
        self.goal = torch.cat([t.flatten() / s for t, s in zip(self.target, self.scales, strict=True)])
        self.goal = self.goal / len(self.scales) ** 0.5

    def arguments(self, q: torch.Tensor) -> tuple[torch.Tensor, Any, dict[str, Any]]:
        """X, y and the named arguments of ``train``."""
        n, k = self.shape
        X, rest = self.decode(q[: n * k].reshape(n, k)), q[n * k :]
        y, numbers = self.y, rest
        if self.free:
            y, numbers = rest[: self.y.numel()].reshape(self.y.shape), rest[self.y.numel() :]
        return X, y, self.fixed | {name: number.exp() for name, number in zip(self.names, numbers, strict=True)}

    def __call__(self, q: torch.Tensor) -> torch.Tensor:
        """θ_sim, of unit scale, as one vector."""
        return self._joined(trained(self.train, *self.arguments(q)))

    def _joined(self, parts):
        flat = [part.flatten().to(self.goal) / s for part, s in zip(parts, self.scales, strict=True)]
        return torch.cat(flat) / len(parts) ** 0.5

    def check(self, q: torch.Tensor) -> None:
        """Let ``train`` show at q that it returns what was observed, and the same twice.

        Raises:
            TypeError, ValueError: it does not.
        """
        parts = trained(self.train, *self.arguments(q))
        if len(parts) != len(self.target):
            raise ValueError(f"train returns {len(parts)} tensors, and theta is {len(self.target)}; return as many")
        for part, seen in zip(parts, self.target, strict=True):
            if not isinstance(part, torch.Tensor):
                raise TypeError(f"train returns a {type(part).__name__}; return trained weights: a tensor, or a tuple")
            if check_plain("what train returns", part).shape != seen.shape:
                raise ValueError(
                    f"train returns shape {tuple(part.shape)}, and theta has {tuple(seen.shape)}; return the same "
                    "weights, less their start where theta is a change"
                )
            check_finite("what train returns", part.detach())
        eps = max(torch.finfo(part.dtype).eps for part in parts)
        first, again = self._joined(parts).detach(), self(q).detach()
        if float((first - again).norm()) > _SAME * eps * float(first.norm()):
            raise ValueError(
                "train returns something else the second time; let it draw its batches and masks from a generator that "
                "it seeds itself, and copy what it trains"
            )
        self.eps = eps

    def jacobian(self, q: torch.Tensor, directions: torch.Tensor | None = None) -> torch.Tensor:
        """∂θ_sim/∂q, (m, q), or its product with directions (r, q), a column each."""
        if directions is None:
            directions = torch.eye(len(q), dtype=q.dtype, device=q.device)
        way = self.exactly(q)
        if way is None:
            return torch.stack([difference(self, q, e, self._step(q, e)) for e in directions], 1)
        return way(self, q, directions, self.block).T

    def exactly(self, q: torch.Tensor) -> Way | None:
        """The exact way to the derivative that is believed; tried once, at the first q."""
        if not self.block:
            self.way, self.block = exact_way(self, q, lambda v: self._step(q, v))
        return self.way

    def _step(self, q, v):
        """Of a difference along v."""
        size = float(q.norm()) / len(q) ** 0.5 or 1.0
        return self.eps ** (1 / 3) * size / float(v.norm()) * (len(q) ** 0.5 if int((v != 0).sum()) > 1 else 1.0)
