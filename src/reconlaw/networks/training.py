r"""Full-batch gradient descent with a record of how far every layer moved: what leaves the samples in θ."""

from __future__ import annotations

import copy
import math
import sys
from dataclasses import dataclass
from typing import cast

import torch
from numpy.typing import ArrayLike
from torch import nn
from tqdm import tqdm

from .._checks import as_tensor, check_count, check_finite, check_matrix, check_plain, check_positive
from .._precision import full_precision
from .._random import seeded_generator
from .._words import many
from ..features.passes import count_passes


class TrainingError(RuntimeError):
    """Training that diverged or met NaN."""


@dataclass(eq=False)
class Training:
    r"""How a training went.

    Attributes:
        network: the trained one, a copy; the one handed over is as it was.
        theta: the head after less the head before, (K, p).
        loss: mean over the samples of ‖f(x) − y‖², at the end.
        losses: the same before every step, and at the end.
        moved: ‖W after − W before‖/‖W before‖ of every parameter, by name.
        converged: the loss reached the tolerance.
        message: in words.
        interrupted: Ctrl-C ended it.
    """

    network: nn.Module
    theta: torch.Tensor
    loss: float
    losses: list[float]
    moved: dict[str, float]
    converged: bool
    message: str
    interrupted: bool = False

    def __repr__(self):
        return f"Training({self.message})"


