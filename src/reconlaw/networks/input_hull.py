r"""What the change of a first layer says of its inputs whatever stands above it: their span, and one input exactly.

Every gradient along W₁ and b₁ is Σ_i g_i (x_i, 1), for any activation and any loss. So the rows of (ΔW₁ | Δb₁) span the
(x_i, 1), and their affine hull is read off: one point where n = 1, else a family of n − 1 dimensions, which
:class:`reconlaw.inputs.Affine` hands to another attack. Without a bias the rows span the x_i alone: for n = 1 its
direction, sign and norm unknown. It holds for a layer whose inputs were not trained, whatever was trained above it, by
any sum of gradients; not by Adam, weight decay or added noise, which leave the span.

Sources: Phong et al. (2018) for one input of a layer with a bias; for the row space of first-layer updates,
arXiv 2605.06519.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .._checks import check_finite, check_matrix
from ..inputs import Affine
from .models import input_span


@dataclass(frozen=True, eq=False)
class InputSpan:
    r"""The inputs' span, or with a bias their affine hull.

    Attributes:
        n: dimension of the span, which is how many independent inputs there were.
        point: (d,), the point of the hull nearest to zero; for n = 1 the input itself. None without a bias.
        directions: (n − 1, d) orthonormal rows along the hull; without a bias (n, d), those of the span.
        singular_values: of the change, whose gap after the n-th tells n.
    """

    n: int
    point: torch.Tensor | None
    directions: torch.Tensor
    singular_values: torch.Tensor

    @property
    def inputs(self) -> Affine:
        """The hull as a family of inputs, its starts spread by the length of ``point``.

        Raises:
            ValueError: one input, which is ``point`` itself.
        """
        if not len(self.directions):
            raise ValueError("one input has no family: it is the point itself")
        scale = 1.0 if self.point is None else max(float(self.point.norm()) / len(self.directions) ** 0.5, 1e-300)
        return Affine(scale * self.directions, self.point)


def read_off(change: torch.Tensor, bias: torch.Tensor | None = None, n: int | None = None) -> InputSpan:
    r"""The span of a layer's inputs, or with the bias's change their affine hull.

    Args:
        change: ΔW₁, (p, d).
        bias: Δb₁, (p,); None for a layer without one.
        n: dimension of the span, where it is known; else read off the singular values
            (:func:`reconlaw.networks.input_span`).

    Raises:
        TypeError, ValueError: what is wrong with an argument; no gap, so that the change fills the space.
    """
    change = check_matrix("change", change).detach()
    if bias is not None:
        if not isinstance(bias, torch.Tensor) or bias.shape != change.shape[:1]:
            shape = tuple(bias.shape) if isinstance(bias, torch.Tensor) else type(bias).__name__
            raise ValueError(f"bias has shape {shape}; expected ({len(change)},), a number for each row of the change")
        change = torch.cat([change, check_finite("bias", bias.detach()).to(change)[:, None]], 1)
    B, s = input_span(change, n)
    if n is None and len(B) == change.shape[1]:
        raise ValueError(
            f"the change has no gap among its {len(s)} singular values: it fills the space, so no inputs stand out; "
            "pass n, or the change of fewer inputs, trained without Adam, decay or noise"
        )
    if bias is None:
        return InputSpan(len(B), None, B, s)
    last = B[:, -1]
    point = (last @ B / last.square().sum())[:-1]
    along = torch.linalg.qr(torch.cat([last[:, None], torch.eye(len(B)).to(B)], 1)).Q.T[1 : len(B)]
    directions = along @ B[:, :-1]
    if len(directions):
        directions = torch.linalg.qr(directions.T).Q.T
    return InputSpan(len(B), point, directions, s)
