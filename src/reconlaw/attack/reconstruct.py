"""The attack: from a parameter vector and the feature map to the training samples."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from numpy.typing import ArrayLike

from .._checks import as_tensor, check_count, check_moved, check_positive, in_range
from .._precision import full_precision
from .._words import many
from ..features.budget import RANK, Budget, within
from ..features.feature_map import FeatureMap
from ..features.gram import as_step
from ..features.threads import one_thread
from ..inputs import Inputs, Sphere
from ..inputs.sphere import domain_of
from ..sphere import to_sphere
from . import search, sgd, span, sparse
from .coordinates import decoded, homogeneous, through
from .count import count, independent_rows
from .examine import examine, unexamined
from .fingerprint import fingerprint
from .grid import on_grid
from .message import message_of, status_of
from .projection import Projection
from .result import Flag, Result
from .run import Run, wall_clock
from .settled import settled
from .subspace import explains, rounding_loss

_METHODS = {"varpro": search.solve, "sgd": sgd.solve, "sparse": sparse.solve, "span": span.solve}
# Losses that only a solution reaches: far below any local minimum, above the floor of the arithmetic.
_TOLERANCE = {torch.float64: 1e-20, torch.float32: 1e-10}


@full_precision()
@one_thread()
def reconstruct(
    theta: ArrayLike,
    features: FeatureMap,
    n: int | None = None,
    method: str = "varpro",
    seed: int = 0,
    max_seconds: float | None = 60.0,
    tol: float | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike | None = None,
    max_steps: int | None = None,
    clock: Callable[[], float] | None = None,
    inputs: Inputs | None = None,
    **options: Any,
) -> Result:
    r"""Training samples X̂ whose features span θ: minimises L(X̂) = ‖P⊥θ‖²/‖θ‖².

    The threat model: the attacker has θ = θ* − θ₀, the feature map (V, φ) and n; never X or y. Score the outcome
    elsewhere (:func:`reconlaw.match`).

    Args:
        theta: (p,) or (K, p), what training added to the parameters.
        features: the feature map that was trained on.
        n: number of training samples, 1 ≤ n ≤ p; None for "sparse", which estimates it.
        method: "varpro", the parity-lifted variable projection (:mod:`reconlaw.attack.search`; option
            ``start="spectral"`` or ``"random"``); "sgd", the paper's algorithm (:mod:`reconlaw.attack.sgd`; options
            ``learning_rate``, ``leak``); or "sparse", for unknown n, ℓ2–ℓ1
            on the sphere (:mod:`reconlaw.attack.sparse`; option ``l1``) and elsewhere one atom more at a time
            (:mod:`reconlaw.attack.growing`); or "span", one sample at a time where θ has as many
            independent rows as there are samples (:mod:`reconlaw.attack.span`), which counts them, too; its option
            ``jobs`` spreads the starts over processes, as :func:`reconlaw.sweep` does its cells.
        seed: of the attacker's random draws; its stream is never that of the data or of V.
        max_seconds: budget of this call, looked at within long steps too; what was best so far comes back when it is
            spent. None for no limit: then the outcome does not depend on the speed of the machine.
        tol: loss at which the run has converged; None for 1e-20 in float64 and 1e-10 in float32, 1e-7 for "sgd", or for
            what rounding leaves of a θ whose entries show a lower precision, where that is more; on the sphere 1e-10 at
            most.
        progress: show a progress bar on stderr.
        checkpoint: a file to resume from where it exists, and to write to every few seconds and at the end; a symbolic
            link is followed, and a file that is no checkpoint is refused, never replaced.
            On the sphere a resumed call goes on along the very road, so that in the end it returns what one call would
            have (``attack/road.py`` has the exceptions); "span", and "varpro" and "sparse" in other domains, go
            on from the best so far. The steps of earlier calls count.
        max_steps: budget of work, of all calls on one checkpoint together: a step is a pass through the features there
            and back for each of the n atoms, whatever it is made for (:mod:`reconlaw.features.passes`). None for no
            limit, of "sgd" the paper's 10⁶. With ``max_seconds=None`` the same seed gives the same X̂ to the last bit on
            one machine, however busy; where roundings differ the road may, and what a converged run returns agrees to
            them. It is looked at between steps, so ``Result.steps`` can exceed it: by a whole spectral start or
            the starts of a path, which can take hundreds, by one long step, and by what examines the samples found.
        clock: gives the seconds of ``max_seconds`` and of the history: ``time.process_time`` does not count what other
            programs take; a clock of the wall where None. Several threads may call it.
        inputs: where the samples live, one of :mod:`reconlaw.inputs`; the sphere of radius √d where None. Bodies with
            biases see norms, so for them it must be right: pixels in a box, say.
        options: of the method.

    Returns:
        :class:`Result`. Ctrl-C ends the run early and returns the best so far.

    Raises:
        ValueError, TypeError: what is wrong with an argument, and what to do.
        CheckpointError: the checkpoint is corrupt, of another problem, or cannot be written.
        SpanError: the features of any n candidates are linearly dependent.
        StepError: not one step could be computed, for want of memory say. Once a step is made, later ones that fail
            are refused: what was best so far comes back, and the message says so.

    Source: Iurada et al., arXiv 2509.22214, for the loss and "sgd".
    """
    if method not in _METHODS:
        raise ValueError(f"method={method!r} is unknown; use one of {', '.join(map(repr, _METHODS))}")
    if isinstance(features, torch.nn.Module):
        raise TypeError("features is a torch.nn.Module; pass reconlaw.ModuleFeatures(module, input_shape)")
    if not isinstance(features, FeatureMap):
        raise TypeError(f"features is a {type(features).__name__}; pass theta first, then the feature map")
    known = [name for name, p in inspect.signature(_METHODS[method]).parameters.items() if p.default is not p.empty]
    for name in options:
        if name not in known:
            raise TypeError(f"{name!r} is no option of method={method!r}; it has {', '.join(known)}")
    vector = as_tensor(theta).ndim == 1
    theta = check_moved(features.check_theta(theta).detach())
    if n is None and method not in ("sparse", "span"):
        raise ValueError(
            f"method={method!r} needs n, the number of training samples; method='sparse' and 'span' estimate it"
        )
    n = None if n is None else check_count("n", n)
    T = features.positions
    if n is not None and T == 1 and n > features.p:
        raise ValueError(f"n={n} exceeds p={features.p}: the span of n features is everything; nothing can be read out")
    if n is not None and T > 1 and n * T >= features.p:
        raise ValueError(
            f"the count is empty: {many(n, 'sample')} of T = {T} columns each (tokens, patches) are {n * T}, and span "
            f"all of the p = {features.p} dimensions that the layer sees; nothing can be read out of its change"
        )
    if T > 1 and method == "sparse":
        raise ValueError(f"method='sparse' takes one column a sample, these have {T}; pass n, or use method='span'")
    inputs = domain_of(inputs)
    if features.divided and (method != "varpro" or type(inputs) is not Sphere):
        raise ValueError(
            f"method={method!r} with {inputs!r} does not add over parameters that processes divide; sharded features "
            "take method='varpro' on the sphere"
        )
    over = through(features, inputs)
    max_steps = None if max_steps is None else check_count("max_steps", max_steps, minimum=0)
    how = method if type(inputs) is Sphere else f"{method} in {inputs!r}"
    problem = {} if checkpoint is None else fingerprint(theta, over, n, how, seed)
    theta, unit = in_range(theta)
    if tol is None:
        tol = 1e-7 if method == "sgd" else _TOLERANCE[theta.dtype]
        # On the sphere no looser than of features in float32: at coarser roundings few equations tell wrong samples.
        most = _TOLERANCE[torch.float32] if isinstance(inputs, Sphere) else math.inf
        tol = max(tol, min(rounding_loss(theta), most))
    tol = check_positive("tol", tol)
    with as_step():
        rows, turn = independent_rows(theta)
    compressed = len(rows) < len(theta)
    theta = features.here(rows if compressed else theta)
    if features.divided and (max_seconds is not None or checkpoint is not None):  # else no decision rests on it
        clock = partial(features.once, clock or wall_clock)
    limits: dict[str, Any] = {"max_steps": max_steps, "samples": n or 1, "clock": clock, "once": features.once}
    run = Run(max_seconds, progress, checkpoint, problem, **limits)
    # Within a step processes work in blocks of their own number, between which they cannot agree on the time.
    budget = Budget(lambda: math.inf if features.divided else run.left)
    try:
        # The attack differentiates, in whatever mode its caller is.
        with run.working(), within(budget), torch.inference_mode(False):
            found = _METHODS[method](over, theta.clone(), n, run, seed, tol, inputs, **options)
            point, sign_identifiable, interrupted, *path = found
            exact = None
            if not isinstance(inputs, Sphere) and point.loss <= tol:
                point = settled(over, theta, point, inputs, run)
            if inputs.levels is not None:
                point, exact = on_grid(over, theta, point, inputs, tol)
    finally:
        run.close()
    U, unknowns, note, sphere = point.U, inputs.unknowns(features.d), "", isinstance(inputs, Sphere)
    converged, where = point.loss <= tol, over
    if not sphere:
        converged = converged and explains(over, theta, U, tol)
        note = "" if converged else f"; the samples may also lie outside {inputs!r}"
        if not inputs.latent() and homogeneous(features, decoded(over, U)):
            X, unknowns, sphere, where = to_sphere(decoded(over, U)), unknowns - 1, True, features
            point = Projection(features, theta, X)
            note += "; the features of 2x are those of x times a number, so no norm can be told: rows are directions"
    with within(budget):
        try:
            counted = count(over, len(U), len(theta), unknowns)
        except KeyboardInterrupt:
            interrupted = True
            run.interrupt()  # now it goes unmeasured
            counted = count(over, len(U), len(theta), unknowns)
    uncounted = counted.enough and RANK in budget.given_up
    for name in sorted(budget.given_up):
        run.remarks.append(f"{name} did not fit into the time or the memory, and the run went on without")
    examined = unexamined(point)
    if converged and counted.enough and not uncounted:
        try:
            with run.working(), within(budget if features.divided else run.closing()), torch.inference_mode(False):
                domain = Sphere() if sphere else inputs
                examined = examine(where, theta, point, tol, run, seed, domain, unknowns)
        except KeyboardInterrupt:
            interrupted = True
            run.interrupt()
    if exact is not None:
        told = [converged and flag in (Flag.RECOVERED, Flag.UP_TO_SIGN, Flag.ROUGH) for flag in examined.flags]
        doubts = exact.new_full(exact.shape, torch.inf) if examined.doubts is None else examined.doubts.to(exact)
        exact = (exact > 0) & (exact >= doubts) & torch.tensor(told, device=exact.device)
    alpha = examined.alpha @ turn.T if compressed else examined.alpha
    for step in path[0] if path else ():
        step["lambda"] *= unit
    determined: bool | None = counted.enough
    if determined and (converged or uncounted):
        determined = None if uncounted else examined.determined
    status = status_of(counted, examined, converged, interrupted, bool(run.spent))
    return Result(
        X=decoded(where, examined.X),
        latent=examined.X if inputs.latent() else None,
        exact=exact,
        segments={row: decoded(over, ends) for row, ends in run.segments.items()} or None,
        at_bounds=None if inputs.bounds(U) is None else inputs.active(U),
        coefficients=_by_sample(alpha[:, 0] if vector else alpha, T) * unit,
        loss=examined.loss,
        history=run.history,
        converged=converged,
        determined=determined,
        sign_identifiable=sign_identifiable if counted.enough else False if sign_identifiable is False else None,
        message=message_of(status, counted, uncounted, examined, tol, run) + note,
        seconds=run.seconds,
        steps=run.steps,
        method=method,
        path=path[0] if path else None,
        status=status,
        flags=examined.flags,
        standard_errors=examined.errors,
    )


def _by_sample(alpha, T):
    """Coefficients (T·n, …) as (n, T, …); as they are of one column a sample."""
    return alpha if T == 1 else alpha.unflatten(0, (T, -1)).transpose(0, 1)
