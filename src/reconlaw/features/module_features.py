r"""Features from any network body: Φ(X) = f(X), f a ``torch.nn.Module``, flattened to (n, p).

The attack asks for products with the derivative of f, sample by sample. Both come from reverse mode: Jᵀr is one
backward pass, and, since J(u)ᵀc is linear in c, Jδ is the derivative of ⟨δ, J(u)ᵀc⟩ along c, a backward pass through
the first. So a layer needs two reverse derivatives, not a forward one, and none of its own formulas.

Source of the double backward pass: Townsend, *A new trick for calculating Jacobian vector products* (2017).
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import math
import warnings

import torch
from torch import nn

from .._checks import check_count, check_float_dtype, check_matrix, resolve_device
from .._random import seeded_generator
from .feature_map import FeatureMap
from .moment_regression import MomentRegression

# Rows of X that pass through the module at a time, when no derivative is wanted.
_ROWS = 256
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
# Multiplications that measuring the rank of the features may cost, half a minute's: it is outside the time budget.
_RANK_COST = 1 << 35


@contextlib.contextmanager
def _plain_kernels():
    """Fused attention off: its kernels lack the derivatives that the attack takes, the plain ones have them."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _plain_attention():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _plain_attention():
    try:
        from torch.nn.attention import SDPBackend, sdpa_kernel
    except ImportError:  # torch < 2.3
        return torch.backends.cuda.sdp_kernel(enable_flash=False, enable_math=True, enable_mem_efficient=False)
    return sdpa_kernel(SDPBackend.MATH)


