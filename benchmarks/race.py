"""The race: how long "varpro" and the paper's descent take, alternating in one run, at p/dn = 10.

Two lines to cross: nine samples in ten within ±0.1 up to sign, and all samples signed below 1e-6. Each improvement of
an attack is kept with its time, and scored after the attack is over: an attack is across a line from the first moment
at which what it would have returned is. One that has not crossed within its budget is censored: its time is at least
the budget. The descent may go on past the paper's L ≤ 1e-7, and is also run in float32, where its steps are cheaper.

    python benchmarks/race.py
"""

from __future__ import annotations

import contextlib
from unittest import mock

import common
import numpy as np
import torch

import reconlaw as rl
from reconlaw.attack.run import Run

CONTESTANTS = {
    "varpro": {"method": "varpro", "dtype": "float64", "start": "spectral"},
    "varpro, random start": {"method": "varpro", "dtype": "float64", "start": "random"},
    "sgd": {"method": "sgd", "dtype": "float64", "start": "random"},
    "sgd, float32": {"method": "sgd", "dtype": "float32", "start": "random"},
}
LINES = ("near", "exact")


@contextlib.contextmanager
def watched():
    """Collects (seconds, atoms) of every improvement that an attack records."""
    improvements, record = [], Run.record

    def watching(run, U, loss, note=""):
        if loss < run.best_loss:
            improvements.append((run.seconds, U.detach().clone()))
        return record(run, U, loss, note)

    with mock.patch.object(Run, "record", watching):
        yield improvements


def crossed(report) -> dict[str, bool]:
    """Which lines a set of estimates is across."""
    return {
        "near": float(report.recovered_up_to_sign(0.1).double().mean()) >= 0.9,
        "exact": bool(report.recovered(1e-6).all()),
    }


def work(s: dict) -> dict:
    features = rl.RandomFeatures(
        s["d"], s["p"], s["activation"], seed=s["seed"], dtype=getattr(torch, s["dtype"]), device=s["device"]
    )
    data = rl.data.sphere(s["n"], s["d"], seed=s["seed"])
    theta = features.fit(data.X, data.y)
    options = {"start": s["start"]} if s["method"] == "varpro" else {"tol": 1e-25}
    with watched() as improvements:
        result = common.attack(
            theta, features, s["n"], method=s["method"], seed=s["seed"], max_seconds=s["budget"], **options
        )
    times: dict[str, float | None] = dict.fromkeys(LINES)
    for seconds, X in [*improvements, (result.seconds, result.X)]:
        if None not in times.values():
            break
        for line, across in crossed(rl.match(X, data.X)).items():
            if across and times[line] is None:
                times[line] = common.short(seconds)
    return {"times": times, "improvements": len(improvements), **common.scores(result, data.X)}


def censored_median(times: list[float | None], budget: float) -> dict:
    """The median of times of which some are only known to exceed the budget (None)."""
    value = float(np.median([np.inf if t is None else t for t in times]))
    return {"seconds": common.short(min(value, budget)), "at_least": not value < np.inf}


def summarise(cells: list[dict]) -> list[dict]:
    """A row for each contestant and line, with its time as a multiple of varpro's, overall and seed by seed."""
    rows = []
    for setting, together in common.groups(cells, ("d", "n", "p", "activation")):
        by_contestant = dict(
            (s["contestant"], {cell["settings"]["seed"]: cell for cell in members})
            for s, members in common.groups(together, ("contestant",))
        )
        ours = by_contestant.get("varpro", {})
        for contestant in filter(by_contestant.get, CONTESTANTS):
            for line in LINES:
                rows.append(setting | row(contestant, line, by_contestant[contestant], ours))
    return rows


def row(contestant, line, cells, ours) -> dict:
    budget = next(iter(cells.values()))["settings"]["budget"]
    times = {seed: cell["result"]["times"][line] for seed, cell in cells.items()}
    out = {"contestant": contestant, "line": line, "budget": budget, "sets": len(times)}
    out["crossed"] = sum(t is not None for t in times.values())
    out["median"] = censored_median(list(times.values()), budget)
    reference = {seed: ours[seed]["result"]["times"][line] for seed in times if seed in ours}
    if contestant == "varpro" or not reference or None in reference.values():
        return out
    base = float(np.median(list(reference.values())))
    at_least = out["median"]["at_least"]
    out["ratio_of_medians"] = {"value": common.short(out["median"]["seconds"] / base), "at_least": at_least}
    out["ratios"] = [
        {"seed": seed, "value": common.short((times[seed] or budget) / t), "at_least": times[seed] is None}
        for seed, t in sorted(reference.items())
    ]
    return out


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--seeds", type=int, help="sets (5)")
    options.add_argument("--sgd-seconds", type=float, help="budget of the paper's descent (120)")
    options.add_argument("--seconds", type=float, default=60.0, help="budget of varpro")
    args = common.parse(options, alone=True)
    d, n = (15, 3) if args.tiny else (100, 20)
    seeds = args.seeds or (1 if args.tiny else 5)
    sgd_seconds = args.sgd_seconds or (0.3 if args.tiny else 120.0)
    cells = [
        {
            **{"contestant": name, **how, "activation": "relu", "d": d, "n": n, "p": 10 * d * n, "seed": seed},
            "budget": sgd_seconds if how["method"] == "sgd" else args.seconds,
        }
        for seed in range(seeds)
        for name, how in CONTESTANTS.items()
    ]
    warm_up = cells[0] | {"d": 8, "n": 2, "p": 160, "budget": 0.2, "device": args.device}
    for how in CONTESTANTS.values():  # the first calls into torch take longer
        work(warm_up | how)
    common.run("race", args, cells, work, summarise)


if __name__ == "__main__":
    main()
