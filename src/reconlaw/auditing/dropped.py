r"""Dropout in training mode: does what the candidates leave of θ look like its noise, and how far did it carry them?

A head that was trained below dropout saw other features at every step t, Φ_t = Φ(X; masks of t), and

    θ = Σ_t A_tᵀΦ_t = AᵀE Φ_t + Σ_t A_tᵀ(Φ_t − E Φ_t),

which no set of inputs explains in evaluation mode. So the loss at the samples is not small: that of a wrong set may be
as small, where that many inputs explain most of any θ. What tells the two apart is the form of the residual. Noise of
masks has little to do with how inputs move the features, and what a wrong set leaves is made of just that. So one asks

    s = ‖R F‖²/‖R‖²,        F an orthonormal basis of the features of drawn inputs, off those of the candidates,

which is large where R = P⊥θ is made of other inputs. How large it is under dropout is simulated, as everything is here:
the body in training mode, on the candidates, with masks drawn anew and weights that vary over the steps; so many steps
that the noise is as large as R; and the same descent, from the candidates, on the head that this makes. It tells where
the attack then ends, so how far dropout carries a candidate, and what s is there.
"""

from __future__ import annotations

import copy
import itertools
import math
import statistics
from dataclasses import dataclass

import torch
from torch import nn

from .._random import seeded_generator
from ..attack.coordinates import decoded
from ..attack.projection import Projection
from ..attack.result import Result
from ..attack.varpro import descend
from ..features.budget import Spent
from ..features.gram import StepError
from .evidence import place
from .simulation import drawn_like

# Heads that are simulated, the fewest of them that will do, steps of training of each, and how their weights vary.
_HEADS, _FEWEST, _MASKS, _VARY = 10, 4, 20, 0.5
# Steps of the descent on each of them, which begins near its end.
_STEPS = 3
# Inputs whose features span F: a share of p, and at most so many.
_OTHERS, _MOST = 1 / 8, 256
# Least share of the residual that is taken to be noise, where what masks do on average explains all of it.
_NOISE = 0.01
# The residual looks like that of dropout where s is at most so many times what it is on simulated heads.
_LIKE = 1.5
# Candidates that dropout carried this far, relative to their length, say nothing.
_FAR = 0.5


@dataclass(frozen=True, eq=False)
class Dropped:
    """What dropout in training mode makes of the candidates.

    Attributes:
        errors: (n,) root mean square error of each candidate on simulated heads, relative to its norm.
        share: s of the head's change.
        simulated: s of each simulated head.
        wrong: s where the attack ended on changes that other inputs made.
    """

    errors: torch.Tensor
    share: float
    simulated: tuple[float, ...]
    wrong: tuple[float, ...] = ()

    @property
    def expected(self) -> float:
        """Mean s of the simulated heads."""
        return statistics.mean(self.simulated)

    @property
    def most(self) -> float:
        """The largest s that counts as that of dropout."""
        return _LIKE * self.expected

    @property
    def fits(self) -> bool:
        """Whether s is as dropout makes it, and as no other inputs do, and half the candidates mean something."""
        near = float(self.errors.median()) < _FAR
        return near and bool(self.wrong) and self.share <= self.most < min(self.wrong)


