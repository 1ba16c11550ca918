r"""Samples on a grid of levels: pixels of eight bits, say, which a continuous answer is rounded to where θ bears it.

A pixel has one of 256 values, so that an answer that is off by less than half a level is exact once it is rounded. Row
i counts as exact where the rounded samples explain θ as well as the continuous ones, where each free coordinate is
known to a tenth of a level or better (five standard errors fit into half of one, with H of
:mod:`reconlaw.attack.bounded` and the variance that the residual shows), and where a change of any single pixel by one
level explains θ worse. As well means that the residual grows by what q coordinates that are free take of noise in m
numbers to spare, a share of about q/m, and by no more than some times that: samples beside the grid leave more.
"""

from __future__ import annotations

import math

import torch

from ..features.gram import StepError, as_step
from ..inputs import Inputs
from .bounded import BoundedStep, affordable
from .projection import Projection

# The residual of the rounded samples may be larger by so many times q/m, and by so many roundings.
_NO_WORSE, _ROUNDINGS = 4.0, 4.0
# Standard errors that half a level must hold.
_SURE = 5.0


def on_grid(features, theta, point: Projection, inputs: Inputs, tol: float):
    """The samples on their grid where θ bears it, else ``point``; and how sure each of them is.

    That is (n,): how many times larger than its standard errors by H the true ones may be with the sample exact still;
    0 where it is not.
    """
    none = torch.zeros(len(point.U), dtype=point.U.dtype, device=point.U.device)
    if point.loss > tol or point.lift.lifted or not affordable(point):
        return point, none
    try:
        with as_step():
            rounded = Projection(features, theta, inputs.rounded(point.U))
            free = int((~inputs.active(point.U) & (inputs.step(point.U) > 0)).sum())
            spare = max(1, theta.numel() - free - point.alpha.numel())
            noise = max(point.loss, _ROUNDINGS * torch.finfo(theta.dtype).eps ** 2)
            if rounded.loss > tol or rounded.loss > (1 + _NO_WORSE * free / spare) * noise:
                return point, none
            return rounded, _sure(rounded, theta, inputs)
    except StepError:
        return point, none


def _sure(point, theta, inputs: Inputs):
    (n, k), model = point.U.shape, BoundedStep(point, inputs, fine=True)
    step = inputs.step(point.U).expand(n, k)
    moving = step > 0
    low, high = inputs.bounds(point.U) or (-math.inf, math.inf)
    diagonal = model.H.diagonal().reshape(n, k)
    worse = torch.ones(n, k, dtype=torch.bool, device=point.U.device)
    for sign in (-1, 1):
        there = moving & (point.U + sign * step <= high + step / 2) & (point.U + sign * step >= low - step / 2)
        worse &= ~there | (diagonal * step.square() > 2 * sign * step * model.gradient)
    free = (~inputs.active(point.U) & moving).reshape(-1)
    H = model.H[free][:, free]
    values, vectors = torch.linalg.eigh(H)
    if len(values) and not bool(values[0] > 1e-13 * values[-1]):
        return torch.zeros(n, dtype=point.U.dtype, device=point.U.device)
    rounding = (torch.finfo(theta.dtype).eps * float(theta.norm())) ** 2
    variance = max(point.loss * point.scale, rounding) / max(1, theta.numel() - len(values))
    errors = torch.zeros(n * k, dtype=point.U.dtype, device=point.U.device)
    errors[free] = (variance * (vectors.square() / values).sum(1)).sqrt()
    room = step / 2 / (_SURE * errors.reshape(n, k))
    sure = torch.where(moving, torch.where(worse & (room >= 1), room, 0.0), torch.inf)
    return sure.amin(1)
