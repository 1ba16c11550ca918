r"""Equations and unknowns: what θ could say of n samples, counted in one place.

θ = AᵀΦ(X) ∈ R^{K×p} has R independent rows, and its features span m ≤ p dimensions: it holds R·m numbers that do not
follow from one another. Behind them stand n samples of k coordinates each, k = d − 1 on their sphere, and n·T·R
coefficients, T the columns of a sample: 1, but for layers that see several positions of it. Where n·T columns fill the
space of p dimensions the count is empty: there are as many coefficients as equations. With fewer equations than
unknowns other sets of samples fit θ as well. With as many they may be determined, and whether they are is asked of what
was found: :mod:`reconlaw.attack.certificate`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..features.decompose import svd


@dataclass(frozen=True)
class Count:
    r"""What θ holds, and what is asked of it.

    Attributes:
        equations: numbers in θ that do not follow from one another.
        unknowns: coordinates of the samples, and their coefficients.
        shared: θ is a quadratic form that sets of n samples share, however many equations there are: R = 1 and φ a
            polynomial of degree 2, n > 2, or n > 1 where it lacks the linear or the quadratic term.
    """

    equations: int
    unknowns: int
    shared: bool = False

    @property
    def enough(self) -> bool:
        """Whether the samples can be determined at all."""
        return self.equations >= self.unknowns and not self.shared

    @property
    def ratio(self) -> float:
        """Equations for each unknown."""
        return self.equations / self.unknowns


def count(features, n: int, outputs: int, dimension: int | None = None) -> Count:
    r"""Equations in θ of so many independent outputs, and unknowns of n samples with their coefficients.

    Outputs beyond n·T are not independent, and count for nothing; nor do features that depend linearly on others.

    Args:
        outputs: R, the rank of θ (:func:`independent_rows`).
        dimension: k, unknown coordinates of a sample; d − 1 where None, those of a point of the sphere in R^d.
    """
    columns = n * features.positions
    R = max(1, min(columns, outputs))
    dimension = features.d - 1 if dimension is None else dimension
    unknowns = n * dimension + columns * R
    equations = R * features.rank(-(-unknowns // R) + columns)
    return Count(equations, unknowns, shared=R == 1 and n > features.most_samples())


def independent_rows(theta: torch.Tensor, rounding: float | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    r"""θ in as many rows as its rank R: TᵀΘ and T, (R, p) and (K, R) with orthonormal columns.

    Turning the outputs changes neither their span nor their fit; the rows that are left out hold rounding.

    Args:
        theta: (K, p).
        rounding: ‖rounding of θ‖; that of a computation in its dtype where None.
    """
    K, p = theta.shape
    U, s, Vh = svd(theta)
    rounding = torch.finfo(theta.dtype).eps * float(s.norm()) if rounding is None else rounding
    # A matrix of even noise has no singular value much above that of an entry times √K + √p.
    least = max(10 * rounding / (K * p) ** 0.5 * (K**0.5 + p**0.5), 1e-12 * float(s[0]))
    R = int((s > least).sum())
    return s[:R, None] * Vh[:R], U[:, :R]
