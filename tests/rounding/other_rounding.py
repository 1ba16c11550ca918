"""As on another machine: sums of products, factorisations and functions come out with other last bits.

Processors and libraries round these as they like. Here each number is moved by a last bit or not, as a hash of it and
of ``RECONLAW_ROUNDING``, a whole number, says: equal numbers alike, so that what is symmetric, or computed twice, stays
so; and numbers of few digits (0, 1, ½) not at all, since arithmetic is exact on them everywhere. ``sitecustomize``
beside this begins it in every Python process that has the folder on its path, kernels of notebooks among them; see
``make rounding``.
"""

from __future__ import annotations

import os
import threading

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Of each dtype: integers of its size, how many low bits are zero where there are few digits, and two shifts.
_BITS = {torch.float64: (torch.int64, 16, 17, 29), torch.float32: (torch.int32, 5, 9, 13)}
# Where the first matrix of a product is; the smaller one is moved, so that sums move by as much as by their own errors.
_PRODUCTS = {"mm": 0, "bmm": 0, "mv": 0, "dot": 0, "vdot": 0, "addmm": 1, "addmv": 1, "baddbmm": 1, "addbmm": 1}
# Of these, as of all of linalg, the matrix is moved.
_FACTORISED = {"cholesky", "geqrf", "triangular_solve"}
# Of these the outcome; what IEEE 754 defines to the last bit, and what only moves numbers about, is not here.
_FUNCTIONS = set(
    """convolution convolution_backward sum mean var std prod cumsum cumprod logsumexp logcumsumexp norm
    linalg_vector_norm exp exp2 expm1 log log2 log10 log1p logaddexp tanh tanh_backward sigmoid sigmoid_backward
    log_sigmoid_forward erf erfc erfinv gelu gelu_backward softplus softplus_backward silu silu_backward elu
    elu_backward mish mish_backward sin cos tan asin acos atan atan2 atanh pow rsqrt lgamma digamma special_ndtri
    special_erfcx special_log_ndtr _cdist_forward _softmax _softmax_backward_data _log_softmax
    _log_softmax_backward_data native_layer_norm native_layer_norm_backward native_batch_norm
    native_batch_norm_backward native_group_norm _native_batch_norm_legit""".split()
)


def moved(x, seed: int):
    """x with other last bits, where it is a tensor of numbers that have such."""
    if not isinstance(x, torch.Tensor) or x.dtype not in _BITS or x.layout != torch.strided or not x.numel():
        return x
    whole, low, first, second = _BITS[x.dtype]
    bits = x.detach().contiguous().view(whole)
    size = bits & torch.iinfo(whole).max  # without the sign
    mixed = (size ^ (size >> first)) * 0x1000193 + seed * 7919
    mixed ^= mixed >> second
    step = torch.where(mixed & 4 > 0, 1, -1).to(whole) * (mixed & 3).clamp_max_(1)
    few = ((size & ((1 << low) - 1)) == 0) | ~x.detach().isfinite()
    return torch.where(few, bits, bits + step).view(x.dtype).view(x.shape)


class OtherRounding(TorchDispatchMode):
    """Moves what goes into products and factorisations, and what comes out of functions."""

    def __init__(self, seed: int):
        super().__init__()
        self.seed = seed

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        args, kwargs, seed = list(args), kwargs or {}, self.seed
        name = func.overloadpacket.__name__
        if name in _PRODUCTS:
            i = _PRODUCTS[name]
            a, b = args[i : i + 2]
            args[i] = moved(a, seed) if a.numel() <= b.numel() else a
            args[i + 1] = moved(b, seed) if b.numel() <= a.numel() else b
        elif name in _FACTORISED or (name.lstrip("_").startswith("linalg_") and name not in _FUNCTIONS):
            args[0] = moved(args[0], seed)
        out = func(*args, **kwargs)
        if name.removesuffix("_") not in _FUNCTIONS:
            return out
        several = isinstance(out, tuple)
        found = tuple(moved(tensor, seed) for tensor in (out if several else [out]))
        if name.endswith("_") or "out" in kwargs:
            for tensor, other in zip(out if several else [out], found, strict=True):
                tensor.copy_(other)
            return out
        return found if several else found[0]


def begin():
    """In this thread, for good, and in all threads that begin after it."""
    seed, run = int(os.environ["RECONLAW_ROUNDING"]), threading.Thread.run
    OtherRounding(seed).__enter__()

    def run_with_other_bits(self):
        with OtherRounding(seed):
            run(self)

    threading.Thread.run = run_with_other_bits
