"""What a chapter prints and asserts, under changes that must not matter: `python tests/robust.py [chapter ...]`.

Every search that a cell of a notebook calls is given θ moved by its rounding (:func:`moved`), 1e-14 of its size in
float64; or another seed of the attacker. The cells that search run again, and those that use what they made; a
change holds if no cell raises and each prints what is stored. Every rerun is kept for as long as the code of the
chapter stays, so that an interrupted run goes on and ``--times`` adds to what is there: in _build/robust, and from the
end on in tests/robust.json, for other machines to add to. With ``--jobs`` the chapters' reruns are shared out, a few to
a process: the first of all chapters, then more. The table is tests/robust.md.
"""

from __future__ import annotations

import argparse
import ast
import configparser
import copy
import functools
import hashlib
import importlib
import inspect
import io
import json
import os
import pkgutil
import re
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace

import matplotlib
import torch
from scipy.stats import binomtest

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
TABLE = ROOT / "tests" / "robust.md"
RECORD = ROOT / "tests" / "robust.json"
KEPT = ROOT / "_build" / "robust"
HEAD = ["| chapter | change | holds | interval, 95 % | what did not |", "|:--|:--|--:|--:|:--|"]
NOTE = "A row marked * is of earlier code of its chapter; `make robust` measures what changed since, and the rest."
SEARCHES = (  # what is given θ, the span of its rows (Q), or two models, by a cell or by the exercises
    "reconlaw.attack.reconstruct.reconstruct",
    "reconlaw.attack.solutions.all_solutions",
    "reconlaw.attack.varpro.descend",
    "reconlaw.attack.membership.Membership",
    "reconlaw.attack.message_passing.MessagePassing",
    "reconlaw.auditing.audit.audit",
    "reconlaw.features.spectral.directions",
    "reconlaw.networks.first_layer.first_layer",
    "reconlaw.networks.kkt.kkt",
    "reconlaw.networks.ntk.ntk",
    "reconlaw.networks.replay.replay",
    "reconlaw.networks.retrace.retrace",
    "reconlaw.networks.retrace.head.retrace_adam",
)
NUDGE = 1e-14
COARSE = 2.0**-40  # spacing over the size, above which θ came out of single precision or less
SPARSE = 1000  # one entry in so many moves by its last bit, which adds less than a hundredth to what storage rounds off
GIVEN = ("theta", "Q", "R", "after", "network")  # the argument that moves
CHANGES = ("θ moved by 1e-14", "another seed")
SHARE = 5  # reruns of each kind that a process makes before another chapter has its turn
WRITES = (".save(", ".write_text(")  # a file may have been written over by a later cell
MUTATE = {"append", "extend", "update", "add", "setdefault", "insert", "pop", "remove", "clear"}


def moved(theta: torch.Tensor, generator: torch.Generator, before: torch.Tensor | None = None) -> torch.Tensor:
    """θ, or weights trained from ``before``, as another rounding would have left them.

    In double precision, all entries in a random direction, by 1e-14 of the size of θ (of what training changed).
    Entries on a coarser grid, which a search reads as a sign of the precision, stay on it: some move by their last bit.
    """
    from reconlaw.attack.subspace import quantum

    change = theta if before is None else theta - before.to(theta)
    if not theta.is_floating_point() or not change.any():
        return theta
    x = theta.detach().double().cpu()
    if (spacing := quantum(x)) <= COARSE * float(x.square().mean().sqrt()):
        move = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        return theta + (NUDGE * float(change.norm()) / move.norm() * move).to(theta)
    mantissa, exponent = torch.frexp(x)
    bits = (mantissa.abs() * 2.0**53).to(torch.int64)
    last = (bits & -bits).double() * torch.exp2((exponent - 53).double())
    sign = torch.where(torch.rand(x.shape, generator=generator) < 0.5, -1.0, 1.0)
    chance = torch.rand(x.shape, generator=generator)
    some = (chance < 1 / SPARSE) | (chance == chance.min())
    return (x + torch.where(some, sign * last.clamp(max=spacing), 0.0)).to(theta)


def tensors(given) -> list[torch.Tensor]:
    """Those of a network, of its state or file, whatever the file has around it, or of several."""
    if isinstance(given, str | Path):
        given = torch.load(given, weights_only=True)
    if isinstance(given, torch.nn.Module):
        given = given.state_dict()
    if isinstance(given, dict):
        given = list(given.values())
    if isinstance(given, tuple | list):
        return [tensor for one in given for tensor in tensors(one)]
    return [given] if isinstance(given, torch.Tensor) else []


