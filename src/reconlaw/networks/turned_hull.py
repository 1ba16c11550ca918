r"""All that running statistics say of the samples where the batches are known: they are known up to one rotation.

Let P_t ∈ {0, 1}^{s×n} pick batch t and let a_t be its weight in the running statistics, a_t ∝ (1 − μ)^{T−t}, Σ a_t = 1.
The mean and the covariance that :func:`batch_hull` reads, x̄ and C = AᵀA with A (r, d), are those of the samples X,

    x̄ = mᵀX,   C = XᵀLX,   m = Σ_t a_t P_tᵀ1/s,   L = Σ_t a_t P_tᵀ(I − 11ᵀ/s)P_t/(s − 1),

and with the batches m and L are known. L is the Laplacian of a graph that joins samples that share a batch. Where that
is connected, L = S diag(λ) Sᵀ with S (n, n − 1), and all X with these two are

    X = 1x̄ᵀ + F Q A,   F = (I − 1mᵀ) S diag(λ)^{−1/2},   QᵀQ = I,   Q ∈ R^{(n−1)×r}.

So of n samples r(r − 1)/2 + (n − 1 − r) r numbers are left, 10 of n = 6 and r = 5, in the place of n r coordinates in
the hull or n d of inputs: a search by the trained weights is one over rotations.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .._checks import check_positive
from ..inputs import Affine
from .input_hull import InputSpan

_APART = 1e-9  # the second eigenvalue of a graph that is not connected, over its largest


class TurnedHull(Affine):
    r"""All sets of n samples that leave the running statistics as they are: a domain for :func:`reconlaw.retrace`.

    Its samples depend on each other, which other attacks do not expect.

    Args:
        hull: of :func:`batch_hull`.
        batches: which samples stood in each batch, in the order of training: (T, s) or T of (s_t,), whole numbers from
            0 to n − 1, two or more in each.
        momentum: μ of the layer, in (0, 1); 0.1 is torch's.

    Raises:
        TypeError, ValueError: what is wrong with an argument; batches that leave samples apart, so that each part may
            be shifted by itself; a hull of more dimensions than n − 1.
    """

    def __init__(self, hull: InputSpan, batches: Sequence[torch.Tensor], momentum: float = 0.1) -> None:
        if not isinstance(hull, InputSpan) or hull.point is None or not len(hull.directions):
            raise TypeError("hull must be what batch_hull returns")
        super().__init__(hull.singular_values[:, None] * hull.directions, hull.point)
        mean, laplacian = _weights(_checked(batches), momentum)
        self.n = len(mean)
        if self.k > self.n - 1:
            raise ValueError(f"the hull has {self.k} dimensions, and {self.n} samples span {self.n - 1}; check batches")
        if self.n == 2:
            raise ValueError("the two samples are known but for which is which; search in hull.inputs")
        values, vectors = torch.linalg.eigh(laplacian)
        if float(values[1]) < _APART * float(values[-1]):
            raise ValueError(
                "some samples never share a batch with the others, directly or through more: each part may be shifted "
                "by itself without changing a normalised feature; search in hull.inputs"
            )
        spread = vectors[:, 1:] / values[1:].sqrt()
        self.frame = spread - mean @ spread  # F
        self.unframe = torch.linalg.pinv(self.frame)

    def __repr__(self):
        return f"TurnedHull({self.n} samples in {self.k} of {self.d} dimensions)"

    def retract(self, U: torch.Tensor) -> torch.Tensor:
        """F Q for the Q nearest F⁺U, its polar factor."""
        return self.frame.to(U) @ self._rotation(U)

    def _rotation(self, U):
        if U.shape != (self.n, self.k):
            raise ValueError(
                f"{tuple(U.shape)} coordinates are not those of the {self.n} samples of these batches, all together; "
                "only retrace takes this domain, for as many samples"
            )
        left, _, right = torch.linalg.svd(self.unframe.to(U) @ U, full_matrices=False)
        return left @ right

    def moves(self, U: torch.Tensor) -> torch.Tensor:
        """Orthonormal columns (n k, m): what turns Q, to first order."""
        Q = self._rotation(U)
        full = torch.linalg.qr(Q, mode="complete").Q
        full = torch.cat([Q, full[:, self.k :]], 1)
        made = []
        for i in range(self.k):
            for j in range(i + 1, self.n - 1):
                turn = torch.zeros_like(Q)
                turn[:, i] = full[:, j]
                if j < self.k:
                    turn[:, j] = -full[:, i]
                made.append((self.frame.to(U) @ turn).flatten())
        return torch.linalg.qr(torch.stack(made, 1)).Q


def _checked(batches):
    made = []
    for rows in batches:
        if not isinstance(rows, torch.Tensor) or rows.ndim != 1 or rows.is_floating_point() or rows.dtype == torch.bool:
            raise TypeError("batches must be whole numbers, (T, s) or a list of tensors (s,): which samples each holds")
        rows = rows.long().cpu()
        if len(rows) < 2 or len(rows.unique()) < len(rows) or int(rows.min()) < 0:
            raise ValueError(f"batch {rows.tolist()} must hold two samples or more, each once, counted from 0")
        made.append(rows)
    if not made:
        raise ValueError("batches are none")
    return made


def _weights(batches, momentum):
    """m (n,) and L (n, n)."""
    if check_positive("momentum", momentum) >= 1:
        raise ValueError(f"momentum={momentum!r} must be in (0, 1)")
    n = 1 + max(int(rows.max()) for rows in batches)
    left = (1 - momentum) ** torch.arange(len(batches) - 1, -1, -1, dtype=torch.float64, device="cpu")
    mean = torch.zeros(n, dtype=torch.float64, device="cpu")
    laplacian = torch.zeros(n, n, dtype=torch.float64, device="cpu")
    for rows, share in zip(batches, left / left.sum(), strict=True):
        size = len(rows)
        mean[rows] += share / size
        apart = torch.eye(size, dtype=torch.float64, device="cpu") - 1 / size
        laplacian[rows[:, None], rows] += share / (size - 1) * apart
    return mean, laplacian
