r"""Samples through a known recipe: what the training did is run again on candidates, and corrected until θ comes out.

Mini-batches, dropout masks, batch normalisation in training mode, Adam and mixed precision put the change of a layer
outside the span of fixed features. But the attacker who knows the recipe can run it: a function ``train`` from samples
and labels to the trained layer. The data are among the solutions of

    θ_sim(X̂) = θ,

and two roads lead there. *Deferred correction*, where features are given that nearly span θ: take what a replay leaves
off the span of the candidates' features out of θ, and fit the rest; it needs no derivative, and contracts where the
recipe moves little. *Gauss–Newton* on ‖θ − θ_sim(X̂)‖, through the recipe itself. The mismatch ‖θ − θ_sim‖/‖θ‖ judges
both, without the truth. Where a descent ends above θ, it goes on from other orders of the samples and from kicks
(``retrace/hops.py``). A head that Adam trained has kinks in the way of the second; :func:`retrace_adam` goes round
them, column by column.

Sources: Fox (1947), Pereyra (1966) for deferred correction; for attacks that simulate training, SimuDy (ICLR 2025).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ..._checks import as_tensor, check_count, check_finite, check_moved, check_positive
from ..._precision import full_precision
from ..._random import seeded_generator
from ...attack.run import Run
from ...features.feature_map import FeatureMap
from ...inputs import Affine, Inputs, Sphere
from ...inputs.sphere import domain_of
from ..replay import corrected
from .adam import Adam
from .fit import begin, descend
from .head import retrace_adam
from .hops import hops, in_order
from .recipe import Recipe, trained
from .result import Retrace, check_tolerance, result_of

__all__ = ["Adam", "Retrace", "retrace", "retrace_adam"]

_FIRST = 8  # steps that each start is given; the best third go on
_HOP, _LOWER = 12, 0.95  # steps after a hop, and what they must bring the mismatch to, of what it was


@full_precision()
def retrace(
    theta: torch.Tensor | Sequence[torch.Tensor],
    train: Callable[..., Any],
    X: torch.Tensor | tuple[int, int],
    y: Any = None,
    inputs: Inputs | None = None,
    features: FeatureMap | None = None,
    free_labels: bool = False,
    numbers: Mapping[str, float] | None = None,
    choices: Mapping[str, Sequence[Any]] | None = None,
    starts: int = 8,
    seed: int = 0,
    max_steps: int = 200,
    max_seconds: float | None = None,
    tol: float | None = None,
    progress: bool = False,
    clock: Callable[[], float] | None = None,
) -> Retrace:
    r"""Samples X̂ with θ_sim(X̂) = θ, θ_sim the training as it was: least ‖θ − θ_sim(X̂)‖/‖θ‖.

    Args:
        theta: what training left: the trained layer, or its change, as ``train`` returns it; several tensors where it
            returns a tuple (running statistics beside weights), each counting alike.
        train: train(X, y, …) → the same, for X (n, d); train(X, …) where y is None. It must return the same for the
            same arguments, so it seeds its own batches and masks. Its derivative is exact where torch can differentiate
            it twice backward or once forward, else one of differences.
        X: (n, d) samples to start from, of :func:`reconlaw.reconstruct` say; (s, n, d), s starts; or the pair n, d, for
            ``starts`` drawn in the domain. In a family the nearest of it are taken.
        y: labels as ``train`` takes them; a list of such, where they are unknown and each is tried; None for a function
            of X alone.
        inputs: where samples live, one of :mod:`reconlaw.inputs`; the sphere of radius √d where None.
        features: a feature map that nearly spans θ, a tensor, for deferred correction first; samples on the sphere.
        free_labels: y is where unknown real labels start.
        numbers: named arguments of ``train`` that are unknown and positive, and where each starts, as {"rate": 0.1}.
        choices: named arguments that are one of several, as {"steps": [50, 100]}; all combinations are tried.
        starts: drawn, where X is a pair.
        seed: of those draws.
        max_steps: Gauss–Newton steps of all starts and choices together; each costs one derivative. As many again may
            look for other sets of samples, once one gives θ back.
        max_seconds: looked at after each step; None for no limit.
        tol: mismatch that counts as none; 1e-9, or 1e-5 where θ is float32 or less.
        progress: show a bar on stderr.
        clock: as of :func:`reconlaw.reconstruct`.

    Returns:
        :class:`Retrace`; its status is "recovered" where the mismatch is at ``tol``, the derivative holds every sample
        in place, θ has more independent numbers than there are unknowns, and descents from the solution with one
        sample mirrored, of another length or drawn anew do not end at another set; one that does is in ``others``,
        and what it has not in common with ``X`` is ambiguous. Samples whose mirror image gives θ
        back as well are flagged "recovered up to sign". Ctrl-C returns the best so far.

    Raises:
        TypeError, ValueError: what is wrong with an argument; ``train`` returns another shape than θ, something else
            the second time, or the same for all samples.

    Example:
        >>> Phi = lambda X: torch.tanh(X @ torch.linspace(-2, 2, 60, dtype=X.dtype).sin().reshape(3, 20) * 2)
        >>> def train(X, y):
        ...     w = X.new_zeros(20)
        ...     for step in range(3):
        ...         w = w + 0.01 * Phi(X).T @ (y - Phi(X) @ w)
        ...     return w
        >>> X, y = torch.tensor([[1.0, -1.0, 1.0]], dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        >>> found = retrace(train(X, y), train, (1, 3), y)
        >>> found.status.value, bool((found.X - X).norm() < 1e-6)
        ('recovered', True)
    """
    target = [_observed(t) for t in (theta if isinstance(theta, tuple | list) else [theta])]
    if not callable(train):
        raise TypeError(f"train is a {type(train).__name__}; pass a function (X, y) → trained weights")
    inputs = domain_of(inputs)
    max_steps = check_count("max_steps", max_steps)
    tol = check_tolerance(tol, target)
    made, d = _starts(X, inputs, starts, seed, target[0])
    decoder = inputs.decoder(d)
    if features is not None and (len(target) != 1 or type(inputs) is not Sphere or decoder is not None):
        raise ValueError("deferred correction takes theta alone, and samples on the sphere; pass no features")
    decode = (lambda U: U) if decoder is None else decoder.to(made)
    guesses, fixed = _guesses(y, free_labels), _combinations(choices)
    numbers = {name: check_positive(name, value) for name, value in (numbers or {}).items()}
    working = [t.to(made) for t in target]

    def recipe(labels, named):
        shape = (made.shape[1], made.shape[2])
        return Recipe(train, working, decode, shape, labels, free_labels, (*numbers,), named, d)

    def vector(U, labels):
        parts = [U.flatten(), *([labels.to(U).flatten()] if free_labels else [])]
        return torch.cat([*parts, U.new_tensor([math.log(v) for v in numbers.values()])])

    run = Run(max_seconds, progress, clock=clock)
    best, road, spent, tried, recipes, rivals = None, "Gauss–Newton", 0, [], [], []
    try:
        for labels, named in itertools.product(guesses, fixed):
            one = recipe(labels, named)
            one.check(vector(made[0], labels))
            recipes.append(one)
            there = made
            if features is not None:
                there = torch.cat([_by_correction(features, target, train, labels, named, made[0], run)[None], made])
            tried += [(one, begin(one, vector(U, labels))) for U in there]
        tried.sort(key=lambda pair: pair[1].mismatch)
        best = tried[0]
        if features is not None and best[1].mismatch <= tol:
            road = "deferred correction"
        _moves(*best)

        def look(fit):
            nonlocal spent
            spent += 1
            return run.record(fit.q, fit.mismatch, f"step {spent}") or spent >= max_steps

        def over():
            return spent >= max_steps or run.expired or best[1].mismatch <= tol

        def go_on(recipe, fit, most):
            nonlocal best
            if not over():
                descend(recipe, fit, inputs, min(most, max_steps - spent), tol, look)
                best = min(best, (recipe, fit), key=lambda pair: pair[1].mismatch)

        hopping = seeded_generator("hops", seed)
        for i, (one, fit) in enumerate(tried):
            if not over():
                tried[i] = one, in_order(one, fit, inputs, hopping)
                go_on(*tried[i], _FIRST)
        tried.sort(key=lambda pair: pair[1].mismatch)
        for one, fit in tried[: -(-len(tried) // 3)]:
            while fit is not None and not over():
                go_on(one, fit, max_steps)
                fit = _next(one, fit, hops(one, fit, inputs, hopping), go_on, over)
        if best[1].mismatch <= tol:  # down to the floor of rounding
            descend(*best, inputs, 3, 0.0)
            rivals = _rivals(*best, recipes, inputs, tol)
    except KeyboardInterrupt:
        if best is None:
            raise
        run.interrupt()
    finally:
        run.close()
    return result_of(*best, inputs, tol, run, spent, max_steps, road, recipes, rivals)


def _observed(value):
    value = as_tensor(value).detach()
    if not value.is_floating_point():
        raise TypeError(f"theta has dtype {value.dtype}; pass the weights, floating tensors")
    return check_moved(check_finite("theta", value))


def _starts(X, inputs, starts, seed, like):
    """Starts (s, n, k) in coordinates, float64 where the device has it, and d."""
    wide = torch.float32 if like.device.type == "mps" else torch.float64
    if isinstance(X, tuple | list):
        if len(X) != 2:
            raise ValueError(f"X={X!r} must be samples, or the pair n, d for starts that are drawn")
        n, d = check_count("n", X[0]), check_count("d", X[1])
        inputs.check(d)
        k, count = inputs.coordinates(d), check_count("starts", starts)
        drawn = inputs.starts(count * n, k, seeded_generator("attack", seed)).reshape(count, n, k)
        return torch.stack([inputs.retract(one) for one in drawn]).to(like.device, wide), d
    if not isinstance(X, torch.Tensor) or not X.is_floating_point() or X.ndim not in (2, 3) or not X.numel():
        shape = tuple(X.shape) if isinstance(X, torch.Tensor) else type(X).__name__
        raise ValueError(f"X is {shape}; pass (n, d) samples to start from, (s, n, d), or the pair n, d")
    X = check_finite("X", X.detach()).to(like.device, wide)
    X = X[None] if X.ndim == 2 else X
    inputs.check(X.shape[2])
    if isinstance(inputs, Affine):
        X, d = (X - inputs.offset.to(X)) @ torch.linalg.pinv(inputs.basis.to(X)), X.shape[2]
        return torch.stack([inputs.retract(one) for one in X]), d
    if inputs.decoder(X.shape[2]) is not None:
        raise ValueError(f"starts in {inputs!r} are drawn: its coordinates are not the inputs; pass the pair n, d")
    return torch.stack([inputs.retract(one) for one in X]), X.shape[2]


def _guesses(y, free):
    if free:
        if not isinstance(y, torch.Tensor) or not y.is_floating_point():
            raise TypeError("free_labels starts from y; pass a floating tensor of the labels' shape")
        return [y]
    if isinstance(y, list):
        if not y or not all(isinstance(one, torch.Tensor) for one in y):
            raise TypeError("y is a list of what labels may be; pass tensors in it, or one tensor where they are known")
        return y
    return [y]


def _combinations(choices):
    choices = dict(choices or {})
    for name, values in choices.items():
        if not isinstance(values, Sequence) or isinstance(values, str) or not values:
            raise TypeError(f"choices[{name!r}]={values!r} must be a list of what to try")
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


def _by_correction(features, target, train, labels, named, X, run):
    """Samples corrected by replays, those of the round that came nearest."""
    theta = features.check_theta(target[0])

    def simulate(X):
        return features.check_theta(trained(train, X, labels, named)[0].detach())

    with run.working():
        return corrected(theta, features, X.to(theta), simulate, run).X.to(X)


def _next(recipe, fit, others, go_on, over):
    """The first of the others that a descent leads below ``fit``; None where none is."""
    for other in others:
        if over():
            return None
        go_on(recipe, other, _HOP)
        if other.mismatch < _LOWER * fit.mismatch:
            return other
    return None


def _rivals(recipe, fit, recipes, inputs, tol):
    """(choice, samples (n, d)) of every other choice from which a descent, begun at the solution, gives θ back."""
    made = []
    for other in recipes:
        if other.fixed != recipe.fixed and other.y is recipe.y:
            there = descend(other, begin(other, fit.q), inputs, _HOP, tol)
            if there.mismatch <= tol:
                made.append((other.fixed, other.arguments(there.q)[0].detach()))
    return made


def _moves(recipe, fit):
    """Raise where no sample matters to the recipe."""
    n, k = recipe.shape
    if not bool(recipe.jacobian(fit.q)[:, : n * k].any()):
        raise ValueError("train returns the same whatever X is; it must train on the X that it is handed")
