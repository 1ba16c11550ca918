"""Small problems off the sphere: bodies with biases, pixels, and what made θ of them."""

from __future__ import annotations

import torch
from honesty import Draw
from torch import nn

import reconlaw as rl

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU, "tanh": nn.Tanh, "softplus": nn.Softplus}


def body(draw: Draw, d: int, p: int, activation: str) -> nn.Sequential:
    """A layer of p features with biases, drawn."""
    layer = nn.Linear(d, p).double().requires_grad_(False)
    layer.weight.copy_(draw.normal(p, d) / d**0.5)
    layer.bias.copy_(draw.normal(p) / 2)
    return nn.Sequential(layer, ACTIVATIONS[activation]())


def features_of(made: nn.Module, d: int) -> rl.ModuleFeatures:
    return rl.ModuleFeatures(made, (d,), device="cpu")


def pixels(draw: Draw, n: int, d: int) -> torch.Tensor:
    """Pictures of a kind: in [0, 1], a share of the pixels exactly 0, some exactly 1."""
    dark, bright = draw.real(0, 0.5), draw.real(0, 0.2)
    X = torch.rand(n, d, generator=draw.generator, dtype=torch.float64) * (1 + bright + dark) - dark
    return X.clamp(0, 1)


class Problem:
    """A body, samples and θ; what the attacker is told of them is the kinds' to change."""

    def __init__(self, draw: Draw, least: float = 1.0, most: float = 4.0):
        self.n, self.d, self.outputs = draw.whole(1, 4), draw.whole(4, 12), draw.whole(1, 4)
        rows = min(self.n, self.outputs)
        self.where = draw.of(["box", "box", "free", "family"])
        k = max(2, self.d // 2) if self.where == "family" else self.d
        unknowns = self.n * (k + rows)
        p = max(self.n + 2, -(-round(draw.real(least, most) * unknowns) // rows))
        self.activation = draw.of(list(ACTIVATIONS))
        self.body = body(draw, self.d, p, self.activation)
        self.features = features_of(self.body, self.d)
        self.X, self.inputs = self.samples(draw, k)
        self.a = draw.coefficients(self.outputs, self.n)
        self.a *= 10 ** (-draw.real(0, 3) * torch.arange(self.outputs)[:, None])  # rows of unequal size

    def samples(self, draw: Draw, k: int):
        if self.where == "family":
            basis, offset = draw.normal(k, self.d), draw.normal(self.d)
            return offset + draw.normal(self.n, k) @ basis, rl.inputs.Affine(basis, offset)
        X = pixels(draw, self.n, self.d)
        return X, rl.inputs.Box(0.0, 1.0) if self.where == "box" else rl.inputs.Free()

    @property
    def theta(self) -> torch.Tensor:
        return self.a @ self.features(self.X)
