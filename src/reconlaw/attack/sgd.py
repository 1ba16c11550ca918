r"""``method="sgd"``: the paper's algorithm, gradient descent with momentum on the projection loss.

X̂ starts from N(0, I), its rows put at norm √d; a step is v ← βv + ∂L/∂X̂, X̂ ← X̂ − ηv with β = 0.9, and puts the rows
back there; it ends at L ≤ 1e-7. For ReLU the backward pass uses slope 1 where active and ``leak`` elsewhere.

An iteration is a step of ``max_steps``: one pass there, one back (:mod:`reconlaw.features.passes`).

Source: Iurada et al., arXiv 2509.22214: η = 20 at d = 100, n = 20 and 2000 for CIFAR-10, up to 10⁶ steps, leak 0.02.
"""

from __future__ import annotations

import torch

from .._checks import check_positive
from .._random import seeded_generator
from ..features.activations import get_activation
from ..features.gram import StepError, as_step
from ..inputs import Box, Sphere
from ..sphere import draw
from .projection import Projection, least_squares
from .run import Run

_MOMENTUM = 0.9
_RECORD_EVERY = 10
_MOST_STEPS = 1_000_000


def solve(features, theta, n, run: Run, seed, tol, inputs, learning_rate=None, leak=0.02):
    """Descend within the run's budget; see :func:`reconlaw.reconstruct`.

    Args:
        learning_rate: η; 4d/n where None, which is the paper's 20 at d = 100, n = 20, but at most nd/8: the curvature
            along an atom is about 2/(nd), and with few atoms 4d/n overshoots it.
        leak: backward slope of ReLU where inactive; 0 gives the true gradient.

    Raises:
        ValueError: an option outside its range.
        SpanError: the features of the start are linearly dependent.
    """
    if not isinstance(inputs, Sphere | Box):
        raise ValueError(f"method='sgd' knows the sphere and boxes; {inputs!r} needs method='varpro' or 'span'")
    if learning_rate is None:
        learning_rate = features.d * min(4 / n, n / 8)
    eta = check_positive("learning_rate", learning_rate)
    leak = check_positive("leak", leak, allow_zero=True)
    if run.max_steps is None:
        run.max_steps = _MOST_STEPS
    derivative = None
    if features.activation == get_activation("relu") and leak > 0:

        def derivative(Z):
            return torch.where(Z > 0, 1.0, leak).to(Z.dtype)

    if "X" in run.state:
        X, velocity, step = run.state["X"].to(theta), run.state["velocity"].to(theta), run.state["step"]
        run.passes.made = run.state["passes"]
    else:
        generator, step = seeded_generator("attack", seed), 0
        sphere = isinstance(inputs, Sphere)
        X = draw(n, features.d, generator, theta) if sphere else inputs.starts(n, features.d, generator).to(theta)
        velocity = torch.zeros_like(X)
    interrupted = False
    try:
        while True:
            passes = run.passes.made
            point = Projection(features, theta, X, derivative=derivative)
            done = point.loss <= tol or run.expired
            if done or step % _RECORD_EVERY == 0:
                run.state = {"X": X.cpu(), "velocity": velocity.cpu(), "step": step, "passes": passes}
                if run.record(X, point.loss, f"step {step}") or done:
                    break
            with as_step():
                velocity = _MOMENTUM * velocity + point.gradient()
            X = inputs.retract(X - eta * velocity)
            step += 1
    except (KeyboardInterrupt, StepError) as error:  # SpanError: too large a step threw the atoms together, or away
        if run.best is None:
            raise
        interrupted = isinstance(error, KeyboardInterrupt)
        if not interrupted:
            run.remark("the descent ended because its next step could not be computed", error)
    best = X if run.best is None else run.best.to(theta)
    try:
        point = Projection(features, theta, best)
    except StepError as error:
        run.remark("the coefficients could not be computed as usual", error)
        point = least_squares(features, theta, best)
    if features.parity != "mixed":
        return point, False, interrupted
    return point, True if point.loss <= tol else None, interrupted
