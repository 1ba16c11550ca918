"""How the zoo is made: nearly forty small checkpoint pairs from seeds, stored apart from the samples that made them.

Everything is drawn from the seed of the zoo and the name of the pair, on one thread, so that a machine writes the same
bytes again. Another machine, or another version of PyTorch, multiplies in another order: its pairs are trained on the
same samples from the same start, and differ in the last digits.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from zoo_trainings import CONV, GRADIENT, HOW, MLP, adaptive, body, options, shallow

ZOO: dict[str, tuple[str, str, dict]] = {}  # name → what it is, how it is made (a function below), and its settings


def _add(name, what, how="head", known=False, **settings):
    ZOO[name] = (what, how, {"known": known, **settings})


_add("head-one", "random body, one output, squares", architecture=shallow(64, 512, 1), n=4, loss="squares", steps=3000)
_add("random-features", "the law itself: sphere, ReLU, one output, p/dn = 3", "two", n=10, width=1920, training="head")
_add("head-logistic", "pretrained body, one output, logistic loss", pretrained="mlp", outputs=1, n=3, loss="logistic")
_add("head-ten", "random body, ten outputs, squares", architecture=MLP, n=6, loss="squares", steps=1000)
_add("head-random", "random body, cross-entropy", architecture=MLP, n=6)
_add("head-mlp", "pretrained body, cross-entropy", pretrained="mlp", n=6)
_add("head-cnn", "pretrained convolutional body, cross-entropy", pretrained="cnn", n=6)
_add("head-faces", "faces, random body, four of ten classes", architecture=shallow(625, 1024, 10), n=4, data="faces")
_add("head-full-rank", "random body, as many samples as outputs", architecture=MLP, n=10, loss="squares", steps=1000)
_add("head-random-float32", "random body, trained in float32", architecture=MLP, n=6, dtype="float32")
_add("head-mlp-float32", "pretrained body, trained in float32", pretrained="mlp", n=6, dtype="float32")
_add("head-saved-float16", "pretrained body, saved in float16", pretrained="mlp", n=6, dtype="float32", saved="float16")
_add("decay-small", "weight decay 5e-4", pretrained="mlp", n=6, **options(weight_decay=5e-4))
_add("decay-large", "weight decay 1e-2, float32", pretrained="cnn", n=6, dtype="float32", **options(weight_decay=1e-2))
_add("mini-batches", "batches of two of six, order unknown", pretrained="mlp", n=6, batch=2)
_add("adam", "Adam, 100 steps, recipe known", known=True, pretrained="mlp", n=4, **adaptive("Adam"))
_add("adamw", "AdamW, recipe known", known=True, pretrained="mlp", n=4, **adaptive("AdamW", weight_decay=1e-2))
_add("batch-norm", "batch norm in training mode, recipe known", known=True, norm="BatchNorm1d", n=4, mode="train")
_add("dropout", "dropout of a tenth, masks known by their seed", known=True, norm="Dropout", n=4, mode="train")
_add("autocast", "bfloat16 autocast", known=True, pretrained="mlp", n=4, dtype="float32", autocast="bfloat16")
_add("middle", "a middle layer and all above it", pretrained="mlp", n=6, trained=["2", "4"], **options(lr=0.02))
_add("conv", "the last convolution and the head", architecture=CONV, n=6, trained=["5", "8"])
for r in (4, 8, 16):
    _add(f"lora-{r}", f"adapter of rank {r} on a middle layer", "lora", pretrained="mlp", n=6, rank=r)
_add("deletion-step", "unlearned by one step", "deletion", pretrained="mlp", n=6)
_add("deletion-anew", "fitted anew without one, others known", "deletion", pretrained="mlp", n=6, anew=True)
_add("family", "fewer equations than pixels, digits of a known family", "family", n=4, k=16)
_add("records", "breast-cancer records, two classes", "records", n=10, outputs=2)
_add("records-regression", "breast-cancer records, regression", "records", n=10, outputs=1)
_add("first-lazy", "first layer, exactly lazy", "lazy", n=20, width=1000, data="digits")
_add("first-faces", "first layer, exactly lazy, faces", "lazy", n=20, width=1000, data="faces")
relu = {"architecture": shallow(64, 500, 10, "ReLU"), "trained": ["0", "2"]}
_add("first-step", "all layers, one gradient", n=20, **relu, **GRADIENT)
_add("federated", "all layers, five local steps of a client", n=8, **relu, **GRADIENT | {"steps": 5})
_add("first-trained", "both layers to the end", "two", n=5, width=2000, training="lazy")
_add("all-lazy", "both layers to the end, the task of roads.py", "two", n=10, width=2560, training="lazy")
_add("all-margin", "both layers to the margin, from a small start", "two", n=10, width=2560, training="margin")
TINY = ("head-one", "lora-4", "records", "first-step")


def write(name: str, zoo: Path, seed: int = 0) -> dict:
    """Make one pair and its truth in a folder; returns the SHA-256 of either."""
    what, how, s = ZOO[name]
    number = 1_000_000 * seed + zlib.crc32(name.encode()) % 1_000_000
    folder, truth = zoo / "pairs" / name, zoo / "truth" / f"{name}.npz"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    truth.parent.mkdir(parents=True, exist_ok=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in one order
    try:
        with torch.random.fork_rng(devices=[]):
            body(s["pretrained"]) if "pretrained" in s else None  # drawn by itself, whatever was made before
            torch.manual_seed(number)
            made = HOW[how](s, number)
    finally:
        torch.set_num_threads(threads)
    X = made["X"].detach().double()
    picture = {64: [8, 8], 625: [25, 25]}.get(X.shape[1])
    knows = {"what": what, "architecture": made["architecture"], "n": len(X), "d": X.shape[1], "picture": picture}
    knows |= {
        "inputs": "family" if "family" in made else made.get("inputs", "box"),
        "trained": made["recipe"]["trained"],
    }
    decay = made["recipe"].get("options", {}).get("weight_decay", 0.0) > 0
    knows |= {"loss": made["recipe"]["loss"], "weight_decay": decay}
    knows |= {"recipe": made["recipe"] if s["known"] else None}
    (folder / "pair.json").write_text(json.dumps(knows, indent=1) + "\n", encoding="utf-8")
    for part in ("family", "known"):
        if part in made:
            np.savez(folder / f"{part}.npz", **{key: value.numpy() for key, value in made[part].items()})
    for when in ("before", "after"):
        if "adapter" in made:
            (folder / when).mkdir()
            save_file({k: v.contiguous() for k, v in made[when].items()}, folder / when / "adapter_model.safetensors")
            (folder / when / "adapter_config.json").write_text(json.dumps(made["adapter"], indent=1) + "\n")
        else:
            torch.save({key: value.detach().clone() for key, value in made[when].items()}, folder / f"{when}.pt")
    if "base" in made:
        torch.save(made["base"], folder / "base.pt")
    shown = made.get("shown", {"mean": np.array([0.0]), "scale": np.array(1.0)})
    np.savez(truth, X=X.numpy(), y=made["y"].numpy(), **shown)
    return {"sha256": digest(folder), "truth": digest(truth)}


def digest(place: Path) -> str:
    """SHA-256 of a file, or of all files of a folder with their names."""
    found = hashlib.sha256()
    for path in [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file()):
        found.update(path.relative_to(place.parent).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def make(zoo: str | Path, names=None, seed: int = 0) -> dict:
    """Write pairs (all of them) and the manifest into a folder, and return the manifest."""
    zoo = Path(zoo)
    pairs = {name: write(name, zoo, seed) for name in ZOO if names is None or name in names}
    manifest = {"seed": seed, "torch": torch.__version__, "pairs": pairs}
    (zoo / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest
