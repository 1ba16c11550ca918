"""What every method returns: how a reconstruction ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch

from .._words import many


class Status(str, Enum):
    """How a reconstruction ended."""

    RECOVERED = "recovered"  # θ holds every sample of X
    IN_PART = "recovered in part"  # θ holds some of them: see the flags
    AMBIGUOUS = "ambiguous"  # X explains θ, and so may other sets
    NOT_DETERMINED = "not determined"  # other sets explain θ as well
    STALLED = "stalled"
    BUDGET_SPENT = "budget spent"
    INTERRUPTED = "interrupted"


class Flag(str, Enum):
    """What may be said of one sample."""

    RECOVERED = "recovered"
    UP_TO_SIGN = "recovered up to sign"  # the activation is even or odd: no method can tell x from −x
    ROUGH = "known roughly"  # to within its standard error, which is more than a few thousandths
    NOT_APART = "not told apart"  # from another sample, which is within their standard errors
    DUPLICATE = "part of another"  # a sample that came back torn in two; it stands in the other row
    SPARE = "spare"  # θ is explained as well without it: n is too large, or samples coincide
    BELOW = "below what theta shows"  # its whole part of θ is smaller than the tolerance
    AMBIGUOUS = "ambiguous"  # it fits, and so may another
    UNRESOLVED = "unresolved"


@dataclass(eq=False)
class Result:
    r"""How a reconstruction ended.

    Attributes:
        X: (n, d) estimated samples, as the model sees them: rows of norm √d, or points of the ``inputs`` given.
        coefficients: (n,) or (n, K), α with θ ≈ Φ(X)ᵀα.
        loss: L(X) = ‖P⊥θ‖²/‖θ‖².
        history: (seconds, loss, steps) of the best so far, one named tuple each.
        converged: the loss reached the tolerance.
        determined: whether θ holds the samples: there are as many equations as unknowns
            (:mod:`reconlaw.attack.count`), and where X explains θ, it does so with every sample held in place
            (:mod:`reconlaw.attack.certificate`); of a run that did not converge it is the count alone. Where false,
            other sets fit θ as well, and X is one of them; None where they may.
        sign_identifiable: True where the fit with one column an atom singles the signs out; False where the
            activation is even or odd, so that no method can tell x from −x; None where the run ended before it was
            known.
        message: status and flags in words, with what to try next.
        seconds: time spent, over all resumed runs.
        steps: work spent, over all resumed runs, the same on every machine (:mod:`reconlaw.features.passes`).
        method: the method used.
        path: of "sparse", {"lambda", "support", "loss"} for each λ that was tried, or off the sphere, λ = 0,
            for each number of atoms; None of the other methods.
        latent: (n, k) coordinates of X in a family or under a decoder; None elsewhere.
        at_bounds: (n, k) bool, coordinates that rest on a bound of their box: a bound that holds for an interval of θ,
            so one unknown less each; None where there is no box.
        segments: row of X → (2, d), the ends of a segment all of whose points explain θ as well as that row;
            None where there is none.
        exact: (n,) bool, of inputs with ``levels``: rows that lie on the grid, each of whose pixels is known to a tenth
            of a level or better, and any of whose neighbours on the grid explains θ worse
            (:mod:`reconlaw.attack.grid`). None without levels.
        status: how it ended, a :class:`Status`.
        flags: of each sample, a :class:`Flag`.
        standard_errors: (n,) relative to √d: how far each sample may be off, given the residual and the rounding of θ;
            infinite where θ does not hold it. None where X does not explain θ.
    """

    X: torch.Tensor
    coefficients: torch.Tensor
    loss: float
    history: Sequence[tuple[float, float, float]]
    converged: bool
    determined: bool | None
    sign_identifiable: bool | None
    message: str
    seconds: float
    method: str
    path: list[dict] | None = None
    steps: float = 0.0
    latent: torch.Tensor | None = None
    at_bounds: torch.Tensor | None = None
    segments: dict[int, torch.Tensor] | None = None
    exact: torch.Tensor | None = None
    status: Status = Status.STALLED
    flags: tuple[Flag, ...] = ()
    standard_errors: torch.Tensor | None = None

    def __repr__(self):
        n, d = self.X.shape
        return f"Result({self.method}: {many(n, 'sample')} of dimension {d}, loss {self.loss:.2g}, {self.message})"
