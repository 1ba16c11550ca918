"""What the benchmarks share: the command line, the environment, and the results file.

A benchmark is a list of cells, each a dictionary of settings, and a function from settings to a dictionary of figures.
``rl.sweep`` computes them and keeps each finished one in a store beside the results file, a JSON that is written anew,
atomically, every few seconds and at the end. The JSON is what is committed: cells that the store lacks come from there.

Budgets are steps of the search (``max_steps``), so that a verdict is the same on a slow machine and on a fast one.
Seconds are measured beside, and end nothing, but in race.py, which is about them.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch
from scipy.stats import binomtest

import reconlaw as rl
from reconlaw.sweeps.store import Store, cell_key

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results"
NOT_MEASURED = ("__init__", "plotting", "_published", "sweep", "store")  # modules that no figure depends on
MACHINE = ("cpu", "cores", "gpu")  # what must agree for timings to stand in one file
EVERY = 5.0  # seconds from one writing of the results file to the next
PRIVATE = ("--cifar", "--out")  # options whose values are places on one's own disk


def parser(description: str) -> argparse.ArgumentParser:
    """The options that every benchmark has; ``description`` is the docstring of the script."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tiny", action="store_true", help="seconds instead of minutes: does it run at all")
    options.add_argument("--fresh", action="store_true", help="forget the results that are there")
    options.add_argument("--jobs", type=int, help="processes of one thread each; 1: one process with every core")
    options.add_argument("--threads", type=int, help="of each process (1, or every core with --jobs 1)")
    options.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    options.add_argument("--out", type=Path, help="folder of the results (benchmarks/results; a temporary one if tiny)")
    return options


def parse(options: argparse.ArgumentParser, alone: bool = False) -> argparse.Namespace:
    """Parsed options with the device, processes (one on a GPU, else one for each core) and their threads resolved.

    Args:
        options: of :func:`parser`, and the script's own.
        alone: the benchmark times things that want the machine to themselves, in one process.
    """
    args = options.parse_args()
    try:
        args.device = rl.RandomFeatures(1, 1, device=args.device).device.type
    except ValueError as error:
        options.error(str(error))
    if args.jobs is None:
        args.jobs = 1 if alone or args.device != "cpu" else cores()
    if args.jobs < 1:
        options.error(f"--jobs {args.jobs}: at least 1")
    if args.threads is None:
        args.threads = 1 if args.jobs > 1 else cores()
    if args.threads < 1:
        options.error(f"--threads {args.threads}: at least 1")
    if alone and args.jobs > 1:
        options.error("this benchmark compares timings, which must not share the machine: --jobs 1")
    if args.out is None:
        args.out = Path(tempfile.gettempdir()) / "reconlaw-benchmarks" if args.tiny else RESULTS
    return args


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _git(*command: str) -> str | None:
    try:
        ran = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return None
    return ran.stdout.strip() if ran.returncode == 0 else None


def code_digest() -> str:
    """Identifies the state of the package's computing modules, committed or not; comments and docstrings aside."""
    digest = hashlib.sha256()
    for path in sorted(Path(rl.__file__).parent.rglob("*.py")):
        if path.stem in NOT_MEASURED:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:12]


CODE = code_digest()  # as imported, whatever is edited while a benchmark runs


def environment(args) -> dict:
    """Where and with what a benchmark runs; no name of a machine, person or folder."""
    gpu = torch.cuda.get_device_name() if args.device == "cuda" else None if args.device == "cpu" else args.device
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "gpu": gpu,
        "processes": args.jobs,
        "threads": args.threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "reconlaw": rl.__version__,
        "commit": _git("rev-parse", "--short=12", "HEAD"),
        "uncommitted": bool(_git("status", "--porcelain", "src")),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
    }


def command() -> str:
    """The command that was given, with private paths masked."""
    words = ["python", "benchmarks/" + Path(sys.argv[0]).name, *sys.argv[1:]]
    for i, word in enumerate(words):
        name = word.split("=")[0]
        if name in PRIVATE:
            if "=" in word:
                words[i] = f"{name}=PATH"
            elif i + 1 < len(words):
                words[i + 1] = "PATH"
    return shlex.join(word for word in words if word != "--fresh")


