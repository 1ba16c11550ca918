r"""``method="span"``: where rank θ = n, the row space of θ *is* the span of the features, and each sample stands alone.

With Q (r × p) an orthonormal basis of θ's rows, x is a sample where its features lie in their span,

    ℓ(x) = ‖P f(x)‖² / ‖D f(x)‖²,        P = I − QᵀQ,

one search in d numbers, whatever n, the labels and the coefficients; the count is p ≥ d + n, and n is read off as the
rank.

1. Many starts at once (:mod:`reconlaw.attack.membership`): batched Gauss–Newton with a damping each, within the domain;
   the batches of a round on several processes where ``jobs`` says so (``attack/blocks.py``).
   A sample of T columns (tokens, patches) lies in the span with all of them, r = n·T, and the count is p ≥ d/T + n·T or
   so.
2. Deflation: D = I − (projector on the features found), so that P D = P. A sample that was found is a zero of ℓ no
   more, since there the denominator vanishes as well; starts go on to the others, until the span is used up. Samples of
   several columns that agree in part are found with their parts exchanged, too; n that span it together are the answer.
3. At a zero the rank of P J tells a point from a segment: a network that is linear between two samples has a whole
   segment of zeros, and which of its points were data θ does not say.
4. Few samples are polished on θ itself, all together: its plain loss is the likelihood under even noise.

Relatives for gradients of a single step: SPEAR (arXiv 2403.03945), DAGER (arXiv 2405.15586).
"""

from __future__ import annotations

import contextlib
import math

import torch

from .._random import seeded_generator
from .._words import many
from .._workers import check_jobs
from ..features.budget import Spent
from ..features.gram import StepError
from ..inputs import Inputs
from .blocks import Block, solved
from .membership import Membership, batch_size
from .projection import Projection, least_squares
from .run import Run
from .subspace import Subspace, subspace
from .varpro import FLOOR, descend

# Rounds of starts without a new sample before the search ends.
_FRUITLESS = 4
# A feature vector counts as new where this share of it lies outside the features found.
_NEW = 1e-4
# Samples looked at for n that span all, where more were found.
_LOOKS = 5000
# Above this share of noise in its weakest direction the span says too little of a single sample.
_MOST_NOISE = 1e-2
# Unknown numbers that are polished together.
_POLISHED = 2000


