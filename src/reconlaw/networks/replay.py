r"""Replay: what features that moved in training leave in θ, by simulating the training on the candidates.

Where all layers are trained, θ = ∫ A(t)ᵀ Φ_t(X) dt with features Φ_t that move, and no fixed features span it: those of
the midpoint leave a floor. But what they leave is a function of the samples alone, since the attacker can train the
network it has from before on candidates X̂ itself, with the labels that the trained network gives them:

    κ(X̂) = P⊥ θ_sim(X̂),    P⊥ off the span of Φ_mid(X̂);        θ − κ(X) is in the span of Φ_mid(X).

So X̂ ← the samples whose midpoint features span θ − κ(X̂), again and again: a deferred correction, whose error falls each
round by about the size of the movement. ‖θ − θ_sim(X̂)‖/‖θ‖ tells the attacker how near it is, without the truth.

It must know how the network was trained: full-batch descent on squares, and to what loss; of small steps not how small.

Source of the idea of deferred correction: Fox (1947), Pereyra (1966); its use here is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import nn

from .._checks import check_count, check_matrix, check_moved
from .._precision import full_precision
from .._words import many
from ..attack.projection import Projection
from ..attack.run import Run
from ..attack.varpro import descend
from ..features.feature_map import FeatureMap
from ..features.gram import StepError
from .training import train

_DESCENT = 60  # accepted steps of a round's descent, at most
_TRAINING = 100_000  # steps of a round's training


@dataclass(eq=False)
class Replay:
    r"""How a replay ended.

    Attributes:
        X: (n, d) samples, those of the round whose replay came nearest to θ.
        mismatch: ‖θ − θ_sim‖/‖θ‖ of each round, the first with the samples handed over.
        floor: ‖κ‖/‖θ‖ of each round, how much the features' movement leaves.
        steps: taken by all its trainings and descents together, of 2n passes each (:mod:`reconlaw.features.passes`).
        message: how it ended.
    """

    X: torch.Tensor
    mismatch: list[float]
    floor: list[float]
    steps: float = 0.0
    message: str = ""


@full_precision()
def replay(
    theta: ArrayLike,
    features: FeatureMap,
    X: torch.Tensor,
    before: nn.Module,
    after: nn.Module,
    rounds: int = 6,
    inputs: Callable[[torch.Tensor], torch.Tensor] | None = None,
    max_steps: int | None = None,
    **training: Any,
) -> Replay:
    r"""Correct samples X̂ for the movement of the features, by training on them.

    Args:
        theta: (K, p), head after less head before.
        features: the feature map that X̂ was found with, such as that of :func:`~reconlaw.networks.between`.
        X: (n, d), result.X of a reconstruction, signs included.
        before: the network from before the training, with a linear ``head``; on any device, it trains where it is.
        after: the trained one, likewise.
        rounds: at most so many trainings; a round that brings the replay no nearer ends them.
        inputs: where the features live on a subspace, the map from their atoms to inputs.
        max_steps: budget of all trainings and descents together (``Replay.steps``); None for none but the rounds'. A
            training that it does not suffice for is not finished, and the rounds before it stand.
        training: of :func:`~reconlaw.networks.train`: tol, step, momentum, layers.

    Returns:
        :class:`Replay`; X are atoms of the features. Ctrl-C ends it with the round before, once there is one, and so
        does ``max_steps``; X as they were handed over where not even the first training is finished.

    Raises:
        TypeError, ValueError: what is wrong with an argument.
    """
    check_count("rounds", rounds)
    theta = check_moved(features.check_theta(theta))
    X = check_matrix("X", X, features.d).to(theta)
    inputs = inputs or (lambda U: U)
    there = next(after.parameters(), theta)  # the networks may be on another device than the features, or in float32
    run = Run(max_steps=max_steps if max_steps is None else check_count("max_steps", max_steps), samples=len(X))

    def simulate(X):
        return _simulated(features, before, after, inputs(X).to(there), training, run)

    with run.working():
        return corrected(theta, features, X, simulate, run, rounds)


def corrected(
    theta: torch.Tensor,
    features: FeatureMap,
    X: torch.Tensor,
    simulate: Callable[[torch.Tensor], torch.Tensor | None],
    run: Run,
    rounds: int = 6,
) -> Replay:
    """The rounds of a replay, whatever simulates the training: ``simulate`` takes samples to θ_sim, (K, p), or to None
    where the run's budget did not suffice."""
    scale = float(theta.norm())
    best: tuple[float, torch.Tensor] = (math.inf, X)
    mismatch, floor, ended = [], [], "rounds spent"
    try:
        for k in range(rounds):
            simulated = simulate(X)
            if simulated is None:
                ended = f"{run.spent} spent"
                break
            mismatch.append(float((theta - simulated).norm()) / scale)
            if mismatch[-1] >= best[0]:
                ended = "the last round came no nearer"
                break
            best = (mismatch[-1], X)
            try:
                kappa = Projection(features, simulated, X).residual
                floor.append(float(kappa.norm()) / scale)
                if k + 1 == rounds:
                    break  # no round is left to tell whether another descent comes nearer
                X = descend(
                    features,
                    theta - kappa,
                    X,
                    lifted=False,
                    max_steps=_DESCENT,
                    patience=(6, 0.9),
                    on_step=lambda _: run.expired,
                ).point.U
            except StepError as error:
                ended = f"no descent from round {k + 1} ({error})"
                break
    except KeyboardInterrupt:
        if not mismatch:
            raise
        ended = "interrupted"
    nearest = f", nearest {min(mismatch):.1e} of ‖θ‖" if mismatch else ""
    return Replay(best[1], mismatch, floor, run.steps, f"{ended} after {many(len(mismatch), 'round')}{nearest}")


def _simulated(features, before, after, X, training, run):
    """θ of training on the candidates, as they are labelled by the network that came of it; None where the budget is
    spent before the training has come to its end."""
    with torch.no_grad():
        labels = after(X)
    left = math.inf if run.max_steps is None else run.max_steps - run.steps
    trained = train(before, X, labels, **training, max_steps=int(max(1, min(_TRAINING, left))))
    if trained.interrupted:
        raise KeyboardInterrupt
    if run.expired and not trained.converged:
        return None
    simulated = features.check_theta(trained.theta)
    if not bool(simulated.any()):
        raise ValueError("training on X moves nothing: its first loss is below tol, or it takes no step; lower tol")
    return simulated
