"""Execute the notebooks while the book is built, a kernel for each core. Where a cell fails on the machine of a reader,
her page shows the outputs that are stored with the book, and says so; with CI=true the build fails instead."""

from __future__ import annotations

import asyncio
import atexit
import copy
import os
import platform
import re
import sys
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import perf_counter

import myst_nb.core.execute
import nbformat
from docutils import nodes
from myst_nb.core.execute import NotebookClientBase
from nbclient import NotebookClient
from notebooks import KERNEL
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
ARROW = re.compile(r"^-+> \d+ (.+)$", re.MULTILINE)  # a traceback's, the cell's own line first
NOT_EXECUTED = "not-executed"  # key of a page's metadata
KERNELS = 4  # at a time, at most: each takes up to a gigabyte


@dataclass(frozen=True)
class Failure:
    """What ended the execution of one notebook."""

    cell: str
    line: str
    reason: str

    def __str__(self):
        return f"{self.cell}, “{self.line}”: {self.reason}"


failures: dict[Path, Failure] = {}  # from execution to the page, which is read right after it


async def run(notebook, folder: Path, timeout: int) -> Failure | None:
    """Execute in place; after a failure the notebook is what it was."""
    stored, started = copy.deepcopy(notebook.cells), []
    client = NotebookClient(
        notebook,
        timeout=timeout,
        startup_timeout=600,  # a busy machine may take minutes
        kernel_name=notebook.metadata.get("kernelspec", {}).get("name", "python3"),
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=KERNEL,
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=lambda cell, cell_index: started.append(cell_index),
    )
    try:
        await client.async_execute()
    except Exception as error:  # an exception in the cell, its time spent, a kernel that died or never started
        name, value = getattr(error, "ename", type(error).__name__), getattr(error, "evalue", str(error))
        reason = COLOURS.sub("", f"{name}: {value}").splitlines()[0]
        notebook.cells = stored
        if not started:
            return Failure("the kernel", "", reason)
        cell = stored[started[-1]]
        arrow = ARROW.search(COLOURS.sub("", getattr(error, "traceback", "")))
        line = arrow[1] if arrow else cell.source.strip().splitlines()[0]
        return Failure(f"cell [{cell.execution_count}]", line.strip(), reason)
    return None


@dataclass(frozen=True)
class Executed:
    """A notebook's cells with their outputs, the seconds that took, and what went wrong."""

    cells: list
    seconds: float
    failure: Failure | None


class Ahead:
    """Notebooks that are being executed, several at a time, while Sphinx reads one page after the other."""

    def __init__(self, kernels: int):
        self.futures: dict[Path, Future[Executed]] = {}
        self.free = asyncio.Semaphore(kernels)
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def begin(self, path: Path, timeout: int) -> None:
        self.futures[path] = asyncio.run_coroutine_threadsafe(self._execute(path, timeout), self.loop)

    async def _execute(self, path: Path, timeout: int) -> Executed:
        async with self.free:
            start = perf_counter()
            notebook = nbformat.read(path, as_version=4)
            failure = await run(notebook, path.parent, timeout)
            return Executed(notebook.cells, perf_counter() - start, failure)

    def end(self, path: Path) -> Executed:
        """Waits for it."""
        return self.futures.pop(path).result()


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


ahead = Ahead(min(cores(), KERNELS))


def begin(app: Sphinx, env, docnames: list[str]) -> None:
    """In the order in which the pages are read."""
    for path in (Path(env.doc2path(name)).resolve() for name in docnames):
        if path.suffix == ".ipynb" and app.config.nb_execution_mode == "force":
            ahead.begin(path, app.config.nb_execution_timeout)


class Client(NotebookClientBase):
    """In the place of myst-nb's own, which ends the build with the first cell that fails."""

    def start_client(self):
        path = self.path.resolve()
        done = ahead.end(path)
        self.notebook.cells = done.cells
        if done.failure:
            failures[path] = done.failure
            if os.environ.get("CI") == "true":
                logger.warning("%s was not executed: %s", self.path, done.failure)
        self.exec_metadata = {
            "mtime": datetime.now().timestamp(),
            "runtime": done.seconds,
            "method": self.nb_config.execution_mode,
            "succeeded": done.failure is None,
            "error": done.failure and done.failure.reason.split(":")[0],
            "traceback": None,
        }


def put_banner(app: Sphinx, doctree: nodes.document) -> None:
    """Say on the page what happened, under its title."""
    failure = failures.pop(Path(doctree["source"]).resolve(), None)
    if failure is None:
        return
    app.env.metadata[app.env.docname][NOT_EXECUTED] = str(failure)
    message = nodes.paragraph()
    message += nodes.Text(f"This page was not executed on the machine that built it: {failure.cell}, ")
    message += nodes.literal(text=failure.line)
    message += nodes.Text(f", ended with “{failure.reason}”. The outputs here are those stored with the book. ")
    message += nodes.reference("", "Report it", refuri=issues(app))
    banner = nodes.warning("", message, classes=[NOT_EXECUTED])
    title = next(iter(doctree.findall(nodes.title)), None)
    if title is None:
        doctree.insert(0, banner)
    else:
        title.parent.insert(title.parent.index(title) + 1, banner)


def issues(app: Sphinx) -> str:
    return app.config.html_theme_options["repository_url"] + "/issues/new"


def summarise(app: Sphinx, exception: Exception | None) -> None:
    """Below all of the log, where it is seen."""
    found = {name: data[NOT_EXECUTED] for name, data in sorted(app.env.metadata.items()) if NOT_EXECUTED in data}
    if exception is not None or not found:
        return
    lines = [f"{len(found)} of the pages could not be executed here and show the outputs stored with the book:"]
    lines += [f"  {name}: {what}" for name, what in found.items()]
    lines += [f"Please report it at {issues(app)} with the lines above and these:", f"  {machine()}"]
    atexit.register(print, *lines, sep="\n", file=sys.stderr)


def machine() -> str:
    from importlib.metadata import version

    names = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "ipykernel"))
    return f"Python {platform.python_version()}, {names}, {platform.platform()}"


def setup(app: Sphinx) -> dict[str, bool]:
    myst_nb.core.execute.NotebookClientDirect = Client
    app.connect("env-before-read-docs", begin)
    app.connect("doctree-read", put_banner)
    app.connect("build-finished", summarise)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
