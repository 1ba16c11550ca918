"""What every data set is: rows on the sphere of radius √d, labels, and the way back from row to picture."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch

from .._checks import check_float_dtype, check_matrix, check_samples, listed


@dataclass(frozen=True, eq=False)
class Dataset:
    r"""Samples ready for a feature map.

    A picture p ∈ [0,1]^d becomes a row by x = √d (p − m)/‖p − m‖, where the constant m (one number, or one
    per colour channel) is the mean pixel of the *source*, the same whichever images are picked. Constant, and
    no mean image: a mean face added back in ``to_images`` would make any guess look like a face.

    Putting x on the sphere forgets the picture's contrast ‖p − m‖. ``to_images`` therefore draws every row,
    true or reconstructed, by one affine map p = m + s·x: at one contrast s for the whole set, the largest at
    which none of the true pictures leaves [0,1]. So a true picture comes back as the original with its
    contrast rescaled; a sign flip shows as a negative; equal distances between rows are equal distances
    between pictures, up to clipping the estimate.

    Attributes:
        X: (n, d) rows of norm √d, on the CPU.
        y: (n,), or (n, K) where the data set has K ≥ 3 classes.
        image_shape: (H, W), (H, W, 3) or None for samples that are no pictures. Rows are pictures flattened
            in this order, the colour channel fastest.
        mean: m, of length 1 or 3.
        scale: s, in units of pixel brightness.
        pixels: (n, d) the pictures p themselves, in [0, 1], flattened in the same order: what ordinary models are
            trained on, for an attack with ``inputs=rl.inputs.Box(0.0, 1.0)``; None for samples that are no pictures.
    """

    X: torch.Tensor
    y: torch.Tensor
    image_shape: tuple[int, ...] | None = None
    mean: tuple[float, ...] = (0.0,)
    scale: float = 1.0
    pixels: torch.Tensor | None = None

    def to_images(self, X: torch.Tensor) -> np.ndarray:
        """Pictures clip(m + s·x, 0, 1) of the rows of X.

        Args:
            X: (k, d) rows, of any device and floating dtype: the truth, or a reconstruction of norm √d.

        Returns:
            A float64 array (k, H, W) or (k, H, W, 3) in [0, 1].

        Raises:
            ValueError: the data set holds no pictures, or X is not (k, d), or is not finite.
            TypeError: X is no floating tensor.
        """
        if self.image_shape is None:
            raise ValueError("these samples are no pictures (image_shape is None); plot their rows instead")
        X = check_matrix("X", X, math.prod(self.image_shape))
        rows = X.detach().cpu().double().numpy().reshape(X.shape[0], *self.image_shape)
        return np.clip(_channels(self.mean, self.image_shape) + self.scale * rows, 0.0, 1.0)

    def __repr__(self):
        n, d = self.X.shape
        y, shape = tuple(self.y.shape), self.image_shape
        return f"Dataset(n={n}, d={d}, y={y}, image_shape={shape}, dtype={self.X.dtype})"


def _channels(mean: tuple[float, ...], image_shape: tuple[int, ...]) -> np.ndarray:
    """The mean, shaped to broadcast against pictures."""
    return np.asarray(mean).reshape((1,) * len(image_shape) + (-1,)) if len(image_shape) == 3 else np.asarray(mean)


def from_pixels(pixels: np.ndarray, y: torch.Tensor, mean: tuple[float, ...], dtype: torch.dtype) -> Dataset:
    """The :class:`Dataset` of pictures with pixels in [0,1], shape (n, H, W) or (n, H, W, 3)."""
    check_float_dtype(dtype)
    n, image_shape = pixels.shape[0], pixels.shape[1:]
    centre = _channels(mean, image_shape)
    rows = (pixels - centre).reshape(n, -1)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if (norms == 0).any():
        raise ValueError(
            f"picture {int(np.argmin(norms))} is the mean pixel all over: it has no direction; leave it out"
        )
    rows *= math.sqrt(rows.shape[1]) / norms
    X = check_samples(torch.as_tensor(rows, device="cpu").to(dtype))
    x = rows.reshape(pixels.shape)
    room = np.where(x > 0, 1 - centre, centre)  # how far each pixel can move from m before it leaves [0,1]
    scale = float((room / np.maximum(np.abs(x), 1e-12)).min())
    raw = torch.as_tensor(pixels.reshape(n, -1)).to(dtype)
    return Dataset(X, y.to(dtype), image_shape, tuple(float(m) for m in mean), scale, raw)


def class_labels(counts: list[int]) -> torch.Tensor:
    """Labels of rows sorted by class: −1 and +1 for two; for K ≥ 3 the one-hot row less 1/K, (n, K)."""
    index = torch.repeat_interleave(torch.arange(len(counts), device="cpu"), torch.tensor(counts, device="cpu"))
    if len(counts) == 2:
        return 2.0 * index.double() - 1.0
    return torch.nn.functional.one_hot(index, len(counts)).double() - 1.0 / len(counts)


def share_out(n: int, classes: int) -> list[int]:
    """n split as evenly as can be; the first classes take the remainder."""
    return [n // classes + (k < n % classes) for k in range(classes)]


def check_classes(classes, known) -> list:
    """At least two different classes, each among ``known``."""
    chosen = [classes] if isinstance(classes, str | int) else listed("classes", classes)
    unknown = [c for c in chosen if isinstance(c, bool) or c not in known]
    if unknown:
        raise ValueError(f"unknown classes {unknown}; choose among {list(known)}")
    if len(chosen) < 2 or len(set(chosen)) < len(chosen):
        raise ValueError(f"classes={classes!r} must name at least two classes, each once")
    return chosen


def random_signs(n: int, generator: torch.Generator) -> torch.Tensor:
    """n labels ±1, each by a fair coin."""
    return 2.0 * torch.randint(0, 2, (n,), device="cpu", generator=generator).double() - 1.0


def load_pooch():
    """pooch, which fetches archives, and which scikit-image's pictures load too.

    It loads tqdm.auto, which in a notebook without ipywidgets warns of a progress bar that nothing here draws.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        import pooch
    return pooch
