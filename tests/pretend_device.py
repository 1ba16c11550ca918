"""An accelerator that is none: tensors that say they are on a device of their own, computed on the CPU.

A tensor of it has ``device`` "pretend:0", autograd and vmap are torch's own, and as on a card

* tensors of two devices in one operation, a CPU generator for a draw on the device, and ``.numpy()`` raise;
* what makes the host wait for the device (``float()``, ``bool()``, ``.cpu()``, a boolean index, …) is counted, by line.

It cannot show speed, a device's own rounding, or what a kernel of a vendor's library refuses.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

NAME = "pretend"

# Operations that wait for the device; those of linalg look at the factorisation's status.
_WAITS = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "equal",
    "_linalg_check_errors",
    "_linalg_eigh",
    "_linalg_svd",
    "linalg_lstsq",
}
# Operations that take tensors of both: copies, and an index on the host.
_CROSSES = {"copy_", "_to_copy", "index", "index_put_", "index_put", "_index_put_impl_"}
_INDEXED = {"index", "index_put_", "index_put", "_index_put_impl_"}
_SOURCE = str(Path(__file__).parents[1] / "src/reconlaw") + "/"


def _gru_cell(x, h, before, x_bias=None, h_bias=None):
    """The new state, and what the derivative needs."""
    x, h = (x, h) if x_bias is None else (x + x_bias, h + h_bias)
    (x_reset, x_update, x_new), (h_reset, h_update, h_new) = x.chunk(3, -1), h.chunk(3, -1)
    reset, update = torch.sigmoid(x_reset + h_reset), torch.sigmoid(x_update + h_update)
    new = torch.tanh(x_new + reset * h_new)
    return new + update * (before - new), torch.cat([reset, update, new, before, h_new], -1)


def _gru_cell_backward(by_state, kept, biased):
    reset, update, new, before, h_new = kept.chunk(5, -1)
    by_new = by_state * (1 - update) * (1 - new**2)
    by_update, by_reset = by_state * (before - new) * update * (1 - update), by_new * h_new * reset * (1 - reset)
    by_x, by_h = (torch.cat([by_reset, by_update, last], -1) for last in (by_new, by_new * reset))
    return by_x, by_h, by_state * update, *([by_x.sum(0), by_h.sum(0)] if biased else [None, None])


# Operations that a card has and the CPU has not.
_FUSED = {"_thnn_fused_gru_cell": _gru_cell, "_thnn_fused_gru_cell_backward": _gru_cell_backward}


def register():
    """Make torch know the device; for good, in this process."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    if torch._C._get_privateuse1_backend_name() != NAME:
        _setup_privateuseone_for_python_backend(NAME)


def _line() -> str:
    """Where in the package, or else in the test, the present operation was asked for."""
    frame, test = sys._getframe(1), "?"
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(_SOURCE):
            return f"{path.removeprefix(_SOURCE)}:{frame.f_lineno}"
        if test == "?" and Path(path).name == "device_checks.py":
            test = f"{Path(path).name}:{frame.f_lineno}"
        frame = frame.f_back
    return test


