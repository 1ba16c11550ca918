"""Printed numbers that another rounding could print otherwise: `python tests/digits.py [notebook ...]`.

The strict run of the notebooks compares text, so a number that lies next to where its last digit turns fails on some
machine and passes on the others. Every notebook is executed with several roundings (``RUNS``); each number that an
f-string, ``print`` or a tensor's text shows, in a cell or in the package, is kept with all of its digits. A number is
listed if its text would change when it moves by ``ROOM`` times the range over the runs. Print fewer digits there, or
state a count, a bound or a ratio that has room. Exits with 1 if a number is listed.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import importlib.machinery
import os
import pickle
import re
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
ROOM = 10.0  # a few runs show a fraction of the range over all machines
RUNS = (
    {"OMP_NUM_THREADS": "1"},
    {"OMP_NUM_THREADS": "1", "MKL_CBWR": "AVX", "ATEN_CPU_CAPABILITY": "default"},
    {"OMP_NUM_THREADS": "2", "MKL_CBWR": "AVX2"},
)
START = "import sys; sys.path.append({tests!r}); import digits; sys.path.pop(); digits.Seen({log!r})"


class Marks(ast.NodeTransformer):
    """Hand what an f-string formats and what `print` is given to `_seen` on the way."""

    def __init__(self, place: str):
        self.place = place

    def _seen(self, node: ast.expr, spec: ast.expr | None = None) -> ast.Call:
        place = ast.Constant(f"{self.place}:{node.lineno}:{node.col_offset}")
        call = ast.Call(ast.Name("_seen", ast.Load()), [node, spec or ast.Constant(""), place], [])
        return ast.fix_missing_locations(ast.copy_location(call, node))

    def visit_JoinedStr(self, node):
        """The numbers of an f-string, but for seconds: the comparison leaves those out."""
        for part, after in zip(node.values, [*node.values[1:], None], strict=True):
            timed = isinstance(after, ast.Constant) and re.match(r" ?(ms|s|min)\b", after.value)
            if isinstance(part, ast.FormattedValue) and not timed:
                part.value = self.visit(part.value)
                if part.conversion == -1:
                    part.value = self._seen(part.value, part.format_spec)
        return node

    def visit_Call(self, node):
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "print":
            node.args = [one if isinstance(one, ast.Starred) else self._seen(one) for one in node.args]
        return node


class Seen:
    """Keep what a notebook's kernel prints, with the cell it is printed by, in a file."""

    def __init__(self, log: str):
        import torch
        from IPython import get_ipython

        self.file, self.count, self.shell = open(log, "wb"), Counter(), get_ipython()
        builtins._seen = self.see
        self.shell.ast_transformers.append(Marks("cell"))
        compiled = importlib.machinery.SourceFileLoader.source_to_code

        def marked(loader, data, path, **options):
            if str(path).startswith(str(ROOT)) and ".venv" not in str(path) and not str(path).startswith(__file__):
                data = ast.fix_missing_locations(Marks(Path(path).stem).visit(ast.parse(data)))
            return compiled(loader, data, path, **options)

        importlib.machinery.SourceFileLoader.source_to_code = marked
        text = torch.Tensor.__repr__

        def shown(tensor, **options):
            self.see(tensor.detach(), "", "tensor")
            return text(tensor, **options)

        torch.Tensor.__repr__ = shown

    def see(self, value, spec, place):
        kind = type(value).__module__.split(".")[0]
        if not place.startswith("cell") and isinstance(value, int):  # the package's counts: labels of its draws, mostly
            return value
        if isinstance(value, (float, int)) and not isinstance(value, bool) or kind in ("torch", "numpy"):
            number = self.count[self.shell.execution_count, place] = self.count[self.shell.execution_count, place] + 1
            try:
                pickle.dump((self.shell.execution_count, place, number, spec, plain(value)), self.file)
            except Exception:  # a module, a generator: no number
                return value
            self.file.flush()
        return value