def otherwise(given, before: list[torch.Tensor], generator: torch.Generator):
    """``given`` with its tensors :func:`moved`, but for those that are not trained: that are among those ``before``."""
    if isinstance(given, torch.Tensor):
        alike = [old for old in before if old.shape == given.shape]
        return moved(
            given,
            generator,
            min(alike, key=lambda old: (given.double() - old.to(given).double()).norm()) if alike else None,
        )
    if isinstance(given, tuple | list):
        return type(given)(otherwise(one, before, generator) for one in given)
    if isinstance(given, dict):
        return {name: otherwise(one, before, generator) for name, one in given.items()}
    if isinstance(given, torch.nn.Module):
        made = copy.deepcopy(given)
        made.load_state_dict(otherwise(given.state_dict(), before, generator))
        return made
    if isinstance(given, str | Path):
        made = Path(tempfile.mkdtemp(prefix="robust-")) / Path(given).name
        torch.save(otherwise(torch.load(given, weights_only=True), before, generator), made)
        return made
    return given


class Searches:
    """The package's searches with the change of one rerun; what a search calls itself is left as it is."""

    def __init__(self):
        import reconlaw

        self.change, self.number, self.calls, self.within = None, 0, 0, False
        for found in pkgutil.walk_packages(reconlaw.__path__, "reconlaw."):
            if not found.name.endswith("__main__"):
                importlib.import_module(found.name)
        modules = [module for name, module in sys.modules.items() if name.split(".")[0] == "reconlaw"]
        for place in SEARCHES:
            module, name = place.rsplit(".", 1)
            original = getattr(sys.modules[module], name)
            changed = self._changed(original)
            for module in modules:
                for key, value in list(vars(module).items()):
                    if value is original:
                        setattr(module, key, changed)

    def _changed(self, search):
        signature = inspect.signature(search)

        @functools.wraps(search, updated=())
        def call(*arguments, **options):
            if self.within:
                return search(*arguments, **options)
            self.calls += 1
            self.within = True
            try:
                if self.change is not None:
                    bound = signature.bind(*arguments, **options)
                    bound.apply_defaults()
                    self._alter(bound.arguments)
                    arguments, options = bound.args, bound.kwargs
                return search(*arguments, **options)
            finally:
                self.within = False

        return call

    def _alter(self, given):
        draw = 1000 * self.number + self.calls
        if self.change == CHANGES[0]:
            name = next(name for name in GIVEN if name in given)
            before = tensors(given["before"]) if name == "after" else []
            given[name] = otherwise(given[name], before, torch.Generator().manual_seed(draw))
        elif "seed" in given:
            given["seed"] += 1000 * self.number
        elif "generator" in given:
            given["generator"] = torch.Generator().manual_seed(draw)


def sanitised(text: str) -> str:
    """As the comparison of stored outputs reads it."""
    rules = configparser.RawConfigParser()
    rules.read(ROOT / "tests" / "nbval_sanitize.cfg")
    for rule in rules.sections():
        text = re.sub(rules[rule]["regex"], rules[rule]["replace"], text)
    return text.strip()


def names(source: str, within: dict[str, set[str]]) -> tuple[set[str], set[str]]:
    """What a cell reads, by the functions of cells before (name → what they read) too, and what it makes or changes."""
    reads, makes = set(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            (reads if isinstance(node.ctx, ast.Load) else makes).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            makes.add(node.name)
            within[node.name] = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
        elif isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store):
            makes |= {part.id for part in ast.walk(node.value) if isinstance(part, ast.Name)}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATE:
            makes |= {part.id for part in ast.walk(node.func.value) if isinstance(part, ast.Name)}
    ready: set[str] = set()
    while reads - ready:
        ready, reads = reads, reads.union(*(within.get(name, ()) for name in reads))
    return reads, makes


def copied(value):
    """Containers anew, what they hold as it is: a cell that appends must not find what it appended before."""
    if type(value) is dict:
        return {key: copied(one) for key, one in value.items()}
    return type(value)(copied(one) for one in value) if type(value) in (list, set) else value


def streams(space: dict) -> dict:
    """Where torch's random streams stand, by name; the global one has none."""
    made = {name: value.get_state() for name, value in space.items() if isinstance(value, torch.Generator)}
    return {"": torch.get_rng_state(), **made}


