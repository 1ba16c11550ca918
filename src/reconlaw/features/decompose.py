"""Factorisations that not every device has: where it lacks them, on the CPU and back."""

from __future__ import annotations

import torch

_HAVE_THEM = ("cpu", "cuda", "xpu")  # MPS, for one, has neither eigenvalues nor singular values
# Rows that a factorisation is handed at a time: cuSOLVER's singular values refuse a matrix of ten million.
_LONG = 1 << 20


def within_reach(A: torch.Tensor) -> torch.Tensor:
    """A matrix where it can be decomposed."""
    return A if A.device.type in _HAVE_THEM else A.cpu()


def in_float64(A: torch.Tensor) -> torch.Tensor:
    """A in float64, on its device where that holds such numbers, and on the CPU elsewhere."""
    try:
        return A.double()
    except TypeError:  # MPS
        return A.cpu().double()


def eigh(A: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues and eigenvectors of a symmetric matrix, on its device."""
    values, vectors = torch.linalg.eigh(within_reach(A))
    return values.to(A.device), vectors.to(A.device)


def svd(A: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The reduced singular value decomposition, on the matrix's device; of any length, where one side is short."""
    reached = within_reach(A)
    U, s, Vh = _svd_of_long(reached) if max(A.shape) > _LONG else torch.linalg.svd(reached, full_matrices=False)
    return U.to(A.device), s.to(A.device), Vh.to(A.device)


def _svd_of_long(A: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """By QR of blocks of the long side and of what these leave, which rounds no worse than one QR of the whole.

    Unlike the eigenvalues of AᵀA, which lose every singular value below the root of the rounding. Source: Demmel,
    Grigori, Hoemmen and Langou, *Communication-optimal parallel and sequential QR and LU factorizations* (2012).
    """
    if A.shape[0] < A.shape[1]:
        U, s, Vh = _svd_of_long(A.mT)
        return Vh.mT, s, U.mT
    parts = [torch.linalg.qr(block) for block in A.split(_LONG)]
    above, R = torch.linalg.qr(torch.cat([part.R for part in parts]))
    U, s, Vh = torch.linalg.svd(R, full_matrices=False)
    turns = (above @ U).split([len(part.R) for part in parts])
    return torch.cat([part.Q @ turn for part, turn in zip(parts, turns, strict=True)]), s, Vh


def pinv(A: torch.Tensor) -> torch.Tensor:
    """The pseudo-inverse, on its matrix's device."""
    return torch.linalg.pinv(within_reach(A)).to(A.device)


def lstsq(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    """The least-squares solution X of AX = B, on the matrices' device."""
    return torch.linalg.lstsq(within_reach(A), within_reach(B)).solution.to(A.device)
