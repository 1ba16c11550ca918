r"""An answer at the end of its descent.

A search stops at the tolerance, which may be in a long valley that bends: what is left of θ moves the samples little
along its tangent, which is all that a certificate sees, and far along the valley itself. So an answer goes down to the
end before anything is said of it, in float64 also where θ and features are float32, whose valleys end in rounding.
"""

from __future__ import annotations

import torch

from ..features.gram import StepError
from ..inputs import Inputs
from .projection import Projection
from .varpro import descend

# A loss of so many roundings, squared, is the floor; steps that are made towards it.
_FLOOR, _STEPS = 4.0, 100


def to_the_end(features, theta, U, inputs: Inputs, run, steps: int) -> Projection:
    """Where a descent from U with one column an atom ends, within the run's budget and so many steps."""
    how = {"patience": (6, 0.7), "on_step": lambda _: run.expired, "inputs": inputs}
    return descend(features, theta, U, False, 0.0, steps, **how).point


def settled(features, theta, point, inputs: Inputs, run):
    """``point`` as a :class:`Projection` where its descent ends; itself where it cannot go on, or is no better."""
    done = not isinstance(point, Projection) or point.lift.lifted
    wide = torch.float32 if theta.device.type == "mps" else torch.float64
    if done or run.expired or point.loss <= _FLOOR * torch.finfo(wide).eps ** 2:
        return point
    try:
        end = to_the_end(features, theta.to(wide), point.U.to(wide), inputs, run, _STEPS)
        found = Projection(features, theta, end.U.to(point.U))
    except StepError:
        return point
    return found if found.loss < point.loss else point
