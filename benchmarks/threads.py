"""What the choice of threads costs: the same steps on one thread, on every core, and as the solver chooses, in turn.

The solver hands out blocks of long passes to threads of its own (:mod:`reconlaw.features.threads`); in the other two a
pass is one product, which torch divides where it may. Each round takes the three in turn, each round begins with
another, so that what else the machine does falls on all of them, and the ratios of a round are kept. In "busy" cells a
program of its own takes one core. The load average of the machine stands beside the ratios: where it is above 1, or 2
in busy cells, other programs ran, and the ratios say little. "holds": the median ratio of the solver's own choice to
the better of the two fixed ones is at most 1.2.

    python benchmarks/threads.py
"""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import time
from unittest import mock

import common
import numpy as np
import torch

import reconlaw as rl
from reconlaw.features import lift, threads

# n, d, p and steps a run.
SIZES = [
    (5, 20, 1_000, 200),
    (10, 64, 6_400, 60),
    (20, 100, 5_000, 60),
    (20, 100, 20_000, 20),
    (40, 200, 40_000, 4),
    (10, 3072, 20_000, 3),
]
LIMIT = 1.2
CHOICES = ("one", "every", "chosen")


@contextlib.contextmanager
def neighbour(wanted: bool):
    """Another program that takes a core."""
    loop = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if wanted else None
    try:
        yield
    finally:
        if loop is not None:
            loop.kill()
            loop.wait()


def timed(choice: str, attack) -> tuple[float, float]:
    """Seconds of the wall and of the processor."""
    torch.set_num_threads(1 if choice == "one" else common.cores())
    with contextlib.ExitStack() as changed:
        if choice != "chosen":
            changed.enter_context(mock.patch.object(lift, "WORTH", math.inf))
        if choice == "every":
            changed.enter_context(mock.patch.object(threads.torch, "set_num_threads", lambda count: None))
        wall, processor = time.perf_counter(), time.process_time()
        attack()
        return time.perf_counter() - wall, time.process_time() - processor


def work(s: dict) -> dict:
    features = rl.RandomFeatures(s["d"], s["p"], "relu", seed=0, device=s["device"])
    data = rl.data.sphere(s["n"], s["d"], seed=0)
    theta = features.fit(data.X, data.y)

    def attack():
        options = {"start": "random", "max_seconds": None, "max_steps": s["steps"]}
        return rl.reconstruct(theta, features, s["n"], **options)

    rounds = []
    with neighbour(s["busy"]):
        attack()  # warms up
        for k in range(s["rounds"]):
            turn = k % len(CHOICES)
            rounds.append({choice: timed(choice, attack) for choice in CHOICES[turn:] + CHOICES[:turn]})
    return {
        "load": common.short(os.getloadavg()[0]) if hasattr(os, "getloadavg") else None,
        "rounds": [{c: [common.short(x) for x in pair] for c, pair in one.items()} for one in rounds],
    }


def summarise(cells: list[dict]) -> list[dict]:
    """For each size and neighbour: each choice's wall time over that of the best of the two fixed ones, by rounds."""
    rows = []
    for settings, members in common.groups(cells, ("n", "d", "p", "busy")):
        rounds, load = members[-1]["result"]["rounds"], members[-1]["result"]["load"]
        best = min(("one", "every"), key=lambda c: np.median([one[c][0] for one in rounds]))
        row = {**settings, "rounds": len(rounds), "load": load, "best": best}
        for choice in CHOICES:
            for i, kind in enumerate(("wall", "processor")):
                ratios = [one[choice][i] / one[best][i] for one in rounds]
                row[f"{choice}_{kind}"] = {
                    "median": common.short(np.median(ratios)),
                    "from": common.short(min(ratios)),
                    "to": common.short(max(ratios)),
                }
        rows.append(row | {"holds": row["chosen_wall"]["median"] <= LIMIT})
    return rows


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--rounds", type=int, help="of the three choices (9)")
    args = common.parse(options, alone=True)
    sizes = [(3, 10, 200, 5)] if args.tiny else SIZES
    cells = [
        {"n": n, "d": d, "p": p, "steps": steps, "busy": busy, "rounds": args.rounds or (2 if args.tiny else 9)}
        for n, d, p, steps in sizes
        for busy in (False, True)
    ]
    common.run("threads", args, cells, work, summarise)


if __name__ == "__main__":
    main()
