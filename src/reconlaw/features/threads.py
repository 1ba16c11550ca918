r"""How many threads the work is worth.

Threads that share a product wait for the last of them. Where another program holds a core that is a time slice of the
system, milliseconds, whatever the product takes: many times a short product, next to nothing of a long one. And torch
divides a sum by the number of its threads, so that the last bits are those of the number. So a search runs on one
thread, and

- a pass over V is cut into blocks, by sizes alone, that :func:`each` hands out: to the searching thread and to as
  many beside it as torch was given, one block after the other, whoever comes first. A block is computed on one thread
  wherever that is, and sums over blocks are made in their order. Where the searching thread has had to wait, it goes on
  alone for a while.
- A module's long passes are :func:`shared`, by torch, on as many threads as it was given.

Seconds and load decide who computes what, never what comes out; nor, but for modules, does the number of threads.
``benchmarks/threads.py`` measures what this costs beside the best choice, on an idle and on a busy machine.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import ContextVar
from typing import TypeVar

import torch

from .budget import begin_with, current, within

# Multiplications from which on a product is shared by torch: a tenth of a second of one core.
LONG = 5e8
# And from which on a pass over V is cut into blocks: milliseconds, many times what it takes to hand them out.
WORTH = 3e7
# The share of a pass that the searching thread may wait before the others rest, and for how many passes at most.
_WAITED, _MOST_REST = 0.4, 64

_Part = TypeVar("_Part")
_UNSHARED: ContextVar[bool] = ContextVar("unshared", default=False)
_lock = threading.Lock()
_inside, _given = 0, 1  # searches of all threads, and torch's threads where the first of them began
_NO_CHANGE = contextlib.nullcontext()


class _Here(threading.local):
    """Of each thread, since torch's number is: how many searches it is in, and what torch had given it before."""

    inside, given = 0, 1


_here = _Here()


class _Helpers:
    """Threads beside those that search, of one torch thread each; they begin with the first work that there is.

    After a pass in which the searching thread waited they rest for one, two, four, … passes, until one goes well.
    """

    def __init__(self, count: int):
        self.count, self._rest, self._longest = count, 0, 0
        self._pool = ThreadPoolExecutor(count, "reconlaw", initializer=begin_with, initargs=(1,))

    def each(self, work: Callable[[_Part, int], None], parts: Sequence[_Part]) -> None:
        if self._rest:
            self._rest -= 1
            return _alone(work, parts)
        todo, inference, grad = iter(parts), torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        budget = current()

        def take(place):
            with within(budget), torch.inference_mode(inference), torch.set_grad_enabled(grad), _as_they_are():
                for part in todo:
                    work(part, place)

        start, asked = time.perf_counter(), []
        try:
            with contextlib.suppress(RuntimeError):  # of a pool whose search, on another thread, is just over
                for place in range(1, min(self.count + 1, len(parts))):
                    asked.append(self._pool.submit(take, place))
            for part in todo:
                work(part, 0)
        finally:
            for _ in todo:  # after an error no other block is begun
                pass
            begun, done = [one for one in asked if not one.cancel()], time.perf_counter()
            asked.clear()
            try:
                wait(begun)
            except KeyboardInterrupt:
                wait(begun)
                raise
        while begun:  # out of it before it raises: an error holds this frame, and held by it would keep the memory
            begun.pop().result()
        end = time.perf_counter()
        late = end - done > _WAITED * (end - start)
        self._longest = min(max(1, 2 * self._longest), _MOST_REST) if late else 0
        self._rest = self._longest

    def close(self):
        self._pool.shutdown()


_helpers: _Helpers | None = None


def _forget() -> None:
    """In a forked child: the threads have stayed behind, and what they searched."""
    global _helpers, _inside, _lock
    _helpers, _inside, _lock = None, _here.inside, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _as_they_are():
    """No autocast, which is each thread's own."""
    return torch.autocast("cpu", enabled=False)


def _alone(work, parts):
    for part in parts:
        work(part, 0)


def _beside() -> _Helpers | None:
    """Those that this thread may hand blocks to: none outside its searches, whoever else searches."""
    return _helpers if _here.inside and not _UNSHARED.get() else None


def places() -> int:
    """How many threads :func:`each` may use: 1, but within a search."""
    helpers = _beside()
    return 1 if helpers is None else 1 + helpers.count


def each(work: Callable[[_Part, int], None], parts: Sequence[_Part], alone: bool = False) -> None:
    """``work(part, place)`` for every part, in any order; those of one place, 0 to :func:`places` − 1, one by one.

    Parts write to memory of their own, or of their place; what ``work`` raises is raised here, after all have ended.
    ``alone``: by this thread only, in their order.
    """
    helpers = _beside()
    if len(parts) == 1:
        work(parts[0], 0)
        return
    with _as_they_are():
        if alone or helpers is None:
            _alone(work, parts)
        else:
            helpers.each(work, parts)


@contextlib.contextmanager
def one_thread():
    """One thread inside, but for :func:`each` and :func:`shared`; afterwards as many as before, however it ends.

    Several may be inside at once: of one thread the last one out puts its number back, of all it ends the helpers.
    """
    global _inside, _given, _helpers
    now = torch.get_num_threads()
    with _lock:
        if not _inside:
            _given = now
            _helpers = _Helpers(now - 1) if now > 1 else None
        if not _here.inside:  # a thread that began while another searched has the one thread of that search
            _here.given = _given if _inside and now == 1 else now
        _inside, _here.inside = _inside + 1, _here.inside + 1
    torch.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _inside, _here.inside = _inside - 1, _here.inside - 1
            idle, _helpers = (None, _helpers) if _inside else (_helpers, None)
            try:
                if idle is not None:  # first: a thread that begins has torch's threads at one
                    idle.close()
            finally:
                torch.set_num_threads(1 if _here.inside else _here.given)


def shared(multiplications: float) -> contextlib.AbstractContextManager[None]:
    """As many threads as torch was given where so many multiplications are worth it; outside a search no change."""
    if multiplications < LONG or not _here.inside or _here.given == 1 or _UNSHARED.get():
        return _NO_CHANGE
    return _on_all_threads()


@contextlib.contextmanager
def _on_all_threads():
    torch.set_num_threads(_here.given)
    try:
        yield
    finally:
        torch.set_num_threads(1)


@contextlib.contextmanager
def unshared():
    """One thread for long products too, so that their last bits are those of any process of one thread."""
    token = _UNSHARED.set(True)
    try:
        with one_thread():
            yield
    finally:
        _UNSHARED.reset(token)
