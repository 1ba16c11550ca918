"""One sample at a time, where θ has as many independent rows as there are samples (method="span").

n raw digits, K = n + n // 4 outputs, an MLP body with biases of 2,048 features, labels Gaussian or by cross-entropy of
random classes. "false" counts rows of X̂ that are no sample: the search must never make one up. A set counts as
recovered if every sample's relative error is below 1e-6; a step is of one sample, two passes through the features.

    python benchmarks/span.py
"""

from __future__ import annotations

import functools

import common
import inputs
import torch
from torch import nn

import reconlaw as rl
from reconlaw._random import seeded_generator


def work(s: dict, workers: int = 1) -> dict:
    torch.manual_seed(s["seed"])
    body = nn.Sequential(nn.Linear(inputs.D, 512), nn.ReLU(), nn.Linear(512, s["width"]), nn.GELU()).double()
    features = rl.ModuleFeatures(body, (inputs.D,), device=s["device"])
    X, _ = inputs.digits()
    X = X[torch.randperm(len(X), generator=seeded_generator("benchmark", s["seed"]))[: s["n"]]]
    y = torch.randn(s["n"], s["outputs"], generator=seeded_generator("benchmark", 100 + s["seed"]), dtype=torch.float64)
    where = {"box": rl.inputs.Box(0.0, 1.0), "free": rl.inputs.Free()}[s["in"]]
    options = {"method": "span", "inputs": where, "seed": s["seed"], "max_steps": s["max_steps"], "jobs": workers}
    result = common.attack(features.fit(X, y), features, None, **options)
    distance = torch.cdist(result.X.cpu(), X, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distance.amin(1) / X.norm(dim=1).mean()
    return {
        **common.scores(result, X),
        "found": len(result.X),
        "false": int((nearest > 1e-2).sum()),
        "segments": len(result.segments or {}),
        "message": result.message,
    }


def figures(results: list[dict], _) -> dict:
    totals = {name: sum(r[name] for r in results) for name in ("found", "false", "segments")}
    totals |= {"recovered": common.whole(results, "below_1e-6")}
    spent = common.medians([r | {"passes": 2 * r["steps_made"]} for r in results], ("passes", "seconds"), "median_")
    return common.counts(results) | totals | spent | common.medians(results, ("median_error",))


def summarise(cells: list[dict]) -> list[dict]:
    return common.table(cells, ("n", "outputs", "in", "max_steps"), figures)


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--counts", type=int, nargs="+", help="n (10, 50)")
    options.add_argument("--seeds", type=int, help="sets (3)")
    options.add_argument("--steps", type=int, help="a set, of one atom each (2,000,000)")
    options.add_argument("--where", nargs="+", choices=["box", "free"], help="domains (both)")
    options.add_argument("--workers", type=int, default=1, help="processes that share a set's starts, with --jobs 1")
    args = common.parse(options)
    counts = args.counts or ([3] if args.tiny else [10, 50])
    cells = [
        {"n": n, "outputs": n + n // 4, "width": 256 if args.tiny else 2048, "in": where, "seed": seed}
        | {"max_steps": args.steps or (100_000 if args.tiny else 2_000_000)}
        for seed in range(args.seeds or (1 if args.tiny else 3))
        for n in counts
        for where in args.where or (["box"] if args.tiny else ["box", "free"])
    ]
    common.run("span", args, cells, functools.partial(work, workers=args.workers), summarise)


if __name__ == "__main__":
    main()
