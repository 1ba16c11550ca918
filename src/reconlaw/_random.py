"""Seed streams that never meet, one generator per purpose; and what identifies tensors."""

from __future__ import annotations

import hashlib

import torch

from ._checks import check_count


def seeded_generator(purpose: str, seed: int) -> torch.Generator:
    """A CPU generator seeded by the first 63 bits of SHA-256("reconlaw/purpose/seed").

    Were the data and the attack both drawn from ``manual_seed(1)``, the attack's first draw would *be* the
    data. Here the purpose ("data", "features", "attack", …) salts the seed, so equal seeds give unrelated
    streams. Draws are made on the CPU and moved, so that one seed means the same numbers on every device.

    Args:
        purpose: what the numbers are for.
        seed: a whole number ≥ 0.

    Raises:
        ValueError: the seed is no whole number ≥ 0.
    """
    check_count("seed", seed, minimum=0)
    digest = hashlib.sha256(f"reconlaw/{purpose}/{seed}".encode()).digest()
    generator = torch.Generator()
    generator.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return generator


def fingerprint_of(*tensors: torch.Tensor) -> str:
    """Sixteen hexadecimal digits that tell tensors apart by their values."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