class Chapter:
    def __init__(self, path: Path):
        import matplotlib.pyplot as plt
        from IPython.core.interactiveshell import InteractiveShell

        self.plt, self.shell, self.searches = plt, InteractiveShell(), Searches()
        self.cells = code_cells(path)
        os.chdir(path.parent)

    def run(self, cell) -> str | None:
        """What came out wrong: the first line that differs from what is stored, or the error."""
        out = io.StringIO()
        with redirect_stdout(out), redirect_stderr(io.StringIO()):
            ran = self.shell.run_cell(cell.source, store_history=False)
        self.plt.close("all")
        error = ran.error_before_exec or ran.error_in_exec
        if isinstance(error, KeyboardInterrupt):
            raise error
        if error is not None:
            return f"{type(error).__name__}: {error}"
        if "nbval-ignore-output" in cell.metadata.get("tags", []):
            return None
        texts = (o["text"] for o in cell.outputs if o["output_type"] == "stream" and o["name"] == "stdout")
        stored = sanitised("".join(texts)).splitlines()
        printed = [line for line in sanitised(out.getvalue()).splitlines() if not line.startswith("<Figure")]
        missing = [line for line in stored if line not in printed]
        return f"no longer: {missing[0]}" if missing else None

    def first_run(self) -> dict:
        """Run all; keep the state before each cell that must run again, and what each other one made."""
        self.before, self.made, failed, touched, within = {}, {}, {}, set(), {}
        for k, cell in enumerate(self.cells):
            space, calls = dict(self.shell.user_ns), self.searches.calls
            state = {name: copied(value) for name, value in space.items()}, streams(space)
            if wrong := self.run(cell):
                failed[cell.id] = wrong
            reads, makes = names(self.shell.transform_cell(cell.source), within)
            now = self.shell.user_ns
            if self.searches.calls > calls or reads & touched or any(word in cell.source for word in WRITES):
                self.before[k] = state
                touched |= makes
            else:
                self.made[k] = {name: copied(v) for name, v in now.items() if v is not space.get(name, self)}
                touched -= self.made[k].keys()
        return failed

    def rerun(self, change: str, number: int) -> dict:
        """{id of a cell: what went wrong}."""
        self.searches.change, self.searches.number, self.searches.calls = change, number, 0
        failed, begin, space = {}, min(self.before), self.shell.user_ns
        space.clear()
        space.update({name: copied(value) for name, value in self.before[begin][0].items()})
        for k, cell in enumerate(self.cells[begin:], begin):
            if k in self.made:
                space.update({name: copied(value) for name, value in self.made[k].items()})
                continue
            for name, state in self.before[k][1].items():
                space[name].set_state(state) if name else torch.set_rng_state(state)
            if wrong := self.run(cell):
                failed[cell.id] = wrong
        return failed


def code_cells(path: Path) -> list:
    """Those that shall raise nothing. By json: nbformat takes seconds to be imported, in each of many processes."""
    found = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code" and "raises-exception" not in cell["metadata"].get("tags", []):
            outputs = [
                output | {"text": "".join(output["text"])} if "text" in output else output for output in cell["outputs"]
            ]
            found.append(SimpleNamespace(**cell | {"source": "".join(cell["source"]), "outputs": outputs}))
    return found


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}" if path.parent != BOOK else path.stem


def record() -> dict[str, dict]:
    """What is kept of each chapter by its name, of its code as it was."""
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}


def code_of(path: Path) -> str:
    """A digest of a chapter's code and of what it prints."""
    sources = [[cell.source, [o.get("text") for o in cell.outputs]] for cell in code_cells(path)]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:16]


def kept(path: Path) -> dict:
    """A chapter's reruns that are of its code as it is, whichever process made them."""
    whole = {"code": code_of(path), **{change: {} for change in CHANGES}}
    places = sorted(KEPT.glob(f"{path.parent.name}-{path.stem}.*json"))
    made = [json.loads(place.read_text(encoding="utf-8")) for place in places]
    for found in [record().get(name_of(path), {}), *made]:
        if found.get("code") == whole["code"]:
            whole |= {key: whole[key] | value if key in CHANGES else value for key, value in found.items()}
    return whole


def keep(place: Path, found: dict) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_suffix(".part")
    part.write_text(json.dumps(found, ensure_ascii=False, indent=1), encoding="utf-8")
    part.replace(place)


