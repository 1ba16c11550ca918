r"""Gaussian directions: the data of the theory."""

from __future__ import annotations

import math

import torch

from .._checks import check_count, check_float_dtype, check_positive, check_samples
from .._random import seeded_generator
from .dataset import Dataset, random_signs


def sphere(
    n: int,
    d: int,
    seed: int = 0,
    labels: str = "linear",
    noise: float = 0.5,
    dtype: torch.dtype = torch.float64,
) -> Dataset:
    r"""n points uniform on the sphere of radius √d.

    x_i = √d z_i/‖z_i‖ with z_i ~ N(0, I). Labels are "linear", y = Xg + ε with g ~ N(0, I/d) and ε ~ N(0,
    noise²), or "signs", fair coins ±1 that know nothing of X.

    Args:
        n: number of samples, ≥ 1.
        d: their dimension, ≥ 1.
        seed: of this data set; streams of equal seed elsewhere in the package are unrelated to it.
        labels: "linear" or "signs".
        noise: standard deviation of ε, ≥ 0; unused by "signs".
        dtype: torch.float64 or torch.float32. Both hold the same numbers, rounded.

    Returns:
        A :class:`Dataset` with X (n, d), y (n,) and no image shape.

    Raises:
        ValueError: n, d, seed, labels or noise outside its range, or d = 1 with rows that coincide.

    Source:
        The synthetic setting of Iurada et al., arXiv 2509.22214, has n=20, d=100 and the defaults here.
    """
    check_count("n", n)
    check_count("d", d)
    noise = check_positive("noise", noise, allow_zero=True)
    check_float_dtype(dtype)
    if labels not in ("linear", "signs"):
        raise ValueError(f"labels={labels!r} is unknown; use 'linear' or 'signs'")
    generator = seeded_generator("data", seed)
    Z = torch.randn(n, d, device="cpu", generator=generator, dtype=torch.float64)
    X = check_samples(math.sqrt(d) * Z / Z.norm(dim=1, keepdim=True))
    if labels == "linear":
        g = torch.randn(d, device="cpu", generator=generator, dtype=torch.float64) / math.sqrt(d)
        y = X @ g + noise * torch.randn(n, device="cpu", generator=generator, dtype=torch.float64)
    else:
        y = random_signs(n, generator)
    return Dataset(X.to(dtype), y.to(dtype))
