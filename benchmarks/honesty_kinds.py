"""Kinds of problems in which a sample was once wrongly called recovered, or might be; see honesty_inputs.py."""

from __future__ import annotations

import copy

import torch
from honesty import Draw
from honesty_problems import ACTIVATIONS, Problem, body, features_of, pixels
from torch import nn

import reconlaw as rl

PIECES = {
    "relu": nn.ReLU,
    "leaky": lambda: nn.LeakyReLU(0.1),
    "hardtanh": nn.Hardtanh,
    "relu6": nn.ReLU6,
    "nearly linear": lambda: nn.LeakyReLU(0.9),
}


def piecewise(draw: Draw, d: int, p: int, name: str) -> nn.Sequential:
    made = body(draw, d, p, "relu")
    made[1] = PIECES[name]()
    return made


def drawn_near(draw: Draw, x: torch.Tensor, size: float) -> torch.Tensor:
    return (x + size * draw.normal(len(x))).clamp(0, 1)


def box_or_free(draw: Draw):
    return draw.of([rl.inputs.Box(0.0, 1.0), rl.inputs.Free()])


def near(draw: Draw):
    """Samples near one another, of which few neurons of a piecewise linear body tell."""
    n, d, outputs = draw.whole(2, 5), draw.whole(3, 12), draw.whole(1, 5)
    rows = min(n, outputs)
    p = max(n + 2, round(draw.real(1, 4) * n * (d + rows) / rows))
    features = features_of(piecewise(draw, d, p, draw.of(list(PIECES))), d)
    X, size = pixels(draw, n, d), 10 ** draw.real(-3.5, -0.3)
    for i in range(1, n):
        if draw.real() < 0.6:
            X[i] = drawn_near(draw, X[draw.whole(0, i - 1)], size)
    theta = draw.coefficients(outputs, n) @ features(X)
    inputs = box_or_free(draw)
    return X, features, theta, {"n": n, "inputs": inputs, "tol": draw.of([1e-20, 1e-20, 1e-14, 1e-10, 1e-6])}


def decoder(draw: Draw):
    """Samples in the range of a decoder, beside it, or of another decoder."""
    n, d, outputs, k = draw.whole(1, 4), draw.whole(5, 14), draw.whole(1, 4), draw.whole(2, 4)
    rows = min(n, outputs)
    p = max(n + 2, round(draw.real(1, 5) * n * (k + rows) / rows))
    first, last = (nn.Linear(*shape).double().requires_grad_(False) for shape in ((k, 16), (16, d)))
    first.weight.copy_(draw.normal(16, k) / k**0.5)
    first.bias.copy_(draw.normal(16) / 2)
    last.weight.copy_(draw.normal(d, 16) / 4)
    last.bias.copy_(draw.normal(d) / 2)
    true = nn.Sequential(first, draw.of([nn.Tanh, nn.GELU, nn.ReLU])(), last, nn.Sigmoid())
    Z, known = draw.normal(n, k), copy.deepcopy(true)
    how = draw.of(["right", "right", "wrong", "beside", "box"])
    X = true(Z)
    if how == "wrong":
        off = 10 ** draw.real(-3, -0.5)
        for parameter in known.parameters():
            parameter.add_(off * draw.normal(*parameter.shape) * parameter.abs().mean())
    if how == "beside":
        X = X + 10 ** draw.real(-3.5, -0.7) * draw.normal(n, d)
    features = features_of(body(draw, d, p, draw.of(list(ACTIVATIONS))), d)
    theta = draw.coefficients(outputs, n) @ features(X)
    inputs = rl.inputs.Decoder(known, k, rl.inputs.Box(-3.0, 3.0) if how == "box" else None)
    return X, features, theta, {"n": n, "inputs": inputs, "tol": draw.of([1e-20, 1e-8, 1e-4, 1e-2])}


class Columns(nn.Module):
    """A convolution whose positions are the columns of a sample."""

    def __init__(self, convolution: nn.Conv1d, activation: nn.Module):
        super().__init__()
        self.convolution, self.activation = convolution, activation

    def forward(self, x):
        return self.activation(self.convolution(x)).transpose(1, 2)


