r"""Low-rank adapters as PEFT stores them: W + s·BA on some layers, with B from zero and A from a random start.

The gradient of A is a combination of what the layer sees, so that A_after − A_before (r × p) lies in its span, as the
change of the layer's own weight would. To first order nothing of it moves, since B starts at zero: then B alone learns,
r·out numbers, which know the samples only through A₀h(x) ∈ R^r.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from .._words import some
from ..features.below import LAYERS, groups_of
from .checkpoints import _plain
from .errors import AuditError

_KEY = re.compile(r"^(?P<layer>.+)\.lora_(?P<factor>[AB])(?:\.(?P<adapter>[^.]+))?\.weight$")
_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class LowRank:
    """An adapted layer: A and B before and after, and s."""

    A: tuple[torch.Tensor, torch.Tensor]
    B: tuple[torch.Tensor, torch.Tensor]
    scale: float | None

    @property
    def rank(self) -> int:
        return len(self.A[0])


def holds_adapter(state: dict) -> bool:
    """Whether a state dictionary holds factors of a low-rank adapter."""
    return any("lora_" in key for key in state)


def read_config(source) -> dict | None:
    """``adapter_config.json`` of a folder, or beside a file; None where there is none.

    Raises:
        AuditError: it cannot be read, or is of an adapter whose change lies in no known span.
    """
    if not isinstance(source, str | Path):
        return None
    path = Path(source).expanduser()
    path = (path if path.is_dir() else path.parent) / _CONFIG
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        kind = str(config.get("peft_type", "LORA")).upper()
    except (OSError, ValueError, AttributeError) as error:
        raise AuditError(f"{path} is no adapter_config.json ({type(error).__name__}: {error})") from error
    if kind != "LORA":
        raise AuditError(f"{path} is of an adapter of type {kind}; only LoRA's factor A has a known span")
    if config.get("use_dora"):
        raise AuditError(_dora(str(path)))
    return config


def _dora(where: str) -> str:
    return (
        f"{where} is a DoRA adapter, which is not supported: its weights are divided by the norms of the columns of "
        "W + BA, and the gradient of that adds multiples of those columns' own rows to A, so that the change of A "
        "leaves the span of what the layer sees"
    )


def _scale(config: dict | None, layer: str, rank: int) -> float | None:
    if config is None:
        return None

    def of(pattern, usual):
        fits = [value for name, value in (config.get(pattern) or {}).items() if layer == name or layer.endswith(name)]
        return fits[0] if fits else config.get(usual)

    alpha, named = of("alpha_pattern", "lora_alpha"), of("rank_pattern", "r")
    if named is not None and int(named) != rank:
        raise AuditError(f"the adapter of {layer!r} has rank {rank}; {_CONFIG} says {named}")
    if alpha is None:
        return None
    return float(alpha) / (rank**0.5 if config.get("use_rslora") else rank)


def _factors(state: dict, own: dict, name: str) -> dict[str, dict[str, torch.Tensor]]:
    """Layer → {"A": …, "B": …}, under the model's own names."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in state.items():
        if "lora_magnitude_vector" in key:
            raise AuditError(_dora(name))
        if "lora_embedding" in key:
            raise AuditError(f"{name} adapts an embedding ({key!r}), whose inputs are token ids: not supported")
        match = _KEY.match(key)
        if match is None:
            continue
        plain = _plain(f"{match['layer']}.weight", own)
        if plain is None:
            raise AuditError(f"{name}: {key!r} adapts a layer that the model lacks; it has: {some(own)}")
        layer = found.setdefault(plain.removesuffix(".weight"), {})
        if match["factor"] in layer:
            raise AuditError(f"{name} holds several adapters of {plain.removesuffix('.weight')!r}; pass one alone")
        layer[match["factor"]] = value
    for adapted, factors in found.items():
        if set(factors) != {"A", "B"}:
            raise AuditError(f"{name}: the adapter of {adapted!r} lacks lora_{'B' if 'A' in factors else 'A'}")
    return found


def _merged(weight, B, A, scale):
    """W + s·BA, of linear layers and convolutions."""
    update = (B.double().flatten(1) @ A.double().flatten(1)).reshape(weight.shape)
    return weight.double() + scale * update


def without_adapter(before: dict, after: dict, module: nn.Module, config: dict | None):
    """The pair's states as those of the model itself, adapters merged; and the adapted layers, by name.

    Raises:
        AuditError: an adapter whose start is not given, of a kind that is not supported, or that does not fit.
    """
    own = {key: key for key in module.state_dict()}
    old, new = _factors(before, own, "before"), _factors(after, own, "after")
    if not new:
        raise AuditError("after holds no LoRA adapter, and before does; pass both at the same stage")
    if not old:
        raise AuditError(
            "before holds no LoRA adapter, and only the change of its factor A lies in a known span. A's start is "
            "drawn at random and nothing else tells it: pass as before the adapter as it was when training began "
            "(model.save_pretrained, or the same seed and library again)"
        )
    if set(old) != set(new):
        raise AuditError(f"before adapts {some(old)}, after {some(new)}; both must adapt the same layers")
    base = {key: value.detach().cpu() for key, value in module.state_dict().items()}
    states: list[dict[str, torch.Tensor]] = []
    layers: dict[str, LowRank] = {}
    for state in (before, after):
        plain = {key.replace(".base_layer.", "."): value for key, value in state.items() if "lora_" not in key}
        fitted = {_plain(key, own): value for key, value in plain.items()}
        states.append({**base, **{key: value for key, value in fitted.items() if key is not None}})
    for layer in (name for name, part in module.named_modules() if name in old):
        part, ((A0, B0), (A1, B1)) = module.get_submodule(layer), ((x[layer]["A"], x[layer]["B"]) for x in (old, new))
        if not isinstance(part, LAYERS) or groups_of(part) > 1:
            raise AuditError(f"the adapter of {layer!r}, a {type(part).__name__}, is not supported")
        if A0.shape != A1.shape or B0.shape != B1.shape or A0[0].numel() != part.weight[0].numel():
            raise AuditError(
                f"the adapters of {layer!r} have shapes {tuple(A0.shape)} and {tuple(A1.shape)}, which do not "
                f"fit one another or the layer's weight {tuple(part.weight.shape)}"
            )
        scale = _scale(config, layer, len(A0))
        if scale is None and len(old) > 1:
            raise AuditError(
                f"several layers are adapted, and their scale is needed: there is no {_CONFIG} with lora_alpha "
                "beside the files"
            )
        for state, A, B in zip(states, (A0, A1), (B0, B1), strict=True):
            key = f"{layer}.weight"
            state[key] = _merged(state[key], B, A, 1.0 if scale is None else scale)
        layers[layer] = LowRank((A0, A1), (B0, B1), scale)
    return states[0], states[1], layers


def first_moved(layers: dict[str, LowRank]) -> str | None:
    """The first adapted layer, in the model's order, whose factor A changed, else B; None where none did."""
    for of in ("A", "B"):
        for name, one in layers.items():
            if not torch.equal(*getattr(one, of)):
                return name
    return None
