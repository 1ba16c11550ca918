r"""Networks to read data out of, and what their training tells of the samples' span.

A network is a body below a linear head, f(x) = W φ_body(x) with W ∈ R^{K×p}. Training on X by gradient descent adds to
every row of W a combination of the samples' features: with the body frozen, θ = ΔW = AᵀΦ(X) exactly, the setting of
random features; where the body is trained along, the features move on the way and θ is only near their span.

Sources: Iurada et al., arXiv 2509.22214, for the two architectures (the residual one has a stem of 7×7 positions, four
blocks, no normalisation); He et al. (2016) for residual blocks.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn.utils import skip_init

from .._checks import check_count, check_float_dtype, check_matrix, check_moved, check_real, listed
from .._random import seeded_generator
from ..features.activations import get_activation
from ..features.module_features import check_filled


class _Phi(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.activation = get_activation(activation)

    def forward(self, z):
        return self.activation(z)

    def extra_repr(self):
        return self.activation.name


def _layer(kind, *sizes, **options):
    """A layer to be filled by :func:`_draw`, which neither reads nor moves torch's global generator and dtype."""
    return skip_init(kind, *sizes, dtype=torch.float32, **options)


def _draw(layer, variance, generator):
    """Weights N(0, variance), biases N(0, 1/4), drawn in float64 whatever the dtype."""
    with torch.no_grad():
        layer.weight.copy_(
            torch.randn(layer.weight.shape, device="cpu", generator=generator, dtype=torch.float64) * variance**0.5
        )
        if layer.bias is not None:
            layer.bias.copy_(torch.randn(layer.bias.shape, device="cpu", generator=generator, dtype=torch.float64) / 2)


class _Network(nn.Module):
    """``body``, a module from rows (n, d) to (n, p), and ``head``, linear without bias."""

    body: nn.Sequential

    def _with_head(self, p, outputs, generator):
        self.p, self.outputs = p, check_count("outputs", outputs)
        self.head = _layer(nn.Linear, p, self.outputs, bias=False)
        _draw(self.head, 1 / p, generator)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(X))


