r"""Whether edges and masks are the data's: integral, two-valued, and half-spaces of what they say.

A wrong set can be nearly right: where every neuron that sees x_1 also sees x_2, the edges e_1 + e_2 and e_2 with masks
m_1 and m_2 − m_1 explain the change as well. But then the mask m_2 − m_1 is not the half-space of e_2. So three things
are asked of a set, none of which needs the truth:

- *integral*: the coordinates of every vertex in the edges, divided by the known V_j·c_i, are 0 or 1;
- *two-valued*: both values are taken;
- *half-spaces*: the value is 1 exactly where w_j·x̂_i + b_j > 0 with x̂_i read from the edge itself.

By chance p signs are a half-space of r dimensions for at most 2 Σ_{k<r} C(p − 1, k) of their 2^p values (Cover, 1965);
the logarithm of that share, in bits, is how much a sample's mask speaks for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

_INTEGRAL = 0.1  # coordinates this far from 0 and 1 are neither
_SPEAKS = 10.0  # an edge speaks in a neuron where its part is this many times the error there
_BITS = 32.0  # a sample's mask must speak so much for it


@dataclass(frozen=True, eq=False)
class Certificate:
    r"""What speaks for a set of samples, one number each.

    Attributes:
        distance: (n,) largest distance of a coordinate from 0 and 1, over the neurons where the edge speaks.
        seen: (n,) share of those neurons at which it is 1.
        agreement: (n,) share of those neurons at which it is 1 where, and only where, x̂ passes the neuron.
        bits: (n,) −log₂ of the chance that as many random signs were a half-space.
        neurons: (n,) how many neurons were asked.
    """

    distance: torch.Tensor
    seen: torch.Tensor
    agreement: torch.Tensor
    bits: torch.Tensor
    neurons: torch.Tensor

    @property
    def holds(self) -> torch.Tensor:
        """Which edges are integral, two-valued, and half-spaces of enough neurons, (n,) bool."""
        two = (self.seen > 0) & (self.seen < 1)
        return (self.distance < _INTEGRAL) & two & (self.agreement >= 1) & (self.bits >= _BITS)


def certify(problem, X, fit, margins) -> Certificate:
    """Ask every neuron that no sample crossed, by more than its margin, for its coordinates in the edges of a fit."""
    n, r = X.shape
    rows = problem.stable(X, margins)
    sides = problem.middle @ X.T > 0
    inverse = torch.linalg.pinv(fit.X)  # (r, n)
    coordinates = problem.Y @ inverse
    error = (fit.residual.square().mean().sqrt() if not rows.any() else _scale(fit.residual[rows])) * inverse.norm(
        dim=0
    )
    values = torch.where(fit.weights == 0, torch.full_like(coordinates, math.nan), coordinates / fit.weights)
    spoken = rows[:, None] & (fit.weights.abs() > _SPEAKS * error)
    bit = values > 0.5
    off = torch.where(spoken, torch.minimum(values.abs(), (values - 1).abs()), 0)
    count = spoken.sum(0)
    share = count.clamp_min(1)
    return Certificate(
        distance=torch.where(count > 0, off.amax(0), torch.inf),
        seen=(bit & spoken).sum(0) / share,
        agreement=((bit == sides) & spoken).sum(0) / share,
        bits=torch.tensor([half_space_bits(int(k), r) for k in count], dtype=X.dtype, device=X.device),
        neurons=count,
    )


def _scale(residual):
    """Size of an entry in the row where it is largest."""
    return residual.square().mean(1).amax().sqrt()


def half_space_bits(neurons: int, r: int) -> float:
    """log₂ of 2^p over the number of half-spaces of p points in general position in r dimensions."""
    if neurons <= r:
        return 0.0
    logs = [math.lgamma(neurons) - math.lgamma(k + 1) - math.lgamma(neurons - k) for k in range(r)]
    largest = max(logs)
    return (neurons - 1) - (largest + math.log(sum(math.exp(x - largest) for x in logs))) / math.log(2)
