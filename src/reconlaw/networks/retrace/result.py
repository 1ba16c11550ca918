r"""What came of a retrace, and what may be claimed of it.

Three things are asked before "recovered" is said, none of which needs the truth:

- *mismatch*: ‖θ − θ_sim‖/‖θ‖ is what rounding leaves;
- *held*: no move of samples, free labels and unknown numbers leaves θ_sim as it is, to first order: the derivative J
  has full rank, and every standard error √(σ² (JᵀJ)⁻¹) is below half a hundredth of its sample;
- *spare*: θ has more independent numbers than there are unknowns, so that a solution is no accident. They are counted
  as the rank of J at the solution and at a point nearby together, and no more than move at the solution: a neuron
  that no sample reaches says little, and where ReLU is linear θ has fewer than elsewhere. A sample that rests on a
  number that no other checks is ambiguous, and so is one that has none to spare by itself: at the point nearby it moves
  θ along no direction that J does not know. One neuron alone may reach it, and two values of that may give θ back.

Then other sets are looked for, by descents from the solution with one sample elsewhere (``retrace/elsewhere.py``).
Where φ is even, or odd and labels are free, −x trains as x does. So every sample, and all together, are mirrored: what
θ does not tell from its mirror image is recovered up to sign. Where the mismatch is above rounding it is no noise of
many numbers, but may all lie along one sample's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ..._checks import check_positive
from ..._random import seeded_generator
from ..._words import many
from ...attack.examine import RECOVERED, flag_of
from ...attack.result import Flag, Status
from .elsewhere import displaced, others

# Where the other point lies, in root mean squares of a coordinate: near, so that neurons stay on or off, and so many
# times farther than a derivative's precision can tell.
_ASIDE, _TOLD = 1e-5, 30.0
_DIGITS = 0.6  # of a derivative's precision: below it to this power, a singular value is none
_NEAR = 0.05  # mismatch above which J says nothing of the samples
_OWN, _TAKES_PART = 1e-6, 1e-3  # leverage of an unchecked number is so near 1; share of its largest move that counts
_LOOSE = 1e-6  # share of an unknown in what J does not see


def check_tolerance(tol: float | None, observed: Sequence[torch.Tensor]) -> float:
    """``tol``, or the mismatch that rounding leaves in the weights that were observed; nothing else comes so near."""
    wide = all(t.dtype == torch.float64 for t in observed)
    return check_positive("tol", (1e-9 if wide else 1e-5) if tol is None else tol)


@dataclass(eq=False)
class Retrace:
    r"""How a retrace ended.

    Attributes:
        X: (n, d) samples.
        y: labels: those of the candidates that came nearest, or the free ones as they were fitted.
        numbers: the unknown numbers, by name.
        number_errors: relative standard errors of those; infinite where samples, labels and the other numbers can make
            up for it, so that it is not determined, or the mismatch is above 5 %.
        chosen: of ``choices``, what came nearest.
        rivals: other choices that give θ back as well, from the solution on: which of them it was is not determined.
        mismatch: ‖θ − θ_sim‖/‖θ‖ at X; of several tensors the root mean square of theirs.
        history: mismatch before the first Gauss–Newton step and after each, of the start that came nearest.
        road: "deferred correction", "Gauss–Newton" or, of :func:`reconlaw.retrace_adam`, "columns".
        status: a :class:`~reconlaw.attack.result.Status`.
        flags: of each sample, a :class:`~reconlaw.attack.result.Flag`.
        standard_errors: (n,) relative, by the residual and J; infinite where J does not hold the sample, or the
            mismatch is above 5 %.
        equations: independent numbers of θ that move at X, as far as they were counted, to at most twice the unknowns;
            0 where the mismatch is above 5 %.
        unknowns: coordinates off their bounds, free labels and numbers.
        smallest: smallest over largest singular value of J.
        message: in words.
        steps: Gauss–Newton steps of all starts, and of the looking for others.
        seconds: time spent.
        others: other sets (n, d) that give θ back as well, found from X with one sample mirrored, of another length or
            drawn anew; samples of X that are not in all of them are ambiguous. None found is no proof that there is
            none. Not looked for by :func:`reconlaw.retrace_adam`.
    """

    X: torch.Tensor
    y: Any
    numbers: dict[str, float]
    number_errors: dict[str, float]
    chosen: dict[str, Any]
    rivals: list[dict[str, Any]]
    mismatch: float
    history: list[float]
    road: str
    status: Status
    flags: tuple[Flag, ...]
    standard_errors: torch.Tensor
    equations: int
    unknowns: int
    smallest: float
    message: str
    steps: int
    seconds: float
    others: list[torch.Tensor] = field(default_factory=list)

    def __repr__(self):
        return f"Retrace({many(len(self.X), 'sample')}, {self.message})"


def result_of(recipe, fit, inputs, tol, run, spent, max_steps, road, recipes, rivals=(), look=True) -> Retrace:
    """The result, with its certificate; ``recipes`` are those of all labels and choices, ``rivals`` choices that give
    θ back from other samples, or the same; with ``look`` other sets are looked for."""
    n, k = recipe.shape
    with torch.no_grad():
        X, y, _ = recipe.arguments(fit.q)
    logs = fit.q[len(fit.q) - len(recipe.names) :]
    numbers = {name: float(v.exp()) for name, v in zip(recipe.names, logs, strict=True)}
    errors = torch.full((n,), math.inf, dtype=torch.float64, device="cpu")
    equations, unknowns, smallest = 0, len(fit.q), 0.0
    unchecked = mirrored = torch.zeros(n, dtype=torch.bool, device="cpu")
    beside = torch.full((len(fit.q) - n * k,), math.inf, dtype=torch.float64, device="cpu")
    if fit.mismatch <= max(tol, _NEAR):
        errors, beside, equations, unknowns, smallest, unchecked = _certificate(recipe, fit, inputs)
    spread = errors / X.reshape(n, -1).norm(dim=1).clamp_min(1e-300).cpu()
    number_errors = dict(zip(recipe.names, beside[len(beside) - len(recipe.names) :].tolist(), strict=True))
    open_ = [name for name, e in number_errors.items() if not math.isfinite(e)]
    if not bool(torch.isfinite(beside[: len(beside) - len(recipe.names)]).all()):
        open_.append("labels")
    open_ += sorted({name for choice, _ in rivals for name in choice if choice[name] != recipe.fixed[name]})
    for _, other in rivals:
        unchecked = unchecked | ((other - X).norm(dim=1) > RECOVERED * X.norm(dim=1)).cpu()
    fits, held, spare = fit.mismatch <= tol, bool(torch.isfinite(spread).all()), equations > unknowns
    if fits and held and spare:
        mirrored = _mirrored(recipes, fit, inputs, max(tol, 2 * fit.mismatch))
    sets: list[torch.Tensor] = []
    cut_short = False
    if look and fits and held and spare:
        try:
            sets, steps = others(recipe, fit, inputs, tol, mirrored, RECOVERED, max_steps, lambda: run.expired)
            spent += steps
        except KeyboardInterrupt:
            run.interrupt()
        cut_short = run.expired
    for other in sets:
        unchecked = unchecked | displaced(X, other, mirrored, RECOVERED)
    flags = tuple(
        Flag.AMBIGUOUS
        if fits and held and spare and unchecked[i]
        else _flag(float(e), fits and held and spare and not cut_short, mirrored[i])
        for i, e in enumerate(spread)
    )
    if fits and not held:
        status = Status.NOT_DETERMINED
    elif fits and not spare:
        status = Status.AMBIGUOUS
    elif fits and cut_short:
        status = Status.INTERRUPTED if run.interrupted else Status.BUDGET_SPENT
    elif fits:
        known = [flag in (Flag.RECOVERED, Flag.UP_TO_SIGN) for flag in flags]
        status = Status.RECOVERED if all(known) else Status.IN_PART if any(known) else Status.AMBIGUOUS
    elif run.interrupted:
        status = Status.INTERRUPTED
    else:
        status = Status.BUDGET_SPENT if spent >= max_steps or run.spent else Status.STALLED
    why = {
        Status.RECOVERED: "the recipe gives θ back, and θ holds every sample"
        + (", up to sign: mirrored they give it back as well" if bool(mirrored.any()) else ""),
        Status.IN_PART: "the recipe gives θ back, and θ holds some samples",
        Status.NOT_DETERMINED: "the recipe gives θ back, but samples can move without changing θ",
        Status.AMBIGUOUS: f"the recipe gives θ back, but no more than {equations} numbers of θ are independent, for "
        f"{unknowns} unknowns"
        if not spare
        else "not unique: from one sample moved elsewhere the recipe gives θ back as well, see others"
        if sets
        else "the recipe gives θ back, but θ holds no sample to half a hundredth",
        Status.INTERRUPTED: "best so far",
        Status.BUDGET_SPENT: "best so far; raise max_steps or max_seconds",
        Status.STALLED: f"{fit.ended or 'it came no nearer'}; try more starts, another recipe, or other labels",
    }[status]
    if sets and status is Status.IN_PART:
        why += ", and another set gives it back as well, see others"
    if cut_short:
        why = "the recipe gives θ back, but whether other sets do was not asked to the end; raise max_seconds"
    if fits and open_:
        why += f"; not determined: {', '.join(open_)}, because something else can make up for it"
    return Retrace(
        X=X.detach(),
        y=y.detach() if isinstance(y, torch.Tensor) else y,
        numbers=numbers,
        number_errors=number_errors,
        chosen=dict(recipe.fixed),
        rivals=[choice for choice, _ in rivals],
        others=sets,
        mismatch=fit.mismatch,
        history=fit.history,
        road=road,
        status=status,
        flags=flags,
        standard_errors=spread,
        equations=equations,
        unknowns=unknowns,
        smallest=smallest,
        message=f"{status.value} at a mismatch of {fit.mismatch:.1e} after {many(spent, 'step')}: {why}",
        steps=spent,
        seconds=run.seconds,
    )


def _flag(error, fits, mirrored):
    if not fits:
        return Flag.UNRESOLVED
    return flag_of(error, Flag.UP_TO_SIGN if mirrored else Flag.RECOVERED)


def _mirrored(recipes, fit, inputs, tol):
    """(n,) bool: samples that give θ back with the other sign as well, alone or all together, whatever the labels."""
    n, k = recipes[0].shape
    made = torch.zeros(n, dtype=torch.bool, device="cpu")
    if inputs.decoder(recipes[0].d) is not None:
        return made
    U, rest = fit.q[: n * k].reshape(n, k), fit.q[n * k :]
    free = recipes[0].y.numel() if recipes[0].free else 0
    for rows in [*([i] for i in range(n)), list(range(n))]:
        V, y = U.clone(), rest[:free].clone()
        V[rows] = -V[rows]
        if float((inputs.retract(V) - V).norm()) > 1e-9 * float(V.norm()):
            continue
        labels = [y]
        if free and free % n == 0:
            turned = y.reshape(n, -1).clone()
            turned[rows] = -turned[rows]
            labels.append(turned.flatten())
        vectors = [torch.cat([V.flatten(), one, rest[free:]]) for one in labels]
        if any(float((one(q) - one.goal).detach().norm()) <= tol for one in recipes for q in vectors):
            made[rows] = True
    return made


def _certificate(recipe, fit, inputs):
    """Standard errors of samples and of what is unknown beside them, independent equations, unknowns, smallest over
    largest singular value, and who is unchecked."""
    n, k = recipe.shape
    U = fit.q[: n * k].reshape(n, k)
    bases = _bases(U, inputs)
    J = _moves(recipe, fit.q, bases)
    precision = recipe.eps if recipe.way else recipe.eps ** (2 / 3)  # a derivative's, by differences
    cut = precision**_DIGITS
    sizes = J.norm(dim=0).clamp_min(torch.finfo(J.dtype).tiny)
    W, s, V = torch.linalg.svd(J / sizes, full_matrices=False)
    unknowns = J.shape[1]
    held = s > cut * s[0]
    smallest = float(s[unknowns - 1] / s[0]) if len(s) == unknowns else 0.0
    rounding = fit.mismatch <= recipe.eps**0.5
    noise = max(float(fit.residual.square().sum()), recipe.eps**2) / max(1, len(J) - unknowns if rounding else 1)
    spread = (V[held] / s[held, None]).T / sizes[:, None]  # of the unknowns, for residuals of unit variance
    loose = 1 - V[held].square().sum(0)  # how far each unknown takes part in what J does not see
    own = W[:, held].square().sum(1) > 1 - _OWN
    moves = spread @ W[own][:, held].T  # of each unknown, as a number moves that no other checks
    errors, moved, at = [], [], 0
    for u, (basis, rows) in zip(U, bases, strict=True):
        at = rows.stop
        moved.append((basis @ moves[rows]).norm(dim=0))
        inner = basis @ spread[rows]
        if inputs.decoder(recipe.d) is not None:
            inner = torch.func.jacfwd(lambda u: recipe.decode(u[None])[0])(u) @ inner
        errors.append(math.inf if bool((loose[rows] > _LOOSE).any()) else float(inner.norm()) * noise**0.5)
    beside = torch.where(loose[at:] > _LOOSE, math.inf, spread[at:].norm(dim=1) * noise**0.5).double().cpu()
    generator = seeded_generator("recipe", 1)
    size = float(U.square().mean().sqrt()) or 1.0
    aside = torch.randn(n, k, generator=generator, dtype=torch.float64, device="cpu").to(U)
    V = inputs.retract(U + max(_ASIDE, _TOLD * cut) * size * aside)
    other = _moves(recipe, torch.cat([V.flatten(), fit.q[n * k :]]), _bases(V, inputs))
    both = torch.cat([J, other], 1) if bool(torch.isfinite(other).all()) else J
    s = torch.linalg.svdvals(both / both.norm(dim=0).clamp_min(torch.finfo(J.dtype).tiny))
    sizes = (J / sizes).norm(dim=1)
    equations = min(int((s > cut * s[0]).sum()), int((sizes > cut * sizes.max()).sum()))
    by = torch.stack(moved)
    unchecked = (by > _TAKES_PART * by.amax(0)).any(1).cpu()
    if both is not J:
        new = other / other.norm(dim=0).clamp_min(torch.finfo(J.dtype).tiny)
        new = (new - W[:, held] @ (W[:, held].T @ new))[sizes > cut * sizes.max()]
        none = [basis.shape[1] > 0 and float(new[:, rows].norm()) <= cut for basis, rows in bases]
        unchecked |= torch.tensor(none, device="cpu")
    return torch.tensor(errors, dtype=torch.float64, device="cpu"), beside, equations, unknowns, smallest, unchecked


def _bases(U, inputs):
    """For each sample the columns along which it may move, (k, unknowns), and which of all unknowns these are."""
    together = inputs.moves(U)
    if together is not None:
        return [(part, slice(0, together.shape[1])) for part in together.split(U.shape[1])]
    made, at = [], 0
    for u in U:
        basis = _basis(u, inputs)
        made.append((basis, slice(at, at := at + basis.shape[1])))
    return made


def _basis(u, inputs):
    """Orthonormal columns along which one sample may move: (k, unknowns of it)."""
    eye = torch.eye(len(u), dtype=u.dtype, device=u.device)
    if inputs.bounds(u[None]) is not None:
        return eye[:, ~inputs.active(u[None])[0]]
    along = inputs.tangent(u.expand(len(u), -1), eye)
    if torch.equal(along, eye):
        return eye
    values, vectors = torch.linalg.eigh((along + along.T) / 2)
    return vectors[:, values > 0.5]


def _moves(recipe, q, bases):
    """J along the moves of samples, and of free labels and numbers."""
    n, k = recipe.shape
    J = recipe.jacobian(q)
    made = J.new_zeros(len(J), bases[-1][1].stop)
    for i, (basis, unknowns) in enumerate(bases):
        made[:, unknowns] += J[:, i * k : (i + 1) * k] @ basis
    return torch.cat([made, J[:, n * k :]], 1)
