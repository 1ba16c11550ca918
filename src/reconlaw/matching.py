r"""Scoring a reconstruction: which estimate is which sample, and how far off it is.

The attacker recovers a *set*; order means nothing. This module looks at the truth and is called after the
attack.
"""

from __future__ import annotations

from dataclasses import dataclass

import scipy
import torch

from ._checks import check_matrix, check_positive
from ._words import many

# The price, in units of distance, of choosing the farther sign: see match().
SIGN_PREFERENCE = 0.01


@dataclass(frozen=True, eq=False)
class MatchReport:
    r"""The pairing of n true samples with estimates, all tensors (n,) on the CPU.

    Attributes:
        order: int64; ``X_hat[order[i]]`` is matched to ``X[i]``, or −1 where no estimate is left for it.
        sign: float64 ±1; ``sign[i] * X_hat[order[i]]`` is the nearer of ±.
        error: ‖x̂ − x‖/‖x‖ of each pair, sign and all: 2 is a flipped sample. Infinite where unmatched.
        error_up_to_sign: min over ± of ‖±x̂ − x‖/‖x‖ of the same pair.
    """

    order: torch.Tensor
    sign: torch.Tensor
    error: torch.Tensor
    error_up_to_sign: torch.Tensor

    def recovered(self, tol: float = 1e-2) -> torch.Tensor:
        """(n,) bool: signed relative error below ``tol``."""
        return self.error < check_positive("tol", tol)

    def recovered_up_to_sign(self, tol: float = 1e-2) -> torch.Tensor:
        """(n,) bool: relative error up to a global sign below ``tol``."""
        return self.error_up_to_sign < check_positive("tol", tol)

    def __str__(self):
        n = len(self.error)
        lines = [f"{'':12}{'recovered':>12}{'median error':>15}{'worst error':>15}"]
        for name, error, found in (
            ("signed", self.error, self.recovered()),
            ("up to sign", self.error_up_to_sign, self.recovered_up_to_sign()),
        ):
            count = f"{int(found.sum())} of {n}"
            lines.append(f"{name:12}{count:>12}{error.median().item():>15.1e}{error.max().item():>15.1e}")
        if missing := int((self.order < 0).sum()):
            lines.append(f"{missing} of {many(n, 'sample')} {'has' if missing == 1 else 'have'} no estimate")
        return "\n".join(lines)


def match(X_hat: torch.Tensor, X: torch.Tensor) -> MatchReport:
    r"""Pair estimates with true samples by the Hungarian algorithm, and measure each pair.

    One pairing serves both errors, so that ``order``, ``sign``, ``error`` and ``error_up_to_sign`` speak of
    the same pairs. It minimises Σ_i c(x̂_{order(i)}, x_i) with c = min(‖x̂−x‖, ‖x̂+x‖) + 0.01·‖x̂−x‖. The
    first term finds a sample that came back as its negative: on signed distance alone two flipped samples
    (2√d off each) would rather be paired crosswise (about √2·√d off each), and a reconstruction right up to
    sign would look like noise. The second prefers the estimate of the right sign where both signs are there.
    Where no sign is flipped this is the pairing on signed distance; where some are, signed errors are not
    flattered by it: no pairing has a smaller sum of them than the one on signed distance alone.

    Args:
        X_hat: (n̂, d) estimates; n̂ may differ from n, and rows with NaN or infinite entries are left
            unmatched.
        X: (n, d) the truth, no zero rows. Devices and dtypes may differ; distances are taken in float64 from
            differences, so that errors of 1e-12 come out right.

    Returns:
        A :class:`MatchReport`.

    Raises:
        TypeError: not floating tensors.
        ValueError: shapes that do not fit, a truth that is not finite or has a zero row.
    """
    X = check_matrix("X", X).detach().cpu().double()
    X_hat = check_matrix("X_hat", X_hat, X.shape[1], finite=False).detach().cpu().double()
    norms = X.norm(dim=1)
    if bool((norms == 0).any()):
        raise ValueError(
            f"X has zero rows {torch.nonzero(norms == 0).flatten().tolist()[:5]}; no relative error exists"
        )

    order = torch.full((X.shape[0],), -1, device="cpu")
    sign = torch.ones(X.shape[0], dtype=torch.float64, device="cpu")
    error = torch.full((X.shape[0],), torch.inf, dtype=torch.float64, device="cpu")
    error_up_to_sign = error.clone()

    plus, minus = _distances(X, X_hat), _distances(X, -X_hat)
    usable = torch.nonzero((torch.isfinite(plus) & torch.isfinite(minus)).all(dim=0)).flatten()
    plus, minus = plus[:, usable], minus[:, usable]
    cost = torch.minimum(plus, minus) + SIGN_PREFERENCE * plus
    rows, columns = (torch.from_numpy(index) for index in scipy.optimize.linear_sum_assignment(cost.numpy()))
    order[rows] = usable[columns]
    plus, minus = plus[rows, columns], minus[rows, columns]
    sign[rows] = torch.where(plus <= minus, 1.0, -1.0).double()
    error[rows] = plus / norms[rows]
    error_up_to_sign[rows] = torch.minimum(plus, minus) / norms[rows]
    return MatchReport(order, sign, error, error_up_to_sign)


def _distances(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    """(n, m) Euclidean distances by differences: ‖a‖² − 2a·b + ‖b‖² would lose everything below 1e-8."""
    return torch.cdist(A, B, compute_mode="donot_use_mm_for_euclid_dist")
