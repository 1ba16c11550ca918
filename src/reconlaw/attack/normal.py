r"""MᵀM at samples, never formed: solutions by conjugate gradients, extreme eigenvalues, and numbers of θ by themselves.

M = P⊥J moves θ as the samples move, their coefficients eliminated. Conjugate gradients on MᵀM leave two things: a
solution, and by their Lanczos coefficients the extreme eigenvalues (Ritz values) of the preconditioned matrix. A
number of θ that no other checks has leverage 1: what the hat matrix H of M and of the features leaves of any numbers g
in the place of θ, (I − H)g, is zero there, and nowhere else for several g. A solution to a relative residual τ is off
by τ √κ ‖Hg‖ at most, κ the ratio of the extreme eigenvalues; numbers of (I − H)g that stand well above that are
checked, and few g at a loose τ leave only a few numbers to ask about with others.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..features.budget import look
from ..features.decompose import eigh
from ..inputs import Sphere
from .projection import Projection
from .varpro import _model, _Step

# Iterations of conjugate gradients, and residuals that will do: of solutions, of leverages near 1.
_ITERATIONS, _TOLERANCE, _LEVERAGE_TOLERANCE = 400, 1e-3, 1e-5
# Float32 tells as much as float64 where the least eigenvalue is above this share of the largest.
_WELL = 1e-4
# Right-hand sides for leverages; leverage above which no other number checks this one.
_PROBES, _OWN = 4, 1e-6
# What must stand out of (I − H)g at the least, and how far off its computation is meant to be.
_STANDS_OUT, _OFF = 1e-2, 0.05


@dataclass
class Probe:
    """Numbers g (R, p) in the place of θ: what H leaves of them shows which numbers of θ others check.

    Attributes:
        g: without what the features hold.
        b: Mᵀg.
        size: about ‖Hg‖², at most.
        fine: the relative residual to solve to; None for what :meth:`Normal.fine` says.
        z: the solution of MᵀM z = b, once there is one.
        off: its relative residual.
        told: whether that is as fine as it must be.
    """

    g: torch.Tensor
    b: torch.Tensor
    size: int
    fine: float | None = None
    z: torch.Tensor | None = None
    off: float = 1.0
    told: bool = False


class Normal:
    """MᵀM at samples X, in the dtype of X, preconditioned as a step of a descent is.

    Attributes:
        point: the samples' :class:`~reconlaw.attack.projection.Projection`.
        step: its linear model.
        lowest: least Ritz value of all solutions so far.
        highest: largest of them.
        told: whether each solution, but for those of probes, came down to its tolerance.
    """

    def __init__(self, features, theta, X, inputs):
        self.point = point = Projection(features, theta, X, dtype=X.dtype)
        self.step = step = _model(point) if isinstance(inputs, Sphere) else _Step(point, inputs)
        self._precondition = step.preconditioner(0.0)
        self.lowest, self.highest, self.told = math.inf, 0.0, True

    @property
    def well(self) -> bool:
        """Whether all was told, and no direction is nearly one that θ does not see."""
        return self.told and self.lowest > _WELL * self.highest

    def _times(self, qs):
        lift = self.point.lift
        moved = lift.jvps(qs)
        self.point.project_out(moved.flatten(0, 1))
        return [self.step.within(pulled) for pulled in lift.vjps(moved)]

    def solve_each(
        self, bs: list[torch.Tensor], probes: Sequence[Probe] = (), tolerance: float = _TOLERANCE
    ) -> list[torch.Tensor]:
        """z with MᵀM z = b, both (n, d), of several b; they share the products with V, which then take half as long.

        Args:
            bs: (n, d) each.
            probes: to be solved with them, as finely as these then tell that they must be.
            tolerance: of the relative preconditioned residual of each b.
        """
        # Their moves of θ, (K, p) each, take no more room than the columns do.
        once = max(1, len(self.point.lift.columns) // self.point.alpha.shape[1])
        asked = [
            *((b, lambda: tolerance) for b in bs),
            *((probe.b, functools.partial(self.fine, probe)) for probe in probes),
        ]
        solved = [each for k in range(0, len(asked), once) for each in self._solve_few(asked[k : k + once])]
        for probe, answer in zip(probes, solved[len(bs) :], strict=True):
            probe.z, probe.told, probe.off = answer
        self.told = self.told and all(told for _, told, _ in solved[: len(bs)])
        return [z for z, *_ in solved[: len(bs)]]

    def _solve_few(self, asked):
        """Solutions, whether each is as fine as was asked, and its relative residual."""
        sizes = [float(b.norm()) or 1.0 for b, _ in asked]  # of any size: in float32 squares of small numbers are none
        made = _together(
            self._times,
            [self._solve((b / size).to(self.point.U), enough) for (b, enough), size in zip(asked, sizes, strict=True)],
        )
        return [(z.to(b) * size, *how) for (z, *how), (b, _), size in zip(made, asked, sizes, strict=True)]

    def _solve(self, b, enough):
        """Yields and is sent as :func:`_solve`; keeps what it tells of M."""
        z, lowest, highest, found, off = yield from _solve(self._precondition, b, enough)
        self.lowest, self.highest = min(self.lowest, lowest), max(self.highest, highest)
        return z, found, off

    def back(self, g: torch.Tensor) -> torch.Tensor:
        """Mᵀg for g (R, p), which is projected in place."""
        return self.step.within(self.point.lift.vjp(self.point.project_out(g)))

    @property
    def kappa(self) -> float:
        """Largest over least Ritz value so far, at least 1; infinite where a direction is not seen."""
        return max(1.0, self.highest / self.lowest) if self.lowest else math.inf

    def probe(
        self, generator: torch.Generator, checked: torch.Tensor | None = None, fine: float | None = None
    ) -> Probe:
        """Random signs in the place of θ, but where it is ``checked``; to be solved to ``fine``, or as it must be."""
        features, like = self.point.features, self.point.residual
        g = features.here(_signs(like, features.p, generator)).to(self.point.U)
        size = self.point.U.numel()
        if checked is not None:
            g = g.masked_fill(checked, 0.0)
            size = min(size, max(1, int(features.summed((~checked).sum().to(g)))))
        return Probe(g, self.back(g), size, fine)

    def fine(self, probe: Probe) -> float:
        """How finely a probe must be solved for ‖Hg‖, √size, to hide nothing.

        0 until Ritz values tell, and infinite where that is no cheaper than the leverages near 1.
        """
        if probe.fine is not None:
            return probe.fine
        fine = min(_TOLERANCE, _OFF / (self.kappa * probe.size) ** 0.5) if self.highest else 0.0
        return fine if fine > _LEVERAGE_TOLERANCE or not self.highest else math.inf

    def left(self, probe: Probe) -> tuple[torch.Tensor, float]:
        """(I − H)g of a probe that is solved, and ‖Hg‖ but for what the features hold."""
        fit = self.point.project_out(self.point.lift.jvp(probe.z))
        return probe.g - fit, float(self.point.features.summed(fit.square().sum())) ** 0.5

    def checked(self, generator: torch.Generator, probe: Probe) -> torch.Tensor:
        """(R, p) bool, numbers of θ that others certainly check; ``probe`` was solved beside other solutions."""
        features, eps = self.point.features, torch.finfo(self.point.U.dtype).eps
        checked = torch.zeros_like(self.point.residual, dtype=torch.bool)
        for k in range(_PROBES):
            if k:
                probe = self.probe(generator, checked)
                self.solve_each([], [probe])
            if not probe.told or math.isinf(self.fine(probe)):
                break
            left, held = self.left(probe)
            kappa = self.kappa
            checked |= left.abs() > _STANDS_OUT + 2 * (probe.off * kappa**0.5 + 10 * eps * kappa) * held
            if not _any(features, ~checked):
                break
        return checked

    def any_unchecked(self, generator: torch.Generator, checked: torch.Tensor) -> bool:
        """Whether no other checks some number of θ beside those that are ``checked``, (R, p); true where in doubt."""
        features, total = self.point.features, torch.zeros_like(self.point.residual)
        for _ in range(_PROBES):
            if not _any(features, ~checked):
                return False
            probe = self.probe(generator, fine=_LEVERAGE_TOLERANCE)
            self.solve_each([], [probe])
            if not probe.told:
                return True
            total = total + self.left(probe)[0].square() / _PROBES
            checked = checked | (total >= _OWN)
        return _any(features, ~checked)


def _signs(like, p, generator):
    """(R, p) random signs, of all processes that divide them."""
    return torch.randint(0, 2, (len(like), p), generator=generator, device="cpu") * 2 - 1


def _any(features, mask) -> bool:
    return bool(features.summed(mask.any().to(features.dtype)))


def _together(operator, solving) -> list:
    """What each generator returns; they yield q and are sent operator(q), and those that still ask share a call."""
    made: list = [None] * len(solving)
    asked: dict[int, Any] = dict.fromkeys(range(len(solving)))
    while asked:
        for k, product in list(asked.items()):
            try:
                asked[k] = solving[k].send(product)
            except StopIteration as end:
                made[k] = end.value
                del asked[k]
        if asked:
            look()
            products = operator(torch.stack(list(asked.values())))
            asked = dict(zip(asked, products, strict=True))
    return made


def _solve(precondition, b, enough):
    """Solve Ax = b by preconditioned conjugate gradients: yields q and is sent Aq.

    Returns:
        x, the extreme Ritz values of their Lanczos, whether the relative residual came down to ``enough()``, and that
        residual.
    """
    x, r, z = torch.zeros_like(b), b.clone(), precondition(b)
    q, rz = z.clone(), float((r * z).sum())
    first, steps, ratios, flat, found = rz, [], [], False, not rz > 0
    for _ in range(_ITERATIONS):
        Aq = yield q
        curvature = float((q * Aq).sum())
        flat = rz > 0 and not curvature > 0
        if flat or not rz > 0:
            break
        steps.append(rz / curvature)
        x, r = x + steps[-1] * q, r - steps[-1] * Aq
        z = precondition(r)
        rz, previous = float((r * z).sum()), rz
        ratios.append(rz / previous)
        if rz <= enough() ** 2 * first:
            found = True
            break
        q = z + ratios[-1] * q
    if not steps:
        return x, 0.0 if flat else math.inf, 0.0, found, 0.0 if found else 1.0
    diagonal = [1 / a + (ratios[i - 1] / steps[i - 1] if i else 0.0) for i, a in enumerate(steps)]
    beside = [math.sqrt(ratios[i]) / steps[i] for i in range(len(steps) - 1)]
    lanczos = torch.diag(torch.tensor(diagonal, dtype=torch.float64, device="cpu"))
    beside = torch.diag(torch.tensor(beside, dtype=torch.float64, device="cpu"), 1)
    ritz = eigh(lanczos + beside + beside.T)[0]
    off = math.sqrt(max(0.0, rz) / first)
    return (q if flat else x), 0.0 if flat else float(ritz[0]), float(ritz[-1]), found, off
