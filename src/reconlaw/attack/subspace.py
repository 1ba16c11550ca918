r"""θ of several outputs as a subspace: its rows whitened, as far as they stand above the noise.

The projection loss weighs the directions of θ's row space by their size. Fine-tuning by cross-entropy leaves singular
values that spread over two to eight decades, so the loss sees one direction of the span and hardly the others. The
features of the samples span all of them: with θ = U S Q,

    Q_w = diag(w) Q,        w_i = min(1, s_i/(c f)),

takes the place of θ in the search, f the size that noise alone gives a direction and c = 30: a direction at the floor
would be noise at full weight, and would ruin the search. Afterwards θ itself polishes: its plain loss is the likelihood
under even noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from .projection import Projection

# Training at a precision leaves a floor this much above the rounding of storage (measured: ten to twenty times).
_TRAINING = 15.0
# A direction has full weight from this many times the floor on.
_CAP = 30.0
# The loss left by it was measured up to four times that of the mean.
_LOSS_SLACK = 16.0
# A body that computes in single precision rounds its features: measured 3e-7 to 6e-7 of θ, six times its rounding.
_SINGLE, _DOUBLE, _BODY = 2.0**-24, 2.0**-53, 16.0
# Entries that are multiples of more than this share of their size came out of single precision, or less.
_COARSE = 2.0**-40
# A whitened loss within this factor of what noise at the floor leaves counts as explained.
_SLACK = 10.0
# Singular values above this many times the floor count for the rank.
_RANK = 4.0
_SAMPLED = 1 << 16


def quantum(theta: torch.Tensor) -> float:
    """The spacing that the entries of θ are multiples of, in the median: the rounding of the numbers it came from.

    θ is a difference of stored parameters, so its lowest bits are theirs, whatever dtype it is held in.
    """
    x = theta.detach().reshape(-1)
    x = x[:: max(1, len(x) // _SAMPLED)].cpu()
    double = x.double()
    mantissa, exponent = torch.frexp(double[double != 0])
    bits = (mantissa.abs() * 2.0**53).to(torch.int64)
    if not len(bits):
        return 0.0
    low = (bits & -bits).double()
    values = low * torch.exp2((exponent - 53).double())
    return float(values.median())


def _rounding(theta) -> float:
    """The largest singular value of what training at the precision that θ's entries show leaves in θ (K, p)."""
    K, p = theta.shape
    return _TRAINING * quantum(theta) / math.sqrt(12) * (math.sqrt(p) + math.sqrt(K))


def rounding_loss(theta) -> float:
    """‖rounding of training‖²/‖θ‖²: a loss that the right samples can be left with.

    The larger of two: that of the weights as they are stored, and that of the features as the body computes them.
    """
    spacing, size = quantum(theta), float(theta.square().mean())
    stored = _LOSS_SLACK * (_TRAINING * spacing) ** 2 / 12 / size
    computed = _SINGLE if spacing > _COARSE * size**0.5 else _DOUBLE
    return max(stored, (_BODY * computed) ** 2)


def floor_of(theta: torch.Tensor, n: int | None = None, tol: float = 0.0) -> float:
    r"""The largest singular value that noise alone may give θ (K, p).

    The largest of three: what training at the precision that the entries of θ show would leave; what the tolerance
    says of noise; and, where n < K, the singular value n + 1, since n samples make no more than n.
    """
    K, rounding = len(theta), _rounding(theta)
    told = math.sqrt(tol / K) * float(theta.norm())
    floor = max(rounding, told)
    if n is not None and K > n:
        floor = max(floor, float(torch.linalg.svdvals(theta.cpu().double())[n]))
    return floor


@dataclass
class Subspace:
    """θ's row space above the floor: singular values s (r,), orthonormal rows Q (r, p), and their weights.

    ``theta`` (r, p) are the weighted rows that the search takes in the place of θ, ``tol`` the loss that noise at the
    floor leaves on them.
    """

    s: torch.Tensor
    Q: torch.Tensor
    weights: torch.Tensor
    floor: float

    @property
    def rank(self) -> int:
        return int((self.s > _RANK * self.floor).sum())

    @property
    def theta(self) -> torch.Tensor:
        return self.weights[:, None] * self.Q

    @property
    def tol(self) -> float:
        noise = (self.weights * self.floor / self.s).square().sum()
        return float(2 * noise / self.weights.square().sum())


def subspace(theta: torch.Tensor, n: int | None = None, tol: float = 0.0) -> Subspace:
    """The row space of θ (K, p), whitened above :func:`floor_of`."""
    floor = floor_of(theta, n, tol)
    _, s, Q = torch.linalg.svd(theta.cpu().double(), full_matrices=False)
    keep = s > max(floor, 1e-300)
    keep[0] = True
    if n is not None:
        keep[n:] = False
    s, Q = s[keep].to(theta), Q[keep].to(theta)
    weights = (s / (_CAP * floor)).clamp(max=1.0) if floor else torch.ones_like(s)
    return Subspace(s, Q, weights, floor)


def explains(features, theta, U, tol) -> bool:
    """Whether atoms U explain every direction of θ that stands above the noise, not only the largest."""
    space = subspace(theta, None, tol)
    return Projection(features, space.theta, U).loss <= max(tol, _SLACK * space.tol)
