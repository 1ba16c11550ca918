"""What identifies a problem, on whatever device and with whatever rounding it is met again."""

from __future__ import annotations

import torch

from .._random import seeded_generator

_PROJECTIONS = 4
_PROBES = 2
# How far the numbers of two fingerprints of one problem may lie apart, relative to the vectors that they are of:
# far above what another device or another order of summation changes, far below what another sample does.
_ALIKE = {torch.float64: 1e-6, torch.float32: 1e-3}


def fingerprint(theta: torch.Tensor, features, n, method: str, seed: int) -> dict:
    """Identifies a problem, so that a checkpoint is never resumed on another; compare by :func:`same_problem`.

    Neither the device nor the last bits of θ or of the features are in it, since both change where training is
    repeated on another machine: numbers in place of digests of bytes, the norms and a few random projections of θ's
    rows and of the features of two random inputs.
    """
    generator = seeded_generator("fingerprint", 0)
    x = torch.randn(_PROBES, features.d, generator=generator, device="cpu", dtype=torch.float64)
    vectors = torch.cat([theta.detach().cpu().double(), features.columns(features(x)).detach().cpu().double()])
    numbers = [vectors.norm(dim=1)]
    for _ in range(_PROJECTIONS):
        numbers.append(vectors @ torch.randn(features.p, generator=generator, device="cpu", dtype=torch.float64))
    kind = type(features).__name__
    return {
        "names": f"{kind} d={features.d} p={features.p} {features.dtype} n={n} {method} seed={seed}",
        "numbers": torch.stack(numbers, 1),
        "alike": _ALIKE[features.dtype],
    }


def same_problem(one, other) -> bool:
    """Whether two fingerprints are of one problem, up to rounding."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return one == other
    if one.get("names") != other.get("names") or one["numbers"].shape != other["numbers"].shape:
        return False
    apart = (one["numbers"] - other["numbers"]).abs()
    return bool((apart <= other["alike"] * other["numbers"][:, :1]).all())