def write_json(path: Path, content: dict) -> None:
    """Write ``content`` with one cell, and one row of the summary, a line; a kill leaves the old file or the new."""

    def lines(value):
        return "[\n  " + ",\n  ".join(json.dumps(one, ensure_ascii=False) for one in value) + "\n ]"

    rows = {name: value for name, value in content.items() if name in ("summary", "cells")}
    parts = [f' "{name}": {lines(value)}' for name, value in rows.items()]
    head = json.dumps({k: v for k, v in content.items() if k not in rows}, indent=1, ensure_ascii=False)
    text = head.removesuffix("\n}") + ",\n" + ",\n".join(parts) + "\n}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _previous(path: Path, now: dict, settings: set[str]) -> dict | None:
    """The results that are there, if they may be added to by cells that have these settings."""
    if not path.exists():
        return None
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
        there = old["environment"]
        if there["reconlaw"] != now["reconlaw"]:
            return None
        cells, commands = old["cells"], old["commands"]
        assert isinstance(cells, list) and isinstance(commands, list)
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise SystemExit(f"{path} is no results file ({type(error).__name__}); --fresh starts it anew") from error
    retired = {"budget"} & {key for cell in cells for key in cell["settings"]} - settings
    if retired:
        raise SystemExit(f"{path} was measured with budgets in seconds; --fresh starts it anew, --out writes another")
    if any(there.get(name) != now[name] for name in MACHINE):
        was = ", ".join(f"{name} {there.get(name)}" for name in MACHINE)
        raise SystemExit(f"{path} was measured elsewhere ({was}); --fresh starts it anew, --out writes another")
    return old


def run(name: str, args, cells: list[dict], work, summarise, isolate: bool = False) -> Path:
    """Compute the cells that are missing; returns the results file.

    Args:
        name: of the file, ``name``.json (``name``-cuda.json on a GPU).
        cells: settings; the device is added to each.
        work: settings → figures; an exception is recorded as the cell's outcome and tried again by a rerun.
        summarise: finished cells → what the book shows.
        isolate: a process of its own for every cell, one after the other.
    """
    now = environment(args)
    path = args.out / (f"{name}.json" if args.device == "cpu" else f"{name}-{args.device}.json")
    store = path.with_name(f".{path.stem}.sqlite")
    here = {"name": name, "version": ", ".join(str(now[part]) for part in ("reconlaw", *MACHINE))}
    cells = [{**settings, "device": args.device} for settings in cells]
    old = None if args.fresh else _previous(path, now, {key for cell in cells for key in cell})
    known = old or {"commands": [], "cells": []}
    content = {"benchmark": name, "commands": [*(c for c in known["commands"] if c != command()), command()]}
    written = 0.0

    def save():
        nonlocal written
        with Store(store) as kept:
            there = list(kept.records(**here).values())
        finished = [cell for cell in there if "result" in cell]
        content["codes"] = sorted({cell["code"] for cell in finished})
        content["summary"] = summarise(finished)
        content["cells"] = [{part: cell[part] for part in cell if part != "seconds"} for cell in there]
        write_json(path, content)
        written = time.monotonic()

    def save_now_and_then(_):
        if time.monotonic() - written > EVERY:
            save()

    try:
        there = _gather(store, here, known["cells"], args.fresh)
        missing = sum("result" not in there.get(cell_key(settings), {}) for settings in cells)
        print(f"{path}: {len(cells)} cells, {len(cells) - missing} of them there already", file=sys.stderr)
        content["environment"] = now if missing or old is None else old["environment"]
        how = {"jobs": args.jobs, "threads": args.threads, "isolate": isolate, "code": CODE}
        records = rl.sweep(work, cells, store, **here, **how, errors="keep", on_record=save_now_and_then)
        save()
    except rl.StoreError as error:
        raise SystemExit(str(error)) from error
    except KeyboardInterrupt:
        save()
        raise SystemExit(f"interrupted; the same command goes on from {path}") from None
    failed = [record for record in records if "error" in record]
    for record in failed:
        print(f"failed: {record['settings']}\n        {record['error']}", file=sys.stderr)
    if failed:
        raise SystemExit(1)
    return path


def _gather(store: Path, here: dict, published: list[dict], fresh: bool) -> dict[str, dict]:
    """The cells of the store, with those of the results file, which count where the two differ."""
    with Store(store) as kept:
        if fresh:
            kept.forget(**here)
        there = kept.records(**here)
        with kept.at_once():
            for cell in published:
                key = cell_key(cell["settings"])
                if "result" in cell and there.get(key, {}).get("result") != cell["result"]:
                    result = json.dumps(cell["result"], ensure_ascii=False)
                    kept.add(**here, key=key, settings=cell["settings"], result=result, code=cell["code"], replace=True)
        return kept.records(**here)