def columns(draw: Draw):
    """Several columns a sample, of full rank or not, n right or wrong, with noise."""
    n, length, width = draw.whole(1, 3), draw.whole(6, 12), draw.whole(3, 5)
    T = length - width + 1
    outputs = draw.whole(1, 3) if draw.real() < 0.5 else n * T + draw.whole(0, 2)
    rows = min(n * T, outputs)
    p = max(n * T + 2, round(draw.real(1, 4) * n * (length + T * rows) / rows))
    convolution = nn.Conv1d(1, p, width).double().requires_grad_(False)
    convolution.weight.copy_(draw.normal(p, 1, width) / width**0.5)
    convolution.bias.copy_(draw.normal(p) / 2)
    made = Columns(convolution, draw.of([nn.GELU, nn.ReLU, nn.Tanh, nn.Softplus])())
    features = rl.ModuleFeatures(made, (1, length), device="cpu", several=True)
    X = pixels(draw, n, length)
    if draw.real() < 0.3 and n > 1:
        X[1] = drawn_near(draw, X[0], 10 ** draw.real(-3, -0.5))
    theta = draw.normal(outputs, n * T) @ features.columns(features(X))
    how = draw.of(["right", "right", "few", "many", "noise"])
    size = 10 ** draw.real(-7, -2) if how == "noise" else 0.0
    theta = noisy(theta, draw.normal(outputs, p), size)
    asked = max(1, n + {"few": -1, "many": 1}.get(how, 0))
    tol = 2 * size**2 if how == "noise" else draw.of([1e-20, 1e-8, 1e-4])
    return X, features, theta, {"n": asked, "inputs": box_or_free(draw), "tol": tol}


def noisy(theta: torch.Tensor, noise: torch.Tensor, size: float) -> torch.Tensor:
    return theta + size * theta.norm() / noise.norm().clamp_min(1e-9) * noise


def levels(draw: Draw):
    """Pictures on a grid of levels, off it, or on a grid of other levels, with noise."""
    made = Problem(draw, 1.0, 4.0)
    count = draw.of([2, 4, 16, 256])
    X = pixels(draw, made.n, made.d)
    how = draw.of(["on", "off", "shift"])
    if how != "off":
        X = (X * (count - 1)).round() / (count - 1)
    if how == "shift":
        X = X * (1 - draw.real(0, 0.05))
    X[:, 0] += X.norm(dim=1) == 0  # relative errors need a norm
    theta = made.a @ made.features(X)
    size = draw.of([0, 0, 10 ** draw.real(-6, -2)])
    theta = noisy(theta, draw.normal(*theta.shape), size)
    tol = max(2 * size**2, draw.of([1e-20, 1e-20, 1e-8, 1e-4]))
    return X, made.features, theta, {"n": made.n, "inputs": rl.inputs.Box(0.0, 1.0, levels=count), "tol": tol}


def left_out(draw: Draw):
    """One to five small samples more than are asked for, within the tolerance."""
    made = Problem(draw, 2.0, 8.0)
    n = draw.whole(2, 6)
    if made.where == "family":
        X = made.inputs.offset + draw.normal(n, len(made.inputs.basis)) @ made.inputs.basis
    else:
        X = pixels(draw, n, made.d)
    a = draw.coefficients(made.outputs, n) * 10 ** (-draw.real(0, 2) * torch.arange(made.outputs)[:, None])
    gone = draw.whole(1, n - 1)
    a[:, :gone] *= 10 ** draw.real(-5, 0)
    theta = a @ made.features(X)
    alone = a[:, gone:] @ made.features(X[gone:])
    left = float((theta - alone).norm() / theta.norm())
    tol = max(1e-20, min(0.3, draw.real(0.3, 4) * left**2))
    return X, made.features, theta, {"n": n - gone, "inputs": made.inputs, "tol": tol}


