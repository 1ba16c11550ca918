"""How close to the information limit p = dn whole sets come back: success against p/dn, for both methods.

A set counts as recovered if every sample's signed relative error is below 1e-6. "varpro" gets 60 seconds a set. The
paper's descent, allowed to go on past its L ≤ 1e-7, has a budget and seeds of its own; the summary also says how many
of its sets have nine samples in ten within ±0.1 up to sign.

    python benchmarks/limit.py                     the sweep, samples uniform on the sphere
    python benchmarks/limit.py --dataset digits    pictures instead: digits (d = 64) or faces (d = 625)
    python benchmarks/limit.py --foundation        p/dn = 10 and 3 from random starts, as the first chapters rely on
"""

from __future__ import annotations

import common

import reconlaw as rl

RATIOS = [1.05, 1.1, 1.25, 1.5, 1.75, 2, 2.5, 3, 5, 10]
SIZES = {"sphere": ["100x20", "50x10", "200x10"], "digits": ["64x5", "64x10"], "faces": ["625x5"]}


def load(s: dict):
    """The samples; a cell that names no data set is of the sphere."""
    name = s.get("dataset", "sphere")
    if name == "sphere":
        return rl.data.sphere(s["n"], s["d"], seed=s["seed"])
    data = getattr(rl.data, name)(s["n"], seed=s["seed"])
    if data.X.shape[1] != s["d"]:
        raise ValueError(f"{name} has d = {data.X.shape[1]}, not {s['d']}; say --sizes {data.X.shape[1]}x{s['n']}")
    return data


def work(s: dict) -> dict:
    features = rl.RandomFeatures(s["d"], s["p"], s["activation"], seed=s["seed"], device=s["device"])
    data = load(s)
    theta = features.fit(data.X, data.y)
    options = {"start": s["start"]} if s["method"] == "varpro" else {"tol": 1e-25}
    result = common.attack(
        theta, features, s["n"], method=s["method"], seed=s["seed"], max_seconds=s["budget"], **options
    )
    return common.scores(result, data.X)


def whole(cell: dict, count: str) -> bool:
    """Every sample (below 1e-6), or nine in ten (within ±0.1)."""
    share = 1.0 if count == "below_1e-6" else 0.9
    return cell["result"][count] >= share * cell["result"]["samples"]


def summarise(cells: list[dict]) -> list[dict]:
    rows = []
    for settings, members in common.groups(cells, ("d", "n", "method", "start", "budget", "activation", "ratio")):
        exact = [cell for cell in members if whole(cell, "below_1e-6")]
        rows.append(
            settings
            | {
                "sets": len(members),
                "recovered": len(exact),
                "interval": common.wilson(len(exact), len(members)),
                "converged_elsewhere": sum(cell["result"]["converged"] and cell not in exact for cell in members),
                "nine_in_ten_within_0.1": sum(whole(cell, "within_0.1_up_to_sign") for cell in members),
                "median_seconds": common.median(cell["result"]["seconds"] for cell in members),
                "median_seconds_recovered": common.median(cell["result"]["seconds"] for cell in exact),
            }
        )
    return rows


def grid(args) -> list[dict]:
    """The cells, seed by seed, so that an unfinished sweep covers every ratio."""
    cells, dataset = [], {} if args.dataset == "sphere" else {"dataset": args.dataset}
    methods = (("varpro", args.start, args.seconds, args.seeds), ("sgd", "random", args.sgd_seconds, args.sgd_seeds))
    for size in args.sizes:
        d, n = map(int, size.split("x"))
        for method, start, budget, seeds in methods:
            cells += [
                {
                    **dataset,
                    **{"method": method, "start": start, "activation": activation, "d": d, "n": n},
                    **{"ratio": ratio, "p": round(ratio * d * n), "seed": seed, "budget": budget},
                }
                for seed in range(seeds)
                for ratio in args.ratios
                for activation in args.activations
            ]
    return cells


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--foundation", action="store_true", help="the small table of the first chapters")
    options.add_argument("--dataset", choices=SIZES, default="sphere")
    options.add_argument("--sizes", nargs="+", metavar="DxN")
    options.add_argument("--ratios", nargs="+", type=float, metavar="P/DN")
    options.add_argument("--activations", nargs="+", default=["relu", "relu+tanh"])
    options.add_argument("--start", choices=("spectral", "random"), help="of varpro")
    options.add_argument("--seeds", type=int, help="of varpro (20)")
    options.add_argument("--seconds", type=float, help="a set, of varpro (60)")
    options.add_argument("--sgd-seeds", type=int, help="of the paper's descent (3)")
    options.add_argument("--sgd-seconds", type=float, help="a set, of the paper's descent (30)")
    args = common.parse(options)
    sizes = SIZES[args.dataset]
    defaults = {"sizes": sizes, "ratios": RATIOS, "start": "spectral", "seeds": 20, "seconds": 60.0}
    defaults |= {"sgd_seeds": 3, "sgd_seconds": 30.0}
    if args.foundation:
        defaults |= {"sizes": sizes[:1], "ratios": [3, 10], "start": "random", "seeds": 10, "sgd_seeds": 0}
    if args.tiny:
        defaults |= {"sizes": ["15x3"] if args.dataset == "sphere" else sizes[:1], "ratios": [2, 10]}
        defaults |= {"seeds": 2, "seconds": 1.0, "sgd_seeds": 0 if args.foundation else 1, "sgd_seconds": 0.3}
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    name = "foundation" if args.foundation else "limit"
    common.run(name if args.dataset == "sphere" else f"{name}-{args.dataset}", args, grid(args), work, summarise)


if __name__ == "__main__":
    main()
