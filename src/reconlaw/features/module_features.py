r"""Features from any network body: Φ(X) = f(X), f a ``torch.nn.Module``, flattened to (n, p); autograd does the rest
(:mod:`reconlaw.features.autograd`).
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import math
import warnings
from collections.abc import Sequence

import torch
from torch import nn

from .._checks import check_float_dtype, check_input_shape, resolve_device
from .._precision import full_precision
from .feature_map import FeatureMap
from .gram import StepError, as_step


@contextlib.contextmanager
def _plain_kernels(module):
    """Fused attention and cuDNN's recurrent layers off: their kernels lack the derivatives that the attack takes, the
    plain ones have them. cuDNN stays on for a module without recurrent layers, whose convolutions need it."""
    mha = getattr(torch.backends, "mha", None)  # torch < 2.3 has no such switch, and takes no fused path with gradients
    fused = mha is not None and mha.get_fastpath_enabled()
    cudnn = torch.backends.cudnn.enabled
    if fused:
        mha.set_fastpath_enabled(False)
    try:
        if any(isinstance(part, nn.RNNBase) for part in module.modules()):
            torch.backends.cudnn.enabled = False
        with _plain_attention():
            yield
    finally:
        if fused:
            mha.set_fastpath_enabled(True)
        torch.backends.cudnn.enabled = cudnn


def _plain_attention():
    try:
        from torch.nn.attention import SDPBackend, sdpa_kernel
    except ImportError:  # torch < 2.3
        return torch.backends.cuda.sdp_kernel(enable_flash=False, enable_math=True, enable_mem_efficient=False)
    return sdpa_kernel(SDPBackend.MATH)


class _Hardsigmoid(nn.Module):
    """min(max(x + 3, 0), 6)/6, as torch.nn.Hardsigmoid, in operations that have a second derivative."""

    def forward(self, x):
        return nn.functional.hardtanh(x + 3, 0.0, 6.0) / 6


def _differentiable(module: nn.Module) -> nn.Module:
    """The module, its hard sigmoids by operations that can be differentiated twice, which torch's cannot."""
    if type(module) is nn.Hardsigmoid:
        return _Hardsigmoid()
    for part in list(module.modules()):
        for name, child in list(part.named_children()):
            if type(child) is nn.Hardsigmoid:
                setattr(part, name, _Hardsigmoid())
    return module


class ModuleError(ValueError):
    """A module that cannot serve as a body, and why."""


def copied(module: nn.Module) -> nn.Module:
    """A deep copy, also of a module that keeps a tensor of a graph, as the old weight and spectral norms do.

    Raises:
        ModuleError: it cannot be copied.
    """
    kept = {id(value): value.detach().clone() for _, _, value in _plain_tensors(module) if not value.is_leaf}
    try:
        return copy.deepcopy(module, kept)
    except RuntimeError as error:
        raise ModuleError(f"the module cannot be copied ({error}); detach what it keeps of a graph") from error


