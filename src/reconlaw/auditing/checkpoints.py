r"""Checkpoints before and after training, as state dictionaries that fit together: read without running their code.

Nothing but tensors is ever unpickled (``torch.load(weights_only=True)``), because a pickle can run anything.
"""

from __future__ import annotations

import copy
import importlib
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

# Where training scripts keep the state dictionary among other things, and what wrappers put before every key.
_NESTED = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")
_SHOWN = 12


class AuditError(ValueError):
    """What keeps an audit from being made: a file, a key, a shape, a layer."""


def _some(names) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(map(str, names[:_SHOWN])) or "nothing") + more


def _load(path: Path, name: str):
    if not path.is_file():
        raise AuditError(f"{name}: there is no file {path}")
    if path.suffix == ".safetensors":
        try:
            from safetensors.torch import load_file
        except ImportError as error:
            raise AuditError(f"{name}: {path} needs the package safetensors: pip install safetensors") from error
        try:
            return load_file(path)
        except Exception as error:
            raise AuditError(f"{name}: {path} is no readable safetensors file ({error})") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of pickles by other programs, which are refused
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise AuditError(
            f"{name}: {path} cannot be read as tensors alone ({type(error).__name__}: {reason}). It is damaged, or it "
            "holds more than tensors, and that is never loaded, since loading it could run code. Save "
            "model.state_dict() by torch.save, or as .safetensors"
        ) from error


def read_state(source, name: str) -> dict[str, torch.Tensor]:
    """The state dictionary of a file, a mapping or a module, on the CPU.

    Args:
        source: a path (``.safetensors``, else what torch.save wrote), a state dictionary, or a module.
        name: "before" or "after", for messages.

    Raises:
        AuditError: no file, a file that is damaged or holds more than tensors, an entry that is no tensor.
    """
    if isinstance(source, nn.Module):
        content = source.state_dict()
    elif isinstance(source, Mapping):
        content = source
    elif isinstance(source, str | Path):
        content = _load(Path(source), name)
    else:
        raise AuditError(f"{name} is a {type(source).__name__}; pass a path, a state_dict or a torch.nn.Module")
    if not isinstance(content, Mapping):
        raise AuditError(f"{name} holds a {type(content).__name__}; expected a state_dict, names with tensors")
    for key in _NESTED:
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    for key, value in content.items():
        if not isinstance(value, torch.Tensor):
            raise AuditError(
                f"{name}: {key!r} is a {type(value).__name__}, no tensor; pass model.state_dict(), or a dictionary "
                f"with it at one of {', '.join(map(repr, _NESTED))}; there are: {_some(content)}"
            )
    for prefix in _PREFIXES:
        if content and all(str(key).startswith(prefix) for key in content):
            content = {key[len(prefix) :]: value for key, value in content.items()}
    return {key: value.detach().cpu() for key, value in content.items()}


def _same_keys(left, right, left_name, right_name):
    for a, b, owner, other in ((left, right, left_name, right_name), (right, left, right_name, left_name)):
        missing = [key for key in a if key not in b]
        if missing:
            raise AuditError(f"{owner} has {_some(missing)}, which {other} lacks; {other} has: {_some(b)}")
    for key in left:
        if left[key].shape != right[key].shape:
            raise AuditError(
                f"{key!r} has shape {tuple(left[key].shape)} in {left_name} and {tuple(right[key].shape)} in "
                f"{right_name}; both must be one architecture"
            )


def head_layer(module: nn.Module, head: str) -> nn.Linear:
    """The linear layer of that name.

    Raises:
        AuditError: no such layer, or one that is not linear.
    """
    linear = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    try:
        layer = module.get_submodule(head) if head else None
    except AttributeError:
        layer = None
    if layer is None:
        raise AuditError(f"the model has no layer {head!r}; its linear layers are: {_some(linear)}")
    if not isinstance(layer, nn.Linear):
        raise AuditError(
            f"head={head!r} is a {type(layer).__name__}; only a torch.nn.Linear can be audited. Linear layers of the "
            f"model: {_some(linear)}"
        )
    return layer


def check_pair(before: dict, after: dict, module: nn.Module, head: str) -> None:
    """Both state dictionaries fit each other and the module, and hold the head.

    Raises:
        AuditError: naming the key.
    """
    head_layer(module, head)
    key = f"{head}.weight"
    for name, state in (("before", before), ("after", after)):
        if key not in state:
            raise AuditError(f"{name} has no {key!r}; there are: {_some(state)}")
    _same_keys(before, after, "before", "after")
    _same_keys(before, module.state_dict(), "before", "the model")
    for key in before:
        one, other = before[key], after[key]
        if one.dtype != other.dtype:
            raise AuditError(f"{key!r} is {one.dtype} in before and {other.dtype} in after; save both in one dtype")
        if key.startswith(f"{head}.") and not one.is_floating_point():
            raise AuditError(f"{key!r} has dtype {one.dtype}; the head must hold floating numbers, not quantised ones")
        for name, value in (("before", one), ("after", other)):
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise AuditError(f"{key!r} holds NaN or infinite values in {name}")


def import_module(address: str) -> nn.Module:
    """The model that ``package.module:factory`` makes, or is.

    Raises:
        AuditError: it cannot be imported, fails, or gives no module.
    """
    place, _, name = address.partition(":")
    if not place or not name:
        raise AuditError(f"--model {address!r} must read package.module:factory")
    try:
        made = importlib.import_module(place)
        for part in name.split("."):
            made = getattr(made, part)
        if not isinstance(made, nn.Module):
            made = made()
    except (Exception, SystemExit) as error:  # a script ends the process where it was not made for import
        raise AuditError(f"--model {address!r} gives no model ({type(error).__name__}: {error})") from error
    if not isinstance(made, nn.Module):
        raise AuditError(f"--model {address!r} gives a {type(made).__name__}, no torch.nn.Module")
    return made


class HeadInput(nn.Module):
    """x ↦ what the model feeds to its head on scale·x: the body, whatever the model does after its head."""

    def __init__(self, model: nn.Module, head: str, scale: float = 1.0):
        super().__init__()
        self.scale = scale
        self.model = copy.deepcopy(model).eval()
        parent, _, leaf = head.rpartition(".")
        self._tap = [_Tap(head_layer(self.model, head))]  # in a list: it is registered below, once
        setattr(self.model.get_submodule(parent), leaf, self._tap[0])

    def forward(self, X):
        tap = self._tap[0]
        tap.seen = []
        try:
            self.model(X * self.scale)
            calls = len(tap.seen)
            if calls != 1 or tap.seen[0].ndim != 2:
                shape = tuple(tap.seen[0].shape) if calls else None
                raise ValueError(f"the head must be called once, on (n, p); it was called {calls} times, on {shape}")
            return tap.seen[0]
        finally:
            tap.seen = []


class _Tap(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer, self.seen = layer, []

    def forward(self, h):
        self.seen.append(h)
        return self.layer(h)
