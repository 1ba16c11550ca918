"""Trained networks and modules that the package has never seen, on 8×8 digits.

"resnet head": the head of a residual network trained over a frozen body. "resnet all": all layers trained by small
steps; midpoint features, then replay. "two-layer": n = 20, K = 10, all layers trained; midpoint features in the span
read off the first layer's change, then replay. The others: a linear head fitted over a frozen random body of a
user's own. p counts all weights of the head. With --cifar also "two-layer, CIFAR-10" at the paper's size, n = 100 and
width 122,880 (p/dn = 4), trained on the device; its three trainings of 377 million weights ask for a GPU.

    python benchmarks/networks.py
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import common
import torch
from torch import nn

import reconlaw as rl
from reconlaw import networks
from reconlaw.networks.replay import replay

SIDE = 8
TRAINING = {"tol": 1e-6, "step": 0.3, "max_steps": 100_000}
CIFAR = "two-layer, CIFAR-10"
TRAINED = ("resnet all", "two-layer", CIFAR)  # all layers; the others have a frozen body


class Transformer(nn.Module):
    """One encoder layer on the sixteen 2×2 patches of a digit."""

    def __init__(self, width):
        super().__init__()
        self.embed, self.place = nn.Linear(4, width), nn.Parameter(torch.randn(16, width) / 2)
        self.layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, "gelu", batch_first=True)

    def forward(self, X):
        patches = X.reshape(-1, 4, 2, 4, 2).transpose(2, 3).reshape(-1, 16, 4)
        return self.layer(self.embed(patches) + self.place)


def cnn(p):
    stem = [nn.Conv2d(1, 32, 3, padding=1), nn.GELU(), nn.Conv2d(32, math.ceil(p / 64), 3, padding=1), nn.GELU()]
    return nn.Sequential(nn.Unflatten(1, (1, SIDE, SIDE)), *stem)


def mlp(activation):
    def make(p):
        sizes = (SIDE**2, 256, 256, p)
        layers = [(nn.Linear(a, b), activation()) for a, b in zip(sizes, sizes[1:], strict=False)]
        return nn.Sequential(*(part for pair in layers for part in pair))

    return make


BODIES = {
    "cnn, GELU": cnn,
    "mlp, GELU, biases": mlp(nn.GELU),
    "mlp, SiLU, biases": mlp(nn.SiLU),
    "transformer": lambda p: Transformer(4 * math.ceil(p / 64)),
}


def load(s):
    if s["what"] == CIFAR:
        return rl.data.cifar10(s["n"], rl.data.cifar.CLASSES, s.get("root"))
    return rl.data.digits(n=s["n"], classes=tuple(range(10)) if s["outputs"] > 1 else (3, 8), seed=s["seed"])


def figures(result, X, data) -> dict:
    report = rl.match(X, data.X)
    pictures = data.to_images(X[report.order])
    return {
        **common.scores(dataclasses.replace(result, X=X), data.X),
        "below_1e-4": int(report.recovered(1e-4).sum()),
        "below_0.1": int(report.recovered(0.1).sum()),
        "median_error": common.short(report.error.median()),
        "worst_error": common.short(report.error.max()),
        "least_ssim": common.short(rl.ssim(pictures, data.to_images(data.X)).min()),
    }


def frozen(s, data):
    """A head over a frozen body: a user's own, or a residual network's."""
    if s["what"] == "resnet head":
        p = round(s["ratio"] * s["n"] * SIDE**2)
        network = networks.ResNet((SIDE, SIDE), math.ceil(p / 49), s["blocks"], activation="relu", seed=s["seed"])
        body, theta0 = network.body, network.head.weight.detach()
    else:
        torch.manual_seed(1_000_003 + s["seed"])
        body, theta0 = BODIES[s["what"]](round(s["ratio"] * s["n"] * SIDE**2)), None
    features = rl.ModuleFeatures(body.eval(), SIDE**2, device=s["device"])
    y = data.y.reshape(s["n"], -1)
    theta = features.fit(data.X, y, theta0=theta0)
    theta = theta if theta0 is None else theta - theta0.to(theta)
    result = common.attack(theta, features, s["n"], seed=s["seed"], max_steps=s["max_steps"])
    return figures(result, result.X, data) | {"p": features.p * len(theta)}


def trained(s, data):
    """All layers trained: midpoint features, then replay."""
    d, how, rounds = data.X.shape[1], TRAINING, {}
    p = s["ratio"] * s["n"] * d
    if s["what"] == "resnet all":
        network = networks.ResNet(
            (SIDE, SIDE), math.ceil(p / 49), s["blocks"], activation="relu", seed=s["seed"], outputs=s["outputs"]
        )
    else:
        network = networks.TwoLayer(d, round(p / s["outputs"]), s["outputs"], seed=s["seed"])
    if s["what"] == CIFAR:
        network, how, rounds = network.to(s["device"]), TRAINING | {"momentum": 0.9}, {"rounds": 2}
    training, training_seconds = common.measure(lambda _: networks.train(network, data.X, data.y, **how), s["device"])
    middle, maps = networks.between(network, training.network), {}
    if s["what"] == "resnet all":
        features = rl.ModuleFeatures(middle.body, d, device=s["device"])
    else:
        change = training.network.body[0].weight - network.body[0].weight
        basis, _ = networks.input_span(torch.linalg.qr(change.detach(), mode="r").R)  # has the rows' span
        features = networks.LayerFeatures(middle.body[0].weight, "relu", basis, device=s["device"])
        maps = {"inputs": features.inputs}
    result = common.attack(training.theta, features, s["n"], seed=s["seed"], max_steps=s["max_steps"], tol=s["floor"])
    inputs = maps.get("inputs", lambda U: U)
    after = replay(training.theta, features, result.X, network, training.network, **maps, **rounds, **how)
    return figures(result, inputs(result.X), data) | {
        "p": features.p * s["outputs"],
        "moved": {name: common.short(value) for name, value in training.moved.items()},
        "training_loss": common.short(training.loss),
        "training_steps": len(training.losses) - 1,
        "training_seconds": common.short(training_seconds),
        "replayed": figures(result, inputs(after.X), data),
        "mismatch": [common.short(value) for value in after.mismatch],
        "peak_bytes_gpu": torch.cuda.max_memory_allocated() if s["device"] == "cuda" else None,
    }


def work(s: dict) -> dict:
    data = load(s)
    return trained(s, data) if s["what"] in TRAINED else frozen(s, data)


def summary(results: list[dict], _) -> dict:
    row = {
        "sets": len(results),
        "sets_below_1e-4": common.whole(results, "below_1e-4"),
        "sets_below_0.1": common.whole(results, "below_0.1"),
        "worst_errors": sorted(r["worst_error"] for r in results),
        "least_ssim": min(r["least_ssim"] for r in results),
        "median_seconds": common.median(r["seconds"] for r in results),
    }
    if "replayed" not in results[0]:
        return row
    again = [r["replayed"] for r in results]
    return row | {
        "replayed_worst_errors": sorted(r["worst_error"] for r in again),
        "replayed_sets_below_0.1": common.whole(again, "below_0.1"),
        "replayed_least_ssim": min(r["least_ssim"] for r in again),
    }


def summarise(cells: list[dict]) -> list[dict]:
    return common.table(cells, ("what", "n", "outputs", "ratio", "max_steps"), summary)


def main() -> None:
    options = common.parser(__doc__)
    names = ["resnet head", "resnet all", "two-layer", *BODIES]
    options.add_argument("--what", nargs="+", choices=[*names, CIFAR], metavar="WHAT", help="which (all)")
    options.add_argument("--cifar", type=Path, help="folder, archive or .bin of records of CIFAR-10's binary version")
    options.add_argument("--ratios", nargs="+", type=float, help="p/dn (each its own)")
    options.add_argument("--sizes", nargs="+", type=int, help="samples (each its own)")
    options.add_argument("--seeds", type=int, help="sets (5)")
    options.add_argument("--steps", type=int, help="a set (8,000; two-layer 30,000)")
    args = common.parse(options)
    ratios = {"resnet head": [8, 3], "resnet all": [8, 3], "two-layer": [32, 8, 4], CIFAR: [4]}
    sizes = {"resnet head": [6, 10], "resnet all": [6, 10], "two-layer": [20], CIFAR: [100]}
    cells = []
    for seed in range(args.seeds or (1 if args.tiny else 5)):
        for what in args.what or [*names, *([CIFAR] if args.cifar else [])]:
            for ratio in (args.ratios or ratios.get(what, [10, 5]))[: 1 if args.tiny else None]:
                for n in [2] if args.tiny else args.sizes or sizes.get(what, [5]):
                    several = what.startswith("two-layer") and not args.tiny
                    cell = {"what": what, "n": n, "ratio": ratio, "seed": seed}
                    cell["outputs"] = 10 if several or what == CIFAR else 1
                    cell["max_steps"] = args.steps or (500 if args.tiny else 30_000 if several else 8_000)
                    if what.startswith("resnet"):
                        cell["blocks"] = 1 if args.tiny else 2
                    if what in TRAINED:
                        cell["floor"] = 1e-5  # no loss below it: the features moved
                    cells.append(cell)
    common.run("networks", args, cells, common.Located(work, args.cifar), summarise)


if __name__ == "__main__":
    main()
