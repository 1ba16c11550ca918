"""Factorisations that not every device has: where it lacks them, on the CPU and back."""

from __future__ import annotations

import torch

_HAVE_THEM = ("cpu", "cuda", "xpu")  # MPS, for one, has neither eigenvalues nor singular values


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
    """The reduced singular value decomposition, on the matrix's device."""
    U, s, Vh = torch.linalg.svd(within_reach(A), full_matrices=False)
    return U.to(A.device), s.to(A.device), Vh.to(A.device)


def pinv(A: torch.Tensor) -> torch.Tensor:
    """The pseudo-inverse, on its matrix's device."""
    return torch.linalg.pinv(within_reach(A)).to(A.device)


def lstsq(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    """The least-squares solution X of AX = B, on the matrices' device."""
    return torch.linalg.lstsq(within_reach(A), within_reach(B)).solution.to(A.device)
