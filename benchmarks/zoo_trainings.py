"""The ways of training of the zoo: each makes a model before and after, from the samples that its pair hides."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math

import inputs
import numpy as np
import roads
import torch
from torch import nn
from torch.nn.functional import one_hot
from zoo_pairs import LoRA, build, train, trainable

import reconlaw as rl
from reconlaw._random import seeded_generator

SGD = {"optimiser": "SGD", "options": {"lr": 0.05, "momentum": 0.9}, "steps": 200, "loss": "cross-entropy"}
GRADIENT = {"optimiser": "SGD", "options": {"lr": 0.1}, "steps": 1, "loss": "cross-entropy"}
MLP = [["Linear", 64, 256], ["GELU"], ["Linear", 256, 512], ["GELU"], ["Linear", 512, 10]]
CNN = [["Unflatten", 1, [1, 8, 8]], ["Conv2d", 1, 16, 3, {"padding": 1}], ["GELU"]]
DEEP = [*CNN, ["Conv2d", 16, 32, 3, {"stride": 2, "padding": 1}], ["GELU"]]
CONV = [*DEEP, ["Conv2d", 32, 32, 3, {"stride": 2, "padding": 1}], ["GELU"], ["Flatten"], ["Linear", 128, 10]]
CNN = [*DEEP, ["Flatten"], ["Linear", 512, 10]]
BODIES = {"mlp": MLP, "cnn": CNN}


def shallow(d, width, outputs, phi="GELU", bias=True):
    return [["Linear", d, width, {"bias": bias}], [phi], ["Linear", width, outputs, {"bias": bias}]]


def options(**given):
    return {"options": {"lr": 0.05, "momentum": 0.9} | given}


def adaptive(optimiser, **given):
    return {"optimiser": optimiser, "options": {"lr": 0.01} | given, "steps": 100}


@functools.cache
def body(kind: str) -> nn.Sequential:
    """An MLP or CNN of digits, trained on those that nobody attacks."""
    torch.manual_seed(inputs.OTHERS)
    model = build(BODIES[kind])
    X, y = (part[: inputs.OTHERS] for part in inputs.digits())
    recipe = {"trained": [str(k) for k, part in enumerate(model) if list(part.parameters())], "loss": "cross-entropy"}
    recipe |= {"optimiser": "Adam", "options": {"lr": 1e-3}, "steps": 300, "batch": 50}
    return train(model, X.float(), y, recipe)


def samples(s: dict, seed: int):
    """X (n, d) as the model sees them, and labels of the loss."""
    if s.get("data") == "faces":
        X, y = rl.data.faces(s["n"], seed=seed).pixels, torch.arange(s["n"])
    else:
        X, y = inputs.pick(s["n"], seed)
    if s.get("loss") == "logistic":
        return X, torch.where(torch.arange(s["n"]) % 2 == 0, 1.0, -1.0).double()
    if s.get("loss") == "squares":
        return X, normal(seed, s["n"], 1) if s["architecture"][-1][2] == 1 else one_hot(y, 10).double() - 0.1
    return X, y


def told(seed: int) -> int:
    """The seed of a recipe, which may be known and must not lead to that of the samples."""
    return int(torch.randint(2**31, (), generator=seeded_generator("zoo recipe", seed)))


def normal(seed, *shape):
    return torch.randn(*shape, generator=seeded_generator("zoo", seed), dtype=torch.float64)


def started(s: dict) -> tuple[list, nn.Sequential]:
    """Architecture and model before the training in question."""
    if "pretrained" in s:
        architecture, model = copy.deepcopy((BODIES[s["pretrained"]], body(s["pretrained"])))
        if s.get("outputs"):
            architecture[-1] = ["Linear", architecture[-1][1], s["outputs"]]
            model[-1] = nn.Linear(*architecture[-1][1:])
        return architecture, model
    architecture = s.get("architecture")
    if architecture is None:  # a layer that trains otherwise than it is used
        extra = [[s["norm"], 512 if s["norm"] == "BatchNorm1d" else 0.1]]
        architecture = [*MLP[:3], *extra, *MLP[3:]] if s["norm"] == "BatchNorm1d" else [*MLP[:4], *extra, *MLP[4:]]
    return architecture, build(architecture)


def head(s: dict, seed: int) -> dict:
    """Some layers of a Sequential, trained by a recipe: a head, a middle layer, all of it."""
    architecture, model = started(s)
    model, (X, y) = model.to(getattr(torch, s.get("dtype", "float64"))), samples(s, seed)
    recipe = {key: s.get(key, value) for key, value in SGD.items()}
    recipe |= {key: s[key] for key in ("batch", "mode", "autocast") if key in s}
    recipe |= {"trained": s.get("trained", [str(len(model) - 1)]), "seed": told(seed)}
    before, X = copy.deepcopy(model.state_dict()), X.to(next(model.parameters()).dtype)
    if s.get("loss") == "squares":  # at the largest rate that is stable without momentum
        curvature = float(torch.linalg.eigvalsh(2 * model[:-1](X).detach() @ model[:-1](X).detach().T / len(X))[-1])
        recipe["options"] = {"lr": 1 / (curvature + 2 / len(X)), "momentum": 0.9}
    train(model, X, y.to(X) if y.is_floating_point() else y, recipe)
    after = model.state_dict()
    if "saved" in s:
        before, after = ({k: v.to(getattr(torch, s["saved"])) for k, v in one.items()} for one in (before, after))
    return {"architecture": architecture, "before": before, "after": after, "X": X, "y": y, "recipe": recipe}


def lora(s: dict, seed: int) -> dict:
    architecture, model = started(s)
    model, (X, y), r = model.double(), samples(s, seed), s["rank"]
    A, layer = torch.empty(r, 256, dtype=torch.float64), model[2]
    nn.init.kaiming_uniform_(A, a=math.sqrt(5))
    base, names = copy.deepcopy(model.state_dict()), [f"base_model.model.2.lora_{part}.weight" for part in "AB"]
    model[2] = LoRA(layer, A, torch.zeros(512, r, dtype=torch.float64), 16)
    files = [dict(zip(names, (p.detach().clone() for p in trainable(model[2])), strict=True))]
    recipe = SGD | options(lr=0.02) | {"trained": ["2"], "seed": told(seed)}
    train(model, X, y, recipe)
    files.append(dict(zip(names, (p.detach() for p in trainable(model[2])), strict=True)))
    config = {
        "peft_type": "LORA",
        "r": r,
        "lora_alpha": 16,
        "target_modules": ["2"],
        "lora_dropout": 0.0,
        "bias": "none",
    }
    made = {"architecture": architecture, "base": base, "adapter": config, "before": files[0], "after": files[1]}
    return made | {"X": X, "y": y, "recipe": recipe}


def deletion(s: dict, seed: int) -> dict:
    """A head from which one sample was taken: by a step against its loss, or fitted by least squares without it."""
    architecture, model = started(s)
    model, (X, y) = model.double(), samples(s, seed)
    layer = model[-1]
    recipe = SGD | {"trained": [str(len(model) - 1)], "seed": told(seed)}
    if s.get("anew"):
        layer.bias.data.zero_()
        Phi, Y = model[:-1](X).detach(), one_hot(y, 10).double() - 0.1
        fitted = [torch.linalg.pinv(Phi[rows:]) @ Y[rows:] for rows in (0, 1)]
        states = [copy.deepcopy(model.state_dict()) | {f"{len(model) - 1}.weight": W.T.contiguous()} for W in fitted]
        return {"architecture": architecture, "before": states[0], "after": states[1], "X": X[:1], "y": y[:1]} | {
            "known": {"X": X[1:]},
            "recipe": recipe,
        }
    train(model, X, y, recipe)
    before = copy.deepcopy(model.state_dict())
    train(model, X[:1], y[:1], recipe | {"optimiser": "SGD", "options": {"lr": 0.01, "maximize": True}, "steps": 1})
    return {"architecture": architecture, "before": before, "after": model.state_dict(), "X": X[:1], "y": y[:1]} | {
        "recipe": recipe
    }


def family(s: dict, seed: int) -> dict:
    """Digits in the span of principal components of others, behind too few features for their pixels."""
    others = inputs.digits()[0][: inputs.OTHERS]
    mean = others.mean(0)
    _, sizes, components = torch.linalg.svd(others - mean, full_matrices=False)
    basis = components[: s["k"]] * (sizes[: s["k"], None] / inputs.OTHERS**0.5)
    X = inputs.pick(s["n"], seed)[0]
    X = mean + (X - mean) @ torch.linalg.pinv(basis) @ basis
    width = round(1.25 * s["n"] * (s["k"] + 1))
    made = rl.networks.TwoLayer(64, width, activation="gelu", bias=True, seed=seed).body[0]
    architecture = [["Linear", 64, width], ["GELU"], ["Linear", width, 1, {"bias": False}]]
    model, y = build(architecture).double(), normal(seed, s["n"], 1)
    model[0].load_state_dict(made.state_dict())
    before, Phi = copy.deepcopy(model.state_dict()), model[:-1](X).detach()
    model[2].weight.data += (torch.linalg.pinv(Phi) @ (y - model(X).detach())).T
    made = {"architecture": architecture, "before": before, "after": model.state_dict(), "X": X, "y": y}
    return made | {"family": {"basis": basis, "offset": mean}, "recipe": {"trained": ["2"], "loss": "squares"}}


def records(s: dict, seed: int) -> dict:
    """Breast-cancer records, each column standardised by others, behind a body that was trained on those."""
    from sklearn.datasets import load_breast_cancer

    raw, y = (torch.tensor(part) for part in load_breast_cancer(return_X_y=True))
    order = torch.randperm(len(raw), generator=seeded_generator("zoo", seed))
    others, rows, K = order[:400], order[400 : 400 + s["n"]], s["outputs"]
    Z = (raw - raw[others].mean(0)) / raw[others].std(0)
    architecture = [["Linear", 30, 128], ["GELU"], ["Linear", 128, 1024], ["GELU"], ["Linear", 1024, K]]
    model = build(architecture).double()
    loss, labels = ("cross-entropy", y) if K == 2 else ("squares", Z[:, 3:4])  # the mean area
    recipe = {"trained": ["0", "2", "4"], "loss": loss, "optimiser": "Adam", "options": {"lr": 1e-3}}
    train(model, Z[others], labels[others], recipe | {"steps": 200, "batch": 40})
    model[4].reset_parameters()
    before, X = copy.deepcopy(model.state_dict()), Z[rows]
    rate = 0.05 if K == 2 else 0.5 / float(model[:-1](X).detach().square().sum(1).mean())
    recipe = SGD | options(lr=rate) | {"steps": 300, "loss": loss, "trained": ["4"], "seed": told(seed)}
    train(model, X, labels[rows], recipe)
    made = {"architecture": architecture, "before": before, "after": model.state_dict(), "X": X, "y": labels[rows]}
    return made | {"recipe": recipe, "inputs": "free"}


def lazy(s: dict, seed: int) -> dict:
    """The first layer alone changes, by what a gradient at its start says, with coefficients of any size."""
    data = rl.data.faces(s["n"], seed=seed) if s["data"] == "faces" else rl.data.digits(s["n"], tuple(range(10)), seed)
    X, p = data.X, s["width"]
    W, v, c = normal(seed, p, X.shape[1]) / X.shape[1] ** 0.5, normal(seed + 10_000, p), normal(seed + 20_000, s["n"])
    before = {"0.weight": W, "2.weight": v[None]}
    after = {"0.weight": W + v[:, None] * (((W @ X.T > 0) * c) @ X), "2.weight": v[None].clone()}
    return {"architecture": shallow(X.shape[1], p, 1, "ReLU", False), "before": before, "after": after} | on_sphere(
        data, c, ["0"]
    )


def on_sphere(data, y, trained):
    shown = {"mean": np.array(data.mean), "scale": np.array(data.scale)}
    return {"X": data.X, "y": y, "inputs": "sphere", "shown": shown, "recipe": {"trained": trained, "loss": "squares"}}


def two(s: dict, seed: int) -> dict:
    """Both layers of a two-layer network, as ``roads.py`` trains them, or its head by least squares."""
    if s["training"] == "head":
        data = rl.data.digits(s["n"], tuple(range(10)), seed)
        y, layer = normal(seed, s["n"]), rl.networks.TwoLayer(64, s["width"], seed=seed)
        W, Phi = layer.body[0].weight.detach(), layer.body(data.X).detach()
        v, left = layer.head.weight.detach(), y - layer(data.X).detach()[:, 0]
        states = [{"0.weight": W, "2.weight": one} for one in (v, v + torch.linalg.pinv(Phi) @ left)]
        made = {"architecture": shallow(64, s["width"], 1, "ReLU", False), "before": states[0], "after": states[1]}
        return made | on_sphere(data, y, ["2"])
    if s["n"] == roads.N:
        data = roads.digits(seed)
    else:
        data = dataclasses.replace(rl.data.digits(s["n"], tuple(range(10)), seed), y=normal(seed, s["n"]))
    margin = s["training"] == "margin"
    how = {"training": s["training"], "p": s["width"], "seed": seed, "tol": 1e-10 if margin else 1e-6}
    states = [
        {"0.weight": one.body[0].weight.detach(), "2.weight": one.head.weight.detach()}
        for one in roads.trained(how, data)[:2]
    ]
    made = {"architecture": shallow(64, s["width"], 1, "ReLU", False), "before": states[0], "after": states[1]}
    made |= on_sphere(data, data.y, ["0", "2"])
    return made | {"recipe": made["recipe"] | {"loss": "logistic" if margin else "squares", "tol": how["tol"]}}


HOW = {"head": head, "lora": lora, "deletion": deletion, "family": family, "records": records, "lazy": lazy, "two": two}
