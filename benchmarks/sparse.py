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
    result = common.attack(theta, features, None, method="sparse", seed=s["seed"], max_seconds=s["budget"])
    report = rl.match(result.X, data.X)
    return {
        **common.scores(result, data.X),
        "n_found": len(result.X),
        "below_1e-4": int(report.recovered(1e-4).sum()),
        "path_length": len(result.path),
        "message": result.message,
    }


def summarise(cells: list[dict]) -> list[dict]:
    rows = []
    for settings, members in common.groups(cells, ("d", "activation", "ratio", "n", "budget")):
        results = [cell["result"] for cell in members]
        exact = [r for r in results if r["n_found"] == r["samples"]]
        whole = [r for r in exact if r["below_1e-4"] == r["samples"]]
        rows.append(
            settings
            | {
                "sets": len(members),
                "n_exact": len(exact),
                "recovered": len(whole),
                "interval": common.wilson(len(whole), len(members)),
                "n_found": sorted(r["n_found"] for r in results),
                "median_seconds": common.median(r["seconds"] for r in results),
            }
        )
    return rows


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--activations", nargs="+", default=["relu", "relu+tanh"])
    options.add_argument("--seeds", type=int, help="sets (10)")
    options.add_argument("--seconds", type=float, help="a set (120)")
    args = common.parse(options)
    if args.tiny:
        args.activations = args.activations[:1]
    d, counts, ratios = (15, [2], [10]) if args.tiny else (100, [5, 10, 20], [10, 4])
    seconds = args.seconds or (4.0 if args.tiny else 120.0)
    cells = [
        {
            **{"activation": activation, "d": d, "n": n, "ratio": ratio, "p": ratio * d * n, "seed": seed},
            "budget": seconds,
        }
        for seed in range(args.seeds or (1 if args.tiny else 10))
        for ratio in ratios
        for n in counts
        for activation in args.activations
    ]
    common.run("sparse", args, cells, work, summarise)


if __name__ == "__main__":
    main()
