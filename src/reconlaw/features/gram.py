"""Gram matrices of feature columns: their Cholesky factor, and what to say where there is none."""

from __future__ import annotations

import contextlib

import torch


class StepError(RuntimeError):
    """A step of a search that could not be computed: a factorisation failed, or there was not memory enough."""


class SpanError(StepError):
    """The features of the atoms are linearly dependent (atoms that coincide, or more columns than p)."""


# What RuntimeErrors say that are no fault of the caller: torch has no class of its own for these.
_MEMORY = ("out of memory", "allocate memory", "alloc_failed")
_FAILURES = ("cusolver", "cublas", "magma")


def want_of_memory(error: BaseException) -> bool:
    """Whether this error says that there was not memory enough, on whatever device."""
    kinds = torch.cuda.OutOfMemoryError | MemoryError
    return isinstance(error, kinds) or any(words in str(error).lower() for words in _MEMORY)


@contextlib.contextmanager
def as_step():
    """Failures of linear algebra and want of memory inside become :class:`StepError`; a search refuses the step."""
    try:
        yield
    except StepError:
        raise
    except (RuntimeError, MemoryError) as error:
        known = want_of_memory(error) or isinstance(error, torch.linalg.LinAlgError)
        if not known and not any(words in str(error).lower() for words in _FAILURES):
            raise
        text = str(error).strip().splitlines()
        raise StepError(f"{type(error).__name__}: {text[0][:200] if text else 'no memory'}") from error


_JITTERS = (0.0, 1e-14, 1e-12, 1e-10, 1e-8, 1e-6)


def factor_gram(gram: torch.Tensor, strict: bool = False) -> torch.Tensor:
    """Cholesky factor of a Gram matrix.

    Args:
        gram: (m, m).
        strict: raise where a column is within the rounding of the span of those before it. Otherwise a relative jitter
            grows from 1e-14 to 1e-6, or to the rounding of a sum of m such columns where that is more, for as long as
            it must: a solver passes close to dependent columns on its way, and its loss, taken from the residual,
            stays that of the coefficients it has.

    Raises:
        SpanError: the columns are dependent, or not finite.
    """
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device) * gram.diagonal().mean()
    eps = torch.finfo(gram.dtype).eps
    jitters = [*_JITTERS]
    if len(gram) * eps > jitters[-1]:  # as in float32
        jitters.append(len(gram) * eps)
    for jitter in jitters[:1] if strict else jitters:
        factor, info = torch.linalg.cholesky_ex(gram + jitter * eye)
        if int(info) == 0 and bool(torch.isfinite(factor).all()):
            # Pivot i is the squared distance of column i from the span of those before it.
            rounding = 10 * len(gram) ** 0.5 * eps
            if not strict or bool((factor.diagonal() ** 2 > rounding * gram.diagonal()).all()):
                return factor
    raise SpanError(
        f"the {len(gram)} feature columns are linearly dependent, or not finite: two atoms coincide, an atom has "
        "diverged, or there are more columns than features; start elsewhere, step less far, or use more features"
    )
