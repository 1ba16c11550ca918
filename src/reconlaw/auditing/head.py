r"""The head of a model, a linear layer, and the body that feeds it: the feature map that an audit attacks."""

from __future__ import annotations

import contextlib
import importlib
import inspect
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ..features.module_features import copied
from .checkpoints import some
from .errors import AuditError, BodyError


def head_layer(module: nn.Module, head: str) -> nn.Linear:
    """The linear layer of that name.

    Raises:
        AuditError: no such layer, or one that is not linear.
    """
    linear = linear_layers(module)
    try:
        layer = module.get_submodule(head) if head else None
    except AttributeError:
        layer = None
    if layer is None:
        raise AuditError(f"the model has no layer {head!r}; its linear layers are: {some(linear)}")
    if not isinstance(layer, nn.Linear):
        raise AuditError(
            f"head={head!r} is a {type(layer).__name__}; only a torch.nn.Linear can be audited. Linear layers of the "
            f"model: {some(linear)}"
        )
    return layer


def import_module(address: str) -> nn.Module:
    """The model that ``package.module:factory`` makes, or is.

    Raises:
        AuditError: it cannot be imported, fails, or gives no module.
    """
    place, _, name = address.partition(":")
    if not place or not name:
        raise AuditError(f"--model {address!r} must read package.module:factory")
    try:
        made: Any = importlib.import_module(place)
        for part in name.split("."):
            made = getattr(made, part)
        if not isinstance(made, nn.Module):
            made = made()
    except (Exception, SystemExit) as error:  # a script ends the process where it was not made for import
        raise AuditError(f"--model {address!r} gives no model ({type(error).__name__}: {error})") from error
    if not isinstance(made, nn.Module):
        raise AuditError(f"--model {address!r} gives a {type(made).__name__}, no torch.nn.Module")
    return made


# Names that libraries give to a model's last layer, in the order of preference where several layers were trained.
_USUAL = ("fc", "classifier", "head", "heads.head", "lin", "score", "output")


def linear_layers(module: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers of a model by name."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Linear)}


def changed_tensors(before: dict, after: dict) -> dict[str, float]:
    """The relative change ‖after − before‖/‖before‖ of every tensor that changed; infinite where before was zero."""
    found = {}
    for key, old in before.items():
        new = after[key]
        if old.dtype == new.dtype and torch.equal(old, new):
            continue
        old, new = old.double(), new.double()
        size = float((new - old).norm())
        if size:
            found[key] = size / float(old.norm()) if float(old.norm()) else float("inf")
    return found


def find_head(module: nn.Module, changed) -> str:
    """The trained linear layer to audit: the only one that changed, of several the usual last one, of none the last.

    Args:
        module: the model.
        changed: names of the tensors that changed.

    Raises:
        AuditError: other tensors changed and no linear layer, or several did and none has a usual name.
    """
    if not linear_layers(module):
        raise AuditError("the model has no torch.nn.Linear, and only such a layer can be audited")
    moved = [name for name in linear_layers(module) if f"{name}.weight" in changed]
    moved = moved or [name for name in linear_layers(module) if f"{name}.bias" in changed]
    if len(moved) == 1:
        return moved[0]
    for usual in _USUAL:
        fitting = [name for name in moved if name == usual or name.endswith(f".{usual}")]
        if len(fitting) == 1:
            return fitting[0]
    if moved:
        raise AuditError(f"several linear layers changed: {some(moved)}; pass head=, the name of the one to audit")
    if changed:
        raise AuditError(f"no linear layer changed between the checkpoints; what changed: {some(changed)}")
    return list(linear_layers(module))[-1]


class HeadInput(nn.Module):
    """x ↦ what the model feeds to its head on scale·x: the body, whatever the model does after its head.

    Gradients flow even where the model runs its body under ``no_grad`` or detaches what comes out of it, as in training
    a linear probe: the attack differentiates the same function.
    """

    def __init__(self, model: nn.Module, head: str, scale: float = 1.0):
        super().__init__()
        self.scale = scale
        self.model = copied(model).eval()
        self._keyword = _only_keyword(self.model)
        parent, _, leaf = head.rpartition(".")
        self._tap = [_Tap(head_layer(self.model, head))]  # in a list: it is registered below, once
        setattr(self.model.get_submodule(parent), leaf, self._tap[0])

    def forward(self, X):
        tap = self._tap[0]
        tap.seen = []
        try:
            with _WithGradients() if torch.is_grad_enabled() else contextlib.nullcontext():
                try:
                    self.model(**{self._keyword: X * self.scale}) if self._keyword else self.model(X * self.scale)
                except Exception as error:
                    if len(tap.seen) != 1:  # what follows the head may fail, and does not matter
                        raise _diagnosed(self.model, X, error) from error
            calls = len(tap.seen)
            if calls != 1 or tap.seen[0].ndim != 2:
                shape = tuple(tap.seen[0].shape) if calls else None
                raise BodyError(f"the head must be called once, on (n, p); it was called {calls} times, on {shape}")
            return tap.seen[0]
        finally:
            tap.seen = []


class _WithGradients(TorchFunctionMode):
    """Gradients stay on, whatever the code within says."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.detach:
            return args[0]
        if function is torch._C._set_grad_enabled:
            args = (True,)
        return function(*args, **(kwargs or {}))


def _required(model):
    parameters = inspect.signature(model.forward).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p for p in parameters if p.default is p.empty and p.kind in kinds]


def _only_keyword(model) -> str | None:
    """The name of the input of a model that takes it by name alone, as those of Hugging Face may."""
    needed = _required(model)
    alone = len(needed) == 1 and needed[0].kind is inspect.Parameter.KEYWORD_ONLY
    return needed[0].name if alone else None


def _diagnosed(model, X, error) -> BodyError:
    """What is wrong with a model that fails on inputs X, as far as it can be told."""
    text = " ".join(str(error).split())
    needed, shape = _required(model), tuple(X.shape[1:])
    if len(needed) > 1:
        return BodyError(
            f"the model takes {len(needed)} inputs ({', '.join(p.name for p in needed)}), and the audit looks for one; "
            "wrap it in a module that takes the input in question and holds the others fixed"
        )
    first = next((m for m in model.modules() if not list(m.children()) and not isinstance(m, _Tap)), None)
    if isinstance(first, nn.Embedding | nn.EmbeddingBag) or "indices to be one of the following types" in text:
        return BodyError(
            "the model takes token ids, whole numbers without a gradient; audit it from its embedding on: pass a "
            "module that takes the embedded sequence, and input_shape (length, width)"
        )
    if "Byte" in text or "uint8" in text or "unsigned char" in text:
        return BodyError(
            "the model takes uint8 pixels; pass a module that takes the same pixels as floating numbers (0 to 255) and "
            "skips the cast"
        )
    return BodyError(
        f"the model fails on an input of shape {shape} ({type(error).__name__}: {text[:200]}); does input_shape fit "
        "its first layer?"
    )


class _Tap(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer, self.seen = layer, []

    def forward(self, h):
        self.seen.append(h)
        return self.layer(h)
