r"""``method="varpro"``: the parity-lifted variable projection, from a start to signed samples.

1. Start from the spectral directions of θ (:mod:`reconlaw.features.spectral`), or at random.
2. Descend on the lifted loss (:mod:`reconlaw.attack.varpro`): two columns an atom, so no minimum is made by a
   wrong sign.
3. Where that ends above the tolerance, respawn: add one to three leading directions of the residual, descend with
   n + k atoms, drop the k atoms whose removal costs least, descend again.
4. Where respawn fails too, start from message passing (:mod:`reconlaw.attack.message_passing`), which does not commit
   to what it does not know; after each descent from it, atoms that coincide and the weakest give way to directions of
   the residual, and it runs again. After rounds without progress it begins anew from a random mixture of directions.
5. Read the signs off: at a solution one of each pair's coefficients vanishes. Descend once more, one column an atom.

The attacker's side of the threat model: it sees θ, the feature map, n, and nothing else.
"""

from __future__ import annotations

import math

import torch

from .._random import seeded_generator
from ..features.budget import DIRECTIONS, Spent, attempt
from ..features.gram import StepError, as_step
from ..features.spectral import distinct
from ..inputs import Sphere
from ..sphere import to_sphere
from . import domains
from .count import count
from .message_passing import MessagePassing
from .projection import Projection, least_squares
from .run import Run
from .varpro import descend

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
# As many arrivals within this factor of the lowest loss end the search.
_ARRIVALS = 3
_SAME_LOSS = 1.001
# A descent in float64 runs in float32 down to this loss first, where the features can.
_COARSE_LOSS = 1e-9
# Descents that may fail one after the other before the search gives up.
_FAILURES = 20
# Signs that enumeration may try all of.
_MOST_FREE_SIGNS = 16


@as_step()
def pair_costs(point: Projection) -> torch.Tensor:
    """How much ‖r‖² grows when an atom's columns are dropped: tr α_iᵀ [(G⁻¹)_ii]⁻¹ α_i, (n,), in closed form.

    A block that is singular to working precision, as of an atom whose columns nearly depend on others, is taken with
    its least eigenvalue raised to its rounding: what it costs is then too little, never nothing at all.
    """
    n = point.U.shape[0]
    G_inverse = torch.cholesky_inverse(point.factor)
    columns = torch.arange(len(point.alpha), device=point.U.device).reshape(-1, n).T  # (n, 1 or 2)
    blocks = G_inverse[columns[:, :, None], columns[:, None, :]]
    alpha = point.alpha[columns]
    solved, info = torch.linalg.solve_ex(blocks, alpha)
    if bool(info.any()):
        rounding = 4 * torch.finfo(blocks.dtype).eps * blocks.diagonal(dim1=1, dim2=2).sum(1)
        raised = blocks + rounding[:, None, None] * torch.eye(blocks.shape[1]).to(blocks)
        again = torch.linalg.solve_ex(raised, alpha).result
        solved = torch.where((info == 0)[:, None, None], solved, again)
    return (alpha * solved).sum((1, 2)).nan_to_num(nan=0.0).clamp_min(0)


def read_signs(point: Projection) -> torch.Tensor:
    """+1 where φ(Vu) carries the atom, −1 where φ(−Vu) does, (n,)."""
    n = point.U.shape[0]
    weight = point.alpha.norm(dim=1) * point.lift.columns.norm(dim=1)
    return torch.where(weight[:n] >= weight[n:], 1.0, -1.0).to(point.U)


