r"""What autograd gives for any feature map: products with its derivative, Jacobians, their mean square, and its rank.

The attack asks for products with the derivative of f, sample by sample. Both come from reverse mode: Jᵀr is one
backward pass, and, since J(u)ᵀc is linear in c, Jδ is the derivative of ⟨δ, J(u)ᵀc⟩ along c, a backward pass through
the first. So a layer needs two reverse derivatives, not a forward one, and none of its own formulas.

Source of the double backward pass: Townsend, *A new trick for calculating Jacobian vector products* (2017).
"""

from __future__ import annotations

import math

import torch

from .._random import seeded_generator
from .budget import look, patiently
from .decompose import within_reach
from .gram import StepError, as_step, want_of_memory
from .lift import Lift
from .passes import count_passes
from .threads import shared

# Rows of X that pass through the map at a time, when no derivative is wanted.
ROWS = 256
# Numbers that the Jacobians of all columns may hold, and multiplications their Gram matrix may cost: within these the
# Gauss–Newton matrix itself preconditions the descent, beyond them a product of smaller matrices.
_DENSE_NUMBERS = 1 << 27
_DENSE_COST = 3e10
# Directions of the Jacobians taken in one batched pass, and how far an atom may go, in units of its norm, before its
# Jacobian is taken anew.
_DENSE_BATCH = 16
_STALE = 0.1
# Random cotangents behind the metric C, for each dimension, and tangents behind the block K.
_METRIC_SAMPLES = 4
_BLOCK_TANGENTS = 4
# Multiplications that measuring the rank of the features may cost, half a minute's.
_RANK_COST = 1 << 35


def in_batches(features, X: torch.Tensor) -> torch.Tensor:
    """f(X), (n, T·p), without a graph, some rows at a time."""
    made: list[torch.Tensor] = []
    for rows in X.split(ROWS):
        if made:
            look()
        with torch.no_grad(), shared(features.multiplications * len(rows)):
            made.append(features.apply(rows))
    return torch.cat(made)


def backward_graph(f, W):
    """Inputs W, Y = f(W), a cotangent c and Jᵀc as a function of it, for backward passes through either."""
    with torch.inference_mode(False), torch.enable_grad():
        W = W.detach().clone().requires_grad_(True)
        Y = f(W)
        c = torch.zeros_like(Y, requires_grad=True)
        (pulled,) = torch.autograd.grad(Y, W, c, create_graph=True)
    return W, Y, c, pulled


def tangents(graph, delta):
    """Derivative of Y along δ, of the shape of W, or along each of a batch of those."""
    W, _, c, pulled = graph
    return torch.autograd.grad(pulled, c, delta, retain_graph=True, is_grads_batched=delta.ndim > W.ndim)[0]


def _graph(features, W):
    with shared(features.multiplications * len(W)):
        return backward_graph(features.apply, W)


def jacobians(features, W: torch.Tensor, dtype: torch.dtype, taken=None):
    """See :meth:`~reconlaw.features.feature_map.FeatureMap.jacobians`."""
    out = torch.empty(len(W), features.d, features.width, dtype=dtype, device=W.device)
    places, stale = W.clone(), list(range(len(W)))
    if taken is not None:
        distance, nearest = torch.cdist(W, taken[0]).min(1)
        far, nearest = torch.stack([distance > _STALE * math.sqrt(features.d), nearest]).tolist()
        stale, kept = [i for i in stale if far[i]], [i for i in stale if not far[i]]
        source = [nearest[i] for i in kept]
        out[kept], places[kept] = taken[1][source], taken[0][source]
    if stale:
        count_passes((1 + features.d) * len(stale))
        graph = _graph(features, W[stale].to(dtype))
        fresh = torch.empty(len(stale), features.d, features.width, dtype=dtype, device=W.device)
        for axes in torch.arange(features.d, device="cpu").split(_DENSE_BATCH):
            look()
            unit = torch.zeros(len(axes), len(stale), features.d, dtype=dtype, device=W.device)
            unit[torch.arange(len(axes), device="cpu"), :, axes] = 1
            with shared(features.multiplications * len(axes) * len(fresh)):
                fresh[:, axes] = tangents(graph, unit).transpose(0, 1)
        out[stale] = fresh
    return places, out


