"""Compare a reader's answer with the right one, and with the wrong ones that readers give."""

from __future__ import annotations

from collections.abc import Iterable

import torch


def diagnose(answer, expected, mistakes: Iterable[tuple[object, str]] = (), tolerance: float = 1e-6) -> None:
    """Pass in silence where ``answer`` equals ``expected`` to a relative ``tolerance``.

    Args:
        answer: what the reader's function returned.
        expected: the right value, a tensor or a number.
        mistakes: pairs (wrong value, what it tells): the first one that ``answer`` equals names the error.
        tolerance: on the largest difference, relative to the largest entry.

    Raises:
        AssertionError: the answer is wrong; the message says how.
    """
    if answer is None:
        raise AssertionError("your function returned None: is the return statement missing?")
    try:
        answer, expected = _tensor(answer), _tensor(expected)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(answer).__name__
        raise AssertionError(f"your function returned a {kind}; return a tensor or a number") from error
    if _equal(answer, expected, tolerance):
        return
    for wrong, message in mistakes:
        if _equal(answer, _tensor(wrong), tolerance):
            raise AssertionError(message)
    if answer.shape != expected.shape:
        raise AssertionError(f"your answer has shape {tuple(answer.shape)}; expected {tuple(expected.shape)}")
    if not bool(torch.isfinite(answer).all()):
        raise AssertionError("your answer holds NaN or infinite values")
    off = float((answer - expected).abs().max() / expected.abs().max())
    raise AssertionError(f"not yet: your answer is off by {off:.1%} of the largest entry")


def _tensor(value) -> torch.Tensor:
    return torch.as_tensor(value).detach().cpu().double()


def _equal(left: torch.Tensor, right: torch.Tensor, tolerance: float) -> bool:
    if left.shape != right.shape or not bool(torch.isfinite(left).all()):
        return False
    return bool((left - right).abs().max() <= tolerance * right.abs().max())
