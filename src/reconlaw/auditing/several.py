"""Several checkpoint pairs in one call: of one model after each of its fine-tunings, say."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .audit import audit
from .checkpoints import Source
from .errors import AuditError
from .outcome import EXIT, Audit

# Statuses, the most serious first: data came back, the audit failed, data may be there, not determined, unchanged.
_ORDER = (1, 2, 3, 4, 0)


def numbered(path: str | os.PathLike | None, k: int, count: int) -> Path | None:
    """The path of pair k of so many: ``audit.html`` becomes ``audit-2.html`` for the second of several."""
    if path is None or count == 1:
        return None if path is None else Path(path)
    place = Path(path)
    return place.with_name(f"{place.stem}-{k + 1}{place.suffix}")


def audits(
    pairs: Iterable[tuple[Source, Source]],
    report: str | os.PathLike | None = "audit.html",
    json: str | os.PathLike | None = None,
    sarif: str | os.PathLike | None = None,
    **options: Any,
) -> list[Audit | AuditError]:
    """Audit several checkpoint pairs by the same arguments, one after the other.

    Args:
        pairs: (before, after) each, as for :func:`reconlaw.audit`.
        report: as there, numbered where there are several pairs: ``audit-1.html``, ``audit-2.html``.
        json: likewise.
        sarif: likewise.
        options: the other arguments of :func:`reconlaw.audit`; a budget is that of each pair.

    Returns:
        An :class:`~reconlaw.Audit` for each pair, or the error where its files do not serve: one bad pair does not keep
        the others from being audited.

    Raises:
        ValueError, TypeError: what is wrong with an argument that all share.
    """
    pairs = list(pairs)
    made: list[Audit | AuditError] = []
    for k, (before, after) in enumerate(pairs):
        asked = {"report": report, "json": json, "sarif": sarif}
        places = {name: numbered(path, k, len(pairs)) for name, path in asked.items()}
        try:
            made.append(audit(before, after, **{**options, **places}))
        except AuditError as error:
            made.append(error)
    return made


def status(made: Iterable[Audit | AuditError], fail_on: Iterable[str] | None = None) -> int:
    """The exit status of several audits: that of the most serious, 1 before 2 before 3 before 4 before 0.

    Args:
        made: what :func:`audits` returned.
        fail_on: verdicts that count, :data:`~reconlaw.auditing.outcome.EXIT` has them; the others give 0. All where
            None.
    """
    counting = set(EXIT if fail_on is None else fail_on)
    statuses = {2 if isinstance(one, AuditError) else one.exit_code * (one.verdict in counting) for one in made}
    return next(code for code in _ORDER if code in statuses or code == 0)
