r"""``method="varpro"``: the parity-lifted variable projection, from a start to signed samples.

1. Start from the spectral directions of θ (:mod:`reconlaw.features.spectral`), or at random.
2. Descend on the lifted loss (:mod:`reconlaw.attack.varpro`): two columns an atom, so no minimum is made by a
   wrong sign; in float32 first, and where that solves it and reads the signs, on in float64 with one column.
3. Where that ends above the tolerance, respawn: add one to three leading directions of the residual, descend with
   n + k atoms, to float32's end at most, drop the k atoms whose removal costs least, descend again.
4. Where respawn fails too, start from message passing (:mod:`reconlaw.attack.message_passing`), which does not commit
   to what it does not know; after each descent from it, atoms that coincide and the weakest give way to directions of
   the residual, and it runs again. After rounds without progress it begins anew from a random mixture of directions.
5. Read the signs off: at a solution one of each pair's coefficients vanishes. Descend once more, one column an atom.

Where θ holds several times the equations that are needed, 2 and 3 begin on as many of its coordinates as make them
easy, chosen at random: a step is cheaper by their share. All come in where these are explained, or cannot be.

The attacker's side of the threat model: it sees θ, the feature map, n, and nothing else.
"""

from __future__ import annotations

import math

import torch

from ..features.budget import Spent
from ..features.gram import StepError, as_step
from ..features.spectral import distinct
from ..inputs import Sphere
from ..sphere import to_sphere
from . import domains
from .count import count
from .message_passing import MessagePassing
from .projection import Projection
from .road import Road, along
from .run import Run
from .tools import COARSE_LOSS, Tools, ended_alike, pair_costs, room_to_lift

# Rounds without progress before the road is changed: of respawn (where message passing can follow, and where it
# cannot), and of message passing.
_FRUITLESS_RESPAWNS = {True: 2, False: 6}
_FRUITLESS_MESSAGES = 4
# Message passing: iterations a run, and the variance (of 1) that a spectral direction is given to begin with.
_ITERATIONS = 40
_UNSURE = 0.9
# Atoms kept for the next run are taken to be no surer than this.
_LEAST_KEPT = 0.05
# Atoms within this cosine of a heavier one are its copies.
_ALIKE = 0.7
# And within this one they share its sample.
_COPY = 0.99
# Equations for each unknown, from which on more do not help a search, and the fewest multiplications of a pass of all
# atoms that make fewer worth while.
_EASY, _WORTH = 4.0, 1e7
# Descents that may fail one after the other before the search gives up.
_FAILURES = 20


def _unsure(U):
    """Directions as message passing starts from them: shrunk to what is expected of them, and their variance."""
    return U * math.sqrt(1 - _UNSURE), torch.full((len(U),), _UNSURE, dtype=U.dtype, device=U.device)


