r"""Edges of the parallelepiped from its masks, and what training that was not lazy adds.

Given masks, c_i is the one direction of the read-out for which m_i ∘ (V c_i) lies in the span of the change's columns:
the last right singular vector of (1 − L Lᵀ) diag(m_i) V. Given all of them, the rows D_j = Σ_i m_ij (V_j·c_i) x_i are
linear in the x_i.

Where the read-out was trained along, V moved: by gradient descent every output's row of it moved by a combination of
the samples' activations h_k = (W x_k)₊, V(t) = V(0) + Σ_k B_k(t) h_k. So the directions of the read-out are V(0) and
the h_k, which the estimates give, and the fit is linear as before. Neurons that a sample crossed in training, or may
have crossed as far as is known, are left out: their rows are no vertices.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .change import Change
from .masks import orthonormal

_ROUNDS, _HALFWAY = 16, 2  # of refinement; the first of them with the read-out half-way
_ARRIVED, _WORSE = 1e-9, 10.0  # a round that moves no sample by more ends the fit, and one whose loss is so much larger
_MARGIN = 4.0  # margins are this many times the error that is feared
_SMALL = 0.1  # neurons read out by less than this share of the median count for less in the search
_FEWEST = 1.5  # rows kept are at least this many times the unknowns of one sample's fit


class Problem:
    """A change in the r coordinates of its row space.

    Attributes:
        rank: r.
        basis: (r, m) orthonormal rows.
        Y: (p, r) coordinates of D.
        before: (p, r) the neurons' weights, as far as samples see them.
        after: (p, r) those after training.
        middle: (p, r) their mean.
        lazy: whether masks and read-out are those of before.
        noise: share of rounding in the weakest direction.
    """

    def __init__(self, change: Change, rank: int, lazy: bool):
        self.change, self.rank, self.lazy = change, rank, lazy
        _, s, Vh = torch.linalg.svd(change.D, full_matrices=False)
        self.basis, self.noise = Vh[:rank], change.rounding * len(change.D) ** 0.5 / float(s[rank - 1])
        self.Y = change.D @ self.basis.T
        self.before = change.before @ self.basis.T
        self.after = self.before if lazy else change.after @ self.basis.T
        self.middle = (self.before + self.after) / 2
        self.lengths = self.middle.norm(dim=1, keepdim=True).clamp_min(1e-300)
        self.blocks = len(change.V)

    def search_space(self, block, rows, X=None, position=None):
        """Bases A, V, L, C of a search at one position: see :mod:`reconlaw.networks.first_layer.masks`."""
        V = self.directions(block, X, position)
        V, size = V[rows], self.change.V[block][rows].norm(dim=1, keepdim=True)
        scale = 1 / size.clamp_min(max(_SMALL * float(size.median()), 1e-300))
        L, V = orthonormal(scale * self.Y[rows]), orthonormal(scale * V)
        return orthonormal(torch.cat([V, L], 1)), V, L, orthonormal(self.middle[rows])

    def masks(self, X):
        """(p, n) which neurons see a sample, half-way through training."""
        return (self.middle @ X.T > 0).to(X)

    def stable(self, X, margins):
        """(p,) bool: neurons that no sample crossed, each farther than its margin, in angle, from doing so.

        A sample can have crossed a neuron that is no farther from it than it moved, there and back included.
        """
        near = torch.maximum(margins * self.lengths, (self.after - self.before).norm(dim=1, keepdim=True))
        return ((self.middle @ X.T).abs() > near).all(1) | self.lazy

    def directions(self, block, X=None, position=None):
        """(p, q) directions of the read-out at one position: half-way, or samples' activations among them."""
        V = self.change.V[block]
        if self.lazy or not self.change.moved:
            return V
        if X is None:
            return (V + self.change.V_after[block]) / 2
        H = (self.before @ X[position == block].T).clamp_min(0)
        return torch.cat([V, H * (V.norm() / H.norm(dim=0).clamp_min(1e-300))], 1)


