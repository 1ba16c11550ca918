"""What a search has computed of its way, kept in its checkpoint so that a resumed call takes the very same one.

A strategy is deterministic: its seed decides all that it draws. What costs are its pieces: descents, message passing,
directions of a residual. The outcome of each finished piece is kept; a resumed call walks the strategy from its
beginning, takes the outcomes that are kept in their order, steps and state of the random numbers included, and computes
from the first one on that is not. So it does in the end what one call would have done, at the cost of the piece in
which it was interrupted.

Where two calls in a row run out of time before they finish a piece, where more would have to be kept than _MOST bytes,
and where what is kept does not fit (another device, another tolerance), the search goes on from its best.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from .run import Run

_MOST = 1 << 26
_Found = TypeVar("_Found")


class Strayed(Exception):
    """A resumed search came to a piece that its checkpoint does not keep."""


class Road:
    """The way of one run; ``begin`` is where it starts if that is a best of earlier calls, else None.

    Args:
        run: with what its checkpoint held.
        anew: begin at the best of earlier calls, whatever is kept of the way there.
    """

    def __init__(self, run: Run, anew: bool = False):
        self.run, self.at = run, 0
        held = run.state.get("way")  # "road" in checkpoints of earlier versions, whose pieces name no features
        if held is None and run.best is None:
            held = {"kept": [], "idle": 0, "begin": None}
        elif held is None or anew or held["full"] or held["idle"]:
            begin = {"best": run.best, "loss": run.best_loss, "history": len(run.history), "passes": run.passes.made}
            held = {"kept": [], "idle": 1, "begin": begin if run.best is not None else None}
        else:
            held["idle"] = 1
            run.rewind(held["begin"])
        run.state["way"] = self.held = held | {"full": False}
        self.bytes = sum(tensor.nbytes for piece in held["kept"] for tensor in piece["made"])

    @property
    def begin(self) -> torch.Tensor | None:
        return None if self.held["begin"] is None else self.held["begin"]["best"]

    def piece(self, given: torch.Tensor, compute: Callable[[], tuple], generator: torch.Generator) -> tuple:
        """``compute()``, a tuple of tensors, or what is kept of it.

        Args:
            given: what the outcome depends on, by which it is told that the way is the same.
            generator: whose state the piece may move.

        Raises:
            Strayed: what is kept was computed from something else.
        """
        key, run = f"{tuple(given.shape)} {float(given.detach().cpu().double().sum())!r}", self.run
        if self.at < len(self.held["kept"]):
            piece = self.held["kept"][self.at]
            if piece["key"] != key:
                raise Strayed
            self.at += 1
            run.skip(piece)
            if piece["draws"] is not None:
                generator.set_state(piece["draws"])
            return tuple(tensor.to(given.device) for tensor in piece["made"])
        before, draws = run.best_loss, generator.get_state()
        found = compute()
        if run.expired or self.held["full"]:
            return found
        made = [tensor.detach().cpu().clone() for tensor in found]
        drawn = None if torch.equal(draws, generator.get_state()) else generator.get_state()
        piece = {"key": key, "made": made, "draws": drawn, "best": None, "loss": run.best_loss}
        if run.best is not None and run.best_loss < before:
            same = run.best.dtype == made[0].dtype and torch.equal(run.best.cpu(), made[0])
            piece["best"] = made[0] if same else run.best.cpu().clone()
        self.held["kept"].append(piece | {"passes": run.passes.made, "history": len(run.history)})
        self.bytes += sum(tensor.nbytes for tensor in made)
        self.at, self.held["idle"] = self.at + 1, 0
        if self.bytes > _MOST:
            self.held |= {"full": True, "kept": []}
        return found


def along(run: Run, search: Callable[[Road | None], _Found]) -> _Found:
    """``search`` along the way that the run's checkpoint keeps, or from its best where that does not lead on.

    Without a checkpoint nothing is kept: the way is None.
    """
    if run.checkpoint is None:
        return search(None)
    road = Road(run)
    try:
        try:
            return search(road)
        except Strayed:
            run.settle()
            road = Road(run, anew=True)
            return search(road)
    finally:
        if not run.expired or run.spent == "max_steps":  # another call ends there too, or comes further
            road.held["idle"] = 0
