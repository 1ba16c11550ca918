r"""What an answer leaves of θ: noise, or more of the data?

Standard errors take the residual for noise, which favours no direction and of which little lies along a sample's own. A
residual that data put there is no such noise. Where a small sample was left out, or the answer is a near miss, it lies
along the features of inputs like those found, and moves *them*: errors of ten times their standard error were measured.
So one more sample is tried. Its q = k + R numbers explain by chance a share q/m of noise in m numbers, those to spare:
odds of q/(m − q). What it explains beyond some times these odds is the data's. Where that is much, samples may be off
by as much as that part of the residual could move them; where it is little, by about as much as they moved as it was
explained. Rounding during a training at single precision leaves a hundredth to be explained so; white noise leaves
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .._random import seeded_generator
from ..features.gram import StepError
from ..features.passes import count_passes
from ..inputs import Inputs
from .projection import Projection
from .settled import to_the_end
from .tools import pair_costs

# Inputs whose features the residual is held against, on these parts of the way from a sample to a point drawn.
_DRAWN, _WAYS = 256, (0.05, 0.3, 1.0)
_NUMBERS = 1 << 24  # of their features, at most
# Accepted steps of a descent with one more sample, the best of each part of the way.
_STEPS = 40
# The odds of what one more sample explains by chance are at most this many times q/(m − q): it may choose where to lie.
# With fewer than so many numbers to spare for each of its own the question says nothing.
_CHANCE = 3.0
# Dropping the cheapest of n + 1 is an answer in the place of the first where it leaves less than this share of it.
_BETTER = 0.5
# A share beyond chance that is much; below it a sample may be off by so many times what it moved.
_MUCH, MOVES = 0.1, 3.0


@dataclass(frozen=True)
class Leftover:
    """What one more sample explains.

    Attributes:
        share: of the residual, beyond chance; 1 where it could not be asked.
        moved: (n,) how far the samples moved as it was explained, relative.
        better: a :class:`Projection` of as many samples that explains θ better, or None.
    """

    share: float = 1.0
    moved: torch.Tensor | None = None
    better: Projection | None = None

    @property
    def much(self) -> bool:
        return self.share >= _MUCH

    def errors(self, certificate) -> torch.Tensor:
        """(n,) relative errors: those of noise, and what the data's part of the residual adds."""
        errors, more = certificate.errors.double(), self.share**0.5 * certificate.most.double()
        if not self.much and self.moved is not None:
            more = torch.minimum(more, MOVES * self.moved)
        return errors if self.share == 0 else (errors.square() + more.square()).sqrt()


def one_more(features, theta, U, spare: int, dimension: int, inputs: Inputs, run, seed: int) -> Leftover:
    """Try one more sample, of as many unknown coordinates as ``dimension`` says."""
    R, n, T = len(theta), len(U), features.positions
    own = dimension + T * R
    if spare <= _CHANCE * own or features.p <= T * (n + 1):
        return Leftover()
    chance = _CHANCE * own / (spare - own + _CHANCE * own)
    point, generator = Projection(features, theta, U), seeded_generator("leftover", seed)
    if point.loss == 0:
        return Leftover(0.0)
    row = torch.arange(min(_DRAWN, max(8 * len(_WAYS), _NUMBERS // features.p)), device="cpu")
    drawn = inputs.starts(len(row), U.shape[1], generator).to(U)
    way = torch.tensor(_WAYS, device="cpu")[row % len(_WAYS)].to(U)[:, None]
    near = U[(row // len(_WAYS) % n).to(U.device)]
    drawn = inputs.retract(near + way * (drawn - near))
    count_passes(len(drawn))
    F = point.project_out(features.columns(features.apply(drawn).detach().to(theta)))
    sizes = features.summed(F.square().sum(1)).clamp_min(torch.finfo(F.dtype).tiny)
    score = features.summed(F @ point.residual.T).square().sum(1) / sizes
    score = score.reshape(T, -1).sum(0)
    share, moved, better, asked = 0.0, torch.zeros(n, dtype=torch.float64, device="cpu"), None, False
    for turn in range(len(_WAYS)):
        if run.expired:
            break
        best = torch.where((row % len(_WAYS) == turn).to(score.device), score, -1.0).argmax()
        try:
            more = to_the_end(features, theta, torch.cat([U, drawn[best][None]]), inputs, run, _STEPS)
            asked, explained = True, 1 - more.loss / point.loss - chance
            if explained <= 0:
                continue
            share = max(share, explained)
            moved = torch.maximum(moved, ((more.U[:n] - U).norm(dim=1) / U.norm(dim=1)).cpu().double())
            keep = pair_costs(more).argsort(descending=True)[:n].sort().values
            fewer = to_the_end(features, theta, more.U[keep], inputs, run, _STEPS)
        except StepError:
            continue
        if fewer.loss < _BETTER * (better or point).loss:
            better = fewer
    return Leftover(share, moved, better) if asked else Leftover()
