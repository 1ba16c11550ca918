"""How close to the information limit p = dn whole sets come back: success against p/dn, for both methods.

A set counts as recovered if every sample's signed relative error is below 1e-6. "varpro" gets 40,000 steps a set. The
paper's descent, allowed to go on past its L ≤ 1e-7, has a budget and seeds of its own; the summary also says how many
of its sets have nine samples in ten within ±0.1 up to sign. The whole sweep takes a core for hours.

    python benchmarks/limit.py                     the sweep, samples uniform on the sphere
    python benchmarks/limit.py --dataset digits    pictures instead: digits (d = 64) or faces (d = 625)
    python benchmarks/limit.py --foundation        p/dn = 10 and 3 from random starts, as the first chapters rely on
    python benchmarks/limit.py --growth            2, 5 and 10 samples of growing dimension
"""

from __future__ import annotations

import common
import torch

import reconlaw as rl

RATIOS = [1.05, 1.1, 1.15, 1.25, 1.5, 1.75, 2, 2.5, 3, 5, 10]
GROWTH = [f"{d}x{n}" for d in (100, 200, 400, 800) for n in (2, 5, 10)]
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
        theta, features, s["n"], method=s["method"], seed=s["seed"], max_steps=s["max_steps"], **options
    )
    peak = torch.cuda.max_memory_allocated() if s["device"] == "cuda" else None
    return common.scores(result, data.X) | {"peak_bytes_gpu": peak}


def figures(results: list[dict], _) -> dict:
    exact = [r for r in results if r["below_1e-6"] == r["samples"]]
    return {
        "sets": len(results),
        "recovered": len(exact),
        "interval": common.wilson(len(exact), len(results)),
        "converged_elsewhere": sum(r["converged"] for r in results) - sum(r["converged"] for r in exact),
        "nine_in_ten_within_0.1": sum(r["within_0.1_up_to_sign"] >= 0.9 * r["samples"] for r in results),
        "median_seconds": common.median(r["seconds"] for r in results),
        "median_seconds_recovered": common.median(r["seconds"] for r in exact),
    }


def summarise(cells: list[dict]) -> list[dict]:
    names = ("d", "n", "method", "start", "max_steps", "activation", "ratio")
    return common.table(cells, names, figures)


def grid(args) -> list[dict]:
    """The cells, seed by seed, so that an unfinished sweep covers every ratio."""
    cells, dataset = [], {} if args.dataset == "sphere" else {"dataset": args.dataset}
    methods = (("varpro", args.start, args.steps, args.seeds), ("sgd", "random", args.sgd_steps, args.sgd_seeds))
    for size in args.sizes:
        d, n = map(int, size.split("x"))
        for method, start, budget, seeds in methods:
            cells += [
                {
                    **dataset,
                    **{"method": method, "start": start, "activation": activation, "d": d, "n": n},
                    **{"ratio": ratio, "p": round(ratio * d * n), "seed": seed, "max_steps": budget},
                }
                for seed in range(seeds)
                for ratio in args.ratios
                for activation in args.activations
            ]
    return cells


def main() -> None:
    options = common.parser(__doc__)
    which = options.add_mutually_exclusive_group()
    which.add_argument("--foundation", action="store_true", help="the small table of the first chapters")
    which.add_argument("--growth", action="store_true", help="d from 100 to 800 at n = 2, 5 and 10")
    options.add_argument("--dataset", choices=SIZES, default="sphere")
    options.add_argument("--sizes", nargs="+", metavar="DxN")
    options.add_argument("--ratios", nargs="+", type=float, metavar="P/DN")
    options.add_argument("--activations", nargs="+", default=["relu", "relu+tanh"])
    options.add_argument("--start", choices=("spectral", "random"), help="of varpro")
    options.add_argument("--seeds", type=int, help="of varpro (20)")
    options.add_argument("--steps", type=int, help="a set, of varpro (40,000)")
    options.add_argument("--sgd-seeds", type=int, help="of the paper's descent (3)")
    options.add_argument("--sgd-steps", type=int, help="a set, of the paper's descent (10,000)")
    args = common.parse(options)
    sizes = SIZES[args.dataset]
    defaults = {"sizes": sizes, "ratios": RATIOS, "start": "spectral", "seeds": 20, "steps": 40_000}
    defaults |= {"sgd_seeds": 3, "sgd_steps": 10_000}
    if args.foundation:
        defaults |= {"sizes": sizes[:1], "ratios": [3, 10], "start": "random", "seeds": 10, "sgd_seeds": 0}
    if args.growth:
        defaults |= {"sizes": GROWTH, "ratios": [1.05, 1.1, 1.15, 1.25, 1.4, 1.6], "seeds": 5, "steps": 10_000}
        defaults |= {"sgd_seeds": 0}
    if args.tiny:
        defaults |= {"sizes": ["15x3"] if args.dataset == "sphere" else sizes[:1], "ratios": [2, 10]}
        defaults |= {"seeds": 2, "steps": 1_000, "sgd_seeds": defaults["sgd_seeds"] and 1, "sgd_steps": 300}
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    name = "foundation" if args.foundation else "growth" if args.growth else "limit"
    common.run(name if args.dataset == "sphere" else f"{name}-{args.dataset}", args, grid(args), work, summarise)


if __name__ == "__main__":
    main()
