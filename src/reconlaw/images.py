r"""How like the original a reconstructed picture is: PSNR and SSIM, picture by picture.

Both compare pictures in [0, 1], as ``Dataset.to_images`` gives them, after the attack is over; neither is
seen by it.
"""

from __future__ import annotations

import numpy as np

from ._checks import to_array

WINDOW = 7  # scikit-image's window for SSIM


def psnr(estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    r"""Peak signal-to-noise ratio −10 log₁₀ mean (p̂ − p)² in dB, of peak 1; infinite between equal pictures.

    Args:
        estimate: (n, H, W) or (n, H, W, 3) in [0, 1], an array or a tensor on any device.
        truth: the same shape.

    Returns:
        (n,) float64.

    Raises:
        ValueError: shapes that differ or are no stacks of pictures, values outside [0, 1], NaN.
    """
    estimate, truth = _check_pictures(estimate, truth)
    mse = ((estimate - truth) ** 2).reshape(len(truth), -1).mean(axis=1)
    with np.errstate(divide="ignore"):
        return -10.0 * np.log10(mse)


def ssim(estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    r"""Mean structural similarity, in [−1, 1], 1 where the pictures are equal; colour channels are averaged.

    Windows are 7×7 and uniform, those of scikit-image, or the largest odd window that fits a picture of fewer
    pixels a side. SSIM depends on its window: compare it between pictures of one size only.

    Args:
        estimate: (n, H, W) or (n, H, W, 3) in [0, 1], H and W ≥ 3, an array or a tensor on any device.
        truth: the same shape.

    Returns:
        (n,) float64.

    Raises:
        ValueError: as :func:`psnr`, or pictures of fewer than 3 pixels a side.

    Source:
        Wang, Bovik, Sheikh and Simoncelli, Image quality assessment, IEEE Trans. Image Processing 13 (2004).
    """
    from skimage.metrics import structural_similarity  # takes a second to load, so only who asks waits

    estimate, truth = _check_pictures(estimate, truth)
    side = min(truth.shape[1:3])
    if side < 3:
        raise ValueError(f"pictures of {truth.shape[1]}×{truth.shape[2]} are too small for SSIM; 3×3 is the least")
    window = min(WINDOW, side if side % 2 else side - 1)
    channel = -1 if truth.ndim == 4 else None
    scores = [
        structural_similarity(a, b, win_size=window, data_range=1.0, channel_axis=channel)
        for a, b in zip(estimate, truth, strict=True)
    ]
    return np.asarray(scores, dtype=np.float64)


def _check_pictures(estimate, truth) -> tuple[np.ndarray, np.ndarray]:
    estimate, truth = (np.asarray(to_array(pictures), dtype=np.float64) for pictures in (estimate, truth))
    if estimate.shape != truth.shape:
        raise ValueError(f"estimate has shape {estimate.shape}, truth {truth.shape}; compare equal shapes")
    grey, colour = truth.ndim == 3, truth.ndim == 4 and truth.shape[3] == 3
    if not (grey or colour) or truth.size == 0:
        raise ValueError(
            f"shape {truth.shape} is no stack of pictures; expected (n, H, W) or (n, H, W, 3), "
            "picture[None] for a single one"
        )
    for name, pictures in (("estimate", estimate), ("truth", truth)):
        if not (pictures.min() >= 0 and pictures.max() <= 1):
            raise ValueError(
                f"{name} has values outside [0, 1] or NaN (range {pictures.min():.3g}…{pictures.max():.3g}); "
                "make pictures of rows by Dataset.to_images first"
            )
    return estimate, truth