class Span:
    """The search for samples one by one; ``found`` (m, k) are their coordinates."""

    def __init__(self, features, theta, n, run: Run, seed: int, tol: float, inputs: Inputs):
        self.features, self.theta, self.run, self.seed, self.inputs = features, theta, run, seed, inputs
        T = features.positions
        self.space: Subspace = subspace(theta, None if n is None else n * T, tol)
        self.rank = self.space.rank
        self.n = -(-self.rank // T) if n is None else n
        self.Q = self.space.Q[: self.rank]
        self.noise = float(self.space.floor / self.space.s[self.rank - 1]) if self.rank else 1.0
        # Twice the noise of the weakest direction, squared: a true sample leaves no more.
        self.tol = max(tol, 4 * self.noise**2)
        self.least_new = min(_NEW, math.sqrt(self.tol))  # of a sample's columns among those of others
        self.found = theta.new_zeros(0, features.d)
        self.basis = theta.new_zeros(0, features.p)
        self.looked: tuple[int, list[int] | None] = (0, None)  # among so many, what _spanning gave
        self.round = int(run.state.get("round", 0))
        if run.best is not None:
            kept = run.best.to(theta)
            self._add(kept[Membership(features, self.Q).values(kept)[0] <= self.tol])

    def _add(self, X):
        """Add the rows of X whose features are new; how many were."""
        if not len(X):
            return 0
        before = len(self.found)
        for x, columns in zip(X, self._columns(X), strict=True):
            held = len(self.basis)
            if self.full:
                break
            self.basis = self._extended(self.basis, columns)
            if len(self.basis) > held:
                self.found = torch.cat([self.found, x[None]])
        return len(self.found) - before

    def _columns(self, X):
        return self.features(X).to(self.theta).unflatten(1, (self.features.positions, -1))

    def _extended(self, basis, columns, least=_NEW):
        """The rows of a basis and, orthonormal to them, those of a sample's columns that are new by that share."""
        size = float(columns.norm(dim=1).max())
        for f in columns:
            rest = f
            for _ in range(2):  # twice is enough
                rest = rest - (rest @ basis.T) @ basis
            if len(basis) < self.rank and float(rest.norm()) > least * size:
                basis = torch.cat([basis, (rest / rest.norm())[None]])
        return basis

    @property
    def full(self):
        """Whether the span is used up, or n samples that span it are found."""
        return len(self.basis) >= self.rank or self._spanning() is not None

    def _spanning(self):
        """Which n of the samples found span it together, the first such; None where none do, or are found soon.

        Samples of several columns that agree in part are found with their parts exchanged, too: each of those lies in
        the span, and not every n of them use it up.
        """
        m, n, T = len(self.found), self.n, self.features.positions
        if m < n or T == 1:
            return list(range(n)) if m >= n else None
        if self.looked[0] < m:
            self.looked = m, self._looked_for()
        return self.looked[1]

    def _looked_for(self):
        m, n, T = len(self.found), self.n, self.features.positions
        columns = self._columns(self.found)
        # Samples taken, each with the basis up to it and how many columns behind it may lie in that of others.
        way, i = [(-1, self.basis[:0], n * T - self.rank)], 0
        for _ in range(max(_LOOKS, 2 * m)):
            while i > m - n + len(way) - 1:  # too few are left: another in the place of the last
                if len(way) == 1:
                    return None
                i = way.pop()[0] + 1
            _, basis, spare = way[-1]
            more = self._extended(basis, columns[i], self.least_new)
            spare -= T - len(more) + len(basis)
            if spare >= 0:
                way.append((i, more, spare))
            if len(way) > n:
                return [row for row, *_ in way[1:]]
            i += 1
        return None

    @property
    def together(self):
        """The samples found, n at most."""
        return self.found[self._spanning() or slice(self.n)]

    @property
    def incomplete(self):
        """What was found, where the span is not used up."""
        if len(self.found) < self.n:
            return f"{len(self.found)} of {many(self.n, 'sample')} were found"
        return f"the samples found span only {len(self.basis)} of the {many(self.rank, 'direction')} of theta's rows"

    def left(self):
        """The share of θ that the samples found do not explain, n of them at most."""
        basis = self.basis
        if len(self.found) > self.n:
            basis = basis[:0]
            for columns in self._columns(self.together):
                basis = self._extended(basis, columns, self.least_new)
        rest = self.theta - (self.theta @ basis.T) @ basis
        return float(rest.square().sum() / self.theta.square().sum())

    def search(self, jobs=1):
        """Rounds of starts until the span is used up, the time is spent, or rounds find nothing."""
        with contextlib.suppress(Spent):
            self._rounds(jobs)

    def _rounds(self, jobs):
        fruitless, run = 0, self.run
        while not self.full and fruitless < _FRUITLESS and not run.expired:
            starts = batch_size(self.features, max(1, self.n - len(self.found)), self.theta.device)
            generator = seeded_generator(f"attack, round {self.round} of the span", self.seed)
            X = self.inputs.starts(starts, self.features.d, generator).to(self.theta)
            most = math.inf if run.max_steps is None else 2 * run.samples * (run.max_steps - run.steps)
            block = Block(self.features, self.Q, self.basis, self.inputs, self.tol, self.least)
            new, blocks = 0, solved(block, X, most, run, jobs, self._tick)
            with contextlib.closing(blocks):
                for samples, passes in blocks:
                    run.passes.made += passes
                    new += self._add(samples)
                    if len(self.found):
                        run.record(self.together, self.left(), self._note())
                    if self.full or run.expired:
                        break
            self.round += 1
            run.state = {"round": self.round}
            fruitless = 0 if new else fruitless + 1

    @property
    def least(self):
        """The loss that the last steps aim at: the floor of the arithmetic."""
        return max(1e-28 if self.theta.dtype == torch.float64 else 1e-11, 1e-8 * self.noise**2)

    def _note(self):
        done = min(len(self.found), self.n)
        rest = self.run.seconds * (self.n - done) / done if done else float("nan")
        return f"{done} of {many(self.n, 'sample')}" + (f", about {rest:.0f} s more" if done else "")

    def _tick(self):
        return self.run.tick(self._note())

    def segments(self, U):
        """Index → ends (2, k), of the rows of U that lie on a segment of zeros."""
        return Membership(self.features, self.Q).segments(U, self.inputs, self.tol)

    def atoms(self):
        """The samples found; starts where the budget went before a first."""
        if len(self.found):
            return self.together
        generator = seeded_generator("attack", self.seed)
        return self.inputs.starts(self.n, self.features.d, generator).to(self.theta)

    def polished(self):
        """All samples found, moved together on θ itself where they are all, and few."""
        U = self.atoms()
        if self.full and U.numel() <= _POLISHED and not self.run.expired:
            stop = {"on_step": lambda point: self.run.tick("polish"), "inputs": self.inputs}
            return descend(self.features, self.theta, U, False, FLOOR[self.theta.dtype], 50, (4, 0.5), **stop).point
        return Projection(self.features, self.theta, U)


def applies(space: Subspace, columns: int | None) -> bool:
    """Whether the rank of θ is that of so many columns, n·T, each direction of it well above the noise."""
    if columns is None or columns < 2 or space.rank != columns:
        return False
    return float(space.floor / space.s[columns - 1]) < _MOST_NOISE


def solve(features, theta, n, run, seed, tol, inputs, jobs=1):
    """One sample at a time, within the run's budget; see :func:`reconlaw.reconstruct`.

    Args:
        jobs: processes that share the starts, as of :func:`reconlaw.sweep`: −1 is one for each core, and inside
            ``joblib.parallel_config(backend="dask")`` they are that cluster's. The outcome does not depend on it.

    Raises:
        ValueError: θ has fewer independent rows than n samples have; or its weakest direction is noise.
    """
    search = Span(features, theta, n, run, seed, tol, inputs)
    if n is not None and search.rank < n:
        raise ValueError(
            f"theta has rank {search.rank} above its noise, less than n={many(n, 'sample')}: no single one of them "
            "lies in its span; use method='varpro'"
        )
    if search.noise > _MOST_NOISE:
        raise ValueError(
            f"the weakest of the {many(search.rank, 'direction')} of theta is only {1 / search.noise:.0f} times its "
            "noise, too little to tell a single sample by; use method='varpro', or a smaller n"
        )
    if features.positions * (features.p - search.rank) <= inputs.unknowns(features.d):
        least = "n + d" if features.positions == 1 else "n·T + d/T"
        run.remark(f"p = {features.p} is no more than {least}: every input may lie near the span")
    check_jobs(jobs)
    interrupted = False
    try:
        search.search(jobs)
    except (StepError, KeyboardInterrupt) as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        if not len(search.found):
            raise
        if interrupted:
            run.interrupt()
        else:
            run.remark("the search ended because its next step could not be computed", error)
    nothing = f"no input was found whose features lie in the span of theta's {many(search.rank, 'row')}"
    if not len(search.found) and not run.spent:
        raise RuntimeError(
            f"{nothing}; there may be more samples than that, or the inputs may lie elsewhere: try method='varpro', or "
            "another inputs="
        )
    if not search.full:
        run.remark(search.incomplete if len(search.found) else nothing)
    try:
        point = search.polished()
    except StepError as error:
        run.remark(f"the samples could not be polished together ({error})")
        point = least_squares(features, theta, search.atoms())
    if not run.expired:
        run.segments = search.segments(point.U)
    return point, features.parity == "mixed" or not inputs.signs, interrupted