def metric(features) -> tuple[torch.Tensor, torch.Tensor]:
    """See :meth:`~reconlaw.features.feature_map.FeatureMap.metric`."""
    d = features.d
    U = features.probes(_METRIC_SAMPLES * d, "metric")
    generator = seeded_generator("metric", 1)
    C = torch.zeros(d, d, dtype=U.dtype, device=U.device)
    for rows in U.split(ROWS):
        look()
        w = torch.randn(len(rows), features.width, device="cpu", generator=generator, dtype=U.dtype)
        rows = rows.requires_grad_(True)
        with torch.enable_grad():
            (g,) = torch.autograd.grad(features.apply(rows), rows, w.to(U.device))
        C += g.T @ g
    C = C / C.diagonal().mean()
    values, vectors = (part.to(C.device) for part in patiently(torch.linalg.eigh, within_reach(C)))
    values = values.clamp_min(1e-3)
    return values / values.mean(), vectors


def prepare() -> None:
    """Have torch import what its first count of operations imports, for seconds, before a clock runs."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False):
        torch.zeros(1, device="cpu")


def multiplications(features) -> float:
    """Of one row's pass through the map, those of its matrix products and convolutions alone."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        features.apply(features.probes(2))  # one row alone has no statistics of a batch
    return counter.get_total_flops() / 4


def most_inputs(features, count: int) -> int:
    """At how many inputs, at most ``count``, the rank of the features is measured in reasonable time."""
    return min(features.p, count, math.isqrt(_RANK_COST // features.p) + 1)


def rank(features, inputs: int) -> int:
    """The rank of f at so many random inputs, in float64; p where it is full, or where there is no float64.

    Raises:
        StepError: there is not memory enough for it.
    """
    with as_step():
        try:
            # Columns of one sample may depend on one another, so twice as many are taken where a sample has several.
            T = features.positions
            samples = inputs if T == 1 else 2 * -(-inputs // T) + 1
            F = features.columns(in_batches(features, features.probes(samples, "rank").double()))
        except (RuntimeError, TypeError) as error:  # no float64 on this device, or in this map
            if want_of_memory(error) or isinstance(error, StepError):
                raise
            return features.p
        s = patiently(torch.linalg.svdvals, within_reach(F))
    found = int((s > 10 * inputs * torch.finfo(s.dtype).eps * s[0]).sum())
    return features.p if found >= inputs else found


class AutogradLift(Lift):
    """Lifted columns of atoms ``U`` under any feature map, and products with their Jacobian by autograd."""

    def __init__(self, features, U, lifted, dtype):
        self.features, self.U, self.lifted, self.dtype = features, U, lifted, dtype
        self._W = (torch.cat([U, -U]) if lifted else U).detach().to(dtype)
        count_passes(len(self._W))
        self.columns = features.columns(in_batches(features, self._W))
        self._at = None

    def _shared(self):
        return shared(self.features.multiplications * len(self._W))

    def linearise(self, alpha):
        self.alpha = alpha
        if self._at is None:
            count_passes(2 * len(self._W))
            self._at = _graph(self.features, self._W)

    def jvp(self, delta):
        delta = torch.cat([delta, -delta]) if self.lifted else delta
        count_passes(len(self._W))
        with self._shared():
            moved = tangents(self._at, delta)
        return self.alpha.T @ self.features.columns(moved)

    def vjp(self, R):
        W, Y, _, _ = self._at
        count_passes(len(W))
        with self._shared():
            (pulled,) = torch.autograd.grad(Y, W, self.features.joined(self.alpha @ R), retain_graph=True)
        return self.fold(pulled)

    def metric(self):
        return self.features.metric()

    def jacobians(self, taken=None):
        """Those of the feature map at the columns' atoms, or None where they would be too large."""
        (n, d), (m, p) = self.U.shape, self.columns.shape
        if self.features.positions > 1 or m * d * p > _DENSE_NUMBERS or (n * d) ** 2 * p > _DENSE_COST:
            return None
        return self.features.jacobians(self._W, taken)

    def block_gram(self):
        r"""K with JᵀJ ≈ K ⊗ C: K_ij = tr J_iᵀJ_j / d, by random tangents that all atoms share (Hutchinson)."""
        generator, total = seeded_generator("metric", 2), 0
        count_passes(_BLOCK_TANGENTS * len(self._W))
        for _ in range(_BLOCK_TANGENTS):
            look()
            draw = torch.randn(self.features.d, device="cpu", generator=generator, dtype=torch.float64).to(self.columns)
            with self._shared():
                T = self.features.columns(tangents(self._at, draw.expand(len(self._W), -1)))
            for alpha in self.alpha.T:
                A = self.fold((alpha[:, None] * T).unflatten(0, (self.features.positions, -1)).sum(0))
                total = total + A @ A.T
        return total / (_BLOCK_TANGENTS * self.features.d)
