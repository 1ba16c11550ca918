"""Ordinary models: raw pixels, biases, cross-entropy heads; one output in a box; a family below p = dn.

"heads": n = 6 digits in [0, 1], K = 10, head trained by cross-entropy and momentum on a frozen body, random or trained
on other digits before, in float64 or float32 throughout. "one output": n = 4 digits behind GELU features with biases
and one regression output, at p/dn. "family": the same in the span of 16 principal components of other digits, at 1.25
equations for each unknown. "cifar", on request since it needs the photographs: ten of CIFAR-10, one a class,
standardised channel by channel, and a head of ten classes on a convolutional body with biases, p = 16,384.

A set is whole where every sample's signed relative error is below 1e-2. "claimed" counts the sets that are called
recovered in whole, "samples_called" the samples that are called recovered, in sets whole or not; "…_wrong" those of
them that are off by more than 1e-2.

    python benchmarks/inputs.py
    python benchmarks/inputs.py --what cifar --cifar PATH
"""

from __future__ import annotations

from pathlib import Path

import common
import honesty
import torch
from torch import nn

import reconlaw as rl
from reconlaw._random import seeded_generator

OTHERS = 1000  # digits that bodies are trained on, and families taken of: none of them is attacked
SIDE, D = 8, 64
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)  # of CIFAR-10's channels, as people standardise it


def digits():
    """All digits in a fixed order at random, (1797, 64) in [0, 1], and their labels."""
    found = rl.data.digits(1700, classes=tuple(range(10)), seed=0)
    order = torch.randperm(1700, generator=seeded_generator("benchmark", 0))
    return found.pixels[order], found.y.argmax(1)[order]


def pick(n, seed):
    """n digits that no body was trained on, and their labels."""
    X, y = digits()
    rows = OTHERS + torch.randperm(len(X) - OTHERS, generator=seeded_generator("benchmark", 1 + seed))[:n]
    return X[rows], y[rows]


def body(name: str) -> nn.Sequential:
    """A body with biases, from rows of 64 pixels."""
    if name == "mlp":
        return nn.Sequential(nn.Linear(D, 512), nn.ReLU(), nn.Linear(512, 2048), nn.ReLU())
    act = {"cnn-relu": nn.ReLU, "cnn-gelu": nn.GELU}[name]
    shape = nn.Unflatten(1, (1, SIDE, SIDE))
    return nn.Sequential(
        shape, nn.Conv2d(1, 16, 3, padding=1), act(), nn.Conv2d(16, 64, 3, padding=1), act(), nn.Flatten()
    )


def cross_entropy(parameters, logits, y, optimiser, steps, batch=None):
    """Train by full batches, or by random ones."""
    generator, made = seeded_generator("benchmark", 10_000), optimiser(parameters)
    for _ in range(steps):
        rows = slice(None) if batch is None else torch.randperm(len(y), generator=generator)[:batch]
        loss = nn.functional.cross_entropy(logits(rows), y[rows])
        made.zero_grad()
        loss.backward()
        made.step()


def fine_tuned(s: dict):
    """θ of a head, the body's features, and the samples."""
    dtype = getattr(torch, s["dtype"])
    torch.manual_seed(s["seed"])
    made = body(s["body"])
    head = nn.Linear(made(torch.zeros(1, D)).shape[1], 10)
    if s["pretrained"]:
        X, y = (part[:OTHERS] for part in digits())
        parameters, X = [*made.parameters(), *head.parameters()], X.float()
        adam = lambda parameters: torch.optim.Adam(parameters, 1e-3)  # noqa: E731
        cross_entropy(parameters, lambda rows: head(made(X[rows])), y, adam, s["pretraining"], 64)
    made, head = made.to(dtype).requires_grad_(False), head.to(dtype)
    X, y = pick(s["n"], s["seed"])
    before, F = head.weight.detach().clone(), made(X.to(dtype))
    sgd = lambda parameters: torch.optim.SGD(parameters, 0.05, momentum=0.9)  # noqa: E731
    cross_entropy(head.parameters(), lambda rows: head(F[rows]), y, sgd, s["steps"])
    theta = head.weight.detach().double() - before.double()
    return theta, rl.ModuleFeatures(made.double(), (D,), device=s["device"]), X.to(dtype).double()


def photographs(s: dict):
    """A head on standardised photographs, one a class; the box of their pixels."""
    data = rl.data.cifar10(n=s["n"], classes=rl.data.cifar.CLASSES, root=s.get("root"))
    mean, std = (torch.tensor(v, dtype=torch.float64)[:, None] for v in (MEAN, STD))
    X = ((data.pixels.unflatten(1, (-1, 3)).transpose(1, 2) - mean) / std).flatten(1)
    dtype = getattr(torch, s["dtype"])
    torch.manual_seed(s["seed"])
    layers = nn.Conv2d(3, 16, 3, padding=1), nn.GELU(), nn.Conv2d(16, 64, 3, stride=2, padding=1), nn.GELU()
    made = nn.Sequential(nn.Unflatten(1, (3, 32, 32)), *layers, nn.Flatten())
    head = nn.Linear(64 * 16 * 16, 10).to(dtype)
    made = made.to(dtype).requires_grad_(False)
    before, F, y = head.weight.detach().clone(), made(X.to(dtype)), data.y.argmax(1)
    sgd = lambda parameters: torch.optim.SGD(parameters, 0.01, momentum=0.9)  # noqa: E731
    cross_entropy(head.parameters(), lambda rows: head(F[rows]), y, sgd, s["steps"])
    theta = head.weight.detach().double() - before.double()
    features = rl.ModuleFeatures(made.double(), (3072,), device=s["device"])
    return theta, features, X.to(dtype).double(), rl.inputs.pixels((3, 32, 32), MEAN, STD)