class Search(Tools):
    """The strategy for n atoms."""

    def __init__(self, features, theta, n, run: Run, seed: int, start: str, tol: float, road: Road | None = None):
        super().__init__(features, theta, run, seed, tol, room_to_lift(features, n, len(theta)), road)
        self.n, self.start, self.begin = n, start, None if road is None else road.begin
        counted = count(features, n, len(theta))
        self.room = counted.equations >= counted.unknowns  # below it other atoms fit as well
        self.part = self._easy(counted.ratio)

    def _easy(self, ratio):
        """Features at random coordinates, and θ there, where half of them or fewer make the search easy."""
        features, share = (self.coarse or (self.features,))[0], _EASY / ratio
        if share > 0.5 or self.n * features.d * features.p < _WORTH:
            return None
        made = features.sample(math.ceil(share * features.p), self.generator)
        return None if made is None else (made[0], self.theta[:, made[1]].to(made[0].dtype))

    def _from_anywhere(self, U, note):
        """Descend from U, and from random atoms where that cannot be begun."""
        for _ in range(_FAILURES):
            try:
                return self.descend(U, note)
            except StepError as error:
                failure = error
                self.run.remark("a start could not be used", error)
            if self.run.expired:
                break
            U = self._random_atoms(self.n)
        raise failure

    def first_atoms(self):
        if self.begin is not None:
            return self.begin.to(self.theta)
        if self.start == "random" or self.features.p <= self.features.d + 1:
            return self._random_atoms(self.n)
        features, theta = (self.coarse if self.part else None) or (self.features, self.theta)
        try:
            rest = features.without_linear_part(theta)
        except Spent:
            return self._random_atoms(self.n)
        return self.directions(rest, self.n, features)

    def respawn(self, point, extra):
        """Add ``extra`` directions of the residual, descend, drop the cheapest pairs, descend."""
        fresh = self._new_directions(point, extra)
        wide = self.descend(torch.cat([point.U, fresh]), record=False, rough=True, patience=(6, 0.7))
        if self.lifted and self.coarse and len(wide.U) > self.features.d:
            # Where the odd part of φ is linear (ReLU), the odd columns of more than d atoms depend on one another, and
            # in float32 what a light atom costs drowns in what they exchange.
            wide = Projection(self.features, self.theta, to_sphere(wide.U.to(self.theta)), True)
        costs = pair_costs(wide)
        trial = self.descend(self._dearest(wide, costs), "respawn")
        explained = max(self.tol, COARSE_LOSS)
        if trial.loss <= explained or wide.loss > explained:
            return trial
        # The atoms explained θ while they were more: two may share a sample, and each cost more than a light one does.
        order = costs.argsort(descending=True)
        single = order[distinct(wide.U[order], _COPY)]
        if len(single) == len(order):
            return trial
        costs[single] += costs.sum()
        again = self.descend(self._dearest(wide, costs), "respawn")
        return again if again.loss < trial.loss else trial

    def _new_directions(self, point, count):
        """Directions of a point's residual."""
        if not self._is_of_part(point):
            return self.directions(self.features.without_linear_part(point.residual), count)
        with self.in_part():
            rest = point.features.without_linear_part(point.residual)
            return self.directions(rest, count, point.features)

    def _is_of_part(self, point):
        return self.part is not None and point.features is self.part[0]

    def _dearest(self, wide, costs):
        """The n atoms of a point that cost most."""
        return wide.U[costs.argsort(descending=True)[: self.n].sort().values]

    def atoms(self):
        """Search until the loss is at most ``tol`` or a budget is spent."""
        point = self._from_anywhere(self.first_atoms(), "descent")
        if not self.room:
            return  # other atoms fit as well: no search can tell
        if self.part is not None and not self._done(point):
            point = self._respawn_rounds(point, _FRUITLESS_RESPAWNS[True])
            self.part = None
            if not self._done(point):  # noise, perhaps, of which all coordinates know more
                point = self._from_anywhere(point.U, "descent")
        passing, lead = None if self._done(point) else self._passing(), None
        arrivals: list[float] = []
        while not self._done(point):
            point = self._respawn_rounds(point, _FRUITLESS_RESPAWNS[passing is not None])
            # Independent roads that end at one loss, the lowest: noise in θ has put it there, not a bad minimum.
            arrivals.append(point.loss)
            if self._done(point) or ended_alike(arrivals):
                return
            if passing is None:
                point = self._from_anywhere(self._random_atoms(self.n), "restart")
            elif lead is None:
                rest = self.features.without_linear_part(self.theta)
                lead = self.directions(rest, max(self.n, min(self.features.d, 2 * self.n)))
                point = self._message_rounds(passing, lead[: self.n]) or point
            else:
                mixture = torch.randn(self.n, len(lead), device="cpu", generator=self.generator, dtype=lead.dtype)
                point = self._message_rounds(passing, to_sphere(mixture.to(lead.device) @ lead)) or point

    def _done(self, point):
        return point.loss <= self.tol or self.run.expired

    def _respawn_rounds(self, point, most_fruitless):
        rounds = fruitless = 0
        while fruitless < most_fruitless and not self._done(point):
            extra = min((1 if self.part is None else 3) + rounds % 3, max(1, (self.features.p - 2 * self.n) // 2))
            rounds += 1
            try:
                trial = self.respawn(point, extra)
            except StepError:
                trial = point
            fruitless = 0 if trial.loss < 0.9 * point.loss else fruitless + 1
            point = trial if trial.loss < point.loss else point
        return point

    def _passing(self):
        """Message passing is for one output of random features with something beyond their linear part."""
        features = self.features
        if len(self.theta) > 1 or features.activation is None or features.p <= features.d + 1:
            return None
        try:
            with as_step():
                passing = MessagePassing(self.coarse[0] if self.coarse else features, self.theta)
        except StepError as error:
            self.run.remark("message passing could not begin", error)
            return None
        return passing if passing.parts else None

    def _message_rounds(self, passing, U):
        """From directions U: message passing, descent, replacement of the weakest atoms, in turn; the best point."""
        x, tau = _unsure(U)
        passing.reset()
        best, rounds, fruitless = None, 0, 0
        while fruitless < _FRUITLESS_MESSAGES and not self.run.expired:
            try:
                x, tau, weight = self._messages(passing, x, tau)
                point = self.descend(to_sphere(x), "descent")
            except StepError:
                break
            fruitless = 0 if best is None or point.loss < 0.9 * best.loss else fruitless + 1
            best = point if best is None or point.loss < best.loss else best
            if self._done(point):
                break
            rounds += 1
            keep = self._worth_keeping(x, weight, drop=min(self.n - 1, 2 + rounds % 4))
            try:
                kept = Projection(self.features, self.theta, to_sphere(x[keep]), self.lifted)
            except StepError:
                break
            rest = self.features.without_linear_part(kept.residual)
            fresh, fresh_tau = _unsure(self.directions(rest, self.n - len(keep)))
            x, tau = torch.cat([x[keep], fresh]), torch.cat([tau[keep].clamp_min(_LEAST_KEPT), fresh_tau])
        return best

    def _messages(self, passing, x, tau):
        def compute():
            with as_step():
                found = passing.run(x, tau, _ITERATIONS, stop=lambda: self.run.tick("messages"))
            return *found, passing.b

        *found, passing.b = self.piece(x, compute)
        return found

    def _worth_keeping(self, x, weight, drop):
        """Indices without atoms that point along a heavier one, and without the lightest: at least ``drop`` go."""
        order = weight.argsort(descending=True)
        kept = order[distinct(x[order], _ALIKE)].tolist()
        return sorted(kept[: max(0, len(order) - drop)])

    def solve(self):
        """Search, and :meth:`ended`."""
        try:
            self.atoms()
        except StepError as error:
            self.run.settle()
            if self.run.best is None:
                raise
            self.run.remark("the search ended because its next step could not be computed", error)
        if self.run.expired:
            self.run.settle()
        return self.ended(self.run.best)


def solve(features, theta, n, run, seed, tol, inputs, start="spectral"):
    """Search within the run's budget; see :func:`reconlaw.reconstruct`."""
    if start not in ("spectral", "random"):
        raise ValueError(f"start={start!r} is unknown; use 'spectral' or 'random'")
    if not isinstance(inputs, Sphere):
        return domains.solve(features, theta, n, run, seed, tol, start, inputs)
    return along(run, lambda road: _search(Search(features, theta, n, run, seed, start, tol, road)))


def _search(search: Search):
    run, interrupted = search.run, False
    try:
        point, sign_identifiable = search.solve()
        if search.lifted and run.best_loss <= search.tol < point.loss:
            # Two columns an atom had room to fit θ otherwise: go on with one.
            search.lifted = False
            search.begin = run.best = point.U
            run.best_loss = point.loss
            point, sign_identifiable = search.solve()
    except KeyboardInterrupt:
        run.settle()
        if run.best is None:
            raise
        interrupted = True
        run.interrupt()
        point, sign_identifiable = search.ended(run.best)
    return point, sign_identifiable, interrupted
