r"""Does θ speak against the domain itself? The answer let out of its box, or of its family.

A domain that does not hold the samples leaves a residual, and within a generous tolerance θ counts as explained by the
samples pressed against its sides. Their standard errors take that residual for noise. Noise is explained no better
outside of the domain than the numbers that are set free there can do by chance; what the samples themselves left is. So
the answer descends once more, in all of R^d. Where that has hardly more equations than unknowns, any residual is
explained there, and how far the samples went is all that can be said.
"""

from __future__ import annotations

from ..features.gram import StepError
from ..inputs import Free, Inputs
from .coordinates import Coordinates, decoded
from .count import count
from .leftover import Leftover
from .settled import to_the_end

# Equations to spare in R^d below which the residual there says nothing.
_LEAST_SPARE = 8
# A residual for each equation to spare that falls by less than this factor may be noise.
_CHANCE = 2.0
_STEPS = 60


def outside(features, theta, U, loss: float, spare: int, inputs: Inputs, run) -> Leftover:
    """What samples outside the domain explain of the residual, and how far these are from the answer, of that ``loss``.

    Coordinates on a bound are among the unknowns that ``spare`` counts.
    """
    base, X = features, decoded(features, U)
    if isinstance(features, Coordinates):
        base = features.features
    elif inputs.bounds(U) is None or not bool(inputs.active(U).any()):
        return Leftover(0.0)  # nothing to be let out of
    counted = count(base, len(U), len(theta), base.d)
    wide = counted.equations - counted.unknowns
    if loss == 0:
        return Leftover(0.0)
    if run.expired:
        return Leftover()
    try:
        free = to_the_end(base, theta, X, Free(), run, _STEPS)
    except StepError:
        return Leftover()
    resting, share = int(inputs.active(U).sum()), 1.0
    if wide >= _LEAST_SPARE:
        share = max(0.0, 1 - _CHANCE * (free.loss / wide) / (loss / max(1, spare + resting)))
    moved = ((free.U - X).norm(dim=1) / X.norm(dim=1)).cpu().double()
    return Leftover(share, moved)
