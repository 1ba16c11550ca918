r"""What a search for atoms works with, whatever its strategy: directions, descent, fewer atoms, signs.

The attacker's side of the threat model: it sees θ, the feature map, and nothing else.
"""

from __future__ import annotations

import torch

from .._random import seeded_generator
from ..features.budget import DIRECTIONS, attempt
from ..features.feature_map import FeatureMap
from ..features.gram import StepError, as_step
from ..features.passes import counted, counted_in_share
from ..sphere import draw, to_sphere
from .count import count
from .projection import Projection, least_squares
from .road import Road
from .run import Run
from .signs import linear_signs, read_off, read_signs
from .varpro import FLOOR, descend

# A descent in float64 runs in float32 down to this loss first, where the features can.
COARSE_LOSS = 1e-9
_COARSE_FLOOR = 1e-7
# Of a descent on some of the features: its patience, since a respawn soon helps where equations are many.
_EASY_PATIENCE = (6, 0.8)
# A loss on some of the features has fallen by this factor before the loss on all of them is asked for again.
_TOLD = 0.25
# Signs are read in float32 where the other column of a pair carries less than this share.
_READ = 0.1
# As many arrivals within this factor of the lowest loss end a search.
_ARRIVALS, _SAME_LOSS = 3, 1.001
# Atoms whose removal is tried before all are taken to be needed.
_TRIED = 2


@as_step()
def pair_costs(point: Projection) -> torch.Tensor:
    """How much ‖r‖² grows when an atom's columns are dropped: tr α_iᵀ [(G⁻¹)_ii]⁻¹ α_i, (n,), in closed form.

    A block that is singular to working precision, as of an atom whose columns nearly depend on others, is taken with
    its least eigenvalue raised to its rounding: what it costs is then too little, never nothing at all.
    """
    n = point.U.shape[0]
    G_inverse = torch.cholesky_inverse(point.factor)
    columns = torch.arange(len(point.alpha), device=point.U.device).reshape(-1, n).T  # (n, 1, 2 or T)
    blocks = G_inverse[columns[:, :, None], columns[:, None, :]]
    alpha = point.alpha[columns]
    solved, info = torch.linalg.solve_ex(blocks, alpha)
    if bool(info.any()):
        rounding = 4 * torch.finfo(blocks.dtype).eps * blocks.diagonal(dim1=1, dim2=2).sum(1)
        raised = blocks + rounding[:, None, None] * torch.eye(blocks.shape[1]).to(blocks)
        again = torch.linalg.solve_ex(raised, alpha).result
        solved = torch.where((info == 0)[:, None, None], solved, again)
    return (alpha * solved).sum((1, 2)).nan_to_num(nan=0.0).clamp_min(0)


def with_fewer(point: Projection, descend, allowed):
    """Points with one atom fewer each, for as long as the others, descending without it, make up for a cheap one.

    Args:
        point: where to begin.
        descend: from atoms to a point.
        allowed: from a point to the loss that may be reached with one atom fewer.

    Raises:
        StepError: a descent could not be computed; the points before it stand.
    """
    fewer = True
    while fewer and len(point.U) > 1:
        fewer = False
        for cheapest in pair_costs(point).argsort()[:_TRIED].tolist():
            trial = descend(point.U[[i for i in range(len(point.U)) if i != cheapest]])
            if trial.loss <= allowed(point):
                point, fewer = trial, True
                yield point
                break


def room_to_lift(features, n: int, outputs: int) -> bool:
    """Whether the equations determine n atoms of two columns each, which cost n unknowns an output more."""
    counted = count(features, n, outputs)
    return features.positions == 1 and features.p > 2 * n and counted.equations > counted.unknowns + n * min(n, outputs)


def ended_alike(losses: list[float]) -> bool:
    """Whether independent roads have ended at one loss, the lowest: noise in θ has put it there, not a bad minimum."""
    return sum(loss <= min(losses) * _SAME_LOSS for loss in losses) == _ARRIVALS


