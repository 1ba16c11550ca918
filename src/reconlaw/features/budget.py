"""A budget of time that reaches the loops inside one step, so that a long step ends in time too.

A run opens it by :func:`within`; what works in blocks (moments, metric, rank, conjugate gradients) calls :func:`look`
between them, which raises :class:`Spent` once the time is over. Outside a run, and in one without a limit of time,
neither does anything: then nothing depends on the clock.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch

from .gram import StepError
from .passes import opened

# What is made once for all later steps (directions, metric, rank) may take this share of the time that is left.
_SHARE = 0.5
# Seconds between two looks at the clock, and at Ctrl-C, during one long call of LAPACK.
_POLL = 0.02


class Spent(StepError):
    """The time is over: what was begun is left undone."""


@dataclass
class Budget:
    """Seconds that are left, infinity without a limit; and what did not fit into its share, or the memory, by name."""

    left: Callable[[], float]
    given_up: set[str] = field(default_factory=set)


# Names of what may not fit.
RANK, METRIC, DIRECTIONS = "the rank of the features", "the metric of the features", "the spectral start"

_OPEN: ContextVar[Budget | None] = ContextVar("budget", default=None)


def within(budget: Budget | None) -> contextlib.AbstractContextManager[Budget | None]:
    """What is inside looks at this budget; None for none."""
    return opened(_OPEN, budget)


def current() -> Budget | None:
    """The budget inside which this is; None outside of any."""
    return _OPEN.get()


def over() -> bool:
    """Whether the time is over."""
    budget = current()
    return budget is not None and budget.left() <= 0


def look() -> None:
    """Raise :class:`Spent` once the time is over."""
    if over():
        raise Spent("the time was over")


def attempt(name: str, make: Callable[[], Any]) -> Any:
    """``make()`` within its share of the time that is left; None where that does not do, from then on in this run."""
    budget = current()
    if budget is None or math.isinf(budget.left()):
        return make()
    if name in budget.given_up:
        return None
    kept = (1 - _SHARE) * budget.left()
    try:
        with within(Budget(lambda: budget.left() - kept, budget.given_up)):
            look()
            return make()
    except Spent:
        budget.given_up.add(name)
        return None


def give_up(name: str) -> bool:
    """Note that this run goes on without; False where there is no run that could say so."""
    budget = current()
    if budget is not None:
        budget.given_up.add(name)
    return budget is not None


def begin_with(threads: int) -> None:
    """So many of torch's threads for a new thread, which would take over another's number when it first asks for it."""
    torch.get_num_threads()
    torch.set_num_threads(threads)


def patiently(function: Callable, *given):
    """``function(*given)``, one long call of LAPACK, left to itself where the time is over or Ctrl-C comes."""
    outcome: list = []
    threads = torch.get_num_threads()

    def work():
        try:
            begin_with(threads)  # the same arithmetic, to the last bit
            with torch.no_grad():
                outcome.append((function(*given), None))
        except BaseException as error:
            outcome.append((None, error))

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    while worker.is_alive():
        look()
        worker.join(_POLL)
    value, error = outcome[0]
    if error is not None:
        raise error
    return value
