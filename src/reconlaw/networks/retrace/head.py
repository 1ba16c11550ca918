"""Samples out of a head that Adam or AdamW trained on fixed features, the recipe and the labels known."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.functional import one_hot

from ..._checks import check_count, check_finite, check_matrix, check_moved
from ..._precision import full_precision
from ..._random import seeded_generator
from ..._words import many
from ...attack.run import Run
from ...features.feature_map import FeatureMap
from ...inputs import Inputs
from ...inputs.sphere import domain_of
from .adam import Adam
from .by_columns import Columns, rounds, unit
from .fit import begin, descend
from .recipe import Recipe
from .result import Retrace, check_tolerance, result_of

_NEAR = 1e-4  # a mismatch below it is within reach of Gauss–Newton on the whole


@full_precision()
def retrace_adam(
    after: torch.Tensor,
    before: torch.Tensor,
    features: FeatureMap | Callable[[torch.Tensor], torch.Tensor],
    recipe: Adam,
    X: torch.Tensor,
    y: torch.Tensor,
    inputs: Inputs | None = None,
    seed: int = 0,
    max_rounds: int = 30,
    max_steps: int = 20,
    max_seconds: float | None = None,
    tol: float | None = None,
    progress: bool = False,
    clock: Callable[[], float] | None = None,
) -> Retrace:
    r"""Samples X̂ that give the head ``after`` by ``recipe`` from ``before``: first column by column, then as a whole.

    A quarter to a half of ‖θ‖² is off the span of the features after Adam, and θ is nearly a sign, so that descent of
    the mismatch (:func:`reconlaw.retrace`) stops at kinks on its way from class means. But each column of the head is
    one known function of one feature's values on the n samples, see ``retrace/by_columns.py``.

    Args:
        after: W_T, (K, p), with K > 1 outputs trained on the mean cross-entropy of all n samples at every step.
        before: W_0, (K, p).
        features: (n, d) → (n, p), frozen in training; where torch cannot differentiate it, derivatives are differences.
            A head's bias is a feature that is 1.
        recipe: a :class:`reconlaw.networks.Adam`.
        X: (n, d) samples to start from, such as the mean of public pictures of each label.
        y: (n,) integer labels, which must be known, in the order of X. Measured with labels
            that differ; two samples of one label did not come out of either of two problems.
        inputs: where samples live, one of :mod:`reconlaw.inputs` without a decoder; the sphere of radius √d where None.
        seed: of the table of directions.
        max_rounds: by columns; each costs two derivatives of the recipe.
        max_steps: Gauss–Newton steps through the recipe, afterwards.
        max_seconds: looked at after each round and step; None for no limit.
        tol: mismatch that counts as none; 1e-9, or 1e-5 where the weights are float32 or less.
        progress: show a bar on stderr.
        clock: as of :func:`reconlaw.reconstruct`.

    Returns:
        :class:`Retrace`, as :func:`reconlaw.retrace` gives it, with the same certificate; its road is "columns", its
        history begins where the rounds ended, and its steps count rounds and steps. Ctrl-C returns the best so far.

    Raises:
        TypeError, ValueError: what is wrong with an argument.
    """
    if not isinstance(recipe, Adam):
        raise TypeError(f"recipe is a {type(recipe).__name__}; pass reconlaw.networks.Adam(lr, steps)")
    inputs = domain_of(inputs)
    after = check_finite("after", check_matrix("after", after).detach())
    before = check_finite("before", check_matrix("before", before, after.shape[1]).detach())
    if before.shape != after.shape:
        raise ValueError(f"before is {tuple(before.shape)}, after {tuple(after.shape)}; pass one head twice")
    check_moved(after - before.to(after), "after − before")
    wide = torch.float32 if after.device.type == "mps" else torch.float64
    tol = check_tolerance(tol, [after])
    max_rounds, max_steps = check_count("max_rounds", max_rounds), check_count("max_steps", max_steps)
    U = check_finite("X", check_matrix("X", X).detach()).to(after.device, wide)
    n, d = U.shape
    inputs.check(d)
    if inputs.decoder(d) is not None:
        raise ValueError(f"inputs={inputs!r} has coordinates of its own; pass a box, free space or the sphere")
    K, p = after.shape
    if (
        not isinstance(y, torch.Tensor)
        or y.is_floating_point()
        or y.shape != (n,)
        or not 0 <= int(y.min()) <= int(y.max()) < K
    ):
        raise ValueError(f"y must hold {n} integer labels from 0 to {K - 1}, one a row of X")
    Y, W, theta = one_hot(y.to(U.device).long(), K).to(U), before.to(U), after.to(U) - before.to(U)

    def train(X):
        return recipe.train(features(X).to(U), Y, W)[0] - W

    decayed = after.to(U) - recipe.kept * W
    moved = decayed.norm(dim=0) > 1e-9 * decayed.norm()
    if not bool(moved.any()) or features(U).shape != (n, p):
        raise ValueError(
            f"features(X) is {tuple(features(U).shape)}, and {many(n, 'sample')} on {p} features are {(n, p)}"
        )

    def unit_features(X):
        return unit(features(X).to(U)[:, moved].T)

    def errors(X):
        return recipe.train(features(X).to(U), Y, W)[1]

    whole = Recipe(train, [theta], lambda U: U, (n, d), None, False, (), {}, d)
    run, spent, most = Run(max_seconds, progress, clock=clock), 0, max_rounds + max_steps
    U = inputs.retract(U)
    whole.check(U.flatten())
    columns = Columns(
        recipe, decayed[:, moved].T.contiguous(), unit_features, errors, whole.exactly(U.flatten()), whole.block
    )
    best = begin(whole, U.flatten())

    def count(fit, what):
        nonlocal spent
        spent += 1
        return run.record(fit.q, fit.mismatch, f"{what} {spent}")

    def after_round(U):
        nonlocal best
        best = min(best, begin(whole, U.flatten()), key=lambda fit: fit.mismatch)
        return count(best, "round") or best.mismatch <= max(tol, _NEAR)

    try:
        rounds(columns, U, inputs, seeded_generator("attack", seed), max_rounds, after_round)
        if not run.expired:
            descend(whole, best, inputs, max_steps, tol, lambda fit: count(fit, "step"))
        if best.mismatch <= tol:  # down to the floor of rounding
            descend(whole, best, inputs, 3, 0.0)
    except KeyboardInterrupt:
        run.interrupt()
    finally:
        run.close()
    return result_of(whole, best, inputs, tol, run, spent, most, "columns", [whole], look=False)
