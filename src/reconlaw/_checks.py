"""Argument checks shared by the package: each error names what was wrong, what was expected and what to do."""

from __future__ import annotations

import math
import operator
import os
from pathlib import Path

import numpy as np
import torch

FLOATS = (torch.float32, torch.float64)
MOST = 1 << 53  # of counts


def resolve_device(device: str | torch.device, dtype: torch.dtype = torch.float32) -> torch.device:
    """``"auto"`` takes CUDA, then MPS (which has no float64), then the CPU; a device named must be there."""
    if device != "auto":
        try:
            found = torch.device(device)
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"device={device!r} is no torch device; use 'auto', 'cpu', 'cuda' or 'mps'") from error
        if found.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"device={device!r} is not available: this torch sees no CUDA device; use 'auto' or 'cpu'")
        if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
            raise ValueError(
                f"device={device!r} is not available: this torch sees {torch.cuda.device_count()} CUDA devices, "
                "counted from 0; use one of them, 'auto' or 'cpu'"
            )
        if found.type == "mps" and (dtype == torch.float64 or not torch.backends.mps.is_available()):
            raise ValueError(
                f"device={device!r} is not available for {dtype}; use 'auto' or 'cpu' (MPS has no float64)"
            )
        if found.type == "meta":
            raise ValueError(f"device={device!r} holds no numbers; use 'auto', 'cpu', 'cuda' or 'mps'")
        try:
            if found.type not in ("cuda", "mps"):  # those are known by now, and asking would open a context
                torch.empty(0, device=found)
        except (RuntimeError, NotImplementedError) as error:  # torch knows the name, and was built without
            raise ValueError(f"device={device!r} is not available in this torch; use 'auto' or 'cpu'") from error
        return found
    return _best_device(dtype)


def _best_device(dtype: torch.dtype) -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    if dtype != torch.float64 and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def device_note() -> str:
    """The device that ``device="auto"`` takes for float64, in words, and what a chapter costs on it."""
    found = resolve_device("auto", torch.float64)
    if found.type == "cpu":
        return "Device: cpu. At its default size a chapter runs in under a minute on two CPU cores."
    name = f" ({torch.cuda.get_device_name()})" if found.type == "cuda" else ""
    return (
        f"Device: {found.type}{name}. Problems as small as a chapter's gain nothing from a GPU, and consumer cards do "
        "float64 at 1/32 to 1/64 of their float32 speed."
    )


def check_float_dtype(dtype: torch.dtype) -> torch.dtype:
    if dtype not in FLOATS:
        raise TypeError(f"dtype={dtype} is not supported; use torch.float32 or torch.float64")
    return dtype


def _shown(value) -> str:
    """``repr`` of a wrong value, short, whatever it is."""
    try:
        text = repr(value)
    except Exception:  # its own fault, or a number of more digits than Python prints
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "…"


