"""Real pictures that come inside the package's dependencies: nothing is downloaded.

The libraries that hold them take seconds to load, so only who asks for a picture waits.
"""

from __future__ import annotations

import numpy as np
import torch

from .._checks import check_count, check_float_dtype
from .._random import seeded_generator
from .dataset import Dataset, check_classes, class_labels, from_pixels, load_pooch, random_signs, share_out

FACES = 100  # the first hundred of lfw_subset's 200 pictures are faces, the rest are not

TILES_A_SIDE = 4
FLAT = 0.08


def digits(
    n: int = 10,
    classes: tuple[int, ...] = (3, 8),
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Dataset:
    """Handwritten digits of 8×8 pixels, d = 64 (scikit-learn's ``load_digits``, 1797 of them).

    Args:
        n: how many, shared evenly among the classes (the first classes take the remainder).
        classes: two or more different digits 0…9.
        seed: picks which.
        dtype: torch.float64 or torch.float32.

    Returns:
        A :class:`Dataset`, rows sorted by class. y is −1 for the first and +1 for the second of two classes,
        (n,); for K ≥ 3 classes the one-hot row less 1/K, (n, K).

    Raises:
        ValueError: n < 1 or more than the classes hold, fewer than two classes, unknown or repeated ones, bad
            seed.

    Source:
        Alpaydin and Kaynak, Optical recognition of handwritten digits, UCI repository (1998).
    """
    from sklearn.datasets import load_digits

    check_count("n", n)
    check_float_dtype(dtype)
    chosen = check_classes(classes, range(10))
    images, target = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8) / 16.0
    generator = seeded_generator("data", seed)
    picked, counts = [], share_out(n, len(chosen))
    for digit, count in zip(chosen, counts, strict=True):
        of_class = np.flatnonzero(target == digit)
        if count > len(of_class):
            raise ValueError(
                f"n={n} asks for {count} images of digit {digit}, of which there are {len(of_class)}; lower n"
            )
        picked.append(of_class[torch.randperm(len(of_class), device="cpu", generator=generator)[:count].numpy()])
    return from_pixels(images[np.concatenate(picked)], class_labels(counts), (images.mean(),), dtype)


def faces(n: int = 10, seed: int = 0, dtype: torch.dtype = torch.float64) -> Dataset:
    """Faces of 25×25 grey pixels, d = 625 (scikit-image's ``lfw_subset``, 100 of them).

    Args:
        n: how many, 1…100.
        seed: picks which, and their labels.
        dtype: torch.float64 or torch.float32.

    Returns:
        A :class:`Dataset`; the subset names nobody, so y (n,) are fair coins ±1.

    Raises:
        ValueError: n outside its range, bad seed.

    Source:
        Huang et al., Labeled Faces in the Wild, University of Massachusetts, report 07-49 (2007).
    """
    load_pooch()
    import skimage.data

    check_float_dtype(dtype)
    return _pick(skimage.data.lfw_subset()[:FACES].astype(np.float64), n, seed, dtype, "faces", "lower n")


def photos(
    n: int = 10,
    size: int = 32,
    rgb: bool = False,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Dataset:
    """Patches of size×size pixels from six photographs, d = size² or 3·size².

    Each photograph (scikit-learn's china and flower, scikit-image's astronaut, cat, coffee and rocket) is
    shrunk by a whole factor until a patch is about a quarter of its shorter side, then cut into patches that
    do not overlap. Flat patches, of a standard deviation below 0.08 in every channel, are left out: once
    normalised, two bits of plain sky are all but the same sample.

    Args:
        n: how many; there are about 90 of the usual sizes, fewer of sizes above 100.
        size: pixels a side, 2…512.
        rgb: in colour.
        seed: picks which, and their labels.
        dtype: torch.float64 or torch.float32.

    Returns:
        A :class:`Dataset` with y (n,) of fair coins ±1.

    Raises:
        ValueError: n, size or seed outside its range.
    """
    check_count("size", size, minimum=2)
    check_float_dtype(dtype)
    patches = [patch for photo in _photographs(rgb) for patch in _patches(photo, size)]
    if not patches:
        raise ValueError(f"size={size} is larger than every photograph; use 512 or less")
    return _pick(np.stack(patches), n, seed, dtype, f"patches of {size}×{size}", "lower n or choose another size")


def _photographs(rgb: bool) -> list[np.ndarray]:
    """(H, W) or (H, W, 3) arrays in [0,1]."""
    load_pooch()
    import skimage.color
    import skimage.data
    from sklearn.datasets import load_sample_image

    colour = [load_sample_image("china.jpg"), load_sample_image("flower.jpg")]
    colour += [skimage.data.astronaut(), skimage.data.chelsea(), skimage.data.coffee(), skimage.data.rocket()]
    colour = [photo / 255.0 for photo in colour]
    return colour if rgb else [skimage.color.rgb2gray(photo) for photo in colour]


def _patches(photo: np.ndarray, size: int) -> list[np.ndarray]:
    """The photograph's tiles that are not flat, after shrinking it by block means."""
    factor = max(1, min(photo.shape[:2]) // (TILES_A_SIDE * size))
    height, width = (side // factor // size for side in photo.shape[:2])
    if not height or not width:
        return []
    photo = photo[: height * size * factor, : width * size * factor]
    blocks = photo.reshape(height, size, factor, width, size, factor, -1).mean(axis=(2, 5))
    tiles = blocks.swapaxes(1, 2).reshape(height * width, size, size, *photo.shape[2:])
    return [tile for tile in tiles if tile.std(axis=(0, 1)).max() > FLAT]


def _pick(pixels: np.ndarray, n: int, seed: int, dtype: torch.dtype, noun: str, remedy: str) -> Dataset:
    """n of the pictures at random, centred by the mean pixel of them all, with random signs for labels."""
    check_count("n", n)
    if n > len(pixels):
        raise ValueError(f"n={n} is more than the {len(pixels)} {noun} there are; {remedy}")
    generator = seeded_generator("data", seed)
    picked = torch.randperm(len(pixels), device="cpu", generator=generator)[:n].numpy()
    mean = tuple(np.atleast_1d(pixels.mean(axis=(0, 1, 2))))
    return from_pixels(pixels[picked], random_signs(n, generator), mean, dtype)
