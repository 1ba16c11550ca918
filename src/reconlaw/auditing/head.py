r"""The head of a model, a linear layer, and the body that feeds it: the feature map that an audit attacks."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .._words import some
from ..features.below import LAYERS, LayerError, LayerInput, layer_of
from .errors import AuditError, BodyError


def head_layer(module: nn.Module, head: str) -> nn.Linear:
    """The linear layer of that name.

    Raises:
        AuditError: no such layer, or one that is not linear.
    """
    linear = linear_layers(module)
    try:
        layer = module.get_submodule(head) if isinstance(head, str) and head else None
    except AttributeError:
        layer = None
    if layer is None:
        raise AuditError(f"the model has no layer {head!r}; its linear layers are: {some(linear)}")
    if not isinstance(layer, nn.Linear):
        raise AuditError(
            f"head={head!r} is a {type(layer).__name__}; a head is a torch.nn.Linear, and a convolution is passed as "
            f"layer=. Linear layers of the model: {some(linear)}"
        )
    return layer


def chosen_layer(module: nn.Module, name: str) -> nn.Module:
    """The linear or convolutional layer of that name.

    Raises:
        AuditError: no such layer, one of another kind, or one whose weight is computed from other tensors.
    """
    try:
        layer = layer_of(module, name)
    except LayerError as error:
        raise AuditError(str(error)) from error
    stored = [key.removeprefix(f"{name}.") for key in module.state_dict() if key.startswith(f"{name}.")]
    if "weight" not in stored:
        raise AuditError(
            f"the weight of {name!r} is computed from {some(stored)}, as weight_norm and spectral_norm do it. Its "
            "change does not lie in the span of what it saw, so it is not supported; below an audited layer they are"
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


def trained_layers(module: nn.Module, changed, kinds=LAYERS) -> list[str]:
    """Names of the layers of these kinds whose weight is among the changed tensors, in the modules' order."""
    names = (name for name, layer in module.named_modules() if isinstance(layer, kinds))
    return [name for name in names if f"{name}.weight" in changed]


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


class SeveralLayers(AuditError):
    """Several linear layers changed, ``names`` in the order of the modules, and which to audit is not told."""

    def __init__(self, names: list[str]):
        self.names = names
        super().__init__(
            f"several linear layers changed: {', '.join(names)}, and none has a usual name ({', '.join(_USUAL)}). Pass "
            f"head={names[-1]!r} to audit the last of them, or layer={names[0]!r} for the first, whose inputs did not "
            "move if nothing below it was trained"
        )


def find_head(module: nn.Module, changed) -> str:
    """The trained linear layer to audit: the only one that changed, of several the usual last one, of none the last.

    Raises:
        SeveralLayers: several linear layers changed, and none has a usual name.
        AuditError: other tensors changed and no linear layer.
    """
    if not linear_layers(module):
        raise AuditError("the model has no torch.nn.Linear, and only such a layer can be audited")
    moved = trained_layers(module, changed, nn.Linear)
    moved = moved or [name for name in linear_layers(module) if f"{name}.bias" in changed]
    if len(moved) == 1:
        return moved[0]
    for usual in _USUAL:
        fitting = [name for name in moved if name == usual or name.endswith(f".{usual}")]
        if len(fitting) == 1:
            return fitting[0]
    if moved:
        raise SeveralLayers(moved)
    if changed:
        others = trained_layers(module, changed)
        there = f"; pass layer={others[0]!r} to audit the lowest convolution that did" if others else ""
        raise AuditError(f"no linear layer changed between the checkpoints; what changed: {some(changed)}{there}")
    return list(linear_layers(module))[-1]


class HeadInput(LayerInput):
    """:class:`~reconlaw.features.below.LayerInput` whose errors are those of an audit."""

    def __init__(self, model: nn.Module, head: str, scale: float = 1.0):
        try:
            super().__init__(model, head, scale)
        except LayerError as error:
            raise AuditError(str(error)) from error

    def forward(self, X):
        try:
            return super().forward(X)
        except LayerError as error:
            raise BodyError(str(error)) from error

    def outputs(self, X):
        """(m,) all floating numbers that the model gives of inputs X, in one row, whatever holds them.

        Raises:
            RuntimeError: the model fails above the layer, or gives none.
        """
        seen: list[torch.Tensor] = []
        hook = self.model.register_forward_hook(lambda _, __, out: seen.extend(_floating(out)))
        try:
            self(X)
        finally:
            hook.remove()
        if not seen:
            raise RuntimeError("the model gives no floating numbers")
        return torch.cat([one.flatten() for one in seen])


def _floating(out):
    """The floating tensors in what a model gives: a tensor, or a dictionary, tuple or list of such."""
    if isinstance(out, torch.Tensor):
        return [out] if out.is_floating_point() else []
    parts = out.values() if isinstance(out, Mapping) else out if isinstance(out, tuple | list) else ()
    return [one for part in parts for one in _floating(part)]