def check_plain(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """A tensor that holds its numbers in the usual way: not sparse, quantised, nested, or on the meta device.

    A view with a pending sign or conjugation, which NumPy and functions of one's own refuse, is carried out.
    """
    if tensor.is_nested or tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        kind = "nested" if tensor.is_nested else "quantised" if tensor.is_quantized else str(tensor.layout)
        kind = "on the meta device, without numbers" if tensor.device.type == "meta" else kind
        raise TypeError(f"{name} is {kind}; pass a dense tensor that holds its numbers")
    if tensor.is_floating_point() and tensor.element_size() < 2:
        raise TypeError(f"{name} has dtype {tensor.dtype}, in which nothing can be computed; pass {name}.float()")
    return tensor.resolve_conj().resolve_neg()


def _is_bool(value) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.bool


def check_count(name: str, value, minimum: int = 1) -> int:
    """``value`` as an int: Python's and NumPy's whole numbers pass, True and 2.0 do not."""
    try:
        number = operator.index(value)
    except (TypeError, ValueError, RuntimeError):  # NumPy's and torch's of arrays
        number = None
    if number is None or isinstance(value, bool) or _is_bool(value) or number < minimum:
        raise ValueError(f"{name}={_shown(value)} must be a whole number of at least {minimum}")
    if number > MOST:
        raise ValueError(f"{name}={_shown(value)} is beyond any machine; pass at most 2⁵³")
    return number


def check_input_shape(shape) -> tuple[int, ...]:
    """The sides of one input, each at least 1; a number alone is one side."""
    sides = shape if isinstance(shape, tuple | list | torch.Size) else (shape,)
    return tuple(check_count("input_shape", side) for side in sides)


def check_positive(name: str, value, allow_zero: bool = False) -> float:
    try:
        number = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        number = math.nan
    if not math.isfinite(number) or number < 0 or (number == 0 and not allow_zero):
        raise ValueError(f"{name}={_shown(value)} must be a finite number {'≥' if allow_zero else '>'} 0")
    return number


def check_real(name: str, value) -> float:
    """A finite number."""
    try:
        return math.copysign(check_positive(name, abs(value), allow_zero=True), value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ValueError(f"{name}={_shown(value)} must be a finite number") from error


def check_clock(clock):
    """A function that gives seconds, or None."""
    if clock is not None and not callable(clock):
        raise TypeError(f"clock={_shown(clock)} is no function; pass one that gives seconds, such as time.process_time")
    return clock


def check_finite(name: str, tensor: torch.Tensor) -> torch.Tensor:
    if not bool(torch.isfinite(tensor).all()):
        bad = int((~torch.isfinite(tensor)).sum())
        raise ValueError(f"{name} holds {bad} NaN or infinite values of {tensor.numel()}; clean it first")
    return tensor


def check_matrix(name: str, value, columns: int | None = None, finite: bool = True) -> torch.Tensor:
    """A two-dimensional floating tensor, with ``columns`` columns where given, free of NaN where ``finite``."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} is a {type(value).__name__}; pass a torch tensor (torch.as_tensor makes one)")
    value = check_plain(name, value)
    if not value.is_floating_point():
        raise TypeError(f"{name} has dtype {value.dtype}; pass float32 or float64 ({name}.double() makes one)")
    if value.ndim != 2 or value.shape[0] < 1 or (columns is not None and value.shape[1] != columns):
        wanted = f"(n ≥ 1, {columns if columns is not None else 'd'})"
        raise ValueError(f"{name} has shape {tuple(value.shape)}; expected {wanted}, one sample a row")
    return check_finite(name, value) if finite else value


def as_tensor(value) -> torch.Tensor:
    """``value`` as a tensor; lists by way of NumPy, whose floats are float64 where torch's default would round them."""
    if isinstance(value, torch.Tensor):
        return check_plain("a tensor", value)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise TypeError(f"a {type(value).__name__} is no array of numbers ({error}); pass a tensor or array") from error
    if array.dtype.kind not in "biufc":
        raise TypeError(
            f"a {type(value).__name__} holds no numbers (dtype {array.dtype}); pass a tensor, array or list"
        )
    return torch.as_tensor(array, device="cpu")


def listed(name: str, value) -> list:
    """The entries of an axis of values, such as a list, array or tensor; one number is none."""
    try:
        return list(value)
    except TypeError as error:  # NumPy's and torch's of no axis too
        raise TypeError(f"{name}={_shown(value)} is one value; pass a list of them") from error


def check_folder(name: str, value) -> Path:
    """A path, ``~`` resolved."""
    if not isinstance(value, str | os.PathLike) or isinstance(os.fspath(value), bytes):
        raise TypeError(
            f"{name}={_shown(value)} is a {type(value).__name__}; pass a folder's path, as a string or Path"
        )
    if "\0" in os.fspath(value):
        raise ValueError(f"{name}={_shown(value)} holds a NUL byte; pass a folder's path")
    return Path(value).expanduser()


def to_array(value) -> np.ndarray:
    """An array of what NumPy takes, or of a tensor on any device."""
    return (
        check_plain("a tensor", value).detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    )


def check_moved(theta: torch.Tensor, name: str = "theta") -> torch.Tensor:
    """θ, unless it is zero: then training moved nothing."""
    if not bool(theta.any()):
        raise ValueError(f"{name} is zero: training moved nothing, so there is nothing to reconstruct from")
    return theta


def in_range(theta: torch.Tensor) -> tuple[torch.Tensor, float]:
    """θ, and 1; or θ over a power of two, and that, where squares of its entries leave what float32 can hold."""
    largest = float(theta.abs().max())
    if 1e-9 < largest < 1e9:
        return theta, 1.0
    unit = 2.0 ** min(max(math.frexp(largest)[1], -1000), 1000)
    return (theta.cpu().double() / unit).to(theta), unit


def check_samples(X, d: int | None = None) -> torch.Tensor:
    """Rows usable as training samples: finite, none zero, no two equal (their features would be dependent)."""
    X = check_matrix("X", X, d)
    norms = X.norm(dim=1)
    if bool((norms == 0).any()):
        rows = torch.nonzero(norms == 0).flatten().tolist()
        raise ValueError(f"X has zero rows {rows[:5]}: a zero sample has no direction to recover; drop them")
    if torch.unique(X, dim=0).shape[0] < X.shape[0]:
        raise ValueError("X has duplicate rows: their features coincide, so no method can separate them; drop copies")
    return X
