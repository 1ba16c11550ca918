"""Execute the notebooks while the book is built. Where a cell fails on the reader's machine, the page shows the outputs
that are stored with the book, and says so; with CI=true in the environment the build fails instead."""

from __future__ import annotations

import atexit
import copy
import os
import platform
import re
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import perf_counter

import myst_nb.core.execute
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


@dataclass(frozen=True)
class Failure:
    """What ended the execution of one notebook."""

    cell: str
    line: str
    reason: str

    def __str__(self):
        return f"{self.cell}, “{self.line}”: {self.reason}"


failures: dict[Path, Failure] = {}  # from execution to the page, which is read right after it


def run(notebook, folder: Path, timeout: int) -> Failure | None:
    """Execute in place; after a failure the notebook is what it was."""
    stored, started = copy.deepcopy(notebook.cells), []
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name=notebook.metadata.get("kernelspec", {}).get("name", "python3"),
        record_timing=False,
        extra_arguments=KERNEL,
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=lambda cell, cell_index: started.append(cell_index),
    )
    try:
        client.execute()
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


class Client(NotebookClientBase):
    """In the place of myst-nb's own, which ends the build with the first cell that fails."""

    def start_client(self):
        start = perf_counter()
        failure = run(self.notebook, self.path.resolve().parent, self.nb_config.execution_timeout)
        if failure:
            failures[self.path.resolve()] = failure
            if os.environ.get("CI") == "true":
                logger.warning("%s was not executed: %s", self.path, failure)
        self.exec_metadata = {
            "mtime": datetime.now().timestamp(),
            "runtime": perf_counter() - start,
            "method": self.nb_config.execution_mode,
            "succeeded": failure is None,
            "error": failure and failure.reason.split(":")[0],
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
    app.connect("doctree-read", put_banner)
    app.connect("build-finished", summarise)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
