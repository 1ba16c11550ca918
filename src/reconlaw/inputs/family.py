r"""Families of inputs with fewer coordinates than pixels: x = g(z), z ∈ R^k.

The law counts what is unknown: n samples of a known family are n(k + 1) unknown numbers, however large d is, so that a
family lets θ tell what d numbers a sample would hide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from numpy.typing import ArrayLike
from torch import nn

from .._checks import as_tensor, check_count, check_finite, check_matrix
from .box import Box, Free
from .inputs import Inputs


class _Line(nn.Module):
    def __init__(self, basis, offset):
        super().__init__()
        self.register_buffer("basis", basis)
        self.register_buffer("offset", offset)

    def forward(self, Z):
        return self.offset + Z @ self.basis


class Affine(Inputs):
    r"""x = offset + z·basis, z ∈ R^k: the principal components of public data, say.

    Args:
        basis: (k, d) rows, linearly independent. Starts are z ~ N(0, I), so scale each row by the standard deviation
            of its coordinate, as in ``basis = sqrt(variances)[:, None] * components``.
        offset: (d,), zero where None.

    Raises:
        TypeError: no floating tensors.
        ValueError: other shapes, NaN, more rows than columns, or dependent rows.
    """

    def __init__(self, basis: torch.Tensor, offset: ArrayLike | None = None) -> None:
        self.basis = check_matrix("basis", basis).detach().double().cpu()
        self.k, self.d = self.basis.shape
        if self.k > self.d or int(torch.linalg.matrix_rank(self.basis)) < self.k:
            raise ValueError(
                f"basis has {self.k} rows of dimension {self.d} that are linearly dependent, so that an input has "
                "several z; keep independent ones (torch.linalg.qr finds them)"
            )
        offset = torch.zeros(self.d, device="cpu") if offset is None else as_tensor(offset)
        self.offset = check_finite("offset", offset.detach().double().cpu())
        if self.offset.shape != (self.d,):
            raise ValueError(f"offset has shape {tuple(offset.shape)}; basis has {self.d} columns: pass ({self.d},)")

    def __repr__(self):
        return f"Affine({self.k} of {self.d} dimensions)"

    @property
    def signs(self) -> bool:
        """Without an offset −x is in the family along with x."""
        return not bool(self.offset.any())

    def check(self, d: int) -> None:
        if d != self.d:
            raise ValueError(f"the family's basis has {self.d} columns; inputs of these features have {d}")

    def coordinates(self, d: int) -> int:
        return self.k

    def decoder(self, d: int) -> nn.Module | None:
        return _Line(self.basis, self.offset)

    def latent(self) -> bool:
        return True

    def retract(self, U: torch.Tensor) -> torch.Tensor:
        return U

    def starts(self, count: int, k: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(count, k, generator=generator, dtype=torch.float64, device="cpu")


class _Decode(nn.Module):
    def __init__(self, module, shape):
        super().__init__()
        self.module, self.shape = module, shape

    def forward(self, Z):
        return self.module(Z.reshape(-1, *self.shape)).flatten(1)


class Decoder(Inputs):
    r"""x = G(z): inputs that a decoder makes of latent vectors z ∈ R^k.

    Args:
        module: G, from (n, \*latent_shape) to (n, …), d numbers a sample; twice differentiable, each sample by itself.
        latent_shape: of one z; its product is k.
        box: a :class:`Box` of k coordinates that z lies in; all of R^k where None.

    Raises:
        TypeError: no module; a box that is none.
        ValueError: a latent_shape that the module does not take; a box of another dimension.
    """

    signs = False

    def __init__(self, module: nn.Module, latent_shape: int | Sequence[int], box: Box | None = None) -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(f"module is a {type(module).__name__}; pass a torch.nn.Module from z to x")
        if box is not None and not isinstance(box, Box):
            raise TypeError(f"box is a {type(box).__name__}; pass a reconlaw.inputs.Box of the latent coordinates")
        shape = latent_shape if isinstance(latent_shape, tuple | list | torch.Size) else (latent_shape,)
        self.shape = tuple(check_count("latent_shape", side) for side in shape)
        self.k, self.module = math.prod(self.shape), module
        self.inner = Free() if box is None else box
        self.inner.check(self.k)
        self.d = self._outputs()

    def __repr__(self):
        box = "" if isinstance(self.inner, Free) else f", {self.inner}"
        return f"Decoder({type(self.module).__name__}, {self.shape}{box})"

    def _outputs(self):
        like = next((p for p in self.module.parameters()), torch.zeros(()))
        try:
            with torch.no_grad():
                out = self.module(torch.zeros(2, *self.shape, dtype=like.dtype, device=like.device))
        except Exception as error:
            raise ValueError(
                f"the decoder fails on z of shape {(2, *self.shape)} ({type(error).__name__}: {error}); does "
                "latent_shape fit its first layer?"
            ) from error
        if not isinstance(out, torch.Tensor) or out.ndim < 1 or len(out) != 2 or not bool(torch.isfinite(out).all()):
            made = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
            raise ValueError(f"the decoder makes {made} of 2 latent vectors; it must give 2 rows of finite numbers")
        return out[0].numel()

    def check(self, d: int) -> None:
        if d != self.d:
            raise ValueError(
                f"the decoder makes inputs of {self.d} numbers; inputs of these features have {d}: it must be one "
                "for this model's inputs, resized and standardised as the model sees them"
            )

    def coordinates(self, d: int) -> int:
        return self.k

    def unknowns(self, d: int) -> int:
        return self.inner.unknowns(self.k)

    def decoder(self, d: int) -> nn.Module | None:
        return _Decode(self.module, self.shape)

    def latent(self) -> bool:
        return True

    def bounds(self, U: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        return self.inner.bounds(U)

    def retract(self, U: torch.Tensor) -> torch.Tensor:
        return self.inner.retract(U)

    def starts(self, count: int, k: int, generator: torch.Generator) -> torch.Tensor:
        return self.inner.starts(count, k, generator)