class Located:
    """``work`` with the place of the images, which is no setting: they are the same wherever they lie."""

    def __init__(self, work, root):
        self.work, self.root = work, root

    def __call__(self, s: dict) -> dict:
        return self.work(s | {"root": self.root})


def attack(theta, features, n, clock=None, **options) -> rl.Result:
    """``rl.reconstruct``, measured as :func:`measure` does, and ended by no clock but a given ``max_seconds``."""
    options = {"max_seconds": None, **options}

    def run(clock):
        return rl.reconstruct(theta, features, n, clock=clock, **options)

    return measure(run, features.device.type, clock)[0]


def measure(run, device="cpu", clock=None):
    """What ``run(clock)`` returns, and its seconds; Ctrl-C is passed on, since half a run is no measurement.

    On one thread of a CPU the clock, where none is given, counts the processor's seconds, which other work on the
    machine does not stretch.
    """
    alone = device == "cpu" and torch.get_num_threads() == 1
    clock = clock or (time.process_time if alone else time.monotonic)
    interrupted, before, start = [], signal.getsignal(signal.SIGINT), clock()

    def interrupt(*_):
        interrupted.append(True)
        raise KeyboardInterrupt

    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    try:
        result = run(clock)
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupted:
        raise KeyboardInterrupt
    return result, clock() - start


def scores(result, X) -> dict:
    """What the recovered set is worth, by the truth X: counts, errors, loss, seconds and steps."""
    report = rl.match(result.X, X)
    return {
        "samples": len(X),
        "below_1e-2": int(report.recovered(1e-2).sum()),
        "below_1e-6": int(report.recovered(1e-6).sum()),
        "within_0.1_up_to_sign": int(report.recovered_up_to_sign(0.1).sum()),
        "median_error": short(report.error.median()),
        "worst_error": short(report.error.max()),
        "loss": short(result.loss),
        "seconds": short(result.seconds),
        "steps_made": short(result.steps),
        "converged": result.converged,
    }


def counts(results: list[dict]) -> dict:
    """Sets, their samples, and how many of those came back, from the :func:`scores` of each set."""
    return {
        "sets": len(results),
        "samples": sum(r["samples"] for r in results),
        "samples_below_1e-2": sum(r["below_1e-2"] for r in results),
        "samples_within_0.1": sum(r["within_0.1_up_to_sign"] for r in results),
    }


def short(x) -> float | None:
    """A number to three digits; None where it is not finite (JSON has no infinity)."""
    return float(f"{float(x):.3g}") if np.isfinite(float(x)) else None


def wilson(successes: int, trials: int) -> list[float]:
    """Wilson's 95 % interval of a proportion."""
    interval = binomtest(successes, trials).proportion_ci(method="wilson")
    return [round(interval.low, 4), round(interval.high, 4)]


def median(values) -> float | None:
    values = [v for v in values if v is not None]
    return short(np.median(values)) if values else None


def whole(results: list[dict], count: str) -> int:
    """Sets all of whose samples are counted under ``count``, below_1e-6 say."""
    return sum(r[count] == r["samples"] for r in results)


def medians(results: list[dict], names: tuple[str, ...], prefix: str = "") -> dict:
    """The median of each of these figures, None where no set has it."""
    return {prefix + name: median(r.get(name) for r in results) for name in names}


def table(cells: list[dict], names: tuple[str, ...], figures, order=None) -> list[dict]:
    """A summary: a row for each group of cells that agree in ``names``, with what ``figures`` makes of their results.

    Args:
        figures: (results, settings) → dict.
        order: sorts the rows; by the settings where None.
    """
    rows = [settings | figures([c["result"] for c in same], settings) for settings, same in groups(cells, names)]
    return rows if order is None else sorted(rows, key=order)


def groups(cells: list[dict], names: tuple[str, ...]) -> list[tuple[dict, list[dict]]]:
    """Cells that agree in these settings, with the settings, in the order of their values."""
    found: dict[str, tuple[dict, list[dict]]] = {}
    for cell in cells:
        settings = {name: cell["settings"][name] for name in names}
        found.setdefault(cell_key(settings), (settings, []))[1].append(cell)
    return sorted(found.values(), key=lambda pair: tuple(pair[0].values()))


def peak_memory() -> int | None:
    """The most memory this process has held, in bytes; None on Windows, which does not say."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
