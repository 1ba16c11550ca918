"""Simulated training against Gauss–Newton through the recipe, on a small residual network all of whose layers move.

Three digits of different classes, the residual network of ``rl.networks`` with one block and ten outputs (p weights in
all), ten steps of full-batch gradient descent on cross-entropy from known weights, at a rate that brings the loss to
about a tenth. Every road is told the weights before and after, the recipe with its rate and its steps, the labels, and
that samples lie on the sphere.

"SimuDy": the road of Tian et al. (ICLR 2025), own implementation. Adam (β 0.8, 0.9; a rate that falls to zero and comes
back by a cosine, every 200 steps) on dummy pictures, from N(0, 1/4), lowers 1 − cos(Δθ, Δθ_sim) + 10⁻³ TV. It ends
where that rate is zero. "SimuDy, no TV": without the last term. Adam's rate was chosen among 0.01, 0.03 and 0.1 on
a set that is not measured here (seed 100, four digits, ReLU, a training rate of 0.1).
"recipe": rl.retrace from random starts. "head, recipe": rl.reconstruct takes the head's change for a combination of
features halfway between the weights, and rl.retrace goes on. "SimuDy, recipe": the first of SimuDy's steps, without TV,
and then rl.retrace.

"steps_made" counts Adam's steps and Gauss–Newton steps (each one derivative by all unknowns), those that look for other
sets of samples included; the head's passes are not among them. Labels tell the order of the samples. "claimed" counts
samples flagged "recovered", "wrong" those of them that are off by more than 1e-2: it must be zero.

    python benchmarks/simudy.py
"""

from __future__ import annotations

import common
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch.func import functional_call, grad

import reconlaw as rl
from reconlaw import networks

SIDE, CLASSES, STEPS = 8, 10, 10
BETAS, PERIOD, DEVIATION, TV = (0.8, 0.9), 100, 0.5, 1e-3  # the authors' choices
ROADS = ("SimuDy", "SimuDy, no TV", "recipe", "head, recipe", "SimuDy, recipe")
ACTIVATIONS, RATE = ("gelu", "relu"), 0.03


def task(s: dict):
    """The network, its recipe (samples → change of all weights, and → weights), the pictures and their classes."""
    n = s["n"]
    network = networks.ResNet((SIDE, SIDE), s["width"], 1, outputs=CLASSES, activation=s["activation"], seed=s["seed"])
    data = rl.data.digits(CLASSES, tuple(range(CLASSES)), seed=s["seed"])
    draw = torch.Generator().manual_seed(1_000_003 + s["seed"])
    rows = torch.randperm(CLASSES, generator=draw, device="cpu")[:n]
    X, classes = data.X[rows], data.y[rows].argmax(1)
    start = {name: p.detach() for name, p in network.named_parameters()}

    def loss(weights, X):
        return F.cross_entropy(functional_call(network, weights, (X,)), classes)

    def weights(X):
        at = start
        for _ in range(s.get("training_steps", STEPS)):
            slope = grad(loss)(at, X)
            at = {name: at[name] - s["rate"] * slope[name] for name in at}
        return at

    def change(X):
        at = weights(X)
        return torch.cat([(at[name] - start[name]).flatten() for name in at])

    return network, weights, change, loss, data, X, classes


def on_sphere(X):
    return rl.inputs.Sphere().retract(X)


def simulated(theta, change, s: dict, steps: int, weight: float, shape) -> torch.Tensor:
    """SimuDy: samples that Adam brings to a small angle between the changes, with few differences of neighbours."""
    draw = torch.Generator().manual_seed(2_000_003 + s["attack_seed"])
    dummy = DEVIATION * torch.randn(shape, generator=draw, dtype=torch.float64, device="cpu")
    dummy.requires_grad_()
    adam = torch.optim.Adam([dummy], lr=s["adam_rate"], betas=BETAS)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, PERIOD)
    for _ in range(steps):
        X = on_sphere(dummy)
        loss = 1 - torch.cosine_similarity(change(X), theta, 0) + weight * variation(X)
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
    return on_sphere(dummy).detach()


def variation(X) -> torch.Tensor:
    pictures = X.reshape(-1, SIDE, SIDE)
    return pictures.diff(dim=1).abs().mean() + pictures.diff(dim=2).abs().mean()


def from_head(before, after, classes, s: dict):
    """Samples whose features halfway span the head's change, in the order of their labels."""
    theta = (after.head.weight - before.head.weight).detach()
    features = rl.ModuleFeatures(networks.between(before, after).body, SIDE**2, device="cpu")
    how = {"seed": s["attack_seed"], "max_seconds": None, "max_steps": s["head_steps"], "tol": 1e-5}
    found = rl.reconstruct(theta, features, len(classes), **how)
    shares = torch.linalg.lstsq(features(found.X).T, theta.T).solution  # descent raises a sample's own class
    rows, labels = linear_sum_assignment(-shares[:, classes].numpy())
    return found.X[rows[labels.argsort()]]


