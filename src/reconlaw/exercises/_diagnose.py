"""Compare a reader's answer with the right one, and with the wrong ones that readers give."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_HERE = str(Path(__file__).parent)


class NotYet(AssertionError):
    """An answer that is wrong, and how. IPython shows the message alone: the source would give the answer away."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def checker(check: Callable[[Callable], None]) -> Callable[[Callable], None]:
    """A checker that prints "correct" where ``check`` passes, and shows none of its own source where it does not.

    Raises:
        NotYet: the answer is wrong, returns None, or cannot be used.
        Exception: whatever the reader's function raises, with the traceback of that alone.
    """

    @functools.wraps(check)
    def checked(answer):
        __tracebackhide__ = True  # of IPython's and pytest's tracebacks
        if not callable(answer):
            raise NotYet(f"pass your function to the checker, not a {type(answer).__name__}")

        @functools.wraps(answer)
        def given(*arguments, **named):
            value = answer(*arguments, **named)
            if value is None:
                raise NotYet("your function returned None: is the return statement missing?")
            return value

        try:
            with torch.device("cpu"):  # of what both make, where torch's default is another
                check(given)
        except NotYet:
            raise
        except Exception as error:
            theirs = error.__traceback__
            while theirs is not None and theirs.tb_frame.f_code.co_filename.startswith(_HERE):
                theirs = theirs.tb_next
            if theirs is not None and _theirs(theirs, answer):
                raise error.with_traceback(theirs) from None
            raise NotYet(f"your answer could not be used ({type(error).__name__}: {error})") from None
        print("correct")

    return checked


def _theirs(traceback, answer) -> bool:
    """Whether an error comes from the reader's own code, and not from torch, handed what the checker cannot use."""
    return traceback.tb_frame.f_code is getattr(answer, "__code__", None)


def diagnose(answer, expected, mistakes: Iterable[tuple[object, str]] = (), tolerance: float = 1e-6) -> None:
    """Pass in silence where ``answer`` equals ``expected`` to a relative ``tolerance``.

    Args:
        answer: what the reader's function returned.
        expected: the right value, a tensor or a number.
        mistakes: pairs (wrong value, what it tells): the first one that ``answer`` equals names the error.
        tolerance: on the largest difference, relative to the largest entry.

    Raises:
        NotYet: the answer is wrong; the message says how.
    """
    try:
        answer, expected = _tensor(answer), _tensor(expected)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(answer).__name__
        raise NotYet(f"your function returned a {kind}; return a tensor or a number") from error
    if _equal(answer, expected, tolerance):
        return
    for wrong, message in mistakes:
        if _equal(answer, _tensor(wrong), tolerance):
            raise NotYet(message)
    if answer.shape != expected.shape:
        raise NotYet(f"your answer has shape {tuple(answer.shape)}; expected {tuple(expected.shape)}")
    if not bool(torch.isfinite(answer).all()):
        raise NotYet("your answer holds NaN or infinite values")
    off = float((answer - expected).abs().max() / expected.abs().max())
    if off < 5e-4:  # where a percentage would read 0.0 %
        raise NotYet(f"close, not exact: your answer is off by {off:.0e} of the largest entry")
    raise NotYet(f"not yet: your answer is off by {off:.1%} of the largest entry")


class Made(TorchDispatchMode):
    """Within a ``with``: the shapes of all tensors that torch makes, views of what was there left out."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        given = {tensor.untyped_storage().data_ptr() for tensor in _dense((args, kwargs))}
        self.shapes |= {tuple(t.shape) for t in _dense(made) if t.untyped_storage().data_ptr() not in given}
        return made

    def refuse(self, forbidden: Callable[[tuple[int, ...]], bool], message: str) -> None:
        """Raise NotYet where the way led through a shape that the exercise rules out."""
        if any(map(forbidden, self.shapes)):
            raise NotYet(f"the value is right, the way is not: {message}")


def _dense(tree) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided]


def _tensor(value) -> torch.Tensor:
    return torch.as_tensor(value).detach().cpu().double()


def close(left, right, tolerance: float) -> bool:
    """Whether two answers agree to ``tolerance``, as in `diagnose`. What is no tensor or number agrees with nothing."""
    try:
        return _equal(_tensor(left), _tensor(right), tolerance)
    except (TypeError, ValueError, RuntimeError):
        return False


def _equal(left: torch.Tensor, right: torch.Tensor, tolerance: float) -> bool:
    if left.shape != right.shape or not bool(torch.isfinite(left).all()):
        return False
    return bool((left - right).abs().max() <= tolerance * right.abs().max())
