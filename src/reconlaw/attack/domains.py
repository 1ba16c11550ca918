r"""``method="varpro"`` off the sphere: the search for samples in a box, in free space or in a family.

1. Where θ has as many rows above its noise as there are samples, and these are many or have several columns each, look
   for each by itself first (:mod:`reconlaw.attack.span`). Start from what that found and from points of the domain, the
   first time along the spectral directions of θ where there are any.
2. Descend on the whitened rows of θ (:mod:`reconlaw.attack.subspace`), steps bounded
   (:mod:`reconlaw.attack.bounded`).
3. Where that ends above what noise leaves: one atom, the cheapest first, gives way to the point of the domain that the
   residual likes best, of many drawn; descend again. Rounds without progress end in a new start.
4. Where the whitened loss is down at the noise, descend on θ itself: its plain loss is the likelihood.

Two columns an atom where ±u are both possible and one output leaves the signs open; then they are read off as on the
sphere. The attacker's side of the threat model: θ, the feature map, n, the domain, and nothing else.
"""

from __future__ import annotations

import torch

from .._random import seeded_generator
from ..features.budget import Spent
from ..features.gram import StepError
from ..features.passes import count_passes
from ..inputs import Inputs
from .projection import Projection
from .run import Run
from .signs import read_signs
from .span import Span, applies
from .subspace import Subspace, subspace
from .tools import ended, ended_alike, pair_costs
from .varpro import FLOOR, descend

# From so many samples on they are looked for one by one first, where θ has rows for that.
_MANY = 8
# Exchanges without progress before the search starts anew, and points drawn for an exchange.
_FRUITLESS = 8
_DRAWN = 256
# Rows of features evaluated at a time, in numbers.
_NUMBERS = 1 << 24
# A whitened loss within this factor of what noise leaves is at the noise.
_NEAR = 30.0


