r"""The search for masks and samples: rounds of climbs, fits of what they found, and what those leave.

A round sends out climbs from random half-spaces, and keeps the masks that are new. Of an exact change all masks are
found before one fit gives the edges. Of a trained one the fit of those found tells how the read-out moved, and which
neurons samples crossed; the next round climbs with that, on the other neurons. A sample too weak to be climbed to is
the largest direction of what the fit of the others leaves.
"""

from __future__ import annotations

import torch

from ..._words import many
from ...attack.run import Run
from ...features.passes import count_passes
from .certificate import certify
from .fit import Problem, fit, refine, unit
from .masks import climb, distinct, oriented, orthonormal

_STARTS, _FEWEST = 256, 32  # climbs at once, over the outputs of the read-out, and at least
_ROUNDS, _NOTHING = 6, 2  # rounds of climbs that find nothing new before the search ends, and where nothing is known
_DROPS = 3  # so often is what has no certificate dropped and looked for again
_SMALL_NOISE = 1e-4
_BETTER = 0.5  # a sample more must leave less than this share of the loss
_ROUNDED = 16.0  # units in the last place that the arithmetic itself may cost
# A mask counts where F² is this near 1: of a lazy change up to noise, in units of its share; of a trained one.
_EXACT, _SHARE, _NEAR = 1e-6, 10.0, 0.15
# Signs agree so often with a half-space, at least; are all alike above this; are one mask from this agreement on.
_HALF, _CONSTANT, _ALIKE = 0.8, 0.99, 0.9


class _Over(Exception):
    """The budget is spent."""