def examine(path: Path, times: int, first: int = 1) -> None:
    """Run what is missing of a chapter's reruns from the ``first`` on, and keep each, in a file of their own."""
    place, found = KEPT / f"{path.parent.name}-{path.stem}.{first}.json", kept(path)
    missing = [(c, k) for k in range(first, times + 1) for c in CHANGES if str(k) not in found[c]]
    if found.get("searches") is False or not missing:
        return
    start, chapter = perf_counter(), Chapter(path)
    found["none"], found["searches"] = {"1": chapter.first_run()}, bool(chapter.before)
    found["seconds"] = round(perf_counter() - start, 1)
    keep(place, found)
    print(f"{path.stem}, as it is: {found['none']['1'] or 'holds'}", file=sys.stderr, flush=True)
    for change, number in missing if chapter.before else ():
        found[change][str(number)] = failed = chapter.rerun(change, number)
        keep(place, found)
        print(f"{path.stem}, {change} {number}: {failed or 'holds'}", file=sys.stderr, flush=True)


def rows(path: Path, found: dict) -> list[str]:
    """A chapter's rows of the table, from what was found of it, marked where that was of other code."""
    name, cells = name_of(path) + ("" if found["code"] == code_of(path) else " *"), code_cells(path)
    table = []
    for change in ("none", *CHANGES):
        runs = list(found.get(change, {}).values()) if found.get("searches") else []
        if runs:
            held = sum(not failed for failed in runs)
            low, high = binomtest(held, len(runs)).proportion_ci(method="wilson")
            interval = "" if change == "none" else f"{100 * low:.0f}–{100 * high:.0f} %"
            wrong = []
            for cell in cells:
                what = [failed[cell.id] for failed in runs if cell.id in failed]
                wrong += [f"[{cell.execution_count}] {len(what)}×: {what[0].splitlines()[0]}"] if what else []
            told = "; ".join(wrong).replace("|", "\\|")
            table.append(f"| {name} | {change} | {held} of {len(runs)} | {interval} | {told} |")
    return table


def write(paths: list[Path]) -> None:
    """Record what is kept of these chapters, and write the table of all that is on record."""
    known = record() | {name_of(path): found for path in paths if "none" in (found := kept(path))}
    there = {name: path for name in sorted(known) if (path := BOOK / f"{name}.ipynb").exists()}
    lines = [f"{json.dumps(name)}: {json.dumps(known[name], ensure_ascii=False)}" for name in there]
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    table = [*HEAD, *(row for name, path in there.items() for row in rows(path, known[name])), "", NOTE]
    TABLE.write_text("\n".join(table) + "\n", encoding="utf-8")


def share_out(paths: list[Path], times: int, jobs: int) -> bool:
    """A process for some reruns of a chapter, since notebooks change what they import; whether all ended well."""
    paths = sorted(paths, key=lambda path: kept(path).get("seconds", 0))
    shares = [(path, first) for first in range(1, times + 1, SHARE) for path in paths]
    running: list[subprocess.Popen] = []

    def work(path, first):
        last = min(times, first + SHARE - 1)
        call = [sys.executable, __file__, str(path), "--times", str(last), "--first", str(first), "--kept", str(KEPT)]
        process = subprocess.Popen(call)
        running.append(process)
        return process.wait()

    pool = ThreadPoolExecutor(jobs)
    try:
        ended = [pool.submit(work, *share) for share in shares]
        return not any([one.result() for one in ended])
    except KeyboardInterrupt:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in running:
            process.send_signal(signal.SIGINT)
        print("interrupted; the same command goes on", file=sys.stderr)
        return False


def leave(*_) -> None:
    """An interrupted rerun is none: a search hands its best over on Ctrl-C, and its cell would print that."""
    os._exit(130)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapters", nargs="*", help="paths of notebooks; all of them by default, the quick ones first")
    parser.add_argument("--times", type=int, default=20, help="reruns of each kind")
    parser.add_argument("--jobs", type=int, default=1, help="processes, of one thread each")
    parser.add_argument("--kept", type=Path, default=KEPT, help="folder of what was found (_build/robust)")
    parser.add_argument("--first", type=int, help="make the reruns from this one on, here, and write no table")
    given = parser.parse_args()
    KEPT = given.kept.resolve()
    paths = [Path(p).resolve() for p in given.chapters] or sorted(BOOK.rglob("*.ipynb"))
    if given.first is None:
        well = share_out(paths, given.times, given.jobs)
        write(paths)
        sys.exit(0 if well else 1)
    matplotlib.use("Agg")
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, leave)
    for path in paths:
        examine(path, given.times, given.first)