def attack(s: dict, theta, change, before, after, classes, clock):
    """X̂, steps, and the result of rl.retrace where the road ends with it."""
    shape, road, spent = (len(classes), SIDE**2), s["road"], 0
    if road == "recipe":
        start = shape
    elif road == "head, recipe":
        start = from_head(before, after, classes, s)
    else:
        spent = s["adam_steps"]
        start = simulated(theta, change, s, spent, TV if road == "SimuDy" else 0.0, shape)
        if road != "SimuDy, recipe":
            return start, spent, None
    how = {"seed": s["attack_seed"], "starts": s["starts"], "max_steps": s["recipe_steps"], "clock": clock}
    found = rl.retrace(theta, change, start, **how)
    return found.X, spent + found.steps, found


def work(s: dict) -> dict:
    before, weights, change, loss, data, X, classes = task(s)
    trained, theta = weights(X), change(X)
    after = networks.between(before, before)
    after.load_state_dict(trained)
    run = lambda clock: attack(s, theta, change, before, after, classes, clock)  # noqa: E731
    (found, steps, result), seconds = common.measure(run)
    error = (found - X).norm(dim=1) / X.norm(dim=1)  # labels name each sample
    likeness = torch.as_tensor(rl.ssim(data.to_images(found), data.to_images(X)))
    flags = result.flags if result else ()
    claimed = torch.tensor([flag is rl.Flag.RECOVERED for flag in flags] or [False] * len(X))
    moved = sum((trained[name] - p.detach()).square().sum() for name, p in before.named_parameters())
    size = sum(p.detach().square().sum() for p in before.parameters())
    return {
        "samples": len(X),
        "below_1e-2": int((error < 1e-2).sum()),
        "below_1e-6": int((error < 1e-6).sum()),
        "ssim_above_0.9": int((likeness > 0.9).sum()),
        "median_error": common.short(error.median()),
        "worst_error": common.short(error.max()),
        "mismatch": common.short((change(found) - theta).norm() / theta.norm()),
        "claimed": int(claimed.sum()),
        "wrong": int((error[claimed] > 1e-2).sum()),
        "steps_made": int(steps),
        "seconds": common.short(seconds),
        "status": result.status.value if result else "steps spent",
        "weights": len(theta),
        "moved": common.short((moved / size).sqrt()),
        "losses": [
            common.short(loss({k: p.detach() for k, p in net.named_parameters()}, X)) for net in (before, after)
        ],
    }


def figures(results: list[dict], _) -> dict:
    counts = ("samples", "below_1e-2", "below_1e-6", "ssim_above_0.9", "claimed", "wrong")
    names = ("median_error", "mismatch", "moved", "steps_made", "seconds")
    return {
        "sets": len(results),
        "p": results[0]["weights"],
        **{count: sum(r[count] for r in results) for count in counts},
        "worst_error": max(r["worst_error"] for r in results),
        **{
            f"loss_{when}": common.median(r["losses"][i] for r in results) for i, when in enumerate(("before", "after"))
        },
        **common.medians(results, names),
    }


def summarise(cells: list[dict]) -> list[dict]:
    order = lambda row: (row["activation"], row["rate"], ROADS.index(row["road"]))  # noqa: E731
    return common.table(cells, ("activation", "rate", "road", "n", "adam_steps", "recipe_steps"), figures, order)


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--roads", nargs="+", choices=ROADS, default=list(ROADS), metavar="ROAD")
    options.add_argument("--activations", nargs="+", choices=ACTIVATIONS, default=list(ACTIVATIONS))
    options.add_argument("--seeds", nargs="+", type=int, help="of the sets (0, 1, 2)")
    args = common.parse(options)
    size = {"n": 3, "width": 4, "rate": RATE, "adam_rate": 0.1, "head_steps": 6_000, "starts": 2}
    if args.tiny:
        size |= {"n": 2, "width": 2, "head_steps": 20, "starts": 1, "training_steps": 1}
    cells = []
    for activation in args.activations[: 1 if args.tiny else None]:
        for seed in args.seeds or range(1 if args.tiny else 3):
            for road in args.roads:
                cell = {"activation": activation, "road": road, "seed": seed, "attack_seed": 50 + seed, **size}
                adam = 2 if args.tiny else 300 if road == "SimuDy, recipe" else 500
                newton = 1 if args.tiny else 20 if road == "recipe" else 10
                cell["adam_steps"] = adam if "SimuDy" in road else 0
                cell["recipe_steps"] = newton if "recipe" in road else 0
                cells.append(cell)
    common.run("simudy", args, cells, work, summarise)


if __name__ == "__main__":
    main()