class TwoLayer(_Network):
    r"""f(x) = W₂ φ(W₁ x + b): W₁ ∈ R^{width×d} of entries N(0, 1/d), W₂ ∈ R^{K×width} of entries N(0, 1/width).

    Args:
        d: dimension of an input.
        width: neurons, which are the features of one output (the paper counts p as all weights of W₂, K·width).
        outputs: K.
        activation: as for :class:`~reconlaw.features.random_features.RandomFeatures`.
        bias: add b, entries N(0, 1/4).
        seed: of all weights.
        dtype: torch.float64 or torch.float32.

    Attributes:
        body: rows (n, d) to features (n, p).
        head: linear, K × p.
        p: ``width``.
    """

    def __init__(
        self,
        d: int,
        width: int,
        outputs: int = 1,
        activation: str | Callable = "relu",
        bias: bool = False,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        generator = seeded_generator("network", seed)
        check_count("d", d), check_count("width", width), check_float_dtype(dtype)
        layer = _layer(nn.Linear, d, width, bias=bias).to(dtype)
        _draw(layer, 1 / d, generator)
        self.body = nn.Sequential(layer, _Phi(activation))
        self._with_head(width, outputs, generator)
        self.to(dtype)


class _Pictures(nn.Module):
    """Rows (n, d), flattened with the channel fastest, to pictures (n, C, H, W)."""

    def __init__(self, image_shape):
        super().__init__()
        self.shape = (*image_shape, 1)[:3]

    def forward(self, X):
        return X.reshape(-1, *self.shape).permute(0, 3, 1, 2)


class _Block(nn.Module):
    """h ← φ(h + C₂ φ(C₁ h)), 3×3 convolutions."""

    def __init__(self, width, activation, bias, blocks, generator):
        super().__init__()
        self.first = _layer(nn.Conv2d, width, width, 3, padding=1, bias=bias)
        self.second = _layer(nn.Conv2d, width, width, 3, padding=1, bias=bias)
        self.phi = _Phi(activation)
        _draw(self.first, 2 / (9 * width), generator)
        _draw(self.second, 1 / (9 * width * blocks), generator)

    def forward(self, h):
        return self.phi(h + self.second(self.phi(self.first(h))))


class ResNet(_Network):
    r"""Stem convolution, residual blocks h ← φ(h + C₂φ(C₁h)) without normalisation, linear head on all activations.

    Weights are Gaussian: variance 1/fan-in in the stem, 2/fan-in in C₁, 1/(fan-in·blocks) in C₂.

    Args:
        image_shape: (H, W) or (H, W, 3), as :class:`~reconlaw.data.Dataset` has it; inputs are its flattened rows.
        width: channels; the features are p = width × positions.
        blocks: residual blocks, ≥ 0.
        kernel: side of the stem's kernel, with padding 1; the smaller side of the picture less 4 where None, which
            leaves 7×7 positions of a square one: the paper's 28 for 32×32, and 4 for 8×8.
        outputs: K.
        activation: as for :class:`~reconlaw.features.random_features.RandomFeatures`.
        bias: give every convolution a bias, N(0, 1/4).
        seed: of all weights.
        dtype: torch.float64 or torch.float32.

    Attributes:
        body: rows (n, d) to features (n, p).
        head: linear, K × p.
        p: features of one output.

    Raises:
        ValueError: no such picture, or a kernel larger than it with its padding.
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (32, 32, 3),
        width: int = 64,
        blocks: int = 4,
        kernel: int | None = None,
        outputs: int = 1,
        activation: str | Callable = "relu",
        bias: bool = False,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        shape = tuple(check_count("image_shape", side) for side in listed("image_shape", image_shape))
        if len(shape) not in (2, 3):
            raise ValueError(f"image_shape={image_shape} is no picture; pass (H, W) or (H, W, C)")
        kernel = max(1, min(shape[:2]) - 4) if kernel is None else check_count("kernel", kernel)
        if kernel > min(shape[:2]) + 2:
            raise ValueError(f"kernel={kernel} is larger than the picture {shape[:2]} with its padding of 1")
        check_count("width", width), check_count("blocks", blocks, minimum=0), check_float_dtype(dtype)
        channels, generator = (*shape, 1)[2], seeded_generator("network", seed)
        stem = _layer(nn.Conv2d, channels, width, kernel, padding=1, bias=bias)
        _draw(stem, 1 / (kernel**2 * channels), generator)
        body = [_Block(width, activation, bias, blocks, generator) for _ in range(blocks)]
        self.body = nn.Sequential(_Pictures(shape), stem, _Phi(activation), *body, nn.Flatten())
        self._with_head(width * math.prod(side + 3 - kernel for side in shape[:2]), outputs, generator)
        self.to(dtype)


def between(before: nn.Module, after: nn.Module, t: float = 0.5) -> nn.Module:
    """The network whose parameters are (1 − t) of ``before`` and t of ``after``.

    Where all layers were trained, θ is a mean over the way of features that moved; those at t = 1/2 lie nearer to it
    than those at either end.
    """
    for name, network in (("before", before), ("after", after)):
        if not isinstance(network, nn.Module):
            raise TypeError(f"{name} is a {type(network).__name__}; pass a torch.nn.Module")
        check_filled(name, network)
    try:
        middle, end = copy.deepcopy(before), dict(after.named_parameters())
    except RuntimeError as error:
        raise ValueError(f"before cannot be copied ({error}); detach the tensors that it keeps") from error
    if {name: p.shape for name, p in middle.named_parameters()} != {name: p.shape for name, p in end.items()}:
        raise ValueError("before and after have other parameters, or of other shapes; pass one network's two states")
    t = check_real("t", t)
    with torch.no_grad():
        for name, p in middle.named_parameters():
            p.lerp_(end[name].to(p), t)
    return middle


def input_span(change: torch.Tensor, n: int | None = None, gap: float = 1e3) -> tuple[torch.Tensor, torch.Tensor]:
    r"""An orthonormal basis of the span of the samples, read off the change of a first layer, ΔW₁ = Σ_i g_i x_iᵀ.

    Every gradient of the first layer is a combination of inputs, so that for n < d the row space of ΔW₁ is
    span{x_i}, and its rank is n.

    Args:
        change: ΔW₁, (width, d).
        n: dimension of the span, at most d; where None, the count before the largest drop between successive
            singular values, if that is large enough, else d.
        gap: the least factor of such a drop.

    Returns:
        (n, d) with orthonormal rows, and the singular values.

    Source: the row space of first-layer updates, arXiv 2605.06519.
    """
    change = check_moved(check_matrix("change", change).detach(), "change")
    change = change.float() if change.element_size() < 4 else change  # no device decomposes half precision
    if n is not None and check_count("n", n) > min(change.shape):
        raise ValueError(f"n={n} exceeds the rank that a change of shape {tuple(change.shape)} can have")
    _, s, Vh = torch.linalg.svd(change, full_matrices=False)
    if n is None:
        drops = s[:-1] / s[1:].clamp_min(torch.finfo(s.dtype).eps * s[0])
        at = int(drops.argmax()) if len(drops) else 0
        n = at + 1 if len(drops) and float(drops[at]) >= gap else len(s)
    return Vh[:n], s
