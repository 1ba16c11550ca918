"""Full float32 precision: no TF32, no bfloat16, in what the attack computes."""

from __future__ import annotations

import contextlib
import os
import threading

import torch

# Where torch 2.9 and later keep the precision of float32 operations, one by one; the older settings are two.
_OPERATIONS = [(backend, name) for backend in ("cuda", "mkldnn") for name in ("matmul", "conv", "rnn")]


class _Here(threading.local):
    """How often this thread is inside."""

    depth = 0


class full_precision(contextlib.ContextDecorator):
    """Context, or decorator, in which float32 products are float32's, as they were set before afterwards.

    By default torch rounds the factors of float32 convolutions to TF32's ten bits on NVIDIA cards since Ampere, and
    those of matrix products where the user allowed it. A loss then ends near 1e-8, above every tolerance, without an
    error. The settings are the process's, not the thread's: where several threads are inside, the last one out puts
    them back. Autocast, which would round to bfloat16, is each thread's own.

    Torch 2.9 brought settings for every operation beside the older ones for all, and reading an older one raises where
    the two disagree. Both are set here; what could not be read is put back by the newer ones alone.
    """

    _lock = threading.Lock()
    _inside = 0
    _before: tuple = ()  # where the first came in
    _here = _Here()

    def __init__(self):
        self._autocast = []

    def _recreate_cm(self):  # a decorated function may call itself
        return type(self)()

    def __enter__(self):
        with self._lock:
            if not full_precision._inside:
                full_precision._before = _older(), _newer()
            full_precision._inside += 1
            self._here.depth += 1
            _set_older("highest", False)
            _set_newer(["ieee"] * len(_OPERATIONS))
        self._autocast.append(torch._C._DisableAutocast())  # on every kind of device
        self._autocast[-1].__enter__()
        return self

    def __exit__(self, *error):
        self._autocast.pop().__exit__(*error)
        with self._lock:
            self._here.depth -= 1
            self._remain(full_precision._inside - 1)
        return False

    @staticmethod
    def _remain(inside: int) -> None:
        """Put the settings back where nobody is left inside."""
        full_precision._inside = inside
        if not inside:
            older, newer = full_precision._before
            _set_older(*older)
            _set_newer(newer)

    @classmethod
    def _forked(cls) -> None:
        """In a child: the other threads have stayed behind, and those that were inside will not come out here."""
        if cls._inside:
            cls._remain(cls._here.depth)
        cls._lock.release()


if hasattr(os, "register_at_fork"):  # not while another thread holds the lock, which would never be free in the child
    _lock = full_precision._lock
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=full_precision._forked)


def _older() -> tuple:
    """Precision of matrix products, and whether cuDNN may take TF32; None for what torch refuses to tell."""
    found: list[str | bool | None] = []
    for read in (torch.get_float32_matmul_precision, lambda: torch.backends.cudnn.allow_tf32):
        try:
            found.append(read())
        except RuntimeError:
            found.append(None)
    return tuple(found)


def _set_older(matmul, cudnn) -> None:
    if matmul is not None:
        torch.set_float32_matmul_precision(matmul)
    if cudnn is not None:
        torch.backends.cudnn.allow_tf32 = cudnn


def _newer() -> list[str]:
    """The precision of each operation; none before torch 2.9."""
    read = getattr(torch._C, "_get_fp32_precision_getter", None)  # torch.backends lacks one of them, cuDNN's RNNs
    return [read(*operation) for operation in _OPERATIONS] if read else []


def _set_newer(values: list[str]) -> None:
    for operation, now, value in zip(_OPERATIONS, _newer(), values, strict=False):
        if now != value:
            torch._C._set_fp32_precision_setter(*operation, value)