@dataclass(frozen=True, eq=False)
class Fit:
    r"""A fit of all samples at given masks.

    Attributes:
        X: (n, r) the edges, c_i's length in them: rows whose directions are the samples'.
        weights: (p, n), V_j·c_i.
        rows: (p,) bool, those that were fitted.
        residual: (p, r).
        covariance: (n,) diagonal of (RᵀR)⁻¹, R = masks ∘ weights.
    """

    X: torch.Tensor
    weights: torch.Tensor
    rows: torch.Tensor
    residual: torch.Tensor
    covariance: torch.Tensor

    @property
    def loss(self) -> float:
        """Share of the fitted rows that is not explained."""
        rows = self.rows
        return float(self.residual[rows].square().sum()) / self._size

    _size: float = 1.0


def fit(problem: Problem, X, position, masks, rows, halfway=False) -> Fit:
    """Edges at given masks (p, n), from the rows given; X (n, r) unit rows, for signs and activations.

    ``halfway`` takes the read-out half-way through training for the whole of its movement.
    """
    Y = problem.Y[rows]
    off = orthonormal(Y)
    weights = torch.zeros_like(masks)
    for i in range(len(X)):
        V = problem.directions(int(position[i]), *(() if halfway else (X, position)))
        columns = masks[rows, i, None] * V[rows]
        scale = columns.norm(dim=0)
        seen = scale > 1e-12 * scale.max()
        if not bool(seen.any()):
            continue
        columns = columns[:, seen] / scale[seen]
        left, s, right = torch.linalg.svd(columns, full_matrices=False)
        kept = s > 1e-12 * s[0]
        left = left[:, kept]
        _, _, turn = torch.linalg.svd(left - off @ (off.T @ left), full_matrices=False)
        c = torch.zeros_like(scale)
        c[seen] = right[kept].T @ (turn[-1] / s[kept]) / scale[seen]
        weights[:, i] = V @ c
    weights = weights / weights.square().mean(0).sqrt().clamp_min(1e-300)
    R = (masks * weights)[rows]
    Q, T = torch.linalg.qr(R)
    inverse = torch.linalg.pinv(T)
    edges = inverse @ (Q.T @ Y)
    turned = torch.where((edges * X).sum(1) >= 0, 1.0, -1.0).to(X)
    weights, edges = weights * turned, edges * turned[:, None]
    residual = problem.Y - (masks * weights) @ edges
    size = float(Y.square().sum())
    return Fit(edges, weights, rows, residual, inverse.square().sum(1), size)


def unit(X):
    """Rows of length one."""
    return X / X.norm(dim=1, keepdim=True).clamp_min(1e-300)


def refine(problem: Problem, X, position, signs, tick=lambda: None) -> tuple[torch.Tensor, Fit | None]:
    """Unit rows X and their fit, after rounds of margins that shrink with the error feared.

    Args:
        X: (n, r) unit rows, half-spaces that nearly give the signs.
        signs: (p, n) of the search; rows where the two disagree are left out at first.
    """
    p, r = problem.Y.shape
    feared = torch.full_like(X[:, 0], (r / p) ** 0.5)
    trusted = (((problem.middle @ X.T) > 0) == (signs > 0)).all(1)
    best, halfway = None, problem.change.moved and not problem.lazy
    for k in range(_ROUNDS):
        tick()
        at = () if halfway else (X, position)
        unknowns = r + max(problem.directions(int(t), *at).shape[1] for t in position.unique())
        rows = _kept(problem, X, _MARGIN * feared / r**0.5, trusted if k == 0 else None, _FEWEST * unknowns)
        if int(rows.sum()) < unknowns:
            break
        made = fit(problem, X, position, problem.masks(X), rows, halfway)
        moved = unit(made.X)
        step = (moved - X).norm(dim=1)
        if k > _HALFWAY and best is not None and made.loss > _WORSE * best[1].loss:
            break
        X, worse = moved, best is not None and k > _HALFWAY and made.loss > best[1].loss
        best = best if worse else (X, made)
        if float(step.max()) < _ARRIVED:
            break
        feared = torch.minimum(feared, step / 2 if k else feared / 2).clamp_min(1e-12)
        halfway &= k < _HALFWAY
    return best or (X, None)


def _kept(problem, X, margins, trusted, fewest):
    """Rows that no sample crosses by its margin, or by a smaller one where that leaves too few."""
    for _ in range(40):
        rows = problem.stable(X, margins)
        rows = rows if trusted is None else rows & trusted
        if int(rows.sum()) >= fewest:
            break
        margins = margins / 2
        trusted = None if float(margins.max()) < 1e-3 else trusted
    return rows
