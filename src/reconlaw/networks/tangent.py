r"""Tangent features of a two-layer network, and descent on the inputs at which they are taken.

The gradient of f(x) = vᵀφ(Wx), φ ReLU, along all weights is

    ∇_v f(x) = φ(Wx),    ∇_W f(x) = (v ∘ φ'(Wx)) xᵀ.

Two attacks look for inputs whose tangent features combine to a known vector t of all weights:
:func:`reconlaw.ntk`, t what training changed, and :func:`reconlaw.kkt`, t the trained weights
themselves. Both minimise

    L(X̂) = min_c ‖t − Σ_i c_i ∇f(x̂_i)‖² / ‖t‖²

over rows x̂_i of norm √d. The coefficients are solved for at every step by the Gram matrix
Φ_i·Φ_k + (D_i·D_k)(x_i·x_k), D_i = v ∘ φ'(Wx_i), which needs no matrix of m × (p + pd) numbers; by the envelope theorem
the gradient along X̂ is then that at fixed c. φ' jumps, so its derivative tells X̂ nothing: both papers smooth it, as
here, by φ(z) = softplus(sz)/s, whose s grows as the descent goes on. What is reported is the loss of the ReLU itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import scipy
import torch
import torch.nn.functional as F
from torch import nn

from .._checks import check_count, check_finite, check_moved, check_positive
from .._precision import full_precision
from .._random import seeded_generator
from ..attack.count import Count
from ..attack.result import Result, Status
from ..attack.run import Run
from ..features.activations import get_activation
from ..features.passes import count_passes
from ..sphere import to_sphere
from .models import TwoLayer

_DESCENT = """seed: of the random start.
        max_seconds: the descent ends with this or ``max_steps``, whichever is spent first; None for no limit.
        max_steps: a step is an iteration (:mod:`reconlaw.features.passes`, with the m candidates in the place of n);
            rate and sharpness follow the steps, whatever the clock says.
        learning_rate: of Adam, falling to zero.
        sharpness: of the smoothed ReLU, first and last.
        progress: show a bar on stderr.
        clock: as of :func:`reconlaw.reconstruct`.
        steps: an earlier name of ``max_steps``.