def least_psnr(found, X):
    """In dB, of pixels in [0, 1]; each sample's nearest."""
    std = torch.tensor(STD, dtype=torch.float64).repeat_interleave(1024)
    nearest = found[torch.cdist(X, found).argmin(1)]
    error = ((nearest - X) * std).square().mean(1).clamp_min(1e-32)
    return float(-10 * error.log10().max())


def layer(s: dict, p: int):
    made = rl.networks.TwoLayer(D, p, activation="gelu", bias=True, seed=s["seed"]).body
    return rl.ModuleFeatures(made, (D,), device=s["device"])


def one_output(s: dict):
    features, (X, _) = layer(s, round(s["ratio"] * s["n"] * D)), pick(s["n"], s["seed"])
    return features.fit(X, normal(s)), features, X


def normal(s: dict):
    return torch.randn(s["n"], generator=seeded_generator("benchmark", 100 + s["seed"]), dtype=torch.float64)


def family(s: dict):
    """Principal components of other digits, scaled to their deviations; samples within them."""
    others = digits()[0][:OTHERS]
    mean = others.mean(0)
    _, sizes, components = torch.linalg.svd(others - mean, full_matrices=False)
    basis = components[: s["k"]] * (sizes[: s["k"], None] / OTHERS**0.5)
    X = pick(s["n"], s["seed"])[0]
    X = mean + (X - mean) @ torch.linalg.pinv(basis) @ basis
    features = layer(s, round(1.25 * s["n"] * (s["k"] + 1)))
    return features.fit(X, normal(s)), features, X, rl.inputs.Affine(basis, mean)


def work(s: dict) -> dict:
    makers = {"heads": fine_tuned, "one output": one_output, "family": family, "cifar": photographs}
    theta, features, X, *where = makers[s["what"]](s)
    inputs = where[0] if where else {"box": rl.inputs.Box(0.0, 1.0), "free": rl.inputs.Free()}[s["in"]]
    result = common.attack(theta, features, s["n"], inputs=inputs, seed=s["seed"], max_steps=s["max_steps"])
    more = {"least_psnr": least_psnr(result.X.cpu(), X)} if s["what"] == "cifar" else {}
    return common.scores(result, X) | honesty.judged(result, X) | {"message": result.message} | more


NAMES = ("what", "body", "pretrained", "dtype", "in", "ratio", "n", "max_steps")


def figures(results: list[dict], _) -> dict:
    whole = common.whole(results, "below_1e-2")
    totals = {name: sum(r[name] for r in results) for name in ("samples_called", "samples_wrong")}
    worst = [r["worst_error"] for r in results if r["worst_error"] is not None]
    return common.counts(results) | {
        "whole": whole,
        "interval": common.wilson(whole, len(results)),
        "claimed": sum(r["sets_called"] for r in results),
        "claimed_wrong": sum(r["sets_wrong"] for r in results),
        **totals,
        "median_seconds": common.median(r["seconds"] for r in results),
        "not_finite": len(results) - len(worst),
        "worst_errors": sorted(worst)[-3:],
        "least_psnr": min((r["least_psnr"] for r in results if "least_psnr" in r), default=None),
    }


def summarise(cells: list[dict]) -> list[dict]:
    return common.table(cells, NAMES, figures)


def settings(what, seed, max_steps, **more):
    """A cell; every cell names all of NAMES, so that they sort."""
    return (
        {"what": what, "body": "", "pretrained": False, "dtype": "float64", "in": "box", "ratio": 0.0}
        | more
        | {
            "seed": seed,
            "max_steps": max_steps,
        }
    )


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--what", nargs="+", default=["heads", "one output", "family"])
    options.add_argument("--seeds", type=int, help="sets (5 of heads, 3 bodies of cifar, 10 of the others)")
    options.add_argument("--cifar", type=Path, help="folder, archive or .bin of CIFAR-10's binary version (downloaded)")
    options.add_argument("--steps", type=int, help="a set (30,000)")
    args = common.parse(options)
    budget, cells = args.steps or (3_000 if args.tiny else 30_000), []
    if "heads" in args.what:
        training = {"n": 2 if args.tiny else 6, "steps": 100, "pretraining": 300}
        cells += [
            settings("heads", seed, budget, body=name, pretrained=pretrained, dtype=dtype, **{"in": where}, **training)
            for seed in range(args.seeds or (1 if args.tiny else 5))
            for dtype in ("float64", "float32")
            for pretrained in (False, True)
            for name in ("cnn-relu", "cnn-gelu", "mlp")
            for where in ("box", "free")
            if not args.tiny or (name, pretrained, where) == ("mlp", False, "box")
        ]
    others = range(args.seeds or (1 if args.tiny else 10))
    if "one output" in args.what:
        ratios = (1.5,) if args.tiny else (1.5, 1.1, 1.0)
        cells += [settings("one output", seed, budget, ratio=ratio, n=4) for seed in others for ratio in ratios]
    if "family" in args.what:
        cells += [settings("family", seed, budget, n=4, k=16, **{"in": "family"}) for seed in others]
    if "cifar" in args.what:
        cells += [
            settings("cifar", seed, budget, n=10, steps=100, dtype=dtype, body="cnn-gelu")
            for dtype in ("float64", "float32")
            for seed in range(args.seeds or 3)
        ]
    common.run("inputs", args, cells, common.Located(work, args.cifar), summarise)


if __name__ == "__main__":
    main()
