r"""Samples that can slide: lines between two samples along which θ stays explained.

Where the features are linear between two samples, as ReLU's are where no neuron tells the two apart, every point of
their line has features in the span of the two. θ of two or more outputs is then explained by any two points of a whole
segment, and a search ends at the first that it meets: an end of it, where a neuron turns on. The certificate asks the
Jacobian there, which sees the slope of that neuron and takes the sample to be held. So a step is made along the line,
to either side, farther than the errors of the certificate allow: a sample that is held leaves θ unexplained there.
"""

from __future__ import annotations

import torch

from ..features.passes import count_passes
from ..inputs import Inputs

# Neighbours of a sample that are asked; steps are these shares of the way to one. All between two that slide is free,
# so half of the way is the longest step that tells of close ones.
_NEIGHBOURS, _STEPS = 3, (0.02, 0.5, -0.02)
# A step of so many errors costs that held sample the square of it in noise; less than _FREE of it says that it slides.
_ERRORS, _FREE = 6.0, 10.0
# How far beyond two samples their segment is followed, in their distance, and halvings of its end.
_BEYOND, _HALVINGS = 4.0, 30
_NUMBERS = 1 << 24


class _Line:
    """What it costs, as a share of θ, to move one sample elsewhere, its features in place of those it has."""

    def __init__(self, features, theta, X, weights, inputs: Inputs):
        self.features, self.X, self.inputs, self.weights = features, X, inputs, weights.to(X)
        self.scale = float(features.summed(theta.square().sum()))
        count_passes(len(X))
        self.Q = features.orthonormal(features.columns(features.apply(X).detach()).to(X))

    def costs(self, rows, Y):
        """(m,): of sample ``rows[i]`` at Y[i]; infinite outside the domain."""
        made, size = [], max(1, _NUMBERS // (self.features.positions * self.features.p))
        for part in Y.split(size):
            count_passes(len(part))
            F = self.features.apply(part).detach().to(self.X).unflatten(1, (self.features.positions, -1))
            off = F - self.features.summed(F @ self.Q.T) @ self.Q
            made.append(self.features.summed(off.square().sum((1, 2))))
        outside = (self.inputs.retract(Y) - Y).norm(dim=1) > 1e-9 * Y.norm(dim=1)
        return torch.where(outside, torch.inf, torch.cat(made) * self.weights[rows].square() / self.scale)


def segments(features, theta, X, certificate, inputs: Inputs) -> dict[int, torch.Tensor]:
    """Row of X → (2, k): the ends of the segment that it may lie anywhere on; rows that are held are left out."""
    n = len(X)
    if n == 1:
        return {}
    line = _Line(features, theta, X, certificate.weights, inputs)
    distance = torch.cdist(X, X).fill_diagonal_(torch.inf)
    near = distance.topk(min(_NEIGHBOURS, n - 1), largest=False).indices  # (n, m)
    rows = torch.arange(n, device=X.device).repeat_interleave(near.shape[1])
    ways = X[near.flatten()] - X[rows]
    free, told = _FREE * certificate.noise, _ERRORS * certificate.most.to(X) * X.norm(dim=1)
    told = torch.where(torch.isfinite(told), told, 0.0)  # a loose one may slide by any step
    found: dict[int, torch.Tensor] = {}
    slides = torch.zeros(len(rows), dtype=torch.bool, device=X.device)
    for step in _STEPS:
        Y = inputs.retract(X[rows] + step * ways)
        far = ((Y - X[rows]).norm(dim=1) > told[rows]) & (Y - X[rows] != 0).any(1)
        slides |= far & (line.costs(rows, Y) <= free)
    for k in torch.nonzero(slides)[:, 0].tolist():
        i, j = int(rows[k]), int(near.flatten()[k])
        if i in found and j in found:  # from its other end, say
            continue
        ends = torch.stack([_end(line, i, X[i], X[i] - X[j], free), _end(line, j, X[j], X[j] - X[i], free)])
        for row in (i, j):
            found.setdefault(row, ends)
    return found


def _end(line, row, x, way, free):
    """The last point from x along ``way`` at which the sample costs no more."""
    low, high = 0.0, _BEYOND
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        y = line.inputs.retract((x + middle * way)[None])
        inside = float(line.costs(torch.tensor([row], device=x.device), y)) <= free
        low, high = (middle, high) if inside else (low, middle)
    return line.inputs.retract((x + low * way)[None])[0]