def plain(value):
    """Numbers as Python's or a tensor of them."""
    import numpy
    import torch

    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        return value.item() if value.ndim == 0 else value
    if isinstance(value, numpy.ndarray | numpy.generic):
        return plain(torch.as_tensor(value))
    if not isinstance(value, float | int):
        raise TypeError("no number")
    return value


def run(path: Path, number: int, folder: Path) -> tuple[dict, str]:
    """The numbers of one run of a notebook: (cell, place, count) → (format, value); and what it printed."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    log = folder / f"{path.stem}.{number}"
    code = START.format(tests=str(ROOT / "tests"), log=str(log))
    notebook.cells.insert(0, nbformat.v4.new_code_cell(code))
    environment = os.environ | RUNS[number] | {"PYTHONPYCACHEPREFIX": str(folder / f"cache-{path.stem}-{number}")}
    client = NotebookClient(
        notebook,
        timeout=1800,
        startup_timeout=600,
        kernel_name="python3",
        extra_arguments=["--IPKernelApp.log_level=40"],
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute(env=environment)
    compared = [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and "nbval-ignore-output" not in cell.metadata.get("tags", [])
    ]
    outputs = [one for cell in compared for one in cell.outputs]
    kinds = ("text/plain", "text/html", "text/markdown")
    text = "\n".join(one.get("text", "") or str([one.get("data", {}).get(k, "") for k in kinds]) for one in outputs)
    found = {}
    with open(log, "rb") as file:
        while True:
            try:
                cell, place, count, spec, value = pickle.load(file)
            except EOFError:
                break
            found[cell, place, count] = (spec, value)
    return found, text


def text_of(value, spec: str) -> str:
    return format(value, spec) if isinstance(value, float | int) else str(value)


def near(values: list, spec: str) -> tuple[str, str] | None:
    """The text of the first value and another that a little more of the range over the values gives, if any does."""
    import torch

    first = values[0]
    if isinstance(first, torch.Tensor):
        if any(not isinstance(one, torch.Tensor) or one.shape != first.shape for one in values):
            return str(first), "another shape"
        if not first.is_floating_point():
            same = all(torch.equal(one, first) for one in values)
            return None if same else (str(first), "other numbers")
        stack = torch.stack(values).double()
        room = (ROOM * (stack.amax(0) - stack.amin(0))).to(first)
    elif not all(isinstance(one, float | int) for one in values):
        return text_of(first, spec), "another kind"
    elif isinstance(first, int):
        return None if len(set(values)) == 1 else (text_of(first, spec), text_of(max(values, key=abs), spec))
    else:
        room = ROOM * (max(values) - min(values))
    texts = [text_of(one, spec) for one in (first, first + room, first - room)]
    if isinstance(first, float) and min(values) * max(values) > 0:  # a size does not turn negative
        texts = [re.sub(r"^( *)-", r"\1", one) for one in texts] if first > 0 else texts
    return next(((texts[0], other) for other in texts[1:] if other != texts[0]), None)


def listed(path: Path, runs: int, folder: Path) -> list[str]:
    """The numbers of a notebook that another rounding could print otherwise."""
    from robust import sanitised

    every = [run(path, number, folder) for number in range(runs)]
    shown = sanitised(every[0][1])
    lines = []
    for key, (spec, _) in every[0][0].items():
        values = [found[key][1] for found, _ in every if key in found]
        turned = near(values, spec) if len(values) == runs else None
        if turned is None:
            continue
        cell, place, count = key
        if turned[0].strip() in shown:
            lines.append(
                f"{path.relative_to(BOOK)} [{cell - 2}] {place} #{count}: {turned[0]} or {turned[1]}  {values}"
            )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--runs", type=int, default=len(RUNS))
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    paths = [one.resolve() for one in given.notebooks] or sorted(BOOK.rglob("*.ipynb"))
    bad = 0
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(given.jobs) as pool:
        for path, lines in zip(paths, pool.map(lambda one: listed(one, given.runs, Path(folder)), paths), strict=True):
            print(f"{path.relative_to(BOOK)}: {len(lines)} numbers", *lines, sep="\n  ", flush=True)
            bad += len(lines)
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
