"""What an attack on the zoo is given: a folder with a checkpoint pair, and ``pair.json``, what else the attacker knows.

    before.pt, after.pt           state dictionaries of a torch.nn.Sequential, before and after the training in question
    base.pt, before/, after/      of adapters: the frozen model, and PEFT's two files of the adapter at either time
    family.npz, known.npz         what is known of inputs as such, or of other samples, where anything is
    pair.json                     architecture, n, where inputs live, which layers were trained, loss, recipe if known

Nothing here opens the truth, which lies in a folder apart.
"""

from __future__ import annotations

import contextlib
import copy
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

import reconlaw as rl

LAYERS = ("Linear", "Conv2d", "GELU", "ReLU", "Flatten", "Unflatten", "BatchNorm1d", "Dropout")
LOSSES = {
    "cross-entropy": F.cross_entropy,
    "squares": lambda out, y: (out - y).square().sum(1).mean(),
    "logistic": lambda out, y: F.soft_margin_loss(out[:, 0], y),
}
OPTIMISERS = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}


def build(architecture: list) -> nn.Sequential:
    """The model of ``[["Linear", 64, 10], ["GELU"], …]``: names of torch.nn, their arguments, options last."""
    parts = []
    for name, *given in architecture:
        if name not in LAYERS:
            raise ValueError(f"the architecture names {name!r}; known are {', '.join(LAYERS)}")
        options = given.pop() if given and isinstance(given[-1], dict) else {}
        parts.append(getattr(nn, name)(*(tuple(one) if isinstance(one, list) else one for one in given), **options))
    return nn.Sequential(*parts)


class LoRA(nn.Module):
    """W x + b + (α/r) B A x, the layer itself frozen."""

    def __init__(self, layer: nn.Linear, A: torch.Tensor, B: torch.Tensor, alpha: float):
        super().__init__()
        self.layer, self.scale = layer, alpha / len(A)
        self.A, self.B = nn.Parameter(A.clone()), nn.Parameter(B.clone())

    def forward(self, h):
        return self.layer(h) + self.scale * (h @ self.A.T) @ self.B.T


def train(model: nn.Module, X: torch.Tensor, y: torch.Tensor, recipe: dict) -> nn.Module:
    """The model trained in place by a recipe, the one function that the zoo is trained with.

    Args:
        recipe: trained (names of layers), loss, optimiser, options (of it), steps; batch (rows a step, None: all),
            seed (of their order and of dropout), mode ("train" or "eval"), autocast (a dtype, or None).
    """
    model.requires_grad_(False)
    parameters = [p for name in recipe["trained"] for p in trainable(model.get_submodule(name))]
    for p in parameters:
        p.requires_grad_(True)
    optimiser = OPTIMISERS[recipe["optimiser"]](parameters, **recipe["options"])
    model.train(recipe.get("mode") == "train")
    loss, kind = LOSSES[recipe["loss"]], recipe.get("autocast")
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(recipe.get("seed", 0))
        for _ in range(recipe["steps"]):
            rows = slice(None) if recipe.get("batch") is None else torch.randperm(len(X))[: recipe["batch"]]
            optimiser.zero_grad()
            with torch.autocast("cpu", getattr(torch, kind)) if kind else contextlib.nullcontext():
                out = model(X[rows])
            loss(out.float() if kind else out, y[rows]).backward()
            optimiser.step()
    return model.eval()


def trainable(layer: nn.Module) -> list[nn.Parameter]:
    return [layer.A, layer.B] if isinstance(layer, LoRA) else list(layer.parameters())


@dataclass(frozen=True)
class Pair:
    """One pair of the zoo, as a stranger would get it.

    Attributes:
        name: of the pair.
        folder: where its files lie.
        knows: the content of ``pair.json``.
    """

    name: str
    folder: Path
    knows: dict

    @property
    def n(self) -> int:
        return self.knows["n"]

    @property
    def d(self) -> int:
        return self.knows["d"]

    @property
    def adapter(self) -> dict | None:
        """The content of PEFT's ``adapter_config.json``; None where no adapter was trained."""
        path = self.folder / "before" / "adapter_config.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def state(self, when: str) -> dict[str, torch.Tensor]:
        """The state dictionary "before" or "after", of an adapter its factors alone."""
        if self.adapter:
            return load_file(self.folder / when / "adapter_model.safetensors")
        return torch.load(self.folder / f"{when}.pt", weights_only=True)

    def model(self, when: str = "before") -> nn.Sequential:
        """The model as it was; of an adapter the frozen one, without it."""
        state = torch.load(self.folder / "base.pt", weights_only=True) if self.adapter else self.state(when)
        made = build(self.knows["architecture"])
        for part in made:  # parts of one file may differ in dtype
            part.to(next((value.dtype for value in state.values() if value.is_floating_point()), torch.float32))
        made.load_state_dict(state)
        return made.eval()

    def array(self, name: str) -> dict[str, torch.Tensor]:
        with np.load(self.folder / f"{name}.npz") as file:
            return {key: torch.from_numpy(file[key]) for key in file}

    def inputs(self) -> rl.inputs.Inputs:
        """Where inputs live, as :mod:`reconlaw.inputs` has it."""
        where = self.knows["inputs"]
        if where == "family":
            family = self.array("family")
            return rl.inputs.Affine(family["basis"], family["offset"])
        return {"box": lambda: rl.inputs.Box(0.0, 1.0), "free": rl.inputs.Free, "sphere": rl.inputs.Sphere}[where]()

    def simulate(self, X: torch.Tensor, y: torch.Tensor) -> nn.Module:
        """The model that the known recipe makes of candidates and labels.

        Raises:
            ValueError: the recipe is not among what the attacker knows.
        """
        if self.knows["recipe"] is None:
            raise ValueError(f"{self.name}: how it was trained is not known")
        model = self.model()
        if self.adapter:
            model = adapted(model, self.state("before"), self.adapter)
        dtype = next(model.parameters()).dtype
        return train(model, X.to(dtype), y.to(dtype) if y.is_floating_point() else y, self.knows["recipe"])


def adapted(model: nn.Sequential, factors: dict[str, torch.Tensor], config: dict) -> nn.Sequential:
    """A copy with PEFT's factors on the layers that they name."""
    model = copy.deepcopy(model)
    for key, A in factors.items():
        if key.endswith("lora_A.weight"):
            name = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            B = factors[key.replace("lora_A", "lora_B")]
            model[int(name)] = LoRA(model[int(name)], A, B, config["lora_alpha"])
    return model


def load(folder: str | Path) -> Pair:
    """The pair in a folder.

    Raises:
        FileNotFoundError: there is no ``pair.json``.
    """
    folder = Path(folder)
    if not (folder / "pair.json").is_file():
        raise FileNotFoundError(f"{folder} holds no pair.json; `python benchmarks/zoo.py make FOLDER` writes pairs")
    return Pair(folder.name, folder, json.loads((folder / "pair.json").read_text(encoding="utf-8")))


def load_all(zoo: str | Path, names: list[str] | None = None) -> list[Pair]:
    """All pairs of a zoo, or those named, in the order of their names."""
    there = sorted(path.parent.name for path in (Path(zoo) / "pairs").glob("*/pair.json"))
    missing = set(names or there) - set(there)
    if missing or not there:
        raise FileNotFoundError(f"{zoo} holds no {', '.join(sorted(missing)) or 'pairs'}; it has: {there or 'none'}")
    return [load(Path(zoo) / "pairs" / name) for name in there if names is None or name in names]