class ModuleFeatures(FeatureMap):
    r"""The feature map Φ(X) = f(X) ∈ R^{n×p} of a network body f, its output flattened.

    A copy of the body is taken, in evaluation mode, its parameters frozen and cast to ``dtype``; the body itself is
    left as it is. Rows of X are inputs flattened in the order of ``input_shape``. A body with biases
    answers x and 2x differently, so the attack must know where its inputs lived: pass ``inputs=`` to
    :func:`reconlaw.reconstruct`, pixels in a box for example. Where none is given they have norm √d.

    Args:
        module: any ``torch.nn.Module`` that maps (n, \*input_shape) to a floating (n, …), each sample by itself.
        input_shape: of one input, such as (3, 32, 32); its product is d.
        dtype: torch.float64 or torch.float32, of parameters and arithmetic.
        device: "auto" (CUDA, else MPS for float32, else CPU) or any torch device.
        several: the module gives (n, T, p), T columns a sample, each of which a layer above it saw, as it sees the
            tokens of a sequence. :func:`reconlaw.below` makes such a module of any layer.

    Attributes:
        d: dimension of an input, the product of ``input_shape``.
        p: number of features of one input, of one column where there are several.
        positions: T, columns a sample; 1 unless ``several``.

    Warns:
        UserWarning: the body was handed over in training mode and holds dropout or batch norm, whose features in
            evaluation mode are not those of training.

    Raises:
        TypeError: no module, a scripted one, or a dtype other than float32 and float64.
        ValueError: an input_shape that the module does not take; an output that is no floating tensor with a row for
            each sample, or not finite; a module that mixes the samples of a batch, is random, is constant, or cannot
            be differentiated.
    """

    @full_precision()
    def __init__(
        self,
        module: nn.Module,
        input_shape: int | Sequence[int],
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "auto",
        several: bool = False,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(f"module is a {type(module).__name__}; pass a torch.nn.Module, the body below the head")
        if isinstance(module, torch.jit.ScriptModule):
            raise TypeError("module is scripted, and cannot be frozen and cast; pass the module that it was made from")
        check_filled("module", module)
        self.input_shape = check_input_shape(input_shape)
        self.d = math.prod(self.input_shape)
        self.dtype = check_float_dtype(dtype)
        self.device = resolve_device(device, dtype)
        _warn_of_training_mode(module)
        self.name = type(module).__name__
        self._modules = {self.dtype: self._copy(module, self.dtype)}
        self.fingerprint = _fingerprint(self._modules[self.dtype])
        try:
            with as_step():
                probes = self.probes(3)
        except StepError as error:
            raise ValueError(f"an input of shape {self.input_shape} does not fit into memory ({error})") from error
        self.several = several
        self.positions, self.p = self._try(probes)[1]
        self._check_rows(probes)

    def __repr__(self):
        columns = f"p={self.p}, positions={self.positions}" if self.several else f"p={self.p}"
        return (
            f"{type(self).__name__}({self.name}, input_shape={self.input_shape}, d={self.d}, {columns}, "
            f"dtype={self.dtype}, device='{self.device}', fingerprint='{self.fingerprint}')"
        )

    def _copy(self, module, dtype):
        with torch.inference_mode(False):  # or the copy could not be differentiated ever after
            made = _differentiable(copied(module))
            made = made.to(self.device, dtype).eval().requires_grad_(False)
            for part, name, value in _plain_tensors(made):  # which module.to leaves where they are
                setattr(part, name, value.to(self.device, dtype if value.is_floating_point() else value.dtype))
            return made

    def apply(self, X: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        """f(X), (n, p), of rows that are trusted, with a graph where gradients are on and X asks for it.

        Args:
            X: (n, d).
            dtype: of the arithmetic; that of X where None.
        """
        dtype = dtype or X.dtype
        X = X.to(dtype)
        if dtype not in self._modules:
            self._modules[dtype] = self._copy(self._modules[self.dtype], dtype)
        module = self._modules[dtype]
        with _plain_kernels(module):  # on a copy: a module may begin with a layer that writes to its input
            return module(X.reshape(-1, *self.input_shape).clone()).flatten(1)

    def _try(self, probes):
        """f at the probes, flat, and (T, p); or an error that says what is wrong with f."""
        try:
            module = self._modules[self.dtype]
            with torch.no_grad(), _plain_kernels(module):
                out = module(probes.reshape(-1, *self.input_shape).clone())
        except ModuleError:
            raise
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
        if self.several and out.ndim != 3:
            raise ValueError(
                f"the module gives {tuple(out.shape)}; with several=True it must give (n, T, p), T columns a sample"
            )
        made = out.reshape(len(probes), -1)
        return made, (out.shape[1], out.shape[2]) if self.several else (1, made.shape[1])

    def _check_rows(self, probes):
        """Each row of features belongs to one sample, is the same every time, and moves with it."""
        whole = self._try(probes)[0]
        rounding = 1e-9 if self.dtype == torch.float64 else 1e-3
        if float((self._try(probes)[0] - whole).norm()) > rounding * float(whole.norm()):
            raise ValueError("the module gives different features for the same input; it must not draw at random")
        fewer = self._try(probes[:2])[0]
        if fewer.shape[1:] != whole.shape[1:] or float((fewer - whole[:2]).norm()) > rounding * float(whole.norm()):
            raise ValueError(
                "the module mixes the samples of a batch (batch norm without running statistics, say); the features "
                "of a sample must depend on it alone"
            )
        if not float((whole - whole.mean(0)).norm()) > 0:
            raise ValueError("the module gives the same features for every input; there is nothing to read back")
        lift = self.lift(probes, lifted=False)
        try:
            lift.linearise(torch.ones(len(lift.columns), 1, dtype=self.dtype, device=self.device))
            lift.jvp(probes)
            lift.vjp(lift.columns[:1])
        except RuntimeError as error:
            raise ValueError(
                f"the module cannot be differentiated twice in its input ({error}); the attack needs its derivative, "
                "so it must neither detach nor leave torch"
            ) from error


def unlike_in_training(module) -> list[tuple[str, nn.Module]]:
    """Its parts, by name, that act otherwise in training mode: dropout, batch norm and their like."""
    norms = nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm
    return [
        (name or type(part).__name__, part)
        for name, part in module.named_modules()
        if isinstance(part, norms) or (isinstance(part, nn.modules.dropout._DropoutNd) and part.p)
    ]


def _warn_of_training_mode(module):
    changed = [name for name, part in unlike_in_training(module) if part.training]
    if changed:
        warnings.warn(
            f"the module is in training mode, where {', '.join(changed[:3])} acts otherwise; its features are taken in "
            "evaluation mode. If the head was trained on others, they are not these: call module.eval() before both",
            UserWarning,
            stacklevel=3,
        )


def _plain_tensors(module):
    """(module, name, tensor) of tensors that are attributes of a module or its parts, neither parameter nor buffer."""
    for part in module.modules():
        for name, value in list(vars(part).items()):
            if isinstance(value, torch.Tensor):
                yield part, name, value


def check_filled(name: str, module: nn.Module) -> None:
    """ValueError where a parameter or buffer of a module has no numbers yet."""
    for part, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if nn.parameter.is_lazy(tensor):
            raise ValueError(f"{name}'s {part} has no shape yet; pass it one input first")
        if tensor.device.type == "meta":
            raise ValueError(f"{name}'s {part} is on the meta device, without numbers; load its weights first")


def _fingerprint(module) -> str:
    """Identifies a body by its architecture, parameters, buffers and plain tensors."""
    digest = hashlib.sha256(repr(module).encode())
    plain = [(name, value) for _, name, value in _plain_tensors(module)]
    for name, value in [*sorted([*module.named_parameters(), *module.named_buffers()]), *plain]:
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
