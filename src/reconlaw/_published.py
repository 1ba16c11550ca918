"""The results files that are committed with the book; an installed package brings them along."""

from __future__ import annotations

import json
from pathlib import Path

from ._checks import check_folder


def published(name: str, folder: str | Path | None = None) -> dict | None:
    """The results of a benchmark: its commands, the machine, a summary, and every cell.

    Args:
        name: of the file ``name``.json that ``benchmarks`` writes.
        folder: where it lies; if None, in the checkout that the package runs from, or else inside the package.

    Returns:
        The file's content, or None where there is no such file.
    """
    path = (_results() if folder is None else check_folder("folder", folder)) / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _results() -> Path:
    package = Path(__file__).resolve().parent
    checkout = package.parent.parent  # of src/reconlaw
    return checkout / "benchmarks" / "results" if package.parent.name == "src" else package / "results"
