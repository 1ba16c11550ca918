"""What the head of a residual network holds of its samples, against depth, activation and width,
on 8×8 digits.

A head is fitted over a frozen random body and attacked. Beside the outcome of the attack stand figures
that need none: the smallest singular value of P⊥𝒥/‖θ‖ at the samples, with one and with two columns an atom, the cosine
of two samples' features, the odd share of the features at random inputs, how their length has grown from the stem on,
and the steps that a descent takes which begins a fifth of their length away from the samples.
"scaled" is the usual network, whose branches end in weights of variance 1/(fan-in·blocks); without it, 1/fan-in.

    python benchmarks/depth.py
"""

from __future__ import annotations

import math
import time

import common
import torch

import reconlaw as rl
from reconlaw import networks
from reconlaw.attack.varpro import descend
from reconlaw.sphere import to_sphere

POSITIONS = 49


def network(s: dict, data) -> networks.ResNet:
    width = math.ceil(s["ratio"] * data.X.numel() / POSITIONS)
    options = {"activation": s["activation"], "seed": s["seed"], "dtype": data.X.dtype}
    made = networks.ResNet(data.image_shape, width, s["blocks"], **options)
    if not s["scaled"]:
        with torch.no_grad():
            for block in made.body[3:-1]:
                block.second.weight.mul_(math.sqrt(s["blocks"]))
    return made


def weakest(features, X, a, theta, lifted) -> float:
    """Smallest singular value of P⊥𝒥/‖θ‖: 𝒥 along tangent directions of the samples, in units of √d."""
    Q = torch.linalg.qr(features(torch.cat([X, -X]) if lifted else X).T).Q
    frames = torch.linalg.qr(X[:, :, None], mode="complete").Q[:, :, 1:]
    J = features.jacobians(X, dtype=X.dtype)[1]  # (n, d, p)
    rows = (math.sqrt(features.d) * a[:, None, None] * (frames.mT @ J)).flatten(0, 1)
    return float(torch.linalg.svdvals(rows - (rows @ Q) @ Q.T)[-1] / theta.norm())


def geometry(made, features, X, theta) -> dict:
    Phi = features(X)
    a = torch.linalg.solve(Phi @ Phi.T, Phi @ theta)
    unit = torch.nn.functional.normalize(Phi)
    Z = features.probes(100, "depth")
    plus, minus = features(Z), features(-Z)
    with torch.no_grad():
        stem = made.body[:3](X.cpu()).flatten(1)  # the network stays where it was made
    n = len(X)
    return {
        "p": features.p,
        "weakest": common.short(weakest(features, X, a, theta, False)),
        "weakest_lifted": common.short(weakest(features, X, a, theta, features.parity == "mixed")),
        "cosine": common.short(((unit @ unit.T).sum() - n) / (n * n - n)),
        "odd_share": common.short((plus - minus).square().sum() / (2 * (plus.square() + minus.square()).sum())),
        "growth": common.short(Phi.square().sum() / stem.square().sum()),
        "steps": steps(features, X, theta),
    }


def steps(features, X, theta) -> int | None:
    """Steps of Levenberg and Marquardt from near the samples to a loss of 1e-20; None where they end elsewhere."""
    generator = torch.Generator().manual_seed(1_000_003)
    start = to_sphere(X + 0.2 * torch.randn(X.shape, device="cpu", generator=generator, dtype=X.dtype).to(X))
    taken = []
    target, lifted = {"target": 1e-20, "max_steps": 100}, features.parity == "mixed"
    point = descend(features, theta[None], start, lifted, **target, on_step=lambda point: taken.append(1)).point
    return len(taken) if point.loss <= 1e-20 else None


def work(s: dict) -> dict:
    data = rl.data.digits(n=s["n"], seed=s["seed"])
    made = network(s, data)
    features = rl.ModuleFeatures(made.body, data.X.shape[1], device=s["device"])
    theta0 = made.head.weight.detach()[0].to(features.device)
    theta = features.fit(data.X, data.y, theta0=theta0) - theta0
    figures = geometry(made, features, data.X.to(theta), theta)
    begun = time.process_time()
    result = common.attack(theta, features, s["n"], seed=s["seed"], max_steps=s["max_steps"])
    report = rl.match(result.X, data.X)
    return figures | {
        **common.scores(result, data.X),
        "cpu_seconds": common.short(time.process_time() - begun),
        "worst_up_to_sign": common.short(report.error_up_to_sign.max()),
        "parity": features.parity,
    }


def figures(results: list[dict], _) -> dict:
    names = ("weakest", "weakest_lifted", "cosine", "odd_share", "growth", "steps", "cpu_seconds", "seconds")
    return {
        "sets": len(results),
        "recovered": sum(r["worst_error"] < 1e-4 for r in results),
        "recovered_up_to_sign": sum(r["worst_up_to_sign"] < 1e-4 for r in results),
        **common.medians(results, names, "median_"),
    }


def summarise(cells: list[dict]) -> list[dict]:
    return common.table(cells, ("pictures", "activation", "scaled", "ratio", "n", "blocks", "max_steps"), figures)


def grid(args) -> list[dict]:
    """Depth for each activation, with and without the scaling of the branches, then width; seed by seed."""
    n, depths, ratios = (2, [1], [2]) if args.tiny else (4, [0, 1, 2, 4, 8], [1.5, 2, 3, 8])
    kinds = [("relu", True, blocks, 4) for blocks in depths]
    if not args.tiny:
        kinds += [("relu", False, blocks, 4) for blocks in depths[2:]]
        kinds += [(activation, True, blocks, 4) for activation in ("gelu", "tanh") for blocks in depths]
        kinds += [("relu", True, 2, ratio) for ratio in ratios]
    return [
        {
            "pictures": "digits",
            **{"activation": activation, "scaled": scaled, "blocks": blocks, "ratio": ratio, "n": n, "seed": seed},
            "max_steps": args.steps or (500 if args.tiny else 10_000),
        }
        for seed in range(args.seeds or (1 if args.tiny else 5))
        for activation, scaled, blocks, ratio in kinds
    ]


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--seeds", type=int, help="sets (5)")
    options.add_argument("--steps", type=int, help="a set (10,000)")
    args = common.parse(options)
    common.run("depth", args, grid(args), work, summarise)


if __name__ == "__main__":
    main()
