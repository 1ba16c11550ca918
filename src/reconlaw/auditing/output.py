r"""An audit for machines: JSON with a schema, and SARIF for code scanning.

The JSON is one object. Keys that do not apply are null.

``schema`` 1; ``reconlaw``, the version; ``verdict``, ``exit_code``, ``summary`` as of :class:`reconlaw.Audit`;
``changed``, an object from tensor to relative change (null where it was zero before); ``d``, ``p``, ``n``, ``outputs``,
``rank``; ``first_layer``, the layer that the findings were read off where that was not the head; ``moved``, ``noise``,
``ratio``, ``tolerance``; ``loss``, ``second_loss``, ``references``, ``control``, ``bias_mismatch``; ``training``,
``{dtype, foretold}``, the precision of training and the loss it foretells; ``dropout``, ``{share, simulated, wrong}``,
the share of what is left that lies along features of other inputs, here, on heads simulated with dropout, and where
there is nothing to find (:mod:`reconlaw.auditing.dropped`);
``findings``, for each candidate ``{recovered, loss, p_value, standard_error, distance, against, x}`` with ``x`` the d
numbers of the input as the model sees it; ``pool``, ``{rank, nulls, layer, named, candidates}`` with ``layer`` the
first layer whose change they were asked of, or null for the head's, ``named`` a list of names and ``candidates`` a list
of ``{name, residual, p_value, named, alike}``; ``checks``, each ``{question, answer, kind}``; ``settings``;
``interrupted``.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from urllib.parse import quote

from .._files import write_whole
from .._version import __version__
from .outcome import Audit

SCHEMA = 1
_SARIF = "https://json.schemastore.org/sarif-2.1.0.json"
# SARIF's levels, and a word on each verdict.
_LEVELS = {
    "recovered": ("error", "Training data can be read out of the checkpoints."),
    "close": ("error", "Training data may be exposed."),
    "inconclusive": ("warning", "The audit could not tell whether training data can be read out."),
    "not determined": ("note", "Counting alone does not determine the training data."),
}


def _number(value) -> float | None:
    """A number as JSON has it: NaN and infinity are null."""
    return None if value is None or not math.isfinite(value) else float(value)


def as_dict(made: Audit) -> dict:
    """The audit as JSON holds it; see the module for the schema."""
    pool: dict[str, object] | None = None
    if made.pool is not None:
        columns = (made.pool.names, made.pool.residuals, made.pool.p_values, made.pool.named, made.pool.alike)
        rows = [
            {"name": name, "residual": float(l), "p_value": float(p), "named": bool(t), "alike": bool(a)}
            for name, l, p, t, a in zip(*columns, strict=True)
        ]
        named = [row["name"] for row in rows if row["named"]]
        pool = {"rank": made.pool.rank, "nulls": made.pool.nulls, "layer": made.pool.layer}
        pool |= {"named": named, "candidates": rows}
    findings = [
        {
            "recovered": one.recovered,
            "loss": _number(one.loss),
            "p_value": _number(one.p_value),
            "standard_error": _number(one.standard_error),
            "distance": _number(one.distance),
            "against": list(one.against),
            "x": x.tolist(),
        }
        for one, x in zip(made.findings, () if made.candidates is None else made.candidates, strict=True)
    ]
    plain = (
        "verdict",
        "exit_code",
        "summary",
        "d",
        "p",
        "n",
        "outputs",
        "rank",
        "first_layer",
        "settings",
        "interrupted",
    )
    numbers = ("moved", "noise", "ratio", "tolerance", "second_loss", "control", "bias_mismatch")
    return {
        "schema": SCHEMA,
        "reconlaw": __version__,
        **{name: getattr(made, name) for name in plain},
        "changed": {name: _number(size) for name, size in made.changed.items()},
        **{name: _number(getattr(made, name)) for name in numbers},
        "dropout": made.dropped
        and {"share": made.dropped.share, "simulated": list(made.dropped.simulated), "wrong": list(made.dropped.wrong)},
        "training": made.training and {"dtype": made.training.name, "foretold": made.training.foretold},
        "loss": None if made.result is None else _number(made.result.loss),
        "references": [_number(loss) for loss in made.references],
        "findings": findings,
        "pool": pool,
        "checks": [{"question": c.question, "answer": c.answer, "kind": c.kind} for c in made.checks],
    }


def as_sarif(made: Audit) -> dict:
    """The audit as a SARIF 2.1.0 log of at most one result, at the checkpoint ``after``; none where nothing changed."""
    results = []
    if made.verdict in _LEVELS:
        place = {"artifactLocation": {"uri": quote(str(made.settings.get("after", "after")))}}
        results.append(
            {
                "ruleId": made.verdict.replace(" ", "-"),
                "level": _LEVELS[made.verdict][0],
                "message": {"text": made.summary},
                "locations": [{"physicalLocation": place}],
            }
        )
    rules = [
        {"id": verdict.replace(" ", "-"), "shortDescription": {"text": text}} for verdict, (_, text) in _LEVELS.items()
    ]
    driver = {"name": "reconlaw", "version": __version__, "rules": rules}
    return {"$schema": _SARIF, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def is_json(head: bytes) -> bool:
    """Whether a file that begins so is an audit's JSON or SARIF, which a new one may replace."""
    return head.startswith((b'{\n "schema": 1,\n "reconlaw":', b'{\n "$schema": "' + _SARIF.encode()))


def write_json(made: Audit, path: Path, sarif: bool = False) -> Path:
    """Write the audit as JSON, or as SARIF: a reader meets the whole file or none."""
    text = json.dumps((as_sarif if sarif else as_dict)(made), indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(path, (text + "\n").encode())
    return path
