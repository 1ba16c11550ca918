"""How the work grows with the number of samples of one output, up to as many as dimensions: d = 100, p/dn = 4.

A set counts as recovered if every sample's signed relative error is below 1e-6. Passes are those of one atom through
the features, 2n of them a step. Every set has a process of its own, whose peak memory is measured.

    python benchmarks/many.py --threads 1
"""

from __future__ import annotations

import common
import limit

D, RATIO = 100, 4


def work(s: dict) -> dict:
    result = limit.work(s)
    return result | {"passes": round(2 * s["n"] * result["steps_made"]), "peak_bytes": common.peak_memory()}


def figures(results: list[dict], _) -> dict:
    counts = {"sets": len(results), "recovered": common.whole(results, "below_1e-6")}
    return counts | common.medians(results, ("passes", "seconds", "peak_bytes"), "median_")


def summarise(cells: list[dict]) -> list[dict]:
    return common.table(cells, ("activation", "d", "ratio", "n", "p", "max_steps"), figures)


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--counts", type=int, nargs="+", help="n (12, 25, 50, 100)")
    options.add_argument("--activations", nargs="+", default=["relu", "relu+tanh"])
    options.add_argument("--seeds", type=int, help="sets (3)")
    options.add_argument("--steps", type=int, help="a set (10,000)")
    args = common.parse(options, alone=True)
    d, steps = (10, 300) if args.tiny else (D, 10_000)
    cells = [
        {"method": "varpro", "start": "spectral", "activation": activation, "d": d, "n": n, "ratio": RATIO}
        | {"p": RATIO * d * n, "seed": seed, "max_steps": args.steps or steps}
        for seed in range(args.seeds or (1 if args.tiny else 3))
        for activation in args.activations
        for n in args.counts or ([2, 4] if args.tiny else [12, 25, 50, 100])
    ]
    common.run("many", args, cells, work, summarise, isolate=not args.tiny)


if __name__ == "__main__":
    main()
