"""What a chapter prints and asserts, under changes that must not matter: `python tests/robust.py [chapter ...]`.

Every search of a notebook is given θ moved by 1e-14 of its size, in a random direction; or another seed of the
attacker. The cells from the first search on then run again (slow ones that search nothing keep what they made), and a
change holds if no cell raises and each prints what is stored. The table goes into tests/robust.md.
"""

from __future__ import annotations

import argparse
import configparser
import functools
import io
import os
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from time import perf_counter

import matplotlib
import nbformat
import torch
from scipy.stats import binomtest

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "tests" / "robust.md"
SEARCHES = ("reconstruct", "ntk", "kkt")  # functions of the package that take θ first, and a seed
NUDGE = 1e-14
SLOW = 0.5  # seconds; only what is left out of the reruns depends on it, and they would find the same
CHANGES = ("θ moved by 1e-14", "another seed")


class Searches:
    """The package's searches, as the notebooks call them, with the change of one rerun."""

    def __init__(self, package):
        self.change, self.number, self.calls = None, 0, 0
        for name in SEARCHES:
            setattr(package, name, self._changed(getattr(package, name)))

    def _changed(self, search):
        @functools.wraps(search)
        def call(theta, *arguments, **options):
            self.calls += 1
            if self.change == CHANGES[0]:
                generator = torch.Generator().manual_seed(1000 * self.number + self.calls)
                move = torch.randn(theta.shape, generator=generator, dtype=theta.dtype).to(theta.device)
                theta = theta + NUDGE * theta.norm() / move.norm() * move
            elif self.change == CHANGES[1]:
                options["seed"] = options.get("seed", 0) + 1000 * self.number
            return search(theta, *arguments, **options)

        return call


def sanitised(text: str) -> str:
    """As the comparison of stored outputs reads it."""
    rules = configparser.RawConfigParser()
    rules.read(ROOT / "tests" / "nbval_sanitize.cfg")
    for rule in rules.sections():
        text = re.sub(rules[rule]["regex"], rules[rule]["replace"], text)
    return text.strip()


class Chapter:
    def __init__(self, path: Path):
        import matplotlib.pyplot as plt
        from IPython.core.interactiveshell import InteractiveShell

        import reconlaw

        self.plt, self.shell, self.searches = plt, InteractiveShell(), Searches(reconlaw)
        self.cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
        self.cells = [c for c in self.cells if "raises-exception" not in c.metadata.get("tags", [])]
        os.chdir(path.parent)

    def run(self, cell) -> str | None:
        """What came out wrong: the first line that differs from what is stored, or the error."""
        out = io.StringIO()
        with redirect_stdout(out), redirect_stderr(io.StringIO()):
            ran = self.shell.run_cell(cell.source, store_history=False)
        self.plt.close("all")
        error = ran.error_before_exec or ran.error_in_exec
        if error is not None:
            return f"{type(error).__name__}: {error}"
        if "nbval-ignore-output" in cell.metadata.get("tags", []):
            return None
        streams = (o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stdout")
        stored = sanitised("".join(streams)).splitlines()
        printed = [line for line in sanitised(out.getvalue()).splitlines() if not line.startswith("<Figure")]
        missing = [line for line in stored if line not in printed]
        return f"no longer: {missing[0]}" if missing else None

    def first_run(self) -> dict:
        """Run all; keep where the searches begin, and what slow cells without a search made."""
        self.before, self.made = None, {}
        failed = {}
        for k, cell in enumerate(self.cells):
            names, calls, start = dict(self.shell.user_ns), self.searches.calls, perf_counter()
            wrong = self.run(cell)
            if wrong:
                failed[k] = wrong
            searched = self.searches.calls > calls
            if searched and self.before is None:
                self.before, self.begin = names, k
            elif self.before is not None and not searched and perf_counter() - start > SLOW:
                now = self.shell.user_ns
                self.made[k] = {name: v for name, v in now.items() if v is not names.get(name, self)}
        return failed

    def rerun(self, change: str, number: int) -> dict:
        """{index of a cell: what went wrong}."""
        self.searches.change, self.searches.number, self.searches.calls = change, number, 0
        self.shell.user_ns.clear()
        self.shell.user_ns.update(self.before)
        failed = {}
        for k in range(self.begin, len(self.cells)):
            if k in self.made:
                self.shell.user_ns.update(self.made[k])
            elif wrong := self.run(self.cells[k]):
                failed[k] = wrong
        return failed


def examine(path: Path, times: int) -> list[str]:
    """Rows of the table."""
    chapter = Chapter(path)
    name = path.relative_to(ROOT / "book").with_suffix("").as_posix()
    unchanged = chapter.first_run()
    rows = [f"| {name} | none | {0 if unchanged else 1} of 1 | | {text(chapter, [unchanged])} |"]
    if chapter.before is None:
        return []
    for change in CHANGES:
        found = []
        for number in range(1, times + 1):
            found.append(chapter.rerun(change, number))
            print(f"{name}, {change} {number}: {found[-1] or 'holds'}", file=sys.stderr, flush=True)
        held = sum(not failed for failed in found)
        low, high = binomtest(held, times).proportion_ci(method="wilson")
        interval = f"{100 * low:.0f}–{100 * high:.0f} %"
        rows.append(f"| {name} | {change} | {held} of {times} | {interval} | {text(chapter, found)} |")
    return rows


def text(chapter: Chapter, found: list[dict]) -> str:
    """How often which cell went wrong, and how at first."""
    counts = {}
    for failed in found:
        for k, wrong in failed.items():
            counts.setdefault(k, []).append(wrong)
    told = [
        f"[{chapter.cells[k].execution_count}] {len(v)}×: {v[0].splitlines()[0]}" for k, v in sorted(counts.items())
    ]
    return "; ".join(told).replace("|", "\\|")


def write(rows: list[str]) -> None:
    """New rows in the place of those of the same chapters."""
    head = ["| chapter | change | holds | interval, 95 % | what did not |", "|:--|:--|--:|--:|:--|"]
    old = TABLE.read_text(encoding="utf-8").splitlines()[2:] if TABLE.exists() else []
    chapters = {row.split(" | ")[0] for row in rows}
    kept = [row for row in old if row.split(" | ")[0] not in chapters]
    TABLE.write_text(
        "\n".join(head + sorted(kept + rows, key=lambda row: row.split(" | ")[0])) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapters", nargs="*", help="paths of notebooks; all of them by default")
    parser.add_argument("--times", type=int, default=20, help="reruns of each kind")
    given = parser.parse_args()
    matplotlib.use("Agg")
    torch.set_num_threads(1)
    paths = [Path(p).resolve() for p in given.chapters] or sorted((ROOT / "book").rglob("*.ipynb"))
    if len(paths) == 1:
        write(examine(paths[0], given.times))
    else:  # a process each: notebooks change what they import
        import subprocess

        for path in paths:
            subprocess.run([sys.executable, __file__, str(path), "--times", str(given.times)], check=True)