def single_body(draw: Draw):
    """A body, samples and θ in float32."""
    n, d, outputs = draw.whole(1, 4), draw.whole(4, 12), draw.whole(1, 5)
    rows = min(n, outputs)
    p = max(n + 2, round(draw.real(1, 4) * n * (d + rows) / rows))
    made = body(draw, d, p, draw.of(list(ACTIVATIONS)))
    X = pixels(draw, n, d)
    if draw.real() < 0.4 and n > 1:
        X[1] = drawn_near(draw, X[0], 10 ** draw.real(-3, -0.5))
    features, X = rl.ModuleFeatures(made.float(), (d,), device="cpu", dtype=torch.float32), X.float()
    a = (draw.coefficients(outputs, n) * 10 ** (-draw.real(0, 3) * torch.arange(outputs)[:, None])).float()
    theta = a @ features(X)
    tol = {} if draw.real() < 0.6 else {"tol": draw.of([1e-10, 1e-8, 1e-5])}
    return X.double(), features, theta, {"n": n, "inputs": box_or_free(draw), **tol}


def uneven(draw: Draw):
    """Noise: even, unequal between the outputs, in a tenth of the numbers, or much the same in all outputs."""
    made = Problem(draw, 1.05, 5.0)
    size, noise = 10 ** draw.real(-6, -1.3), draw.normal(*made.theta.shape)
    how = draw.of(["even", "rows", "sparse", "same"])
    if how == "rows":
        noise = noise * 10 ** (-draw.real(0, 3) * torch.arange(len(noise))[:, None])
    if how == "sparse":
        noise = noise * (torch.rand(noise.shape, generator=draw.generator) < 0.1)
    if how == "same":
        noise = draw.normal(len(noise), 1) * draw.normal(1, noise.shape[1]) + 0.1 * noise
    theta = noisy(made.theta, noise, size)
    asked = made.n + draw.of([0, 0, 0, 1])
    tol = draw.of([1.0, 2.0, 10.0]) * size**2
    return made.X, made.features, theta, {"n": asked, "inputs": made.inputs, "tol": tol}


def span(draw: Draw):
    """Full rank, sample by sample: with noise, from float32, with a body or a box that is wrong."""
    n, d = draw.whole(2, 8), draw.whole(3, 10)
    outputs = n + draw.whole(0, 3)
    p = round(draw.real(1.0, 3) * (n + d)) + 1
    name = draw.of([*PIECES, *ACTIVATIONS])
    made = piecewise(draw, d, p, name) if name in PIECES else body(draw, d, p, name)
    X = pixels(draw, n, d)
    for i in range(1, n):
        if draw.real() < 0.4:
            X[i] = drawn_near(draw, X[draw.whole(0, i - 1)], 10 ** draw.real(-3, -0.3))
    features = features_of(made, d)
    theta = draw.normal(outputs, n) @ features(X)
    how, inputs, options = draw.of(["right", "right", "noise", "f32", "body", "box"]), box_or_free(draw), {}
    if how == "noise":
        size = 10 ** draw.real(-8, -2)
        theta, options = noisy(theta, draw.normal(outputs, p), size), {"tol": 2 * size**2}
    if how == "f32":
        theta, options = theta.float().double(), {"tol": 1e-13}
    if how == "body":
        known = copy.deepcopy(made)
        known[0].weight.add_(10 ** draw.real(-6, -1.5) * draw.normal(p, d))
        features, options = features_of(known, d), {"tol": draw.of([1e-8, 1e-4])}
    if how == "box":
        inputs, options = rl.inputs.Box(draw.real(0, 0.2), 1.0), {"tol": draw.of([1e-8, 1e-4, 1e-20])}
    return X, features, theta, {"n": draw.of([n, n, None]), "inputs": inputs, "method": "span", **options}


KINDS = {
    "near samples": near,
    "decoder": decoder,
    "several columns": columns,
    "grey levels": levels,
    "samples left out": left_out,
    "body in float32": single_body,
    "uneven noise": uneven,
    "span": span,
}
# Names under which these were drawn first: tests hold what was wrong of them then.
STREAMS = {
    "near samples": "break near",
    "decoder": "break decoder",
    "several columns": "break columns",
    "grey levels": "break levels",
    "samples left out": "break few",
    "body in float32": "break f32",
    "uneven noise": "break noise",
    "span": "break span",
}