class ModuleFeatures(FeatureMap):
    r"""The feature map Φ(X) = f(X) ∈ R^{n×p} of a network body f, its output flattened.

    A copy of the body is taken, in evaluation mode, its parameters frozen and cast to ``dtype``; the body itself is
    left as it is. Rows of X are inputs flattened in the order of ``input_shape``. As everywhere in the package the
    attack seeks samples of norm √d: a body with biases answers x and 2x differently, so it must have been trained on
    inputs of that norm (``x * d**0.5 / x.norm()`` for each), which is how :mod:`reconlaw.data` gives them.

    Args:
        module: any ``torch.nn.Module`` that maps (n, \*input_shape) to a floating (n, …), each sample by itself.
        input_shape: of one input, such as (3, 32, 32); its product is d.
        dtype: torch.float64 or torch.float32, of parameters and arithmetic.
        device: "auto" (CUDA, else MPS for float32, else CPU) or any torch device.

    Attributes:
        d: dimension of an input, the product of ``input_shape``.
        p: number of features of one input.
        parity: "even", "odd" or "mixed", as measured at random inputs: whether f(−x) = f(x), −f(x), or neither.

    Warns:
        UserWarning: the body was handed over in training mode and holds dropout or batch norm, whose features in
            evaluation mode are not those of training.

    Raises:
        TypeError: no module, a scripted one, or a dtype other than float32 and float64.
        ValueError: an input_shape that the module does not take; an output that is no floating tensor with a row for
            each sample, or not finite; a module that mixes the samples of a batch, is random, is constant, or cannot
            be differentiated.
    """

    def __init__(self, module, input_shape, dtype=torch.float64, device="auto"):
        if not isinstance(module, nn.Module):
            raise TypeError(f"module is a {type(module).__name__}; pass a torch.nn.Module, the body below the head")
        if isinstance(module, torch.jit.ScriptModule):
            raise TypeError("module is scripted, and cannot be frozen and cast; pass the module that it was made from")
        shape = input_shape if isinstance(input_shape, tuple | list | torch.Size) else (input_shape,)
        self.input_shape = tuple(check_count("input_shape", side) for side in shape)
        self.d = math.prod(self.input_shape)
        self.dtype = check_float_dtype(dtype)
        self.device = resolve_device(device, dtype)
        _warn_of_training_mode(module)
        self.name = type(module).__name__
        self._modules = {self.dtype: self._copy(module, self.dtype)}
        self.fingerprint = _fingerprint(self._modules[self.dtype])
        self._moments, self._metric, self._ranks = None, None, {}
        probes = self.probes(3)
        self.p = self._try(probes).shape[1]
        self._check_rows(probes)
        self.parity = self._measure_parity(probes)

    def __repr__(self):
        return (
            f"ModuleFeatures({self.name}, input_shape={self.input_shape}, d={self.d}, p={self.p}, dtype={self.dtype}, "
            f"device='{self.device}', fingerprint='{self.fingerprint}')"
        )

    def _copy(self, module, dtype):
        with torch.inference_mode(False):  # or the copy could not be differentiated ever after
            try:
                made = copy.deepcopy(module)
            except RuntimeError as error:
                raise ValueError(f"the module cannot be copied ({error}); detach what it keeps of a graph") from error
            return made.to(self.device, dtype).eval().requires_grad_(False)

    def probes(self, count, purpose="probes"):
        """Random points of the sphere of radius √d, the same for all bodies."""
        X = torch.randn(count, self.d, generator=seeded_generator(purpose, 0), dtype=torch.float64)
        return self._to(X * (math.sqrt(self.d) / X.norm(dim=1, keepdim=True)))

    def apply(self, X: torch.Tensor, dtype=None) -> torch.Tensor:
        """f(X), (n, p), of rows that are trusted, with a graph where gradients are on and X asks for it."""
        dtype = dtype or self.dtype
        if dtype not in self._modules:
            self._modules[dtype] = self._copy(self._modules[self.dtype], dtype)
        with _plain_kernels():  # on a copy: a module may begin with a layer that writes to its input
            return self._modules[dtype](X.reshape(-1, *self.input_shape).clone()).flatten(1)

    def _try(self, probes):
        """f at the probes, or an error that says what is wrong with f."""
        try:
            with torch.no_grad(), _plain_kernels():
                out = self._modules[self.dtype](probes.reshape(-1, *self.input_shape).clone())
        except Exception as error:
            raise ValueError(
                f"the module fails on an input of shape {(len(probes), *self.input_shape)} and {self.dtype} "
                f"({type(error).__name__}: {error}); does input_shape fit its first layer?"
            ) from error
        if not isinstance(out, torch.Tensor):
            raise ValueError(f"the module gives a {type(out).__name__}; wrap it so that it gives one tensor")
        if out.ndim < 1 or len(out) != len(probes) or out.numel() == 0:
            raise ValueError(
                f"the module makes {tuple(out.shape)} of {len(probes)} samples; its output needs a row for each sample"
            )
        if out.dtype != self.dtype:
            raise ValueError(f"the module gives {out.dtype} for {self.dtype}; it must keep the dtype of its input")
        if not bool(torch.isfinite(out).all()):
            raise ValueError("the module gives NaN or infinity at random inputs of norm √d; check its parameters")
        return out.reshape(len(probes), -1)

    def _check_rows(self, probes):
        """Each row of features belongs to one sample, is the same every time, and moves with it."""
        whole = self._try(probes)
        rounding = 1e-9 if self.dtype == torch.float64 else 1e-3
        if float((self._try(probes) - whole).norm()) > rounding * float(whole.norm()):
            raise ValueError("the module gives different features for the same input; it must not draw at random")
        fewer = self._try(probes[:2])
        if fewer.shape[1:] != whole.shape[1:] or float((fewer - whole[:2]).norm()) > rounding * float(whole.norm()):
            raise ValueError(
                "the module mixes the samples of a batch (batch norm without running statistics, say); the features "
                "of a sample must depend on it alone"
            )
        if not float((whole - whole.mean(0)).norm()) > 0:
            raise ValueError("the module gives the same features for every input; there is nothing to read back")
        try:  # a module may insist on float64
            fits = self.apply(probes.float(), torch.float32).dtype == torch.float32
        except RuntimeError:
            fits = False
        self._coarse = torch.float32 if fits else self.dtype
        lift = self.lift(probes, lifted=False)
        try:
            lift.linearise(torch.ones(len(probes), 1, dtype=self.dtype, device=self.device))
            lift.jvp(probes)
            lift.vjp(whole[:1])
        except RuntimeError as error:
            raise ValueError(
                f"the module cannot be differentiated twice in its input ({error}); the attack needs its derivative, "
                "so it must neither detach nor leave torch"
            ) from error

    def _measure_parity(self, probes):
        plus, minus = self._try(probes), self._try(-probes)
        rounding = (1e-9 if self.dtype == torch.float64 else 1e-4) * float(plus.norm())
        for name, difference in (("even", plus - minus), ("odd", plus + minus)):
            if float(difference.norm()) <= rounding:
                return name
        return "mixed"

    def __call__(self, X: torch.Tensor) -> torch.Tensor:
        """Features of the rows of X.

        Args:
            X: (n, d), finite, inputs flattened.

        Returns:
            (n, p), on the features' device and in their dtype, without a graph.

        Raises:
            TypeError, ValueError: X is no floating (n, d) tensor of finite numbers.
        """
        X = self._to(check_matrix("X", X, self.d))
        with torch.no_grad():
            return torch.cat([self.apply(rows) for rows in X.split(_ROWS)])

    def lift(self, U, lifted=True, dtype=None, derivative=None) -> ModuleLift:
        """Columns of the atoms U, f(U) or f(U) above f(−U), and products with their Jacobian."""
        if derivative is not None:
            raise ValueError("a module has no activation whose derivative could be replaced; derivative must be None")
        return ModuleLift(self, U, lifted, dtype or self.dtype)

    def rank(self, count) -> int:
        """The dimension of the span of all f(x) where it is below ``count``, else p.

        A body that ends in a linear layer, say, has no more independent features than that layer has inputs, however
        many outputs: θ then holds no more equations. Measured as the rank of f at ``count`` random inputs, in float64;
        at fewer of them, √(2³⁵/p), where that would take minutes, and a rank above that many goes unseen.
        """
        m = min(self.p, count, math.isqrt(_RANK_COST // self.p) + 1)
        if m not in self._ranks:
            try:
                F = torch.cat(
                    [self.apply(rows.double(), torch.float64) for rows in self.probes(m, "rank").split(_ROWS)]
                )
            except (RuntimeError, TypeError):  # no float64 on this device, or in this module
                return self.p
            s = torch.linalg.svdvals(F)
            found = int((s > 10 * m * torch.finfo(s.dtype).eps * s[0]).sum())
            self._ranks[m] = self.p if found == m else found
        return self._ranks[m]

    def directions(self, R, k, generator):
        """Up to k candidate atoms for a residual R (K, p):
        :class:`~reconlaw.features.moment_regression.MomentRegression`."""
        if self._moments is None:
            self._moments = MomentRegression(self)
        return self._moments.directions(R, k, generator)

    def jacobians(self, W, taken=None):
        """The derivative of f at the rows of W, (m, d, p), in float32 where f allows it.

        Args:
            taken: what an earlier call returned. Its derivatives serve for rows within a tenth of the norm of where
                they were taken: a preconditioner need be no better.

        Returns:
            where each was taken, (m, d), and the derivatives.
        """
        out = torch.empty(len(W), self.d, self.p, dtype=self._coarse, device=W.device)
        places, stale = W.clone(), torch.ones(len(W), dtype=torch.bool, device=W.device)
        if taken is not None:
            distance, nearest = torch.cdist(W, taken[0]).min(1)
            stale = distance > _STALE * math.sqrt(self.d)
            out[~stale], places[~stale] = taken[1][nearest[~stale]], taken[0][nearest[~stale]]
        if bool(stale.any()):
            graph = _graph(self, W[stale].to(self._coarse), self._coarse)
            fresh = torch.empty(len(graph[0]), self.d, self.p, dtype=self._coarse, device=W.device)
            for axes in torch.arange(self.d).split(_DENSE_BATCH):
                unit = torch.zeros(len(axes), len(fresh), self.d, dtype=self._coarse, device=W.device)
                unit[torch.arange(len(axes)), :, axes] = 1
                fresh[:, axes] = _tangents(graph, unit).transpose(0, 1)
            out[stale] = fresh
        return places, out

    def metric(self):
        r"""Eigenvalues (d,), of mean 1, and eigenvectors (d, d) of C ∝ E J(u)ᵀJ(u), u uniform on the sphere.

        How much f moves along each direction of the input, from Jᵀw with random w at random u; smoothed, since few
        are drawn.
        """
        if self._metric is None:
            U = self.probes(_METRIC_SAMPLES * self.d, "metric")
            w = torch.randn(len(U), self.p, generator=seeded_generator("metric", 1), dtype=self.dtype).to(self.device)
            C = torch.zeros(self.d, self.d, dtype=self.dtype, device=self.device)
            for rows, cotangents in zip(U.split(_ROWS), w.split(_ROWS), strict=True):
                rows = rows.requires_grad_(True)
                with torch.enable_grad():
                    (g,) = torch.autograd.grad(self.apply(rows), rows, cotangents)
                C += g.T @ g
            values, vectors = torch.linalg.eigh(C / C.diagonal().mean())
            values = values.clamp_min(1e-3)
            self._metric = values / values.mean(), vectors
        return self._metric


def _warn_of_training_mode(module):
    norms = nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm
    changed = [
        name or type(part).__name__
        for name, part in module.named_modules()
        if part.training and (isinstance(part, norms) or (isinstance(part, nn.modules.dropout._DropoutNd) and part.p))
    ]
    if changed:
        warnings.warn(
            f"the module is in training mode, where {', '.join(changed[:3])} acts otherwise; its features are taken in "
            "evaluation mode. If the head was trained on others, they are not these: call module.eval() before both",
            UserWarning,
            stacklevel=3,
        )


def _fingerprint(module) -> str:
    """Identifies a body by its architecture, parameters and buffers."""
    digest = hashlib.sha256(repr(module).encode())
    for name, value in sorted([*module.named_parameters(), *module.named_buffers()]):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _graph(features, W, dtype):
    """Inputs W, features Y, a cotangent c and Jᵀc as a function of it, for backward passes through either."""
    with torch.inference_mode(False), torch.enable_grad():
        W = W.clone().requires_grad_(True)
        Y = features.apply(W, dtype)
        c = torch.zeros_like(Y, requires_grad=True)
        (pulled,) = torch.autograd.grad(Y, W, c, create_graph=True)
    return W, Y, c, pulled


def _tangents(graph, delta):
    """Derivative of the features of every input along its row of δ: (m, p) of (m, d), or a batch of those."""
    _, _, c, pulled = graph
    return torch.autograd.grad(pulled, c, delta, retain_graph=True, is_grads_batched=delta.ndim > 2)[0]


class ModuleLift:
    """Lifted columns of atoms ``U`` under :class:`ModuleFeatures`; the same products as
    :class:`~reconlaw.features.lift.RandomFeaturesLift`.

    Args:
        features: the feature map.
        U: (n, d) atoms.
        lifted: two columns an atom, or one.
        dtype: of the arithmetic.

    Attributes:
        columns: B, (2n, p) lifted, (n, p) not.
    """

    def __init__(self, features, U, lifted, dtype):
        self.features, self.U, self.lifted, self.dtype = features, U, lifted, dtype
        self.n = U.shape[0]
        self._W = (torch.cat([U, -U]) if lifted else U).detach()
        with torch.no_grad():
            self.columns = torch.cat([features.apply(rows, dtype) for rows in self._W.split(_ROWS)])
        self._graph = None

    def linearise(self, alpha: torch.Tensor) -> None:
        """Fix the coefficients α (2n or n, K) at which :meth:`jvp` and :meth:`vjp` are taken."""
        self.alpha = alpha
        if self._graph is None:
            self._graph = _graph(self.features, self._W, self.dtype)

    def fold(self, G):
        """G⁺ − G⁻ of a (2n, …) that belongs to the columns: f(−u) moves against u."""
        return G[: self.n] - G[self.n :] if self.lifted else G

    def metric(self):
        """See :meth:`ModuleFeatures.metric`."""
        return self.features.metric()

    def jvp(self, delta: torch.Tensor) -> torch.Tensor:
        """Jδ, shape (K, p), for δ of shape (n, d)."""
        delta = torch.cat([delta, -delta]) if self.lifted else delta
        return self.alpha.T @ _tangents(self._graph, delta)

    def vjp(self, R: torch.Tensor) -> torch.Tensor:
        """Jᵀ R, shape (n, d), for R of shape (K, p)."""
        W, Y, _, _ = self._graph
        return self.fold(torch.autograd.grad(Y, W, self.alpha @ R, retain_graph=True)[0])

    def jacobians(self, taken=None):
        """:meth:`ModuleFeatures.jacobians` of the columns, or None where they would be too large."""
        (n, d), (m, p) = self.U.shape, self.columns.shape
        if m * d * p > _DENSE_NUMBERS or (n * d) ** 2 * p > _DENSE_COST:
            return None
        return self.features.jacobians(self._W, taken)

    def block_gram(self) -> torch.Tensor:
        r"""K with JᵀJ ≈ K ⊗ C, (n, n), C the :meth:`ModuleFeatures.metric` of trace d.

        K_ij = tr J_iᵀJ_j / d, estimated by random tangents that all atoms share (Hutchinson).
        """
        generator, total = seeded_generator("metric", 2), 0
        for _ in range(_BLOCK_TANGENTS):
            draw = torch.randn(self.features.d, generator=generator, dtype=torch.float64).to(self.columns)
            T = _tangents(self._graph, draw.expand(len(self._W), -1))
            for alpha in self.alpha.T:
                A = self.fold(alpha[:, None] * T)
                total = total + A @ A.T
        return total / (_BLOCK_TANGENTS * self.features.d)
