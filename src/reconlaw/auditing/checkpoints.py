r"""State dictionaries of checkpoint pairs that fit a model, whatever wrote them and whatever wrapped the model.

Trainers nest the state dictionary among other things. ``nn.DataParallel``, ``torch.compile``, FSDP, Lightning and PEFT
put words before or into its keys. A fine-tuned head or an adapter is saved without its body. Names are matched to the
model's own: a wrapper's word is dropped where the model has no module of that name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from .._words import some
from .errors import AuditError
from .tensors import Unread, load_tensors

# Where training scripts keep the weights among other things, and where their running mean (EMA).
PLAIN = ("state_dict", "model_state_dict", "model", "module", "params", "net", "network", "weights")
MEAN = ("state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema", "params_ema", "averaged_model")
# Words that wrappers put into keys, and names under which trainers hold the whole model.
_WRAPPERS = ("module", "_orig_mod", "_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "modules_to_save")
_HOLDERS = ("base_model", "model", "net", "network")
# What torch.optim.swa_utils.AveragedModel counts beside the model.
_COUNT = "n_averaged"


def _is_state(content) -> bool:
    return isinstance(content, Mapping) and any(isinstance(value, torch.Tensor) for value in content.values())


def _same(one: Mapping, other: Mapping) -> bool:
    """Whether two states hold the same numbers, as a running mean does before the first step."""

    def equal(a, b):
        return torch.equal(a, b) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else a is b

    return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)


def _choose(content: Mapping, name: str, key: str | None) -> Mapping:
    """The state dictionary in what a trainer saved."""
    if key is not None:
        if not isinstance(content.get(key), Mapping):
            raise AuditError(f"{name} has no state dictionary at {key!r}; there are: {some(content)}")
        return content[key]
    plain = [k for k in PLAIN if _is_state(content.get(k))]
    mean = [k for k in MEAN if _is_state(content.get(k))]
    found = plain + mean
    if len(found) > 1 and not all(_same(content[found[0]], content[k]) for k in found[1:]):
        raise AuditError(
            f"{name} holds several states: {', '.join(map(repr, found))}. They differ, and so would the audit: pass "
            f"state={found[0]!r} for the weights of training"
            + (f", or state={mean[0]!r} for their running mean" if mean else "")
        )
    if not plain and not mean:
        nested = [k for k in PLAIN if isinstance(content.get(k), Mapping) and not _is_state(content)]
        return _choose(content[nested[0]], name, None) if nested else content
    return content[(plain or mean)[0]]


# What stands for a checkpoint: a path, a state dictionary, or a module.
Source: TypeAlias = "str | Path | Mapping[str, Any] | nn.Module"


def _tensors(content: Mapping, name: str) -> dict[str, torch.Tensor]:
    kept = {}
    for key, value in content.items():
        quantised = getattr(value, "quantised", False) or (isinstance(value, torch.Tensor) and value.is_quantized)
        if quantised or "_packed_params" in str(key):
            raise AuditError(
                f"{name}: {key!r} is quantised, and quantised modules are not supported: their weights are rounded "
                "copies. Pass the checkpoints from before quantisation"
            )
        if isinstance(value, torch.Tensor):
            kept[str(key)] = value
        elif not isinstance(value, Unread | bool | int | float | str | bytes | type(None)):
            raise AuditError(
                f"{name}: {key!r} is a {type(value).__name__}, no tensor; pass model.state_dict(), or a dictionary "
                f"with it at one of {', '.join(map(repr, PLAIN))}; there are: {some(content)}"
            )
    if not kept:
        raise AuditError(f"{name} holds no tensors; there are: {some(content)}")
    return kept


def _content(source: Source, name: str) -> Mapping:
    """What a file, a mapping or a module holds, with whatever a trainer put around the state dictionary."""
    content: object
    if isinstance(source, nn.Module):
        content = source.state_dict()
    elif isinstance(source, Mapping):
        content = source
    elif isinstance(source, str | Path):
        content = load_tensors(Path(source).expanduser(), name)
    else:
        raise AuditError(f"{name} is a {type(source).__name__}; pass a path, a state_dict or a torch.nn.Module")
    if isinstance(content, Unread):
        raise AuditError(
            f"{name} holds an object that is not built, because that could run code: a whole module, it seems. Save "
            "model.state_dict() in its place"
        )
    if not isinstance(content, Mapping):
        raise AuditError(f"{name} holds a {type(content).__name__}; expected a state_dict, names with tensors")
    return content


def _state(content: Mapping, name: str, key: str | None) -> dict[str, torch.Tensor]:
    return {k: value.detach().cpu() for k, value in _tensors(_choose(content, name, key), name).items()}


def read_state(source: Source, name: str, key: str | None = None) -> dict[str, torch.Tensor]:
    """The state dictionary of a file, a mapping or a module, on the CPU, under the names it has there.

    Args:
        source: a path (``.safetensors``, else what torch.save wrote; an index of shards, or a folder), a state
            dictionary, or a module.
        name: "before" or "after", for messages.
        key: where in the file the state dictionary is; None to look at the usual places.

    Raises:
        AuditError: no file, a damaged one, no tensors in it, several states to choose from, quantised weights.
    """
    return _state(_content(source, name), name, key)


def read_pair(before: Source, after: Source, key: str | None = None) -> list[dict[str, torch.Tensor]]:
    """:func:`read_state` of both; ``key`` need be in one of them alone where the other is a bare state dictionary.

    Raises:
        AuditError: as of :func:`read_state`.
    """
    contents = {"before": _content(before, "before"), "after": _content(after, "after")}
    there = any(isinstance(content.get(key), Mapping) for content in contents.values())
    return [
        _state(content, name, None if there and _is_state(content) and key not in content else key)
        for name, content in contents.items()
    ]


def _plain(key: str, own: Mapping[str, str]) -> str | None:
    """The model's name for a key of a wrapped model, or None: wrappers' words are dropped wherever they stand."""
    if key in own:
        return key
    words = key.split(".")
    for k, word in enumerate(words):  # PEFT: classifier.modules_to_save.<adapter>.weight
        if word == "modules_to_save":
            words = words[:k] + words[k + 2 :]
            break
    words = [word for word in words if word not in _WRAPPERS]
    while words and ".".join(words) not in own and words[0] in _HOLDERS:
        words = words[1:]
    found = ".".join(words)
    return found if found in own else None


def fit_to(state: dict, module: nn.Module, name: str) -> dict[str, torch.Tensor]:
    """The state under the model's own names; keys that are not the model's stay as they are.

    Raises:
        AuditError: two keys of the state are one of the model's.
    """
    own = {key: key for key in module.state_dict()}
    # The model itself may be wrapped, and the file not.
    for key in list(own):
        bare = ".".join(word for word in key.split(".") if word not in _WRAPPERS)
        own.setdefault(bare, key)
    fitted: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        plain = _plain(key, own)
        if plain is None and key == _COUNT:
            continue
        target = key if plain is None else own[plain]
        if target in fitted and not torch.equal(fitted[target], value):
            raise AuditError(f"{name} has two values for {target!r}: it seems to hold two copies of the model")
        fitted[target] = value
    return fitted


def _twins(module: nn.Module) -> dict[str, list[str]]:
    """Names of one and the same tensor, as tied weights have, by each of them."""
    by_place: dict = {}
    for key, value in module.state_dict(keep_vars=True).items():
        by_place.setdefault((value.data_ptr(), value.shape), []).append(key)
    return {key: keys for keys in by_place.values() if len(keys) > 1 for key in keys}


def _complete(state: dict, module: nn.Module, other: dict | None) -> dict:
    """Tied weights that a file stores once, buffers that only one of the files has."""
    twins, own, buffers = _twins(module), module.state_dict(), dict(module.named_buffers())
    filled = dict(state)
    for key in own:
        if key in filled:
            continue
        tied = next((twin for twin in twins.get(key, ()) if twin in state), None)
        if tied is not None:
            filled[key] = state[tied]
        elif key in buffers:
            filled[key] = other[key] if other and key in other else buffers[key].detach().cpu()
    return filled


def _check_architecture(state: dict, module: nn.Module, name: str) -> None:
    own = module.state_dict()
    for key, value in state.items():
        if key not in own or value.shape == own[key].shape:
            continue
        shapes = f"{key!r} has shape {tuple(value.shape)} in {name} and {tuple(own[key].shape)} in the model"
        layer = module.get_submodule(key.rpartition(".")[0])
        if isinstance(layer, nn.Linear) and value.shape[1:] == own[key].shape[1:]:
            raise AuditError(
                f"{shapes}: the head was replaced. As before, pass the model with its new head as it stood before the "
                "first step (save it right after replacing the head). The file that the body came from does not hold "
                "that head, and without it the head's change is not known"
            )
        raise AuditError(f"{shapes}; pass the module that this checkpoint belongs to")
    for a, b, owner, lacking in ((state, own, name, "the model"), (own, state, "the model", name)):
        missing = [key for key in a if key not in b]
        if missing:
            raise AuditError(f"{owner} has {some(missing)}, which {lacking} lacks; {lacking} has: {some(b)}")


def matched_pair(before: dict, after: dict, module: nn.Module) -> tuple[dict, dict]:
    """Both states under the model's names and whole: what an ``after`` of the head alone lacks is as in ``before``.

    Raises:
        AuditError: keys or shapes that do not fit the model, a replaced head, an adapter, NaN; naming the key.
    """
    before, after = fit_to(before, module, "before"), fit_to(after, module, "after")
    adapters = [key for key in after if "lora_A" in key or "lora_B" in key]
    if adapters and not set(adapters) & set(module.state_dict()):
        raise AuditError(
            f"after holds a LoRA adapter ({some(adapters)}), which the model lacks: pass the model with the adapter in "
            "it, and as before the same model at the adapter's start"
        )
    before = _complete(before, module, after)
    held = {key.rpartition(".")[0] for key in after}
    if set(after) < set(before) and not any(key.rpartition(".")[0] in held for key in set(before) - set(after)):
        after = {**before, **after}  # layers that it holds no part of
    after = _complete(after, module, before)
    own = module.state_dict()
    for name, state in (("before", before), ("after", after)):
        _check_architecture(state, module, name)
        for key, value in state.items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise AuditError(f"{key!r} holds NaN or infinite values in {name}")
            if own[key].is_floating_point() and not value.is_floating_point():
                raise AuditError(
                    f"{key!r} has dtype {value.dtype} in {name}; expected floating numbers, not quantised ones"
                )
    return before, after
