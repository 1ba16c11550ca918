r"""Hyperplanes that hold many rows of a first layer's change: the neurons to which one sample was silent.

In the r coordinates of the inputs' span row j of the change is Σ_i β_ji x_i. The neurons at which x_i never passed the
ReLU have β_ji = 0, so their rows lie in the hyperplane spanned by the other samples. Its normal t_i is the dual vector
of x_i (t_i·x_k = 0 for all k ≠ i): with all r normals the samples are the rows of the inverse matrix, up to length.

The search starts from random directions x, takes the neurons most turned away from x at both ends of training, and asks
whether their rows lie in a hyperplane. Where most of them do, x is moved to the half-space that tells the rows near the
hyperplane from the others, and asked again. The samples not yet found are orthogonal to the normals found, so every
hyperplane found leaves a space of one dimension less for the next starts.
"""

from __future__ import annotations

import hashlib

import torch

from ..._words import many
from ...attack.run import Run
from ...features.passes import count_passes
from ..first_layer.change import Change
from ..first_layer.fit import unit

_STARTS, _ASKED = 128, 4  # directions at once, and how often each is asked
_TURNED_AWAY = 4  # times r neurons are asked
_TRIMMED, _NEAREST = 3, 0.6  # so often the share of them that is nearest to the hyperplane is asked again
_SILENT = 0.35  # share of the neurons taken for silent while x is moved
# A row lies in a hyperplane within this many times the noise: while its normal is that of few rows, and then.
_LOOSE, _TIGHT = 100.0, 8.0
_MORE = 1.5  # a hyperplane holds so many times r rows, at least: any r − 1 rows have one
# A hyperplane is filled where unit rows, of a change made round, spread so far along each of its directions, at least:
# of samples 0.02 and more, of families of hyperplanes 1e-4 and less; and so many times farther than the noise.
_FILLED, _ABOVE = 5e-3, 3.0
_ONE_SIDE = 0.75  # so many of its rows lie on one side of the half-space that tells them best
_SAME = 1e-4  # normals this near are one
_FRUITLESS = 30  # rounds without a hyperplane that end the search


class Rows:
    """The change and the neurons' weights, in the coordinates of the inputs' span.

    Attributes:
        basis: (r, m) orthonormal rows, the span of the inputs.
        moved: (p,) bool, the neurons that changed; the others are left out, which leaves q rows.
        Y: (q, r) coordinates of the change.
        scales: (r,) root mean squares of its coordinates.
        whitened: (q, r) its rows divided by them, of length one.
        still: (p,) bool, those that did not: all samples were silent to them.
        weights: two (p, r), directions of the neurons' weights before and after, of length one.
        before: (q, r) those of the rows before training.
        after: (q, r) those after it.
        noise: size of the error in an entry of Y, from what the change holds outside the span.
        offsets: biases (p,) before and after in units of those directions, where they are no coordinate; else None.
    """

    def __init__(self, change: Change, rank: int):
        _, s, Vh = torch.linalg.svd(change.D, full_matrices=False)
        p, m = change.D.shape
        self.basis = Vh[:rank]
        off = float(s[rank:].square().sum()) / (p * (m - rank)) if m > rank else change.rounding**2
        self.noise = max(off**0.5, torch.finfo(s.dtype).eps * float(s[0]) / p**0.5)
        Y = change.D @ self.basis.T
        self.moved, self.still = Y.norm(dim=1) > _LOOSE * self.noise, Y.norm(dim=1) < _TIGHT * self.noise
        self.Y, self.scales = Y[self.moved], s[:rank] / p**0.5
        weights = [W @ self.basis.T for W in (change.before, change.after)]
        self.weights = tuple(unit(W) for W in weights)
        self.offsets = None
        if change.offsets is not None:
            lengths = [W.norm(dim=1).clamp_min(1e-300) for W in weights]
            self.offsets = tuple(b / length for b, length in zip(change.offsets, lengths, strict=True))
        self.before, self.after = (W[self.moved] for W in self.weights)
        self.whitened = unit(self.Y / self.scales)

    def silent(self, held):
        """(p, n) bool of (q, n): the neurons to which samples were silent, all samples to those that did not change."""
        whole = self.still[:, None].expand(-1, held.shape[1]).clone()
        whole[self.moved] = held
        return whole

    def distances(self, normals):
        """How far the rows are from hyperplanes of unit normals (r, B), in units of the noise, (q, B)."""
        return (self.Y @ normals).abs() / self.noise

    def normal_of(self, rows):
        """The unit normal (r,) of the hyperplane nearest to these rows."""
        return torch.linalg.svd(self.Y[rows], full_matrices=False)[2][-1]


