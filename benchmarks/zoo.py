"""A zoo of checkpoint pairs whose samples are hidden: what gets them back?

Nearly forty small models before and after training on a few digits, faces or medical records, one for each way of
training (``zoo_making.py``). An attack is given the pairs and what their owner might know (``zoo_pairs.py``); its
estimates are scored here. Without a command every built-in road (``zoo_roads.py``) is measured on every pair it takes.

    python benchmarks/zoo.py                                   measure the built-in roads
    python benchmarks/zoo.py make zoo                          write pairs, truth and manifest into the folder zoo
    python benchmarks/zoo.py run attack.py:attack --zoo zoo    run your function on the pairs and score what it returns
    python benchmarks/zoo.py score estimates --zoo zoo         score a folder of estimates, NAME.npz for the pair NAME

An estimate is a file with ``X``, (m, d) rows, and if you like ``claims`` (m,), the rows that the attack vouches for,
and ``confidences`` (m,). Of a pair of n samples n rows count, the most confident, or the first where there are none.
Rows and samples are matched one to one, so that a copy counts once. A claim is wrong where its row is not within 1e-2
of a sample of its own, whether it counts or not.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import common
import numpy as np
import torch
import zoo_making
import zoo_roads
from zoo_pairs import Pair, load, load_all

import reconlaw as rl

COMMANDS = ("make", "run", "score")
CLOSE, LIKE = 1e-2, 0.9  # relative error, and SSIM, from which a sample counts


def score(estimates, pair: Pair, claims=None, confidences=None) -> dict:
    """What estimates of a pair are worth, by the truth beside it, which nothing else in these scripts opens.

    Args:
        estimates: (m, d) rows, or a mapping with X and perhaps claims and confidences.
        pair: of a zoo that ``make`` wrote.
        claims: (m,) bool, rows that are vouched for; None for none.
        confidences: (m,) finite numbers; the n largest count. None for the order of the rows.

    Returns:
        samples n; rows m; how many of the samples are below 1e-2, within 0.1, and above an SSIM of 0.9 (None of
        records); precision (of the rows that count) and recall; claims, and those that are wrong; median and worst
        error, None where a sample has no row.

    Raises:
        ValueError: shapes that do not fit, or confidences that are not finite.
        FileNotFoundError: the truth is not there.
    """
    if hasattr(estimates, "keys"):
        given = {key: estimates[key] for key in ("claims", "confidences") if key in estimates}
        claims, confidences = given.get("claims", claims), given.get("confidences", confidences)
        estimates = estimates["X"]
    rows = _tensor(estimates).double()
    if rows.ndim != 2 or rows.shape[1] != pair.d:
        raise ValueError(f"{pair.name}: estimates have shape {tuple(rows.shape)}; expected (rows, {pair.d})")
    claims = _column("claims", pair, rows, np.zeros(len(rows)) if claims is None else claims).bool()
    trust = _column("confidences", pair, rows, -np.arange(len(rows)) if confidences is None else confidences)
    if not bool(trust.isfinite().all()):
        raise ValueError(f"{pair.name}: confidences must be finite numbers")
    with np.load(pair.folder.parents[1] / "truth" / f"{pair.name}.npz") as truth:
        X, mean, scale = torch.as_tensor(truth["X"]), float(truth["mean"][0]), float(truth["scale"])
    counted = torch.sort(trust, descending=True, stable=True).indices[: len(X)]
    found, near = torch.zeros(len(X), dtype=torch.bool), torch.zeros(len(X), dtype=torch.bool)
    like, error = 0, torch.full((len(X),), torch.inf, dtype=torch.float64)
    vouched = 0
    if len(counted):
        report = rl.match(rows[counted], X)
        found, near, error = report.recovered(CLOSE), report.recovered(0.1), report.error
        vouched = int(claims[counted[report.order[found]]].sum())
        seen = report.order >= 0
        if pair.knows["picture"] and bool(seen.any()):
            pictures = [
                (mean + scale * one).clamp(0, 1).reshape(-1, *pair.knows["picture"]).numpy()
                for one in (rows[counted[report.order[seen]]], X[seen])
            ]
            like = int((torch.as_tensor(rl.ssim(*pictures)) > LIKE).sum())
    return {
        "samples": len(X),
        "rows": len(rows),
        "below_1e-2": int(found.sum()),
        "within_0.1": int(near.sum()),
        "ssim_above_0.9": like if pair.knows["picture"] else None,
        "precision": common.short(int(found.sum()) / max(1, len(counted))),
        "recall": common.short(int(found.sum()) / len(X)),
        "claimed": int(claims.sum()),
        "claimed_wrong": int(claims.sum()) - vouched,
        "median_error": common.short(error.median()),
        "worst_error": common.short(error.max()),
    }


def _tensor(values) -> torch.Tensor:
    return values.detach().cpu() if isinstance(values, torch.Tensor) else torch.as_tensor(np.array(values))


def _column(name, pair, rows, values) -> torch.Tensor:
    values = _tensor(values)
    if values.shape != (len(rows),):
        raise ValueError(f"{pair.name}: {name} have shape {tuple(values.shape)}; expected ({len(rows)},), one a row")
    return values


def run(attack: Callable, pairs: list[Pair]) -> dict[str, dict]:
    """Scores by pair of ``attack(pair)``, which returns rows X̂ (m, d), a mapping as of :func:`score`, or None.

    Every attack is over before the truth of any pair is opened. A pair without estimates is one of no rows.
    """
    estimates = {pair.name: attack(pair) for pair in pairs}
    return {p.name: score(nothing(p) if estimates[p.name] is None else estimates[p.name], p) for p in pairs}


def nothing(pair: Pair) -> np.ndarray:
    return np.zeros((0, pair.d))


@functools.cache
def written(name: str, seed: int) -> tuple[tempfile.TemporaryDirectory, dict]:
    """A folder with this pair, once a process, and its digests; the folder goes when the process ends."""
    folder = tempfile.TemporaryDirectory()
    return folder, zoo_making.write(name, Path(folder.name), seed)


def work(s: dict) -> dict:
    """One cell: the pair made, one road run on it, and its estimates scored."""
    folder, digest = written(s["pair"], s["seed"])
    pair = load(Path(folder.name) / "pairs" / s["pair"])
    road = zoo_roads.ROADS[s["road"]]
    refused = None
    try:
        estimates, seconds = common.measure(lambda _: road(pair, s["max_steps"], s["seed"]))
    except (ValueError, RuntimeError) as error:  # a road may find that it cannot serve
        estimates, seconds, refused = nothing(pair), 0.0, f"{type(error).__name__}: {error}"
    knows = {key: pair.knows[key] for key in ("d", "inputs", "trained", "loss")}
    knows |= {"recipe": pair.knows["recipe"] is not None}
    return score(estimates, pair) | {"seconds": common.short(seconds), "refused": refused} | knows | digest


def takes(name: str, folder: Path) -> list[str]:
    """Names of the built-in roads that take a pair, by what it is."""
    pair = load(folder / "pairs" / name)
    return [road for road, fits in zoo_roads.TAKES.items() if fits(pair)]


def summarise(cells: list[dict]) -> list[dict]:
    """A row for each pair and road, in the order of the zoo."""
    order = list(zoo_making.ZOO), list(zoo_roads.ROADS)
    place = lambda row: (order[0].index(row["pair"]), order[1].index(row["road"]))  # noqa: E731
    counts = ("samples", "below_1e-2", "within_0.1", "ssim_above_0.9", "claimed", "claimed_wrong")

    def figures(results, settings):
        totals = {name: None if results[0][name] is None else sum(r[name] for r in results) for name in counts}
        knows = {key: results[0][key] for key in ("d", "inputs", "trained", "loss", "recipe")}
        return {"what": zoo_making.ZOO[settings["pair"]][0], **knows, "sets": len(results), **totals} | {
            "worst_error": max((r["worst_error"] for r in results if r["worst_error"] is not None), default=None),
            "seconds": common.median(r["seconds"] for r in results),
            "refused": sum(r["refused"] is not None for r in results),
        }

    return common.table(cells, ("pair", "road", "max_steps"), figures, place)


def measure() -> None:
    options = common.parser(__doc__)
    options.add_argument("--pairs", nargs="+", choices=zoo_making.ZOO, metavar="PAIR", help="which (all)")
    options.add_argument("--roads", nargs="+", choices=zoo_roads.ROADS, metavar="ROAD", help="which (all)")
    options.add_argument("--seeds", type=int, default=1, help="zoos, of seeds 0, 1, … (1)")
    options.add_argument("--steps", type=int, help="of every road (each its own)")
    args = common.parse(options)
    cells = []
    for seed in range(args.seeds):
        for name in args.pairs or (zoo_making.TINY if args.tiny else zoo_making.ZOO):
            for road in takes(name, Path(written(name, 0)[0].name)):
                if road in (args.roads or zoo_roads.ROADS):
                    steps = args.steps or (200 if args.tiny else zoo_roads.STEPS[road])
                    cells.append({"pair": name, "road": road, "seed": seed, "max_steps": steps})
    common.run("zoo", args, cells, work, summarise)


def show(scores: dict[str, dict]) -> None:
    """A line for each pair, and the totals."""
    print(f"{'pair':22}{'found':>8}{'alike':>8}{'claims':>8}{'wrong':>8}{'worst error':>13}")
    for name, s in scores.items():
        alike = "–" if s["ssim_above_0.9"] is None else s["ssim_above_0.9"]
        worst = "–" if s["worst_error"] is None else f"{s['worst_error']:.0e}"
        counts = f"{s['below_1e-2']}/{s['samples']}"
        print(f"{name:22}{counts:>8}{alike:>8}{s['claimed']:>8}{s['claimed_wrong']:>8}{worst:>13}")
    total = {key: sum(s[key] for s in scores.values()) for key in ("below_1e-2", "samples", "claimed", "claimed_wrong")}
    counts = f"{total['below_1e-2']}/{total['samples']}"
    print(f"{'all':22}{counts:>8}{'':>8}{total['claimed']:>8}{total['claimed_wrong']:>8}")


def imported(address: str) -> Callable:
    """The function at ``path/to/file.py:name``."""
    path, _, name = address.rpartition(":")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path) if path.endswith(".py") else None
    if spec is None or not Path(path).is_file():
        raise SystemExit(f"{address!r} must read path/to/file.py:function, of a file that is there")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, name, None)):
        raise SystemExit(f"{path} has no function {name!r}")
    return getattr(module, name)


def command() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("command", choices=COMMANDS)
    options.add_argument("what", help="the zoo to make, the function to run, or the folder of estimates")
    options.add_argument("--zoo", type=Path, default=Path("zoo"), help="folder that `make` wrote (zoo)")
    options.add_argument("--pairs", nargs="+", metavar="PAIR", help="which (all)")
    options.add_argument("--seed", type=int, default=0, help="of the zoo to make: 0 is the one that is published")
    options.add_argument("--json", type=Path, help="write the scores there as well")
    args = options.parse_args()
    if args.command == "make":
        start = time.monotonic()
        made = zoo_making.make(args.what, args.pairs, args.seed)
        print(f"{len(made['pairs'])} pairs in {args.what}, {time.monotonic() - start:.0f} s")
        return
    try:
        pairs = load_all(args.zoo, args.pairs)
        if args.command == "run":
            scores = run(imported(args.what), pairs)
        else:
            files = {pair.name: Path(args.what) / f"{pair.name}.npz" for pair in pairs}
            given = {name: np.load(path) if path.exists() else None for name, path in files.items()}
            if all(one is None for one in given.values()):
                raise FileNotFoundError(
                    f"{args.what} holds no estimates; the pair adam, say, is looked for in adam.npz"
                )
            scores = run(lambda pair: given[pair.name], pairs)
    except (ValueError, FileNotFoundError, KeyError) as error:
        raise SystemExit(str(error)) from error
    show(scores)
    if args.json:
        args.json.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    import zoo  # by its name: what functools caches in a script cannot be sent to another process

    zoo.command() if len(sys.argv) > 1 and sys.argv[1] in COMMANDS else zoo.measure()
