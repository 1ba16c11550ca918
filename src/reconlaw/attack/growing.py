r"""``method="sparse"`` off the sphere: one atom more at a time, until θ is explained, and none that is not needed.

For m = 1, 2, …: the point of the domain that the residual likes best, of many drawn, joins the best m − 1 atoms; all
descend together (:mod:`reconlaw.attack.domains`), and a few times the cheapest gives way to another point. The first m
that explains θ to the tolerance ends it; atoms without which the others, descending, explain θ as well are dropped. It
ends unexplained where another atom would leave no more equations than unknowns, since then any θ could be fitted.

There is no penalty and no λ: each m has its own descent.
"""

from __future__ import annotations

import torch

from ..features.gram import StepError
from .count import count
from .domains import DomainSearch
from .run import Run
from .tools import ended, with_fewer
from .varpro import descend

_EXCHANGES = (3, 12)  # without progress at each m: in a first round, and in a second where that found nothing


class Growing:
    """The search; ``record`` holds {λ = 0, support, loss} for each m."""

    def __init__(self, features, theta, run: Run, seed: int, tol: float, inputs):
        self.features, self.theta, self.run, self.seed, self.tol = features, theta, run, seed, tol
        self.inputs = inputs
        self.record: list[dict] = []

    def search(self, m: int) -> DomainSearch:
        """The search for m atoms, with draws of its own."""
        seed = 1000 * self.seed + len(self.record)
        return DomainSearch(self.features, self.theta, m, self.run, seed, "random", self.tol, self.inputs)

    def room(self, m: int) -> bool:
        """Whether θ has more equations than m atoms have unknowns."""
        counted = count(self.features, m, len(self.theta), self.inputs.unknowns(self.features.d))
        return counted.equations > counted.unknowns

    def follow(self) -> torch.Tensor:
        """Atoms that explain θ, or the best that were found."""
        begin = self.theta.new_zeros(0, self.features.d)
        if self.run.best is not None:  # of earlier calls: at their number of atoms, the last looked for anew
            begin = self.run.best.to(self.theta)[:-1]
        for exchanges in _EXCHANGES:
            U, m = begin, len(begin) + 1
            begin = begin[:0]
            while self.room(m) and not self.run.expired:
                search = self.search(m)
                point, done = self._best(search, U, exchanges)
                if point is None:
                    break
                U, m = point.U, m + 1
                self.record.append({"lambda": 0.0, "support": len(U), "loss": point.loss})
                if done:
                    return self._needed(search, point)
            if self.run.expired:
                break
        if self.run.best is None:
            self.run.remark("nothing was descended from, and the one candidate is a guess")
            return self.search(1).starts(1)
        return self.run.best

    def _best(self, search, U, exchanges):
        """The best point of m atoms from m − 1, U, and whether it explains θ; None where there is none."""
        best, fruitless, turn, U = None, 0, 0, search.joined(U)
        while fruitless <= exchanges and not self.run.expired:
            try:
                point, done = search.descend(U, f"{search.n} atoms")
            except StepError as error:
                self.run.remark("a support could not be descended from", error)
                point, done = None, False
            if done:
                return point, True
            if point is not None and (best is None or point.loss < 0.9 * best.loss):
                best, fruitless, turn = point, 0, 0
            else:
                fruitless += 1
            U = search.starts(search.n) if best is None else search.exchange(best, turn)
            turn += 1
        return best, False

    def _needed(self, search, point):
        """Atoms that explain θ, without those that the others can do without."""
        best, floor = self.run.best, search.floor

        def descended(U):
            return self.search(len(U)).descend(U, "fewer")[0]

        try:
            for fewer in with_fewer(point, descended, lambda _: floor):
                how = (self.features, self.theta, fewer.U, search.lifted, search.least)
                best = descend(*how, inputs=self.inputs).point.U
        except StepError as error:
            self.run.remark("whether all candidates are needed could not be computed", error)
        return best


def solve(features, theta, run: Run, seed, tol, inputs):
    """Follow m upwards within the run's budget; what :func:`reconlaw.attack.sparse.solve` returns."""
    growing, interrupted = Growing(features, theta, run, seed, tol, inputs), False
    try:
        U = growing.follow()
    except (KeyboardInterrupt, StepError) as error:
        if run.best is None:
            raise
        U = run.best
        if isinstance(error, StepError):
            run.remark("the search ended because its next step could not be computed", error)
        else:
            interrupted = True
            run.interrupt()
    return *ended(growing.search(len(U)), U), interrupted, growing.record