def _leaves(value):
    """The tensors in arguments of an operation."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for entry in value:
            yield from _leaves(entry)
    elif isinstance(value, dict):
        yield from _leaves(tuple(value.values()))


def _unwrapped(value, here, host):
    """An argument of an operation as the CPU takes it; its tensors are added to those here, or of the host."""
    if isinstance(value, DeviceTensor):
        here.append(value)
        return value.held
    if isinstance(value, torch.Tensor):
        host.append(value)
    elif isinstance(value, (tuple, list)):
        return type(value)([_unwrapped(entry, here, host) for entry in value])
    elif isinstance(value, torch.device) and value.type == NAME:
        return torch.device("cpu")
    return value


class _Known(NamedTuple):
    """What is asked of an operation at each of its calls."""

    name: str
    launches: bool
    inplace_view: bool

    @classmethod
    def of(cls, operation):
        returns = operation._schema.returns
        view = returns and returns[0].alias_info and not returns[0].alias_info.is_write
        return cls(operation.overloadpacket.__name__, not view, torch.Tag.inplace_view in operation.tags)


_KNOWN: dict = {}


class DeviceTensor(torch.Tensor):
    """A tensor of the pretended device; ``held`` is its content."""

    @staticmethod
    def __new__(cls, held):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
        )

    def __init__(self, held):
        self.held = held

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        if Pretend.active is None:
            raise RuntimeError("a tensor of the pretended device is used after its test")
        return Pretend.active.run(operation, args, kwargs or {})

    @property
    def data(self):
        return self.detach()

    @data.setter
    def data(self, value):
        torch.Tensor.data.__set__(self, value)
        self.held = value.held

    def __repr__(self):
        return f"DeviceTensor({self.held})"

    def __format__(self, spec):
        return object.__format__(self, spec) if self.dim() else format(self.item(), spec)

    def numpy(self, *args, **kwargs):
        raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy. Use Tensor.cpu() first")

    __array__ = numpy

    def tolist(self):
        Pretend.active.wait()
        return self.held.tolist()

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            memo[id(self)] = self.detach().clone().requires_grad_(self.requires_grad)
            memo[id(self)]._is_param = getattr(self, "_is_param", False)
        return memo[id(self)]


class Pretend(TorchDispatchMode):
    """While entered, the device is there.

    Attributes:
        waits: how often the host waited for the device, by line.
        launches: how many kernels were launched.
        lacks: names of operations that the device has no kernel for.
        dtypes: that it can hold.
    """

    active: Pretend | None = None

    def __init__(self, lacks=(), dtypes=(torch.float32, torch.float64)):
        super().__init__()
        self.waits, self.launches, self.lacks, self.dtypes = Counter(), 0, frozenset(lacks), dtypes

    def __enter__(self):
        Pretend.active = self
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device=) as a copy that passes here
        self._run = threading.Thread.run
        threading.Thread.run = lambda thread: self._run_within(thread)
        return super().__enter__()

    def _run_within(self, thread):
        """A thread that starts while the device is there; a mode is its thread's own."""
        super().__enter__()
        try:
            self._run(thread)
        finally:
            super().__exit__(None, None, None)

    def __exit__(self, *error):
        Pretend.active = None
        threading.Thread.run = self._run
        torch._C._set_only_lift_cpu_tensors(False)
        return super().__exit__(*error)

    def wait(self):
        self.waits[_line()] += 1

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return self.run(operation, args, kwargs or {})

    def run(self, operation, args, kwargs):
        asked = kwargs.get("device")
        here, host = [], []
        inner = tuple([_unwrapped(x, here, host) for x in args])
        options = {key: _unwrapped(value, here, host) for key, value in kwargs.items()}
        to_device = bool(here) if asked is None else torch.device(asked).type == NAME
        if not here and not to_device:
            with torch._C._DisableTorchDispatch():
                return operation(*inner, **options)
        known = _KNOWN.get(operation) or _KNOWN.setdefault(operation, _Known.of(operation))
        name = known.name
        self._refuse(name, here, host, args, kwargs, to_device)
        if here and (name in _WAITS or not to_device):
            self.wait()
        elif here and name == "copy_" and not isinstance(args[0], DeviceTensor):
            self.wait()
        elif here and name in _INDEXED and any(t.dtype == torch.bool for t in _leaves(args[1])):
            self.wait()
        with torch._C._DisableTorchDispatch():
            out = _FUSED.get(name, operation)(*inner, **options)
        if (
            not to_device
            or name == "_local_scalar_dense"
            or (name == "copy_" and not isinstance(args[0], DeviceTensor))
        ):
            return out
        if known.launches:
            self.launches += 1
        held = {id(t.held): t for t in here}
        out = self._wrapped(out, held)
        if known.inplace_view:  # squeeze_, say: the shape of the wrapper changes, too
            return return_and_correct_aliasing(operation, args, kwargs, out)
        return out

    def _wrapped(self, x, held):
        if isinstance(x, torch.Tensor):
            return held[id(x)] if id(x) in held else self._tensor(x)
        if isinstance(x, (tuple, list)):
            return type(x)(self._wrapped(entry, held) for entry in x)
        return x

    def _tensor(self, held):
        if held.is_floating_point() and held.dtype not in self.dtypes:
            raise TypeError(f"the pretended device holds no {held.dtype}")
        return DeviceTensor(held)

    def _refuse(self, name, here, host, args, kwargs, to_device):
        mixed = here and any(t.ndim for t in host) and name not in _CROSSES
        if mixed or (here and name in _INDEXED and not isinstance(args[0], DeviceTensor)):
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found {NAME}:0 and cpu (in {name}, {_line()})"
            )
        generator = kwargs.get("generator")
        if to_device and generator is not None:
            raise RuntimeError(f"Expected a '{NAME}' device type for generator but found 'cpu' ({name}, {_line()})")
        if here and name in self.lacks:
            raise NotImplementedError(f"The operator {name} is not implemented for the {NAME} device ({_line()})")