class Search:
    """Unit normals (m, r) found so far."""

    def __init__(self, rows: Rows, run: Run, generator):
        self.rows, self.run, self.generator = rows, run, generator
        self.rank = len(rows.basis)
        self._least = max(_MORE * self.rank, self.rank + 4)  # rows that a hyperplane has to hold
        self.normals = rows.Y.new_zeros(0, self.rank)
        self._looked_at: set[bytes] = set()  # rows near a hyperplane, by their hash: the same never give another answer

    @property
    def held(self):
        """(q, m) bool, the rows that lie in the hyperplanes found."""
        return self.rows.distances(self.normals.T) < _TIGHT

    @property
    def complete(self) -> bool:
        return len(self.normals) == self.rank

    def begin(self, silent):
        """With the hyperplanes of neurons (p, n) that were silent to the samples, as another view told."""
        for rows in silent[self.rows.moved].T:
            t, held = self._settled(rows)
            if t is not None and self._held_in_place(held) and not self._known(t) and not self.complete:
                self._add(t)

    def _add(self, t):
        # By how far one neuron is from each: an order that neither the road nor the last bits decide.
        normals = torch.cat([self.normals, t[None]])
        self.normals = normals[(normals @ self.rows.before[0]).abs().argsort()]

    def search(self):
        fruitless = 0
        if self.rank == 1:  # the others span nothing
            self.normals = torch.ones_like(self.rows.Y[:1, :1])
        enough = len(self.rows.Y) > _MORE * self.rank
        while enough and fruitless < _FRUITLESS and not self.complete:
            known, x = len(self.normals), self._starts()
            for k in range(_ASKED):
                count_passes(2 * x.shape[1])
                if self.run.tick(f"{len(self.normals)} of {many(self.rank, 'sample')}"):
                    return
                normals = self._asked(x, farthest=(k + fruitless) % 2 == 0)
                self._keep(normals)
                if self.complete:
                    return
                x = self._moved(normals)
            fruitless = 0 if len(self.normals) > known else fruitless + 1

    def _starts(self):
        """Random directions among those orthogonal to the normals found."""
        x = torch.randn(self.rank, _STARTS, device="cpu", generator=self.generator, dtype=torch.float64)
        x = x.to(self.rows.Y)
        if len(self.normals):
            Q = torch.linalg.qr(self.normals.T).Q
            x = x - Q @ (Q.T @ x)
        return x / x.norm(dim=0)

    def _asked(self, x, farthest: bool):
        """Unit normals (r, B) of the hyperplanes nearest to rows that are turned away from x.

        Those turned away farthest are most surely silent, but to samples like x as well, which leaves a family of
        hyperplanes; so the others are asked in turn with them.
        """
        rows = self.rows
        many = min(max(_TURNED_AWAY * self.rank, self.rank + 8), len(rows.Y))
        towards = torch.maximum(rows.before @ x, rows.after @ x)
        if not farthest:
            any_of_them = torch.rand(len(towards), device="cpu", generator=self.generator, dtype=torch.float64)
            towards = torch.where(towards < 0, any_of_them.to(x)[:, None] - 1, towards)
        away = towards.topk(many, dim=0, largest=False).indices
        picked = rows.whitened[away.T]  # (B, many, r)
        weights = torch.ones_like(picked[:, :, :1])
        for again in range(_TRIMMED + 1):
            _, vectors = torch.linalg.eigh(picked.transpose(1, 2) @ (weights * picked))
            off = (picked @ vectors[:, :, :1]).abs()
            if again < _TRIMMED:
                weights = (off <= off.quantile(_NEAREST, dim=1, keepdim=True)).to(off)
        normals = vectors[:, :, 0].T / rows.scales[:, None]
        return normals / normals.norm(dim=0)

    def _moved(self, normals):
        """The half-spaces that tell the rows nearest to a hyperplane from the others."""
        rows = self.rows
        off = (rows.whitened @ (normals * rows.scales[:, None])).abs()
        least = off.kthvalue(max(int(_SILENT * len(off)), 1), dim=0).values
        x = rows.before.T @ ((off > least).to(off) + (_SILENT - 1))
        return x / x.norm(dim=0).clamp_min(1e-300)

    def _keep(self, normals):
        """Add the hyperplanes that hold more rows than chance lets them, held in place by those, and one-sided."""
        near = self.rows.distances(normals) < _LOOSE
        counts = near.sum(0)
        sets = near.T.contiguous().cpu().numpy()
        for k in counts.argsort(descending=True, stable=True).tolist():
            if counts[k] < self._least or self.complete:
                break
            name = hashlib.blake2b(sets[k].tobytes(), digest_size=16).digest()
            if name in self._looked_at or self._known(normals[:, k]):
                continue
            self._looked_at.add(name)
            t, held = self._settled(near[:, k])
            if t is not None and self._held_in_place(held) and self._one_sided(held) and not self._known(t):
                self._add(t)

    def _settled(self, held):
        """The normal of rows (q,) bool, twice anew of those near it, and these; None where they become too few."""
        rows, t = self.rows, None
        for again in range(3):
            if again:
                held = rows.distances(t[:, None])[:, 0] < _TIGHT
            if int(held.sum()) < self._least:
                return None, held
            t = rows.normal_of(held)
        return t, held

    def _known(self, t) -> bool:
        """Whether a normal is one of those found, where whitening makes the change round."""
        if not len(self.normals):
            return False
        mine, others = t * self.rows.scales, self.normals * self.rows.scales
        return bool(((unit(others) @ mine).abs() > (1 - _SAME) * mine.norm()).any())

    def _held_in_place(self, held) -> bool:
        """Whether either half of the rows fills its hyperplane.

        Rows of neurons to which two samples were silent lie in a family of hyperplanes, and any one row more singles
        one of them out; but that row is in one half.
        """
        rows = self.rows
        at = torch.nonzero(held).flatten()
        least = max(_FILLED, _ABOVE * rows.noise / float(rows.scales[-1]))
        for half in (at[::2], at[1::2]):
            s = torch.linalg.svdvals(rows.whitened[half])
            if self.rank > 1 and float(s[-2]) < least * len(half) ** 0.5:
                return False
        return True

    def _one_sided(self, held) -> bool:
        before = self.rows.before
        held_as = held.to(before)
        x = before.T @ (held_as.mean() - held_as)
        return bool((before[held] @ x < 0).to(before).mean() > _ONE_SIDE)
