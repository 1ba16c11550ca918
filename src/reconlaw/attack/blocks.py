r"""The starts of a round in blocks, on as many processes as are wanted: each block is the same wherever it runs.

A block descends from its starts on the deflated loss, then from where that came near zero on the loss itself, to its
last digit (:mod:`reconlaw.attack.membership`). It runs on one thread and may take all the steps that the blocks before
it have left. What these are a block elsewhere does not know beforehand: where it took more it is solved again with that
many, so that neither the number of processes nor their order changes a bit of the outcome.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from .._precision import full_precision
from .._workers import active_backend, close_quietly, this_process, work_for, workers
from ..features.passes import Passes, counted
from ..features.threads import unshared
from ..inputs import Inputs
from .membership import Membership, block_size, descend_each

# A start that came this near to the span goes on to the zero itself.
_NEAR = 1e-6


@dataclass(frozen=True)
class Block:
    """What a block needs: the map, the span Q (r, p), what was found of it (m, p), and the losses to reach.

    Attributes:
        features: the feature map.
        Q: orthonormal rows, see :class:`~reconlaw.attack.membership.Membership`.
        found: orthonormal rows, see :class:`~reconlaw.attack.membership.Membership`.
        inputs: where the samples live.
        tol: at which a start has arrived.
        least: that the last steps aim at.
    """

    features: object
    Q: torch.Tensor
    found: torch.Tensor
    inputs: Inputs
    tol: float
    least: float

    @full_precision()
    def solve(self, X: torch.Tensor, most: float, over: Callable[[], bool]) -> tuple[torch.Tensor, float]:
        """Samples from starts X, the best first, and the passes made; ``most`` of them or ``over`` end it."""
        passes = Passes()

        def tick():
            return passes.made >= most or over()

        with counted(passes), unshared(), torch.inference_mode(False):
            X, loss = descend_each(Membership(self.features, self.Q, self.found), X, self.inputs, self.tol, tick)
            X = X[loss <= max(_NEAR, self.tol)]
            loss = X.new_zeros(0)
            if len(X):  # without deflation: the zero itself, to the last digit
                X, loss = descend_each(Membership(self.features, self.Q), X, self.inputs, self.least, tick)
        # Losses at the floor are all zero but for their rounding, which must not decide what comes first.
        order = loss[: len(X)].clamp_min(self.least).argsort(stable=True)
        order = order[loss[order] <= self.tol]
        return X[order], passes.made


def _elsewhere(block, X, most, seconds, parent):
    """A block in a process of its own, which may not have more than so many seconds."""
    work_for(parent)
    end = time.monotonic() + seconds
    return block.solve(X, most, lambda: time.monotonic() >= end)


def solved(block: Block, X: torch.Tensor, most: float, run, jobs: int, tick: Callable[[], bool]) -> Iterator:
    """What :meth:`Block.solve` gives for each block of the starts X, in their order, as it comes.

    Args:
        block: of this round.
        X: (S, k), the starts.
        most: passes that all blocks may make together.
        run: whose seconds bound the blocks.
        jobs: processes, as of :func:`reconlaw.sweep`; 1 works in this one.
        tick: called after every step here, or every block elsewhere; true ends the round.
    """
    parts = X.split(block_size(block.features, X.device))
    if jobs == 1 or X.device.type != "cpu" or len(parts) == 1:
        for part in parts:
            outcome = block.solve(part, most, tick)
            most -= outcome[1]
            yield outcome
        return
    from joblib import delayed

    one_by_one = active_backend().supports_return_generator
    parallel = workers(jobs, 1, return_as="generator" if one_by_one else "list")
    parent, seconds = this_process(), run.left
    outcomes = iter(parallel(delayed(_elsewhere)(block, part.clone(), most, seconds, parent) for part in parts))
    try:
        for part, outcome in zip(parts, outcomes, strict=True):
            if outcome[1] > most:
                outcome = block.solve(part, most, tick)
            most -= outcome[1]
            yield outcome
            if tick():
                return
    finally:
        close_quietly(outcomes)
