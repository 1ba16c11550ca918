"""n unknown: how often method="sparse" finds the number of samples, and the samples.

n = 5, 10, 20 at d = 100 and p/dn = 10 and 4. "n exact" counts the sets whose estimated n is right, "recovered" those
in which also every sample's signed relative error is below 1e-4.

    python benchmarks/sparse.py
"""

from __future__ import annotations

import common

import reconlaw as rl


def work(s: dict) -> dict:
    features = rl.RandomFeatures(s["d"], s["p"], s["activation"], seed=s["seed"], device=s["device"])
    data = rl.data.sphere(s["n"], s["d"], seed=s["seed"])
    theta = features.fit(data.X, data.y)
    result = common.attack(theta, features, None, method="sparse", seed=s["seed"], max_steps=s["max_steps"])
    report = rl.match(result.X, data.X)
    return {
        **common.scores(result, data.X),
        "n_found": len(result.X),
        "below_1e-4": int(report.recovered(1e-4).sum()),
        "path_length": len(result.path),
        "message": result.message,
    }


def figures(results: list[dict], _) -> dict:
    exact = [r for r in results if r["n_found"] == r["samples"]]
    whole = common.whole(exact, "below_1e-4")
    return {
        "sets": len(results),
        "n_exact": len(exact),
        "recovered": whole,
        "interval": common.wilson(whole, len(results)),
        "n_found": sorted(r["n_found"] for r in results),
        "median_seconds": common.median(r["seconds"] for r in results),
    }


def summarise(cells: list[dict]) -> list[dict]:
    return common.table(cells, ("d", "activation", "ratio", "n", "max_steps"), figures)


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--activations", nargs="+", default=["relu", "relu+tanh"])
    options.add_argument("--seeds", type=int, help="sets (10)")
    options.add_argument("--steps", type=int, help="a set (300,000)")
    args = common.parse(options)
    if args.tiny:
        args.activations = args.activations[:1]
    d, counts, ratios = (15, [2], [10]) if args.tiny else (100, [5, 10, 20], [10, 4])
    steps = args.steps or (50_000 if args.tiny else 300_000)
    cells = [
        {
            **{"activation": activation, "d": d, "n": n, "ratio": ratio, "p": ratio * d * n, "seed": seed},
            "max_steps": steps,
        }
        for seed in range(args.seeds or (1 if args.tiny else 10))
        for ratio in ratios
        for n in counts
        for activation in args.activations
    ]
    common.run("sparse", args, cells, work, summarise)


if __name__ == "__main__":
    main()