class DomainSearch:
    """The search under one budget; ``run`` keeps the atoms whose plain loss is the lowest."""

    def __init__(self, features, theta, n, run: Run, seed: int, start: str, tol: float, inputs: Inputs):
        self.features, self.theta, self.n, self.run, self.tol = features, theta, n, run, tol
        self.inputs, self.start = inputs, start
        self.generator = seeded_generator("attack", seed)
        self.space: Subspace = subspace(theta, n * features.positions, tol)
        self.whitened = self.space.theta
        self.floor = max(tol, self.space.tol)  # of the whitened loss
        self.least = FLOOR[theta.dtype]
        columns_left = features.p > 2 * n and len(self.whitened) == 1 and features.positions == 1
        self.lifted = inputs.signs and features.parity == "mixed" and columns_left

    def starts(self, count):
        return self.inputs.starts(count, self.features.d, self.generator).to(self.theta)

    def first_atoms(self):
        if self.run.best is not None:  # fewer than n where they were found one by one
            kept = self.run.best.to(self.theta)[: self.n]
            return torch.cat([kept, self.starts(self.n - len(kept))])
        features = self.features
        if self.start == "random" or features.activation is None or features.p <= features.d + 1:
            return self.starts(self.n)
        try:
            found, _ = features.directions(features.without_linear_part(self.theta), self.n, self.generator)
        except Spent:
            return self.starts(self.n)
        return torch.cat([self.inputs.towards(found), self.starts(self.n - len(found))])

    def plain(self, point):
        """The loss of θ itself on the columns of a point of the whitened rows."""
        if len(self.whitened) == 1:
            return point.loss
        return Projection(self.features, self.theta, point.U, self.lifted).loss

    def descend(self, U, note):
        """The whitened rows first, then θ itself where that was near; the point, and whether it explains both."""
        run, options = self.run, {"on_step": lambda _: self.run.tick(note), "inputs": self.inputs}
        single = len(self.whitened) == 1
        rows = self.theta if single else self.whitened
        target = min(self.tol, self.least) if single else 0.3 * self.space.tol
        point = descend(self.features, rows, U, self.lifted, target, **options).point
        self.loss = point.loss
        run.record(point.U, self.plain(point), note)
        if single or self.loss > _NEAR * self.floor:
            return point, single and point.loss <= self.tol
        fine = descend(self.features, self.theta, point.U, self.lifted, self.least, patience=(4, 0.5), **options).point
        run.record(fine.U, fine.loss, "polish")
        return point, fine.loss <= self.tol

    def exchange(self, point, turn):
        """Atoms with one replaced, the ``turn``-th cheapest, by :meth:`joined`."""
        leaves = int(pair_costs(point).argsort()[turn % self.n])
        return self.joined(point.U[[i for i in range(self.n) if i != leaves]])

    def joined(self, U):
        """Atoms U and the point, of many drawn, that the residual likes best."""
        drawn = self.starts(min(_DRAWN, max(16, _NUMBERS // self.features.width)))
        count_passes(len(drawn))
        F = self.features.columns(self.features(drawn).to(self.theta))
        R = self.whitened
        if len(U):
            rest = Projection(self.features, self.whitened, U, self.lifted)
            R, F = rest.residual, rest.project_out(F)
        alike, size = ((v.square().sum(1).reshape(-1, len(drawn)).sum(0)) for v in (F @ R.T, F))
        score = alike / size.clamp_min(1e-300)
        return torch.cat([U, drawn[score.argmax()][None]])

    def atoms(self):
        """Search until θ is explained or the time is spent."""
        U, note, arrivals = self.first_atoms(), "descent", []
        while not self.run.expired:
            try:
                point, done = self.descend(U, note)
            except StepError:
                point, done = None, False
            loss, fruitless, turn = self.loss if point is not None else 1.0, 0, 0
            while point is not None and not done and fruitless < _FRUITLESS and not self.run.expired:
                try:
                    trial, done = self.descend(self.exchange(point, turn), "exchange")
                except StepError:
                    fruitless += 1
                    continue
                finally:
                    turn += 1
                if self.loss < 0.9 * loss:
                    point, loss, fruitless, turn = trial, self.loss, 0, 0
                else:
                    fruitless += 1
            arrivals.append(loss)
            if done or ended_alike(arrivals):
                return
            U, note = self.starts(self.n), "restart"

    def signed(self, U):
        """The atoms with one column each, polished, and whether signs are identifiable."""
        parity = self.features.parity
        identifiable = not self.inputs.signs or parity == "mixed"
        if self.lifted:
            lifted = Projection(self.features, self.theta, U, lifted=True)
            U = self.inputs.retract(U * read_signs(lifted)[:, None])
            how = {"patience": (4, 0.5), "on_step": lambda _: self.run.expired, "inputs": self.inputs}
            U = descend(self.features, self.theta, U, False, self.least, 50, **how).point.U
        point = Projection(self.features, self.theta, U)
        return point, identifiable if not identifiable or point.loss <= self.tol else None


def solve(features, theta, n, run, seed, tol, start, inputs):
    """Search within the run's budget; see :func:`reconlaw.reconstruct`."""
    search = DomainSearch(features, theta, n, run, seed, start, tol, inputs)
    interrupted = False
    try:
        T = features.positions
        if (n >= _MANY or T > 1) and applies(search.space, n * T):
            Span(features, theta, n, run, seed, tol, inputs).search()
        search.atoms()
        held, rows = len(search.whitened), min(n * T, len(theta))
        if held < rows:
            run.remark(
                f"only {held} of {rows} independent rows of theta stand above its noise, the search saw no others"
            )
        if run.best is None:  # the budget went before a first descent
            U = search.first_atoms()
            run.record(U, Projection(features, theta, U).loss, "start")
    except StepError as error:
        if run.best is None:
            raise
        run.remark("the search ended because its next step could not be computed", error)
    except KeyboardInterrupt:
        if run.best is None:
            raise
        interrupted = True
        run.interrupt()
    return *ended(search, run.best), interrupted
