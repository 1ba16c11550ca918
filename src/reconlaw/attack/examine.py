r"""From where an attack ended to what may be said of each sample.

An answer that explains θ is asked for its certificate (:mod:`reconlaw.attack.certificate`). Where samples are loose,
fewer are tried: one may be spare because n is too large or two samples coincide, and a ReLU sample can come back torn
in two, a₁φ(Vu₁) + a₂φ(Vu₂) = φ(V(a₁u₁ + a₂u₂)) as long as no neuron tells the three apart. Where samples are unchecked
other roads are taken from other starts: if all that arrive, arrive at the same set, it is the answer; if one arrives
elsewhere, or none arrives, other sets may fit as well. Where standard errors decide, one more sample is tried, to see
whether the residual is noise (:mod:`reconlaw.attack.leftover`), and the answer is let out of its box or family, to see
whether that holds the samples (:mod:`reconlaw.attack.widened`). Samples that can slide towards one another are segments
(:mod:`reconlaw.attack.segments`), and samples of several columns that agree in part may exchange the rest
(:mod:`reconlaw.attack.spliced`).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch

from .._random import seeded_generator
from ..features.gram import StepError
from ..inputs import Sphere
from ..sphere import distances, to_sphere
from .certificate import Certificate, certify
from .count import Count, count
from .leftover import MOVES, Leftover, one_more
from .result import Flag
from .search import Search
from .segments import segments
from .spliced import spliced
from .varpro import descend
from .widened import outside

_SPHERE = Sphere()
# A sample counts as recovered where its standard error leaves room below 1e-2, as known roughly below a tenth.
RECOVERED, ROUGH = 5e-3, 0.1
_CLAIMED = (Flag.RECOVERED, Flag.UP_TO_SIGN, Flag.ROUGH)
# Errors of rounding are below this, whatever the precision.
_ABOVE_ROUNDING = 1e-4
# Two samples are told apart where they are this many standard errors from one another.
_APART = 10
# A direction that is seen weakly is asked whether it is seen a little farther on as well, at so many times what the
# residual would move samples by.
_BEYOND = 6.0
# A sample whose part of θ is less than this many times the noise is not seen.
_SEEN = 4.0
# A loss within this factor of the noise is no worse than it.
_NO_WORSE = 100
# Samples whose removal is tried before all are taken to be needed, and the cosine of what may be one sample, torn.
_TRIED, _TWINS = 3, 0.9
# Lines through a sample, and halvings of a step along them, that ask how far Φ is linear.
_LINES, _HALVINGS = 32, 14
# Sets within this distance, relative, are one set; roads taken, and how many must arrive there. Together they take
# this many steps at most, or as many as the search did.
_SAME, _ROADS, _ARRIVALS, _ROAD_STEPS = 1e-4, 400, 6, 50_000

# Times that a better answer, found with one more sample, takes the place of the last.
_BETTERED = 4
_MISFIT = (
    "one more sample would explain part of what is left of theta, so n may be too small or one of these a near miss, "
    "and the standard errors allow for it"
)
_OUTSIDE = (
    "inputs outside {!r} would explain more of what is left of theta, so it may not hold the samples, and the standard "
    "errors allow for it"
)
_UNASKED = (
    "whether inputs outside {!r} would explain more of what is left of theta could not be asked with so few equations, "
    "and the standard errors allow for it"
)


@dataclass(frozen=True)
class Examined:
    """The samples, (n, d), with coefficients, errors and flags; and why nothing could be said, in words.

    ``doubts`` are (n,): how many times the certificate's errors theirs are.
    """

    X: torch.Tensor
    alpha: torch.Tensor
    loss: float
    errors: torch.Tensor | None
    flags: tuple[Flag, ...]
    rivals: bool = False
    remark: str = ""
    doubts: torch.Tensor | None = None

    @property
    def determined(self) -> bool | None:
        """Whether θ holds all samples here; None where other sets may fit, or nothing could be said."""
        if all(flag in _CLAIMED for flag in self.flags):
            return True
        return None if self.errors is None or not self.rivals and Flag.AMBIGUOUS in self.flags else False


def flag_of(error: float, named: Flag = Flag.RECOVERED) -> Flag:
    """What a relative error alone lets one say of a sample: ``named``, roughly known, or unresolved, as of NaN."""
    return named if error < RECOVERED else Flag.ROUGH if error < ROUGH else Flag.UNRESOLVED


def unexamined(point, remark="") -> Examined:
    """Where an attack ended without an answer."""
    return Examined(point.U, point.alpha, point.loss, None, (Flag.UNRESOLVED,) * len(point.U), remark=remark)


def examine(features, theta, point, tol, run, seed=0, inputs=_SPHERE, dimension=None) -> Examined:
    r"""What may be said of each sample of an answer.

    Fewer samples are tried, and other roads taken, on the sphere alone.

    Args:
        point: with ``U`` (n, d), ``alpha`` and ``loss`` ≤ tol: where an attack ended, one column an atom.
        dimension: unknown coordinates of a sample, as of :func:`~reconlaw.attack.count.count`.
    """
    n, lost, start, left, rounds = len(point.U), {}, point, Leftover(0.0), 0
    whole, sphere = count(features, n, len(theta), dimension), isinstance(inputs, Sphere) and features.positions == 1
    X, kept = point.U.clone(), list(range(n))
    alpha = point.alpha.new_zeros(point.alpha.shape)
    try:
        while True:
            counted = count(features, len(kept), len(theta), dimension)
            spare = counted.equations - counted.unknowns
            certificate = certify(features, theta, X[kept], spare, inputs)
            fewer = _fewer(features, theta, X[kept], certificate, tol) if sphere and not run.segments else None
            if fewer is not None:
                flag, row, point = fewer
                lost[kept.pop(row)] = flag
            elif counted.enough and rounds < _BETTERED and _decides(certificate, sphere):
                asked = features.d - 1 if dimension is None else dimension
                left = one_more(features, theta, X[kept], spare, asked, inputs, run, seed + rounds)
                rounds += 1
                if left.better is None:
                    break
                point, left = left.better, Leftover(float(rounds == _BETTERED))  # the last is not asked again
            else:
                break
            X[kept] = point.U
    except StepError as error:
        return unexamined(start, f"it could not be asked whether theta holds these samples ({error})")
    T = features.positions
    alpha.view(T, n, -1)[:, kept] = point.alpha.reshape(T, len(kept), -1)
    errors, let_out = left.errors(certificate), Leftover(0.0)
    if not isinstance(inputs, Sphere):
        found = X[kept], point.loss, certificate, left
        errors, let_out = _off_the_sphere(features, theta, *found, spare, inputs, run, tol)
    if len(theta) > 1 and not lost:
        run.segments = segments(features, theta, X, certificate, inputs) | run.segments
    if lost:
        errors = torch.maximum(errors, _linear_reach(features, X[kept]))
    errors = torch.where(_loose_nearby(features, theta, X[kept], certificate, spare, inputs), torch.inf, errors)
    exact = min(certificate.speaking - counted.unknowns, whole.equations - whole.unknowns) <= 0
    flags = _flags(X[kept], certificate, errors, counted, exact, features.parity, tol)
    if not sphere:
        _together(X[kept], errors, flags)
    if not isinstance(inputs, Sphere):
        rival = spliced(features, X[kept], errors).tolist()
        flags = [
            Flag.AMBIGUOUS if either and flag in _CLAIMED else flag for either, flag in zip(rival, flags, strict=True)
        ]
    flags = [Flag.UNRESOLVED if row in run.segments else flag for row, flag in enumerate(flags)]
    rivals = False
    if Flag.AMBIGUOUS in flags and not exact and sphere:
        asked = torch.tensor([flag is Flag.AMBIGUOUS for flag in flags], device="cpu")
        there, rivals = _other_roads(features, theta, X[kept], asked, tol, run, seed)
        flags = [_named(features.parity) if asked[i] and there[i] else flag for i, flag in enumerate(flags)]
    spread = torch.full((n,), float("inf"), dtype=torch.float64, device="cpu")
    spread[kept] = errors
    doubts = torch.full_like(spread, float("inf"))
    doubts[kept] = (errors / certificate.errors.double().clamp_min(1e-300)).clamp_min(1.0).nan_to_num(nan=torch.inf)
    named = dict(zip(kept, flags, strict=True)) | lost
    remark = _MISFIT if left.much else ""
    if let_out.much:
        remark = (_UNASKED if let_out.moved is None else _OUTSIDE).format(inputs)
    return Examined(X, alpha, point.loss, spread, tuple(named[i] for i in range(n)), rivals, remark, doubts)


def _loose_nearby(features, theta, X, certificate, spare, inputs):
    """(n,) bool: samples that are loose a little farther along the direction that θ sees least.

    A ReLU sample slides until a neuron turns on, and there the Jacobian takes that neuron's slope to hold it.
    """
    loose = certificate.loose.clone()
    if certificate.weakest is None or not certificate.noise > 0:
        return loose
    for sign in (-_BEYOND, _BEYOND):
        there = inputs.retract(X + sign * certificate.weakest.to(X))
        with contextlib.suppress(StepError):
            loose |= certify(features, theta, there, spare, inputs).loose
    return loose


def _allowing(left: Leftover, certificate):
    """Errors (n,) with what was left of θ and is no noise: where that is much, at least what the samples moved by."""
    errors = left.errors(certificate)
    if not left.much:
        return errors
    return errors.clamp_min(RECOVERED) if left.moved is None else torch.maximum(errors, MOVES * left.moved)


def _off_the_sphere(features, theta, X, loss, certificate, left, spare, inputs, run, tol):
    """Errors (n,) with what noise alone does not say, and what the answer did once it was let out of its domain."""
    let_out, errors = Leftover(0.0), _allowing(left, certificate)
    if bool((~(errors < ROUGH)).any()):  # a row that goes far takes others with it, beyond what a tangent shows
        errors = torch.where(errors > _ABOVE_ROUNDING, errors.clamp_min(RECOVERED), errors)
    # On bounds in all coordinates nothing moves, were it in theta or not.
    errors = torch.where(certificate.costs <= _SEEN * certificate.noise, torch.inf, errors)
    if _decides(certificate, False):
        let_out = outside(features, theta, X, loss, spare, inputs, run)
        errors = torch.maximum(errors, _allowing(let_out, certificate))
        if let_out.share == 1:  # it could not be asked: known roughly at best
            errors = errors.clamp_min(RECOVERED)
    if bool(((certificate.costs <= tol) & ~(errors < ROUGH)).any()):
        # A row that may be anything takes up what others leave: then the tolerance is the noise, not the residual.
        errors = errors * max(1.0, tol / max(certificate.noise, 1e-300)) ** 0.5
    return errors, let_out


def _decides(certificate, sphere):
    """Whether it matters for some sample that the residual is noise.

    Off the sphere wherever it is above rounding: there samples take up more of it than a tangent shows, and a domain
    that does not hold them leaves one as well.
    """
    least = RECOVERED if sphere else _ABOVE_ROUNDING
    return bool(((certificate.errors < ROUGH) & (certificate.most >= least)).any())


def _named(parity):
    return Flag.RECOVERED if parity == "mixed" else Flag.UP_TO_SIGN


def _flags(X, certificate: Certificate, errors, counted: Count, exact, parity, tol):
    """What is said of each sample by itself; ``exact`` where there are no more equations than unknowns."""
    distance = _distance(X, X, parity).cpu().double()
    distance.fill_diagonal_(float("inf"))
    nearest, flags = distance.amin(1), []
    for i, error in enumerate(errors.tolist()):
        if not counted.enough:
            flag = Flag.UNRESOLVED
        elif not error < ROUGH:
            flag = Flag.BELOW if float(certificate.costs[i]) <= tol else Flag.UNRESOLVED
        elif float(nearest[i]) < _APART * error:
            flag = Flag.NOT_APART
        elif exact or certificate.unchecked[i] or bool(certificate.loose.any()):
            flag = Flag.AMBIGUOUS
        else:
            flag = _named(parity) if error < RECOVERED else Flag.ROUGH
        flags.append(flag)
    return flags


def _together(X, errors, flags):
    """Take back what is said of a row from which another is not told apart by *its* errors: they go together."""
    distance = torch.cdist(X, X).cpu().double() / X.norm(dim=1).cpu().double()[:, None]
    theirs = torch.where(errors < ROUGH, errors, 0.0)  # one that is not held is no neighbour of any
    near = (distance < _APART * theirs).fill_diagonal_(False).any(1) & (errors > _ABOVE_ROUNDING)
    for row in torch.nonzero(near)[:, 0].tolist():
        if flags[row] in (Flag.RECOVERED, Flag.UP_TO_SIGN):
            flags[row] = Flag.NOT_APART


def _fewer(features, theta, X, certificate, tol):
    """(flag, row, point) where θ is explained without a row that is not held, or with two made one; or None."""
    weak = torch.nonzero(~(certificate.errors < ROUGH))[:, 0].tolist()
    if not weak or len(X) == 1:
        return None
    noise = _NO_WORSE * max(certificate.noise, 1e-30)

    def fits(U):
        try:
            found = descend(features, theta, U, False, min(tol, certificate.noise), 50, patience=(5, 0.5)).point
        except StepError:
            return None
        return found if found.loss <= tol else None

    for row in sorted(weak, key=lambda i: float(certificate.costs[i]))[:_TRIED]:
        point = fits(X[[k for k in range(len(X)) if k != row]])
        if point is not None:
            return Flag.SPARE if point.loss <= noise else Flag.BELOW, row, point
    cosines = X @ X.T / X.shape[1]
    weight = certificate.weights.to(X)
    pairs = [(i, j) for i in weak for j in weak if i < j and abs(float(cosines[i, j])) > _TWINS]
    for i, j in sorted(pairs, key=lambda pair: -abs(float(cosines[pair])))[:_TRIED]:
        U = X.clone()
        U[i] = to_sphere((weight[i] * X[i] + weight[j] * cosines[i, j].sign() * X[j])[None])[0]
        point = fits(U[[k for k in range(len(X)) if k != j]])
        if point is not None:
            return Flag.DUPLICATE, j, point
    return None


def _linear_reach(features, X):
    r"""(n,): how far from each sample, relative to its norm, Φ is linear along some line through it.

    Two samples within that distance can be one to θ, a₁φ(Vu₁) + a₂φ(Vu₂) = φ(V(a₁u₁ + a₂u₂)). Where φ bends it is 0.
    """
    generator = seeded_generator("reach", 0)
    lines = torch.randn(_LINES, 1, X.shape[1], device="cpu", generator=generator, dtype=torch.float64).to(X)
    lines = lines - X * ((lines * X).sum(2, keepdim=True) / X.square().sum(1, keepdim=True))
    lines = lines * (X.norm(dim=1, keepdim=True) / lines.norm(dim=2, keepdim=True).clamp_min(1e-300))
    reach, Phi, dtype = torch.zeros(len(X), device="cpu", dtype=torch.float64), features.apply(X), X.dtype
    size = features.norms(Phi).clamp_min(1e-300)
    for k in range(_HALVINGS):
        ahead, behind = (
            features.apply((X + sign * lines / 2**k).flatten(0, 1)).unflatten(0, (_LINES, len(X))) for sign in (1, -1)
        )
        bend = features.norms((ahead + behind - 2 * Phi).flatten(0, 1)).unflatten(0, (_LINES, len(X))) / size
        straight = (bend < 100 * torch.finfo(dtype).eps).any(0).cpu()
        reach = torch.where(straight & (reach == 0), 2.0**-k, reach)
    return reach


def _other_roads(features, theta, X, asked, tol, run, seed):
    """(n,) bool: the rows that every other road ended at; and whether some road ended without one of ``asked``.

    No row counts as such before enough roads arrived.
    """
    search = Search(features, theta, len(X), run, seed, "random", tol)
    search.generator = seeded_generator("roads", seed)
    there, arrivals = torch.ones(len(X), dtype=torch.bool, device="cpu"), 0
    most = run.steps + max(_ROAD_STEPS, run.steps)
    for _ in range(_ROADS):
        if run.expired or run.steps > most or arrivals == _ARRIVALS or not bool((there & asked).any()):
            break
        try:
            end = search.descend(search._random_atoms(len(X)), record=False)
            point, _ = search.signed(end.U.to(theta))
        except StepError:
            continue
        if point.loss <= tol:
            arrivals += 1
            there &= (_distance(X, point.U, features.parity).amin(1) < _SAME).cpu()
    return there & (arrivals == _ARRIVALS), bool((asked & ~there).any())


def _distance(X, Y, parity):
    """Relative distances of the rows of X from those of Y, up to sign where no method tells it."""
    return distances(X, Y, parity) / X.shape[1] ** 0.5