class Search:
    """Masks found so far, and their fit."""

    def __init__(self, problem: Problem, run: Run, generator):
        self.problem, self.run, self.generator = problem, run, generator
        p, r = problem.Y.shape
        self.signs = problem.Y.new_zeros(p, 0)
        self.position = torch.zeros(0, dtype=torch.long, device=problem.Y.device)
        self.X, self.fit, self.certificate = problem.Y.new_zeros(0, r), None, None
        self.best = None  # what was found at first, where no certificate is found at all

    @property
    def complete(self) -> bool:
        return self.certificate is not None and len(self.X) == self.problem.rank and bool(self.certificate.holds.all())

    @property
    def loss(self) -> float:
        """Share of the change that is left, 1 where nothing was found or fitted."""
        return self.fit.loss if self.fit is not None and len(self.fit.X) == len(self.X) else 1.0

    @property
    def exact(self) -> bool:
        """Whether most masks were found, each as exact as rounding allows: then the change is that of frozen masks."""
        return self.problem.lazy and 2 * len(self.X) > self.problem.rank and self.problem.noise < _SMALL_NOISE

    def _patience(self) -> int:
        """Rounds without anything new that end the search; of an exact change, as many climbs for many outputs."""
        rounds = _ROUNDS if len(self.X) else _NOTHING
        outputs = self.problem.change.V.shape[2] if self.problem.lazy and len(self.X) else 1
        return rounds * self.problem.blocks * max(1, _STARTS // max(_STARTS // outputs, _FEWEST))

    def _tick(self, climbs=1):
        count_passes(2 * climbs)
        if self.run.tick(f"{len(self.X)} of {many(self.problem.rank, 'sample')}"):
            raise _Over

    def search(self):
        fruitless, block, dropped = 0, 0, 0
        try:
            while fruitless < self._patience() and not self.complete:
                new = self._round(block % self.problem.blocks)
                block += 1
                if new and (len(self.X) == self.problem.rank or not self.problem.lazy):
                    self._settle()
                new = new or self._extend()
                if len(self.X) == self.problem.rank and not self.complete:
                    if dropped == _DROPS:
                        break
                    dropped += 1
                    self._drop()
                fruitless = 0 if new else fruitless + 1
        except _Over:
            pass
        if self.best is not None and not self.complete:
            self.X, self.position, self.signs, self.fit, self.certificate = self.best

    def _starts(self, A, V, C, rows):
        """Random half-spaces; and, of the masks found, what the change holds beside them."""
        many = max(_STARTS // V.shape[1], _FEWEST)
        half = torch.randn(C.shape[1], many, device="cpu", generator=self.generator, dtype=torch.float64).to(C)
        starts = C @ half
        if len(self.X):
            known = orthonormal(torch.cat([V, self.signs[rows] * V[:, :1]], 1))
            rest = A - known @ (known.T @ A)
            starts[:, ::2] = (rest @ (A.T @ starts[:, ::2])) / V[:, :1].abs().clamp_min(1e-12) * V[:, :1].sign()
        return torch.where(starts >= 0, 1.0, -1.0).to(C)

    def _round(self, block) -> bool:
        """One round of climbs at one position; whether it found a sample."""
        problem = self.problem
        moved = len(self.X) and self.fit is not None and not problem.lazy
        rows = torch.ones(len(problem.Y), dtype=torch.bool, device=problem.Y.device)
        if moved:
            kept = problem.stable(self.X, self.X.new_tensor(0.0))
            rows = kept if int(kept.sum()) > len(kept) // 4 else rows
        A, V, L, C = problem.search_space(block, rows, *((self.X, self.position) if moved else ()))
        S, _, _ = climb(A, V, C, self._starts(A, V, C, rows), tick=self._tick)
        S, c, F = climb(A, V, C, S, share=0.0, tick=self._tick)
        S, share = oriented(L, V, S, c)
        X = C.T @ S
        agree = (torch.where(C @ X >= 0, 1.0, -1.0).to(S) * S).mean(0)
        least = 1 - (min(max(_EXACT, _SHARE * problem.noise**2), _NEAR) if problem.lazy else _NEAR)
        good = (F**2 >= least) & (share >= least) & (agree >= _HALF) & (S.mean(0).abs() < _CONSTANT)
        # Cosines of one but for their rounding are alike, and come in the order of their starts.
        order = [k for k in F.clamp_max(1 - _EXACT).argsort(descending=True, stable=True).tolist() if bool(good[k])]
        known = self.signs[:, self.position == block][rows]
        picked = distinct(S, order, known, 1 - 2.5 / len(S) if problem.lazy else _ALIKE)[: problem.rank - len(self.X)]
        if not picked:
            return False
        new = unit(torch.linalg.lstsq(problem.middle[rows], S[:, picked]).solution.T)
        signs = 2 * problem.masks(new) - 1
        signs[rows] = S[:, picked]
        self.signs = torch.cat([self.signs, signs], 1)
        self.position = torch.cat(
            [self.position, torch.full_like(self.position[:1], block).new_full((len(picked),), block)]
        )
        self.X = torch.cat([self.X, new])
        return True

    def _settle(self):
        """Fit what was found, and ask for its certificate."""
        problem = self.problem
        if problem.lazy:
            everywhere = torch.ones(len(self.signs), dtype=torch.bool, device=self.signs.device)
            for masks in ((self.signs + 1) / 2, None):
                masks = problem.masks(unit(self.fit.X)) if masks is None else masks
                made = fit(problem, self.X, self.position, masks, everywhere)
                if self.fit is None or len(self.fit.X) < len(made.X) or made.loss < self.fit.loss:
                    self.fit, self.X, self.signs = made, unit(made.X), 2 * masks - 1
        else:
            self.certificate = None
            self.X, self.fit = refine(problem, self.X, self.position, self.signs, self._tick)
        if self.fit is not None:
            self._ask()

    def _extend(self) -> bool:
        """Take what the fit leaves, in its largest direction, for one sample more; whether that explains it better."""
        problem = self.problem
        if problem.lazy or self.fit is None or len(self.X) >= problem.rank:
            return False
        left = self.fit.residual[self.fit.rows]
        direction = torch.linalg.svd(left, full_matrices=False).Vh[:1]
        here, best = (self.X, self.position, self.signs, self.fit), self.fit.loss * _BETTER
        for sign in (1.0, -1.0):
            X = torch.cat([here[0], sign * direction])
            position = torch.cat([here[1], here[1][:1]])
            X, made = refine(problem, X, position, 2 * problem.masks(X) - 1, self._tick)
            if made is not None and made.loss < best:
                best, self.X, self.position, self.fit = made.loss, X, position, made
        if self.fit is here[3]:
            return False
        self._ask()
        return True

    def _drop(self):
        """Look again for what has no certificate, beside what has one; for everything where nothing has."""
        kept = torch.zeros_like(self.position, dtype=torch.bool)
        if self.certificate is not None and len(self.certificate.holds) == len(kept) and not self.problem.lazy:
            kept = self.certificate.holds
        self.best = self.best or (self.X, self.position, self.signs, self.fit, self.certificate)
        self.X, self.position, self.signs = self.X[kept], self.position[kept], self.signs[:, kept]
        self.fit = self.certificate = None
        if len(self.X):
            self._settle()

    def _ask(self):
        """The certificate at the fit, and signs of the samples as they stand."""
        margins = 3 * self.errors().clamp(max=0.1) / self.X.shape[1] ** 0.5
        self.certificate = certify(self.problem, self.X, self.fit, margins)
        if not self.problem.lazy:
            self.signs = 2 * self.problem.masks(self.X) - 1

    def errors(self):
        """(n,) how far each edge may be off, relative, were the model wrong within its span by as much as outside."""
        residual = self.fit.residual[self.fit.rows].norm()
        share = residual * self.fit.covariance.sqrt() / self.fit.X.norm(dim=1).clamp_min(1e-300)
        return share + _ROUNDED * torch.finfo(share.dtype).eps
