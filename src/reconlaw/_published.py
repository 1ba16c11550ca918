"""The results files that are committed with the book."""

from __future__ import annotations

import json
import urllib.request
from importlib.metadata import metadata
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2] / "benchmarks" / "results"


def published(name: str, folder: str | Path | None = None) -> dict | None:
    """The results of a benchmark: its commands, the machine, a summary, and every cell.

    Args:
        name: of the file ``name``.json that ``benchmarks`` writes.
        folder: where it lies; if None, in the repository that this package was installed from in place, or else the
            repository's own copy on the network.

    Returns:
        The file's content, or None where there is no such file, or no network.
    """
    folder = _CHECKOUT if folder is None and _CHECKOUT.is_dir() else folder
    if folder is not None:
        path = Path(folder) / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    links = dict(line.split(", ") for line in metadata("reconlaw").get_all("Project-URL"))
    raw = links["Repository"].replace("github.com", "raw.githubusercontent.com")
    try:
        with urllib.request.urlopen(f"{raw}/main/benchmarks/results/{name}.json", timeout=30) as answer:
            return json.load(answer)
    except OSError:
        return None
