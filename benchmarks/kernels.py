"""The three passes the solver lives on, against torch.matmul of the same shapes, in turn in one run.

With n atoms, feature pass φ(UVᵀ), product Jδ and product Jᵀr each hold one matrix product of 2ndp operations; what a
pass takes beyond it (activation, slopes, sums) is overhead. GFLOP/s counts those 2ndp operations alone. As in a descent
the columns of a pass are written to the memory of those that are gone, and its blocks are handed out to threads; torch
divides the products. One thread's times are the processor's.

    python benchmarks/kernels.py
"""

from __future__ import annotations

import contextlib
import time

import common
import numpy as np
import torch

import reconlaw as rl
from reconlaw.features.memory import used_again
from reconlaw.features.threads import one_thread

PASSES = ("feature", "jvp", "vjp")
TURNS = 4  # of the passes and of the products: torch's threads stay awake for a while, on cores that a pass would use
BASE = {"n": 20, "d": 100, "p": 20_000}
SWEEPS = {"n": [5, 10, 20, 40, 80], "d": [50, 100, 200, 400, 800], "p": [5_000, 10_000, 20_000, 40_000, 80_000]}
CIFAR = {"n": 10, "d": 3072, "p": 100_000}


def clock(device: str, threads: int) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.process_time() if device == "cpu" and threads == 1 else time.perf_counter()


def timed(jobs: dict, device: str, threads: int, seconds: float, least: int = 2) -> dict[str, list[float]]:
    """Times of each job, taken in turn until ``seconds`` have passed; the first two rounds warm up."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    begin, rounds = clock(device, threads), 0
    while rounds < least + 2 or clock(device, threads) - begin < seconds:
        for name, job in jobs.items():
            start = clock(device, threads)
            job()
            times[name].append(clock(device, threads) - start)
        rounds += 1
    return {name: values[2:] for name, values in times.items()}


@used_again()
def work(s: dict) -> dict:
    torch.set_num_threads(s["threads"])
    n, d, p, dtype = s["n"], s["d"], s["p"], getattr(torch, s["dtype"])
    features = rl.RandomFeatures(d, p, s["activation"], seed=0, dtype=dtype, device=s["device"])
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, device="cpu", generator=generator, dtype=dtype).to(features.V.device)

    U, delta, R, S = draw(n, d), draw(n, d), draw(1, p), draw(n, p)
    lift = features.lift(U, s["lifted"])
    lift.linearise(draw(len(lift.columns), 1))
    passes = {
        "feature": lambda: features.lift(U, s["lifted"]),
        "jvp": lambda: lift.jvp(delta),
        "vjp": lambda: lift.vjp(R),
    }
    products = {
        "n×d · d×p": lambda: torch.matmul(U, features.V.T),
        "n×p · p×d": lambda: torch.matmul(S, features.V),
    }
    times: dict[str, list[float]] = {}
    for _ in range(TURNS):
        for jobs, within in ((passes, one_thread()), (products, contextlib.nullcontext())):
            with within:
                for name, took in timed(jobs, s["device"], s["threads"], s["seconds"] / (2 * TURNS)).items():
                    times.setdefault(name, []).extend(took)
    out = {}
    for name in PASSES:
        reference = times["n×p · p×d" if name == "vjp" else "n×d · d×p"]
        out[name] = {
            "best": float(f"{min(times[name]):.4g}"),
            "median": float(f"{np.median(times[name]):.4g}"),
            "gflops": common.short(2e-9 * n * d * p / min(times[name])),
            "gflops_median": common.short(2e-9 * n * d * p / np.median(times[name])),
            "matmul_gflops": common.short(2e-9 * n * d * p / min(reference)),
            "share": round(min(reference) / min(times[name]), 3),
            "share_median": round(float(np.median(reference) / np.median(times[name])), 3),
        }
    return {**out, "rounds": len(times["feature"])}


def slope(sizes, seconds) -> float:
    """Least-squares slope of log seconds against log size."""
    return round(float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]), 3)


def summarise(cells: list[dict]) -> list[dict]:
    """A row for each measured size and pass, then one for each slope."""
    rows = []
    names = ("activation", "dtype", "lifted", "threads")
    for settings, members in common.groups(cells, names):
        for size, same in common.groups(members, ("n", "d", "p")):
            for name in PASSES:
                rows.append({"kind": "pass", **settings, **size, "pass": name, **same[-1]["result"][name]})
    for settings, members in common.groups(cells, names):
        for axis in SWEEPS:
            fixed = {k: v for k, v in BASE.items() if k != axis}
            line = [c["settings"] | c["result"] for c in members if fixed.items() <= c["settings"].items()]
            line.sort(key=lambda one: one[axis])
            if len(line) < 3:
                continue
            sizes = [one[axis] for one in line]
            for name in PASSES:
                fitted = slope(sizes, [one[name]["best"] for one in line])
                rows.append({"kind": "slope", **settings, "axis": axis, "pass": name, "slope": fitted, "sizes": sizes})
    return rows


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--seconds", type=float, help="of repetitions a cell (4)")
    options.add_argument("--no-cifar", action="store_true", help="without CIFAR-10's size, whose V takes 1.2 GB")
    args = common.parse(options, alone=True)
    shapes = [BASE | {axis: size} for axis, sizes in SWEEPS.items() for size in sizes]
    shapes = [shape for i, shape in enumerate(shapes) if shape not in shapes[:i]]
    kinds = [(dtype, lifted, 1) for dtype in ("float64", "float32") for lifted in (False, True)]
    if args.tiny:
        shapes = [{"n": 5, "d": 20, "p": p} for p in (500, 1000)]
        kinds = kinds[:2]
    seconds = args.seconds or (0.05 if args.tiny else 4.0)
    cells = [(shape, kind) for kind in kinds for shape in shapes]
    if not args.tiny:
        every = common.cores()
        cells += [(BASE, (dtype, lifted, every)) for dtype, lifted, _ in kinds if every > 1]
        if not args.no_cifar:
            cells += [(CIFAR, ("float32", lifted, every)) for lifted in (False, True)]
    cells = [
        {**shape, "activation": "relu", "dtype": dtype, "lifted": lifted, "threads": threads, "seconds": seconds}
        for shape, (dtype, lifted, threads) in cells
    ]
    common.run("kernels", args, cells, work, summarise)


if __name__ == "__main__":
    main()
