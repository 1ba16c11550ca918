"""How an audit ended: the verdict, and what is said of each sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch

from ..attack.result import Result
from .checks import Check, as_percent
from .dropped import Dropped
from .pool import Identified
from .precision import Training

# Verdicts, and the exit status of ``python -m reconlaw audit``; 2 is for arguments and files that do not serve.
EXIT = {"unchanged": 0, "recovered": 1, "close": 3, "inconclusive": 3, "not determined": 4}


@dataclass(frozen=True)
class Finding:
    """What is said of one candidate.

    Attributes:
        recovered: whether everything that was asked of it, and of the attack as a whole, was answered well.
        loss: its own loss (:mod:`reconlaw.auditing.nulls`); NaN where none was computed.
        p_value: of that, by wrong releases; of a first layer the chance that so many neurons lie on one side of its
            candidate (:func:`reconlaw.silent_neurons`). NaN where there was none.
        standard_error: relative to its norm; infinite where it is loose, NaN where none was computed. Where the body
            moved, the error that nine in ten candidates of like own loss keep on simulated heads
            (:mod:`reconlaw.auditing.simulation`); where dropout shows, its error on heads simulated with it
            (:mod:`reconlaw.auditing.dropped`).
        distance: relative, from the nearest candidate of a second attack with another seed; None where there was none.
        against: what speaks against calling it recovered, one sentence each; empty where it is.
    """

    recovered: bool
    standard_error: float
    distance: float | None
    against: tuple[str, ...] = ()
    loss: float = math.nan
    p_value: float = math.nan


def loose(error: float) -> str:
    """What is said against a candidate of so large a standard error."""
    return f"its standard error is {as_percent(error) if math.isfinite(error) else 'not bounded'}"


def shared_reasons(said: Sequence[Finding]) -> list[str]:
    """What speaks against every one of the candidates."""
    return [reason for reason in said[0].against if all(reason in one.against for one in said)]


def in_words(said: Sequence[Finding]) -> str:
    """The same in words."""
    return "; ".join(shared_reasons(said)) or "something else speaks against each, and is said of it"


@dataclass(frozen=True, eq=False)
class Examined:
    """What the attacks of an audit gave: attributes of :class:`Audit`, and the second attack."""

    result: Result
    candidates: torch.Tensor
    own_losses: torch.Tensor
    second: Result | None = None
    standard_errors: torch.Tensor | None = None
    bias_mismatch: float | None = None
    guesses: tuple[float, ...] = ()
    references: tuple[float, ...] = ()
    null_losses: tuple[float, ...] = ()
    reference_steps: int | None = None
    simulated: tuple[tuple[float, float], ...] = ()
    control: float | None = None
    interrupted: bool = False
    training: Training | None = None
    tolerance: float = 0.0
    dropped: Dropped | None = None


@dataclass(frozen=True, eq=False)
class Verdict:
    """What is said of the evidence: attributes of :class:`Audit`."""

    verdict: str
    summary: str
    findings: tuple[Finding, ...] = ()
    X: torch.Tensor | None = None


def parts_of(made: Examined | Verdict) -> dict:
    """Its fields, as arguments of :class:`Audit`."""
    return {one.name: getattr(made, one.name) for one in fields(made)}


@dataclass(frozen=True, eq=False)
class Audit:
    r"""How an audit ended.

    Attributes:
        verdict: "recovered" (at least one sample, each by the questions of :mod:`reconlaw.auditing.judgement`),
            "close" (θ is explained far better than chance would, and something speaks against each candidate),
            "inconclusive" (data could be there, this attack did not find them), "not determined" (fewer equations
            than unknowns, for inputs of which no more is known than was said) or "unchanged" (no tensor of the model
            changed).
        summary: the verdict in words.
        exit_code: 0 where nothing changed, 1 where data came back, 3 for "close" and "inconclusive", 4 where counting
            does not determine the data. None of them says that a model is safe.
        d: numbers of an input.
        p: numbers that the head is fed, the features.
        n: number of samples, given or estimated; None until known.
        outputs: of the head.
        rank: numerical rank of θ.
        noise: ‖rounding of θ‖/‖θ‖, by the dtype of the checkpoints.
        moved: how far the features of random inputs moved between the checkpoints, relative to their norm.
        changed: the relative change of each tensor that changed; infinite where it was zero before.
        parity: of the body, "mixed", "even" or "odd".
        ratio: equations for each unknown number of the samples, rank(θ)·p/(d·n), or less where features are
            dependent.
        tolerance: the loss at which θ counts as explained.
        training: the precision at which training seems to have computed, and the loss that it foretells
            (:class:`~reconlaw.auditing.precision.Training`); None where nothing shows one below that of the files.
        X: (k, d) recovered samples, or the candidates named, as the model sees them; None unless the verdict is
            "recovered".
        findings: for each candidate its own loss, p-value, standard error, and whether it is recovered, and why.
        held: (m,) bool, whether each candidate is recovered.
        result: of :func:`reconlaw.reconstruct`, or None.
        candidates: (m, d) where the attack ended, whatever the verdict, without those that θ does not need (m ≤ n);
            None where it did not run.
        standard_errors: (m,) of the candidates, relative to their norm; None where they were not computed.
        second_loss: where the second attack ended, with another seed; None where it was not needed.
        bias_mismatch: ‖Σ_i α_i − Δb‖/‖Δb‖ of the bias, which the attack does not see; None where there is none.
        guesses: losses of random candidates.
        references: losses of the attack on a θ that no n samples made.
        own_losses: (m,) of the candidates (:mod:`reconlaw.auditing.nulls`); None where the attack did not run.
        null_losses: the same of all candidates that the references found, which are all wrong.
        reference_steps: how many steps each of them might take.
        simulated: own loss and error of each candidate that the attack found on heads which the audit simulated, where
            the body moved.
        control: share of samples recovered from a θ that the audit made itself, or None where not needed.
        interrupted: whether Ctrl-C ended it early.
        pool: what became of the candidates given (:class:`~reconlaw.auditing.pool.Identified`), or None.
        dropped: what dropout in training mode makes of the candidates
            (:class:`~reconlaw.auditing.dropped.Dropped`), where the body holds any and the head's change is not
            explained; None elsewhere.
        first_layer: name of the layer whose silent neurons gave the candidates (:mod:`reconlaw.auditing.first_layer`);
            None where the attack on the head did, or nothing.
        checks: what was asked of the pair, and the answers.
        settings: what was audited, and with which arguments.
        picture: (H, W), (H, W, 3) or (3, H, W) to draw an input by; None where it is no picture.
        report: path of the report that was written, or None, as where the disk was full.
    """

    verdict: str
    summary: str
    d: int
    p: int
    n: int | None
    outputs: int
    rank: int
    noise: float
    moved: float
    changed: dict[str, float] = field(default_factory=dict)
    parity: str = "mixed"
    ratio: float = 0.0
    tolerance: float = 0.0
    X: torch.Tensor | None = None
    candidates: torch.Tensor | None = None
    findings: tuple[Finding, ...] = ()
    standard_errors: torch.Tensor | None = None
    result: Result | None = None
    second_loss: float | None = None
    guesses: tuple[float, ...] = field(default_factory=tuple)
    references: tuple[float, ...] = field(default_factory=tuple)
    reference_steps: int | None = None
    control: float | None = None
    bias_mismatch: float | None = None
    interrupted: bool = False
    checks: tuple[Check, ...] = field(default_factory=tuple)
    settings: dict[str, object] = field(default_factory=dict)
    picture: tuple[int, ...] | None = None
    pool: Identified | None = None
    report: Path | None = None
    own_losses: torch.Tensor | None = None
    null_losses: tuple[float, ...] = ()
    simulated: tuple[tuple[float, float], ...] = ()
    training: Training | None = None
    first_layer: str | None = None
    dropped: Dropped | None = None

    @property
    def exit_code(self) -> int:
        return EXIT[self.verdict]

    @property
    def held(self) -> torch.Tensor:
        return torch.tensor([finding.recovered for finding in self.findings], dtype=torch.bool, device="cpu")

    def __repr__(self):
        return f"Audit({self.verdict}: {self.summary})"
