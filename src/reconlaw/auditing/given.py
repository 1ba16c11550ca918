"""What the caller knows of the inputs, as words and files: domains, and pools of candidates."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from .._checks import check_input_shape
from ..inputs import Box, Free, Inputs, Sphere, pixels
from .errors import AuditError

_PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}


def inputs_from(text: str, input_shape) -> Inputs:
    """A domain from words: ``free``, ``sphere``, ``sphere:RADIUS``, ``box:LOW,HIGH`` or ``pixels:MEAN,STD``.

    Args:
        text: several channels of MEAN and STD are joined by "/", as in ``pixels:0.5/0.5/0.5,0.25/0.25/0.25``.
        input_shape: of one input, (C, H, W) for ``pixels``.

    Raises:
        AuditError: words that are none of these.

    Example:
        >>> inputs_from("box:0,1", (1, 8, 8))
        Box(0, 1)
    """
    kind, _, rest = text.partition(":")
    try:
        parts = [[float(one) for one in part.split("/")] for part in rest.split(",")] if rest else []
        if kind == "free" and not parts:
            return Free()
        if kind == "sphere" and len(parts) < 2:
            return Sphere(parts[0][0] if parts else None)
        if kind == "box" and len(parts) == 2:
            return Box(parts[0][0], parts[1][0])
        if kind == "pixels" and len(parts) == 2:
            return pixels(input_shape, parts[0], parts[1])
    except ValueError as error:
        raise AuditError(f"inputs {text!r} cannot be read: {error}") from error
    raise AuditError(
        f"inputs {text!r} is unknown; write free, sphere, sphere:RADIUS, box:LOW,HIGH or pixels:MEAN,STD (channels "
        "joined by /)"
    )


def candidates_from(source, input_shape, inputs=None) -> tuple[torch.Tensor, tuple[str, ...]]:
    """(m, d) candidates as the model sees them, and their names.

    Args:
        source: a folder of pictures, whose pixels in [0, 1] are laid onto a :class:`~reconlaw.inputs.Box` where
            ``inputs`` is one; a ``.npz``, ``.npy`` or ``.csv`` file, or an array or tensor (m, …), as the model sees
            them, d numbers a row.
        input_shape: of one input.
        inputs: where inputs lie.

    Raises:
        AuditError: what is wrong with the file, a picture or the shape.
    """
    shape = check_input_shape(input_shape)
    d, names = math.prod(shape), None
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        if path.is_dir():
            values, names = _pictures(path, shape, inputs)
        else:
            values = _table(path)
    else:
        values = source.detach().cpu().numpy() if isinstance(source, torch.Tensor) else np.asarray(source)
    try:
        X = torch.as_tensor(np.asarray(values, dtype=np.float64), device="cpu")
    except (TypeError, ValueError) as error:
        raise AuditError(f"candidates holds no numbers ({error})") from error
    if X.ndim < 2 or not len(X) or X[0].numel() != d:
        raise AuditError(f"candidates has shape {tuple(X.shape)}; expected (m ≥ 1, {d}), rows as of {shape}")
    if not bool(torch.isfinite(X).all()):
        raise AuditError("candidates holds NaN or infinite values")
    X = X.reshape(len(X), d)
    return X, names or tuple(f"number {i}" for i in range(len(X)))


def _table(path: Path) -> np.ndarray:
    if not path.is_file():
        raise AuditError(f"candidates: there is no file or folder {path}")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as held:
                keys = list(held)
                if len(keys) != 1 and not {"X", "x"} & set(keys):
                    raise AuditError(f"candidates: {path} holds {', '.join(keys)}; keep one array, or call it X")
                return held["X" if "X" in keys else "x" if "x" in keys else keys[0]]
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        if path.suffix == ".csv":
            with path.open(encoding="utf-8") as file:
                first = file.readline().split(",")
            return np.loadtxt(path, delimiter=",", ndmin=2, skiprows=0 if all(map(_number, first)) else 1)
    except AuditError:
        raise
    except Exception as error:
        raise AuditError(f"candidates: {path} cannot be read ({type(error).__name__}: {error})") from error
    raise AuditError(f"candidates: {path} is no .npz, .npy or .csv file, nor a folder of pictures")


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _pictures(folder: Path, shape, inputs):
    """Pictures of a folder in the order of their names, in [0, 1] or laid onto a box."""
    from skimage import color, io, util

    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _PICTURES)
    if not paths:
        raise AuditError(f"candidates: the folder {folder} holds no pictures ({', '.join(sorted(_PICTURES))})")
    if len(shape) not in (2, 3):
        raise AuditError(f"candidates are pictures, and input_shape={shape} is no picture's: (C, H, W) or (H, W)")
    channels, size = shape[0] if len(shape) == 3 else 1, tuple(shape[-2:])
    rows = []
    for path in paths:
        try:
            picture = util.img_as_float64(io.imread(path))
        except Exception as error:
            raise AuditError(f"candidates: {path} cannot be read ({type(error).__name__}: {error})") from error
        picture = picture[..., :3] if picture.ndim == 3 and picture.shape[2] == 4 else picture
        if picture.ndim == 3 and channels == 1:
            picture = color.rgb2gray(picture)
        if picture.shape[:2] != size:
            raise AuditError(f"candidates: {path} has {picture.shape[:2]} pixels; the model takes {size}: resize it")
        picture = np.repeat(picture[None], channels, 0) if picture.ndim == 2 else picture.transpose(2, 0, 1)
        rows.append(picture.reshape(-1))
    X = torch.as_tensor(np.stack(rows), device="cpu")
    if isinstance(inputs, Box):
        low, high = inputs.bounds(X)
        X = low + X * (high - low)
    return X.numpy(), tuple(path.name for path in paths)