def dropped(pair, result: Result, seed: int, spent=lambda: False) -> Dropped | None:
    """The heads that dropout makes of the candidates; None where the body holds none, or none could be simulated."""
    if pair.changed or pair.features is not pair.body_features or pair.features.positions > 1:
        return None
    generator = seeded_generator("dropped", seed)
    X, theta = pair.features._to(result.X), pair.features._to(pair.theta)
    over, U, domain = place(pair, result)
    try:
        masked = _Masked(pair, X)
    except RuntimeError:  # a body that fails in training mode
        return None
    if not masked.any:
        return None
    try:
        point = Projection(over, theta, U)
        left = _Left(pair, X, generator)
        alpha = result.coefficients.reshape(len(X), -1).to(theta)
        noises, mean = masked.noises(alpha, generator, spent)
        if len(noises) < _FEWEST:
            return None
        fitted, systematic = theta - point.residual, left.off(alpha.T @ mean)
        noises = [left.off(one) for one in noises]
        # What the descent fits to the noise is no part of R: as many numbers as are unknown.
        spare = max(1, theta.numel() - U.numel() - len(U) * len(theta)) / theta.numel()
        size = point.loss * point.scale / spare
        wanted = max(size - float(systematic.square().sum()), _NOISE * size)
        factor = math.sqrt(wanted / statistics.mean(float(one.square().sum()) for one in noises))
        shares: list[float] = []
        squares: list[torch.Tensor] = []
        for one in noises:
            if spent():
                break
            end = descend(over, fitted + systematic + factor * one, U, max_steps=_STEPS, inputs=domain).point
            shares.append(left.share(end.residual))
            squares.append(((decoded(over, end.U) - X).norm(dim=1) / X.norm(dim=1)).square())
    except (Spent, StepError):
        return None
    if len(shares) < _FEWEST:
        return None
    return Dropped(torch.stack(squares).mean(0).sqrt().cpu(), left.share(point.residual), tuple(shares))


def share_of(pair, theta, result: Result, seed: int) -> float:
    """s where an attack on θ (R, p) ended."""
    X, theta = pair.features._to(result.X), pair.features._to(theta)
    left = _Left(pair, X, seeded_generator("dropped", seed))
    return left.share(left.off(theta))


class _Left:
    """What is left of θ off the features of X, and the share of that which features of other inputs hold."""

    def __init__(self, pair, X, generator):
        self.Q = torch.linalg.qr(pair.features(X).T).Q
        Z, _ = drawn_like(pair, X, max(1, min(_MOST, int(_OTHERS * pair.features.p))), generator)
        self.F = torch.linalg.qr(self.off(pair.features(pair.features._to(Z))).T).Q

    def off(self, rows):
        return rows - (rows @ self.Q) @ self.Q.T

    def share(self, residual) -> float:
        return float((residual @ self.F).square().sum() / residual.square().sum())


class _Masked:
    """The body in training mode on X, the masks of its dropout drawn anew; batch norm as it is in evaluation mode."""

    def __init__(self, pair, X):
        self.body = copy.deepcopy(pair.body).to(X.device).train()
        for part in self.body.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm | nn.modules.instancenorm._InstanceNorm):
                part.eval()
        self.X, self.shape = X, pair.shape
        one, two = self._draw(2, 0)
        self.any = not torch.equal(one, two)

    def _draw(self, times: int, seed: int):
        """(n, p) features, so many times; the caller's stream of random numbers stays as it is."""
        devices = [self.X.device] if self.X.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            torch.manual_seed(seed)
            for _ in range(times):
                yield self.body(self.X.reshape(-1, *self.shape).clone()).flatten(1).to(self.X)

    def noises(self, alpha, generator, spent) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Σ_t A_tᵀ(Φ_t − Ē) of every simulated head, (R, p), and the mean features Ē (n, p); Σ_t A_t is about A.

        Fewer heads where the time for them is ``spent``.
        """
        draws = self._draw(_HEADS * _MASKS, int(torch.randint(2**62, (), generator=generator, device="cpu")))
        total = torch.zeros_like(alpha[:1, :1])
        made: list[tuple[torch.Tensor, torch.Tensor]] = []
        while len(made) < _HEADS and not spent():
            theta, weights = torch.zeros_like(alpha[:1, :1]), torch.zeros_like(alpha)
            for Phi in itertools.islice(draws, _MASKS):
                vary = torch.randn(alpha.shape, generator=generator, dtype=torch.float64, device="cpu").to(alpha)
                A = alpha * (1 + _VARY * vary) / _MASKS
                theta, weights, total = theta + A.T @ Phi, weights + A, total + Phi
            made.append((theta, weights))
        draws.close()
        mean = total / (max(1, len(made)) * _MASKS)
        return [theta - weights.T @ mean for theta, weights in made], mean