@full_precision()
def train(
    network: nn.Module,
    X: torch.Tensor,
    y: ArrayLike,
    layers: str = "all",
    tol: float = 1e-6,
    step: float = 0.2,
    momentum: float = 0.0,
    max_steps: int = 100_000,
    progress: bool = False,
    head: str = "head",
) -> Training:
    r"""Full-batch gradient descent on (1/n) Σ_i ‖f(x_i) − y_i‖² until it is at most ``tol``.

    The rate is η = step·n/(2λ), λ the largest eigenvalue of JJᵀ at the start (J: derivative of all outputs along the
    trained parameters), so that ``step`` = 2 is where descent turns unstable, whatever the network. Nothing is drawn
    at random. With the body frozen and tol → 0 the head ends at the least-squares solution nearest its start, which
    ``features.fit(X, y, theta0=head)`` gives in one step.

    Args:
        network: a module with a linear ``head``; left as it is.
        X: (n, d), or whatever the network takes.
        y: (n,) or (n, K).
        layers: "all", or "head" with the body frozen.
        tol: of the loss.
        step: see above; small steps follow the gradient flow.
        momentum: heavy-ball momentum, 0 for plain descent.
        max_steps: end after so many.
        progress: show a bar on stderr.
        head: name of the head in the network, such as "fc" or "classifier.1".

    Returns:
        :class:`Training`; Ctrl-C ends it early with what is there.

    Raises:
        TrainingError: the loss grew tenfold, or is NaN.
        TypeError, ValueError: what is wrong with an argument.
    """
    if layers not in ("all", "head"):
        raise ValueError(f"layers={layers!r} is unknown; use 'all' or 'head'")
    try:
        layer = network.get_submodule(head)
    except (AttributeError, RuntimeError):  # a scripted network has no part that could be named
        layer = None
    if not isinstance(layer, nn.Linear):
        raise ValueError(f"the network's {head!r} is a {type(layer).__name__}; name its last linear layer by head=")
    tol, step = check_positive("tol", tol), check_positive("step", step)
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum={momentum} must be at least 0 and below 1")
    check_count("max_steps", max_steps)
    trained = copy.deepcopy(network)
    weight = cast(nn.Linear, trained.get_submodule(head)).weight
    if not isinstance(X, torch.Tensor) or X.ndim == 2:
        check_matrix("X", X)
    X = check_finite("X", check_plain("X", X)).to(weight)
    if X.ndim < 2:
        raise ValueError(f"X has shape {tuple(X.shape)}; expected (n, …), a sample a row")
    X = X.clone() if X.is_inference() else X  # or nothing could be differentiated
    try:
        with torch.no_grad():
            copy.deepcopy(trained).eval()(X[:1])
    except RuntimeError as error:
        raise ValueError(f"the network does not take X of shape {tuple(X.shape)}: {error}") from error
    y = check_finite("y", as_tensor(y)).to(weight)
    y = y[:, None] if y.ndim == 1 else y
    if y.shape != (len(X), weight.shape[0]):
        raise ValueError(f"y has shape {tuple(y.shape)}; expected ({len(X)}, {weight.shape[0]}), a row for each sample")
    trained.requires_grad_(layers == "all")
    weight.requires_grad_(True)
    parameters = [p for p in trained.parameters() if p.requires_grad]
    before = {name: p.detach().clone() for name, p in trained.named_parameters()}

    def fitted(out):  # the network may have dropped the axis of its one output
        if out.numel() != y.numel():
            raise ValueError(
                f"the network makes {tuple(out.shape)} of {many(len(y), 'sample')}; expected {tuple(y.shape)}"
            )
        return out.reshape(y.shape)

    def model(X):
        return fitted(trained(X))

    if layers == "head":
        model = trained.get_submodule(head)
        with torch.no_grad():
            X, out = _through(trained, model, X)
            if not torch.allclose(fitted(out), model(X), equal_nan=True):
                raise ValueError(f"the network does not end with {head!r}; layers='head' trains what comes out of that")
    rate = step * len(X) / (2 * _largest_curvature(model, parameters, X))
    losses, velocity, interrupted = [], [torch.zeros_like(p) for p in parameters], False
    bar = tqdm(total=max_steps, file=sys.stderr, disable=not progress, unit="step")
    try:
        while True:
            loss = (model(X) - y).square().sum() / len(X)
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]) or losses[-1] > 10 * losses[0] + tol:
                raise TrainingError(
                    f"training diverged: loss {losses[-1]:.1e} after {many(len(losses) - 1, 'step')}, from "
                    f"{losses[0]:.1e}; lower step={step}"
                )
            if losses[-1] <= tol or len(losses) > max_steps:
                break
            count_passes(2 * len(X))
            for p, v, g in zip(parameters, velocity, torch.autograd.grad(loss, parameters), strict=True):
                v.mul_(momentum).add_(g)
                p.data.sub_(rate * v)
            bar.update()
            if progress:
                bar.set_description_str(f"loss {losses[-1]:.1e}", refresh=False)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        bar.close()
    if not losses:
        raise KeyboardInterrupt
    converged = losses[-1] <= tol
    ended = "interrupted at " if interrupted else "" if converged else "steps spent at "
    moved = {
        name: float((p.detach() - before[name]).norm() / before[name].norm().clamp_min(1e-300))
        for name, p in trained.named_parameters()
    }
    trained.requires_grad_(True)
    theta = (weight.detach() - before[f"{head}.weight"]).clone()
    message = f"{ended}loss {losses[-1]:.1e} after {many(len(losses) - 1, 'step')}"
    return Training(trained, theta, losses[-1], losses, moved, converged, message, interrupted)


def _through(network, layer, X):
    """What the network feeds to one of its layers, and what comes out at its end."""
    seen = []
    hook = layer.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    try:
        out = network(X)
    finally:
        hook.remove()
    return seen[-1], out


def _largest_curvature(model, parameters, X, iterations=30):
    """Largest eigenvalue of JJᵀ, by power iteration; J: derivative of the outputs along the parameters."""
    count_passes(2 * len(X) * (1 + iterations))
    out = model(X)
    c = torch.zeros_like(out, requires_grad=True)
    pulled = torch.autograd.grad(out, parameters, c, create_graph=True)
    u = torch.ones_like(out) + 0.1 * torch.randn(
        out.shape, device="cpu", generator=seeded_generator("curvature", 0), dtype=torch.float64
    ).to(out)
    value = u.new_tensor(0.0)
    for _ in range(iterations):
        u = u / u.norm()
        along = torch.autograd.grad(out, parameters, u, retain_graph=True)
        (u,) = torch.autograd.grad(pulled, c, along, retain_graph=True)
        value = u.norm()
    return float(value)