class Tools:
    """The tools, for one θ under one budget; ``run`` keeps the best.

    Args:
        lifted: two columns an atom, where the features are of mixed parity.
        road: the way that is kept, if one is.

    Attributes:
        part: some features and θ on them, in the precision of ``coarse``, where descents begin with these.
    """

    part: tuple[FeatureMap, torch.Tensor] | None = None

    def __init__(self, features, theta, run: Run, seed: int, tol: float, lifted: bool, road: Road | None = None):
        self.features, self.theta, self.run, self.tol, self.road = features, theta, run, tol, road
        self.generator = seeded_generator("attack", seed)
        self.lifted = features.parity == "mixed" and lifted
        # Past the tolerance, go on to the floor of the arithmetic: the last steps converge fast, at little cost.
        self.target = min(tol, FLOOR[theta.dtype])
        coarse = features.coarse()
        self.coarse = None if coarse is None else (coarse, theta.to(coarse.dtype))

    def _random_atoms(self, count):
        return draw(count, self.features.d, self.generator, self.theta)

    def piece(self, given, compute):
        """``compute()``, a tuple of tensors, as a piece of the way (:mod:`reconlaw.attack.road`)."""
        return compute() if self.road is None else self.road.piece(given, compute, self.generator)

    def in_part(self):
        """A context for work on ``part``, which costs its share of a pass."""
        return counted_in_share(self.part[0].p / self.features.p)

    def directions(self, residual, count, features=None):
        """Directions of a residual, random ones where they cannot be computed or there are too few."""
        return self.piece(residual, lambda: (self._directions(residual, count, features or self.features),))[0]

    def _directions(self, residual, count, features):
        try:
            with as_step():
                made = attempt(DIRECTIONS, lambda: features.directions(residual, count, self.generator))
        except StepError as error:
            self.run.remark("directions could not be computed", error)
            made = None
        found = self.theta.new_zeros(0, self.features.d) if made is None else made[0]
        found = found[torch.isfinite(found).all(1)]
        if len(found) < count:
            found = torch.cat([found, self._random_atoms(count - len(found))])
        return found

    def descend(self, U, note="", record=True, rough=False, **options):
        """:func:`~reconlaw.attack.varpro.descend` from U: on a part of the features first, then in float32.

        ``record`` keeps the best of the way; ``rough`` ends where float32 does, since its end is only a way to another.
        """
        if self.road is None:
            return self._descend(U, note, record, rough, **options)
        made, maps = [], [(self.features, self.theta), self.coarse, self.part]

        def compute():
            made.append(self._descend(U, note, record, rough, **options))
            features = made[0].features
            return made[0].U, torch.tensor([on is not None and on[0] is features for on in maps], device="cpu")

        end, on = self.piece(U, compute)
        if made:
            return made[0]
        with counted(None):  # its passes are in the piece
            return Projection(*maps[on.tolist().index(True)], end, self.lifted)

    def _descend(self, U, note, record, rough, **options):
        run, coarse_target, end, solved = self.run, max(self.target, COARSE_LOSS), None, False
        target = coarse_target if rough else self.target

        def on_step(point):
            if record:
                return run.record(point.U, point.loss, note)
            return run.expired

        if self.part is not None:
            point = self._descend_in_part(U.to(self.part[1]), note, record, coarse_target, **options)
            solved = point.loss <= _COARSE_FLOOR
            if not solved and point.loss > self.tol or rough and point.loss <= target or run.expired:
                return point
            U = point.U
        if self.coarse is not None:
            if not solved:
                how = {"on_step": on_step, **options}
                point = self._told(descend(*self.coarse, U.float(), self.lifted, coarse_target, **how))
                # A stall a little above is the floor of float32's rounding, or of a device's: float64 goes on from it.
                if point.loss > _COARSE_FLOOR or rough and point.loss <= target or run.expired:
                    if record:  # it may have ended without a step
                        run.record(to_sphere(point.U.to(self.theta)), point.loss, note)
                    return point
            U = to_sphere(point.U.to(self.theta))
            if self.lifted and not rough:
                end = self._with_signs(U, point, on_step)
        if end is None:
            U = U.to(self.theta)
            end = self._told(descend(self.features, self.theta, U, self.lifted, target, on_step=on_step, **options))
        if record:  # a descent that takes no step, because U is a solution already, counts too
            run.record(end.U, end.loss, note)
        return end

    def _descend_in_part(self, U, note, record, target, **options):
        """The end of a descent on ``part``; what is recorded has its loss on all features."""
        told, options = float("inf"), {"patience": _EASY_PATIENCE, **options}

        def on_step(point):
            nonlocal told
            if not record:
                return self.run.expired
            if point.loss > _TOLD * told:
                return self.run.tick(note)
            told = point.loss
            return self._record_whole(point, note)

        with self.in_part():
            point = self._told(descend(*self.part, U, self.lifted, target, on_step=on_step, **options))
        if record and point.loss < told:
            self._record_whole(point, note)
        return point

    def _record_whole(self, point, note):
        """Record atoms with their loss on all features; true once a budget is spent."""
        with counted(self.run.passes):
            try:
                whole = Projection(*(self.coarse or (self.features, self.theta)), point.U, self.lifted)
            except StepError:  # columns that depend on one another but for a few features left out
                return self.run.tick(note)
        return self.run.record(to_sphere(point.U.to(self.theta)), whole.loss, note)

    def _with_signs(self, U, coarse, on_step):
        """The end of a descent with one column an atom; None where it does not reach the target, or no signs are read.

        With them known the other columns only stand in the way: the descent is far better conditioned without.
        """
        if not read_off(coarse, _READ):
            return None
        U = U * read_signs(coarse).to(U)[:, None]
        for solver in (self.coarse, None):  # where float32 is too coarse to solve steps in, float64 goes on
            options = {"patience": (4, 0.5), "on_step": on_step, "coarse": solver}
            try:
                end = descend(self.features, self.theta, U, False, self.target, 50, **options)
            except StepError:
                continue
            if end.reason in ("converged", "stopped"):
                return end.point if end.reason == "converged" else None
            U = end.point.U
        return None

    def _told(self, descent):
        if descent.reason == "failed":
            self.run.remark("a descent ended because its next step could not be computed", descent.failure)
        return descent.point

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

    def ended(self, U):
        """:func:`ended`, of atoms up to sign where φ has a parity."""
        return ended(self, U, None if self.features.parity == "mixed" else False)


def ended(search, U, unread=None):
    """Atoms U as ``search.signed`` has them, or as they are, with ``unread`` of their signs, where that fails."""
    U = U.to(search.theta)
    try:
        return search.signed(U)
    except StepError as error:
        search.run.remark("the signs could not be read off", error)
        return least_squares(search.features, search.theta, U), unread
