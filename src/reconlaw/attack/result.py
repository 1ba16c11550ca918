"""What every method returns: how a reconstruction ended."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(eq=False)
class Result:
    r"""How a reconstruction ended.

    Attributes:
        X: (n, d) estimated samples, as the model sees them: rows of norm √d, or points of the ``inputs`` given.
        coefficients: (n,) or (n, K), α with θ ≈ Φ(X)ᵀα.
        loss: L(X) = ‖P⊥θ‖²/‖θ‖².
        history: (seconds, loss, steps) of the best so far, one :class:`~reconlaw.attack.run.Improvement` each.
        converged: the loss reached the tolerance.
        determined: there are at least as many equations as unknowns, pR ≥ n(d − 1) + nR, R ≤ min(n, K) the rank of θ;
            and n ≤ 2 where R = 1 and φ is a polynomial of degree 2, n = 1 where it lacks the linear or the quadratic
            term. Where false, other sets of samples fit θ as well, and X is one of them, not the data.
        sign_identifiable: True where the fit with one column an atom singles the signs out; False where the
            activation is even or odd, so that no method can tell x from −x; None where the run ended before it was
            known.
        message: in words, with what to try next.
        seconds: time spent, over all resumed runs.
        steps: work spent, over all resumed runs, the same on every machine (:mod:`reconlaw.features.passes`).
        method: the method used.
        path: of "sparse", {"lambda", "support", "loss"} for each λ that was tried; None of the other methods.
        latent: (n, k) coordinates of X in a family or under a decoder; None elsewhere.
        at_bounds: (n, k) bool, coordinates that rest on a bound of their box: a bound that holds for an interval of θ,
            so one unknown less each; None where there is no box.
        segments: of "span", row of X → (2, d), the ends of a segment all of whose points explain θ as well as that row;
            None of the other methods, and where there is no such segment.
    """

    X: torch.Tensor
    coefficients: torch.Tensor
    loss: float
    history: list[tuple[float, float, float]]
    converged: bool
    determined: bool
    sign_identifiable: bool | None
    message: str
    seconds: float
    method: str
    path: list[dict] | None = None
    steps: float = 0.0
    latent: torch.Tensor | None = None
    at_bounds: torch.Tensor | None = None
    segments: dict[int, torch.Tensor] | None = None

    def __repr__(self):
        n, d = self.X.shape
        return f"Result({self.method}: {n} samples of dimension {d}, loss {self.loss:.2g}, {self.message})"
