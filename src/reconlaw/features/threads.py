r"""How many threads a product is worth: by its size, never by how busy the machine is.

Threads that share a product wait for the last of them. Where another program holds a core that is a time slice of the
system, milliseconds, whatever the product takes: many times a short product, next to nothing of a long one. So a search
runs on one thread, and its long products alone on as many as torch was given. Seconds and load decide nothing: the same
call takes the same road. ``benchmarks/threads.py`` measures what that costs beside the best choice: on two cores up to
half as much again where they are idle, and up to a twelfth where one is not. No rule by size is within a fifth of the
best on both, for products of middle size: shared, they cost two to three times as much beside another program.
"""

from __future__ import annotations

import contextlib
import threading
from contextvars import ContextVar

import torch

# Multiplications from which on a product is shared: a tenth of a second of one core.
LONG = 5e8

_UNSHARED: ContextVar[bool] = ContextVar("unshared", default=False)
_lock = threading.Lock()
_inside, _given = 0, 1
_NO_CHANGE = contextlib.nullcontext()


@contextlib.contextmanager
def one_thread():
    """One thread inside, but for :func:`shared` products; afterwards as many as before, however it ends.

    Several may be inside at once: the last one out puts the number back.
    """
    global _inside, _given
    with _lock:
        if not _inside:
            _given = torch.get_num_threads()
        _inside += 1
    torch.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            torch.set_num_threads(1 if _inside else _given)


def shared(multiplications: float) -> contextlib.AbstractContextManager[None]:
    """As many threads as torch was given where so many multiplications are worth it; outside a search no change."""
    if multiplications < LONG or not _inside or _given == 1 or _UNSHARED.get():
        return _NO_CHANGE
    return _on_all_threads()


@contextlib.contextmanager
def _on_all_threads():
    torch.set_num_threads(_given)
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
