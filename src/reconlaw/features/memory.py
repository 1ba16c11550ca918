"""Memory of columns that are gone, written to again: new memory costs a page fault for each 4 KiB of it.

A descent makes columns at every step, as large as those that it lets go. Inside :func:`used_again` they take turns in
the same memory. A tensor that somebody still holds, or a view of it, is left alone, whoever it is: the storage counts
its holders. An accelerator's allocator keeps memory by itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch

from .passes import opened

# How many of a kind are kept: those of a point, of the trial before and of the trial that is made.
_MOST = 3

_KEPT: ContextVar[dict | None] = ContextVar("kept", default=None)
_holders = getattr(torch._C, "_storage_Use_Count", None)  # where torch has none all memory is new


@contextlib.contextmanager
def used_again() -> Iterator[None]:
    """Inside, :func:`empty` gives memory again that it gave before and nobody holds; afterwards all of it is let go."""
    with opened(_KEPT, {}):
        yield


def empty(rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """An uninitialised (rows, columns), contiguous."""
    shape, kept = (rows, columns), _KEPT.get()
    if kept is None or _holders is None or device.type != "cpu":
        return torch.empty(shape, dtype=dtype, device=device)
    # What was made in inference mode must not be written to outside it.
    same = kept.setdefault((shape, dtype, torch.is_inference_mode_enabled()), [])
    for held, storage, alone in same:
        if _holders(storage) == alone:
            return held.view(shape)
    new = torch.empty(shape, dtype=dtype, device=device)
    if len(same) < _MOST:
        storage = new.untyped_storage()._cdata
        same.append((new, storage, _holders(storage)))
    return new.view(shape)