def linear_signs(point: Projection) -> torch.Tensor | None:
    r"""Signs where read-off fails because n > d and the odd part of φ is linear (ReLU), or None.

    The even coefficients c_i = α⁺_i + α⁻_i are exact, but of the odd part only w = Σ_i (α⁺_i − α⁻_i) u_i is known:
    s ∈ {±1}ⁿ must solve Σ_i s_i c_i u_i = w. All but d of the signs are enumerated (2^(n−d) ≤ 2^16), the rest follow.
    """
    U, K = point.U, point.alpha.shape[1]
    n, d = U.shape
    free = n - K * d
    if not 0 < free <= _MOST_FREE_SIGNS:
        return None
    plus, minus = point.alpha[:n], point.alpha[n:]
    A = ((plus + minus)[:, :, None] * U[:, None, :]).reshape(n, K * d).T
    w = ((plus - minus).T @ U).reshape(K * d)
    # The lightest atoms are enumerated: the equations then rest on the heavy ones.
    order = A.norm(dim=0).argsort()
    loose, fixed = order[:free], order[free:]
    codes = torch.arange(2**free, device=U.device)[:, None] >> torch.arange(free, device=U.device)
    trial = (codes % 2 * 2 - 1).to(U)
    try:
        with as_step():
            rest = torch.linalg.lstsq(A[:, fixed], (w - trial @ A[:, loose].T).T).solution.T
    except StepError:
        return None
    best = int((rest.abs() - 1).square().sum(1).argmin())
    signs = torch.empty(n, dtype=U.dtype, device=U.device)
    signs[loose], signs[fixed] = trial[best], torch.where(rest[best] >= 0, 1.0, -1.0).to(U)
    return signs


def _unsure(U):
    """Directions as message passing starts from them: shrunk to what is expected of them, and their variance."""
    return U * math.sqrt(1 - _UNSURE), torch.full((len(U),), _UNSURE, dtype=U.dtype, device=U.device)