"""
_RECORD_EVERY = 20
_Attack = TypeVar("_Attack", bound=Callable)
_RIDGE = 1e-12  # of the Gram matrix's mean diagonal: candidates may meet


class Descent(NamedTuple):
    """What the two attacks are told alike, in the order of their arguments."""

    seed: int
    max_seconds: float | None
    max_steps: int
    learning_rate: float
    sharpness: tuple[float, float]
    progress: bool
    clock: Callable[[], float] | None
    steps: int | None


def described(attack: _Attack) -> _Attack:
    """The attack with the arguments of its descent in its docstring, at the word DESCENT."""
    attack.__doc__ = (attack.__doc__ or "").replace("DESCENT\n", _DESCENT)
    return attack


def layers(name: str, network) -> tuple[torch.Tensor, torch.Tensor]:
    """W (p, d) and v (p,) of a two-layer ReLU network of one output.

    Raises:
        TypeError: no :class:`~reconlaw.networks.TwoLayer`.
        ValueError: its activation is not ReLU, it has a bias or several outputs, or holds NaN.
    """
    if not isinstance(network, TwoLayer):
        raise TypeError(f"{name} is a {type(network).__name__}; pass a reconlaw.networks.TwoLayer")
    layer, phi = network.body[0], network.body[1]
    if phi.activation != get_activation("relu") or layer.bias is not None or network.outputs != 1:
        raise ValueError(f"{name} must have ReLU, no bias and one output")
    return check_finite(name, layer.weight.detach()), check_finite(name, network.head.weight[0].detach())


def tangent(W, v, X, sharpness=math.inf):
    """∇_v f at the rows of X and the factor D of ∇_W f = Dᵢ xᵢᵀ, (m, p) each, and ∂D/∂z.

    ``sharpness`` s is that of pre-activations in units of the root mean square of ‖w_j‖; infinite: the ReLU.
    """
    z = X @ W.T
    if math.isinf(sharpness):
        return z.clamp_min(0), (z > 0) * v, torch.zeros_like(z)
    s = sharpness * math.sqrt(len(W)) / float(W.norm())
    slope = torch.sigmoid(s * z)
    return F.softplus(z, beta=s, threshold=40), slope * v, s * slope * (1 - slope) * v


def fit(at, target, X, signs=None, nonnegative=False, sharpness=math.inf, gradient=False):
    r"""Coefficients c of the best fit to ``target``, its loss L, and ∂L/∂X.

    Args:
        at: pairs (W, v), the weights at which tangent features are taken, each with coefficients of its own.
        target: t as a pair (p, d), (p,).
        X: (m, d).
        signs: (m,) ±1 by which the features are multiplied, one where None.
        nonnegative: hold c ≥ 0.
        sharpness: of the smoothed ReLU.
        gradient: compute ∂L/∂X, else None.

    Returns:
        c (m, len(at)), L, ∂L/∂X.
    """
    signs = torch.ones_like(X[:, 0]) if signs is None else signs
    count_passes((1 + gradient) * len(at) * len(X))
    parts = [tangent(W, v, X, sharpness) for W, v in at]
    H = torch.cat([signs[:, None] * H for H, _, _ in parts])
    D = torch.cat([signs[:, None] * D for _, D, _ in parts])
    Y = X.repeat(len(at), 1)
    gram = H @ H.T + (D @ D.T) * (Y @ Y.T)
    c = _solve(gram, H @ target[1] + ((D @ target[0]) * Y).sum(1), nonnegative)
    r, R = target[1] - c @ H, target[0] - (c[:, None] * D).T @ Y
    scale = float(target[0].square().sum() + target[1].square().sum())
    c, loss, slopes = c.reshape(len(at), -1), float(r.square().sum() + R.square().sum()) / scale, None
    if gradient:
        slopes, XR = torch.zeros_like(X), X @ R.T
        for (W, v), (_, D, bend), weight in zip(at, parts, signs * c, strict=True):
            slope = torch.where(v == 0, 0.0, D / v)  # φ'
            slopes -= 2 * weight[:, None] * ((slope * r + bend * XR) @ W + D @ R) / scale
    return c.T, loss, slopes


def _solve(gram, b, nonnegative):
    """Least squares by the normal equations."""
    gram = gram + _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    if not nonnegative:
        return torch.linalg.solve(gram, b)
    lower = torch.linalg.cholesky(gram)
    b = torch.linalg.solve_triangular(lower, b[:, None], upper=False)[:, 0]
    return torch.from_numpy(scipy.optimize.nnls(lower.T.cpu().numpy(), b.cpu().numpy())[0]).to(gram)


@full_precision()
def descend(method, at, target, m, how: Descent, signs=None, nonnegative=False) -> Result:
    """Adam on the candidates X̂. Ctrl-C returns the best so far."""
    max_steps = check_count("max_steps", how.max_steps if how.steps is None else how.steps)
    rate = check_positive("learning_rate", how.learning_rate)
    if not isinstance(how.sharpness, tuple | list) or len(how.sharpness) != 2:
        raise ValueError(f"sharpness={how.sharpness!r} must be two numbers, the first and the last")
    first, last = (check_positive("sharpness", s) for s in how.sharpness)
    W, v = target
    check_moved(torch.cat([W.flatten(), v]))
    generator = seeded_generator("attack", how.seed)
    X = to_sphere(torch.randn(m, W.shape[1], device="cpu", generator=generator, dtype=torch.float64).to(W))
    holder = nn.Parameter(X)
    limits = {"max_steps": max_steps, "samples": len(at) * m, "clock": how.clock}
    adam, run = torch.optim.Adam([holder]), Run(how.max_seconds, how.progress, **limits)
    try:
        with run.working():
            for step in itertools.count():
                spent, done = run.steps / max_steps, run.expired
                if done or step % _RECORD_EVERY == 0:
                    loss = fit(at, target, X, signs, nonnegative)[1]
                    done = run.record(X, loss, f"step {step}") or done
                if done:
                    break
                s = first * (last / first) ** spent
                holder.grad = fit(at, target, X, signs, nonnegative, s, gradient=True)[2]
                adam.param_groups[0]["lr"] = rate * (1 - spent)
                adam.step()
                holder.data = X = to_sphere(holder.data)
    except KeyboardInterrupt:
        if run.best is None:
            raise
        run.interrupt()
    finally:
        run.close()
    X = X if run.best is None else run.best
    c, loss, _ = fit(at, target, X, signs, nonnegative)
    status = Status.INTERRUPTED if run.interrupted else Status.BUDGET_SPENT
    if status is Status.BUDGET_SPENT and run.spent == "max_steps":  # the rate has fallen to zero: it came to its end
        status = Status.STALLED
    ended = "steps done" if status is Status.STALLED else status.value
    return Result(
        X=X,
        coefficients=c[:, 0] if len(at) == 1 else c,
        loss=loss,
        history=run.history,
        converged=False,
        determined=Count(W.numel() + v.numel(), m * (W.shape[1] - 1 + len(at))).enough,
        sign_identifiable=None,
        message=f"{ended} at loss {loss:.1e} after {run.seconds:.1f} s; compare with the loss of other seeds",
        seconds=run.seconds,
        steps=run.steps,
        method=method,
        status=status,
    )