class Search:
    """The search for atoms under one budget; ``run`` keeps the best."""

    def __init__(self, features, theta, n, run: Run, seed: int, start: str, tol: float):
        self.features, self.theta, self.n, self.run, self.tol = features, theta, n, run, tol
        self.generator = seeded_generator("attack", seed)
        self.start = start
        # Below the count of unknowns other atoms fit as well; two columns an atom cost n unknowns more.
        counted = count(features, n, len(theta))
        self.room = counted.equations >= counted.unknowns
        lift_room = features.p > 2 * n and counted.equations > counted.unknowns + n * min(n, len(theta))
        self.lifted = features.parity == "mixed" and lift_room
        # Past the tolerance, go on to the floor of the arithmetic: the last steps converge fast, at little cost.
        self.target = min(tol, 1e-29 if theta.dtype == torch.float64 else 1e-12)
        coarse = features.coarse()
        self.coarse = None if coarse is None else (coarse, theta.to(coarse.dtype))

    def _random_atoms(self, count):
        draw = torch.randn(count, self.features.d, device="cpu", generator=self.generator, dtype=self.theta.dtype)
        return to_sphere(draw.to(self.theta.device))

    def directions(self, residual, count):
        """Directions of a residual, random ones where they cannot be computed or there are too few."""
        try:
            with as_step():
                made = attempt(DIRECTIONS, lambda: self.features.directions(residual, count, self.generator))
        except StepError as error:
            self.run.remark("directions could not be computed", error)
            made = None
        found = self.theta.new_zeros(0, self.features.d) if made is None else made[0]
        found = found[torch.isfinite(found).all(1)]
        if len(found) < count:
            found = torch.cat([found, self._random_atoms(count - len(found))])
        return found

    def descend(self, U, note="", record=True, **options):
        run = self.run

        def on_step(point):
            if record:
                return run.record(point.U, point.loss, note)
            return run.expired

        if self.coarse is not None:
            target = max(self.target, _COARSE_LOSS)
            point = self._told(descend(*self.coarse, U.float(), self.lifted, target, on_step=on_step, **options))
            if point.loss > _COARSE_LOSS or self.run.expired:
                if record:  # it may have ended without a step
                    run.record(to_sphere(point.U.to(self.theta)), point.loss, note)
                return point
            U = to_sphere(point.U.to(self.theta))
        point = self._told(
            descend(self.features, self.theta, U.to(self.theta), self.lifted, self.target, on_step=on_step, **options)
        )
        if record:  # a descent that takes no step, because U is a solution already, counts too
            run.record(point.U, point.loss, note)
        return point

    def _told(self, descent):
        if descent.reason == "failed":
            self.run.remark("a descent ended because its next step could not be computed", descent.failure)
        return descent.point

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
        if self.run.best is not None:
            return self.run.best.to(self.theta)
        if self.start == "random" or self.features.p <= self.features.d + 1:
            return self._random_atoms(self.n)
        try:
            rest = self.features.without_linear_part(self.theta)
        except Spent:
            return self._random_atoms(self.n)
        return self.directions(rest, self.n)

    def respawn(self, point, extra):
        """Add ``extra`` directions of the residual, descend, drop the cheapest pairs, descend."""
        fresh = self.directions(self.features.without_linear_part(point.residual), extra)
        wide = self.descend(torch.cat([point.U, fresh]), record=False, patience=(6, 0.7))
        keep = pair_costs(wide).argsort(descending=True)[: self.n].sort().values
        return self.descend(wide.U[keep], "respawn")

    def atoms(self):
        """Search until the loss is at most ``tol`` or a budget is spent."""
        point = self._from_anywhere(self.first_atoms(), "descent")
        if not self.room:
            return  # other atoms fit as well: no search can tell
        passing, lead = self._passing(), None
        arrivals: list[float] = []
        while not self._done(point):
            point = self._respawn_rounds(point, _FRUITLESS_RESPAWNS[passing is not None])
            # Independent roads that end at one loss, the lowest: noise in θ has put it there, not a bad minimum.
            arrivals.append(point.loss)
            if self._done(point) or sum(loss <= min(arrivals) * _SAME_LOSS for loss in arrivals) == _ARRIVALS:
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
            extra = min(1 + rounds % 3, max(1, (self.features.p - 2 * self.n) // 2))
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
                passing = MessagePassing(features, self.theta)
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
                with as_step():
                    x, tau, weight = passing.run(x, tau, _ITERATIONS, stop=lambda: self.run.tick("messages"))
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

    def _worth_keeping(self, x, weight, drop):
        """Indices without atoms that point along a heavier one, and without the lightest: at least ``drop`` go."""
        order = weight.argsort(descending=True)
        kept = order[distinct(x[order], _ALIKE)].tolist()
        return sorted(kept[: max(0, len(order) - drop)])

    def signed(self, U):
        """Atoms with their signs read off and one column each, polished; and whether the signs are identifiable."""
        parity = self.features.parity
        if not self.lifted:
            point = Projection(self.features, self.theta, U)
            return point, False if parity != "mixed" else True if point.loss <= self.tol else None
        lifted = Projection(self.features, self.theta, U, lifted=True)
        steps = 0 if self.run.expired and lifted.loss > self.tol else 50
        for signs in (read_signs(lifted), linear_signs(lifted)):
            if signs is None:
                continue
            U = lifted.U * signs[:, None]
            point = descend(
                *(self.features, self.theta, U, False, self.target, steps),
                patience=(4, 0.5),
                on_step=lambda _: self.run.expired,
            ).point
            if point.loss <= self.tol or lifted.loss > self.tol:
                break
        return point, True if point.loss <= self.tol else None

    def ended(self, U=None):
        """The best atoms, or U, :meth:`signed`, or as they are where that cannot be computed."""
        U = (self.run.best if U is None else U).to(self.theta)
        try:
            return self.signed(U)
        except StepError as error:
            self.run.remark("the signs could not be read off", error)
            return least_squares(self.features, self.theta, U), None if self.features.parity == "mixed" else False

    def solve(self):
        """Search, and :meth:`ended`."""
        try:
            self.atoms()
        except StepError as error:
            if self.run.best is None:
                raise
            self.run.remark("the search ended because its next step could not be computed", error)
        return self.ended()


def solve(features, theta, n, run, seed, tol, inputs, start="spectral"):
    """Search within the run's budget; see :func:`reconlaw.reconstruct`."""
    if start not in ("spectral", "random"):
        raise ValueError(f"start={start!r} is unknown; use 'spectral' or 'random'")
    if not isinstance(inputs, Sphere):
        return domains.solve(features, theta, n, run, seed, tol, start, inputs)
    search = Search(features, theta, n, run, seed, start, tol)
    interrupted = False
    try:
        point, sign_identifiable = search.solve()
        if search.lifted and run.best_loss <= tol < point.loss:
            # Two columns an atom had room to fit θ otherwise: go on with one.
            search.lifted = False
            run.best, run.best_loss = point.U, point.loss
            point, sign_identifiable = search.solve()
    except KeyboardInterrupt:
        if run.best is None:
            raise
        interrupted = True
        run.interrupt()
        point, sign_identifiable = search.ended()
    return point, sign_identifiable, interrupted
