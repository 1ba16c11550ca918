r"""Does a fine-tuned head give its training data away? An audit of a checkpoint pair, before and after.

θ = head after − head before is all that the attack sees, beside the body as a feature map: with the body frozen,
gradient descent adds to every row of the head a combination of the samples' features, θ = AᵀΦ(X), so that the law
applies. How sure an outcome is, is judged without the truth, by what the same attack attains on a θ that no n samples
made, and by how far the equations hold each sample in place.

A first layer that was trained along is read first, by the neurons that inputs were silent to
(:mod:`reconlaw.auditing.first_layer`).

The audit stands on both sides of the threat model: what it hands to :func:`reconlaw.reconstruct` is θ, the feature map
and n, and nothing else; scores are taken of samples that it drew itself, as a test of the attack's power.
"""

from __future__ import annotations

import dataclasses
import math
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from numpy.typing import ArrayLike

from .._checks import check_count, check_input_shape, listed
from .._files import usable_path
from .._words import some
from ..features.autograd import prepare
from ..features.budget import within
from ..inputs import Inputs
from .adapters import LowRank, first_moved, holds_adapter, read_config, without_adapter
from .change import HeadChange
from .checkpoints import Source, matched_pair, read_pair
from .checks import Check, check_body, check_change, check_counts, check_layer, check_optimiser, elsewhere, too_far
from .errors import AuditError, NotEstimated
from .examination import AFTER, estimate, examine, needed
from .first_layer import ask_first_layer, convolution_not_read, find_first_layer, read_first_layer
from .given import candidates_from
from .head import SeveralLayers, changed_tensors, chosen_layer, find_head, head_layer, linear_layers
from .judgement import judge, not_determined, unexplained_rank
from .outcome import Audit, Verdict, parts_of
from .output import is_json, write_json
from .pool import SEEN, identify, nobody_named, pool_check, pool_summary
from .pretrained import saved_by_transformers
from .report import is_report, write
from .spending import Spending


def audit(
    before: Source,
    after: Source,
    head: str | None = None,
    input_shape: int | Sequence[int] | None = None,
    n: int | None = None,
    module: torch.nn.Module | None = None,
    max_seconds: float | None = 120.0,
    report: str | os.PathLike | None = "audit.html",
    norm: float | None = None,
    image_shape: Sequence[int] | None = None,
    references: int = 3,
    seed: int = 0,
    device: str | torch.device = "auto",
    progress: bool = False,
    max_steps: int | None = None,
    state: str | None = None,
    inputs: Inputs | None = None,
    candidates: str | os.PathLike | ArrayLike | None = None,
    json: str | os.PathLike | None = None,
    sarif: str | os.PathLike | None = None,
    layer: str | None = None,
    weight_decay: bool | None = None,
    clock: Callable[[], float] | None = None,
) -> Audit:
    r"""Audit a checkpoint pair: can the samples that the head was fine-tuned on be read back out of its change?

    The layer that is attacked need not be the head: ``layer`` names any other, best the first that was trained, since
    what that one saw never moved. A pair of low-rank adapters is audited at the first layer that they adapt. Where a
    layer that sees the inputs themselves was trained along, and a ReLU takes its values, they are looked for there
    first, and the head is attacked where they are not found.

    Args:
        before: checkpoint from before the fine-tuning: a path (torch.save of a state_dict or of more, ``.safetensors``,
            an index of shards, or a folder), a state dictionary, or a module.
        after: the one from after it; what it lacks, as a file of the head alone does, is taken to be as before.
        head: name of the fine-tuned ``torch.nn.Linear``; None for the linear layer that changed, or of several the
            usual last one ("fc", "classifier", "head", …), or where none is called so the model's first layer, if that
            changed and a ReLU takes its values.
        input_shape: of one input of the model, such as (3, 32, 32).
        n: number of samples it was fine-tuned on; None to have it estimated, where that works.
        module: the architecture, a ``torch.nn.Module``; not needed where ``before`` is one.
        max_seconds: budget of attack, references and control together; None for no limit.
        report: where to write the HTML report; None for none. It replaces an earlier report, and nothing else; a
            symbolic link is followed.
        norm: ‖x‖ of the inputs that the model was trained on, where it is one and known: they are then looked for on
            that sphere. None where it is not.
        image_shape: (H, W), (H, W, 3) or (3, H, W), where ``input_shape`` does not tell how to draw an input.
        references: how many attacks on a θ that holds no n samples to compare with, at least 1.
        seed: of the attack, references and control.
        device: "auto" (CUDA where there is any, else the CPU) or any torch device.
        progress: say on stderr what is being done.
        max_steps: the same budget in steps, as of :func:`reconlaw.reconstruct`; None for no limit. With
            ``max_seconds=None`` the outcome does not depend on the speed of the machine.
        state: where in the files the state dictionary is, such as "state_dict_ema"; None for the usual places. Of a
            bare state dictionary beside one that has it, all is taken.
        inputs: where inputs lie as the model sees them, one of :mod:`reconlaw.inputs`, such as a
            :class:`~reconlaw.inputs.Box` of pixels. Without it nothing is assumed: all of space is searched, or the
            sphere of ``norm`` where that is given, or directions where the body is blind to length.
        candidates: a pool to ask which of it was trained on (:mod:`reconlaw.auditing.pool`): a folder of pictures, a
            ``.npz``, ``.npy`` or ``.csv`` file, or an array (m, …) as the model sees them. Far smaller heads name
            members of a pool than give inputs away.
        json: where to write the audit for machines (:mod:`reconlaw.auditing.output` has the schema); None for nowhere.
        sarif: where to write a SARIF 2.1.0 log of it, for code scanning; None for nowhere.
        layer: name of the layer to audit in the place of a head, a ``torch.nn.Linear``, ``Conv1d`` or ``Conv2d`` called
            once for an input: each of its positions (tokens, patches) is a column (:func:`reconlaw.below`). Of a pair
            of LoRA adapters, as PEFT stores them, it is an adapted layer, and ``before`` the adapter at its start.
        weight_decay: True where the layer was trained with it and that does not show in the change by itself: its old
            rows then stand beside the samples (:func:`reconlaw.apart`). None to look whether it shows, False for none.
        clock: gives the seconds of ``max_seconds``, as of :func:`reconlaw.reconstruct`; a clock of the wall where None.

    Returns:
        :class:`Audit`. Ctrl-C ends the attack early, and the report tells of the best so far.

    Raises:
        AuditError: a file, key, shape, dtype or layer that does not serve; the message names it.
        ValueError, TypeError: what is wrong with another argument, or with the body.
    """
    if inputs is not None and not isinstance(inputs, Inputs):
        raise AuditError(f"inputs is a {type(inputs).__name__}; pass one of reconlaw.inputs, such as Box(0.0, 1.0)")
    references = check_count("references", references)
    n = None if n is None else check_count("n", n)
    if module is None:
        module = next((one for one in (before, after) if isinstance(one, torch.nn.Module)), None)
    if not isinstance(module, torch.nn.Module):
        raise AuditError("a state_dict holds no architecture: pass module=, a torch.nn.Module that the keys belong to")
    if isinstance(module, torch.jit.ScriptModule):
        raise AuditError("module is scripted, and its layers cannot be observed: pass the module it was made from")
    if input_shape is None:
        raise AuditError("input_shape is missing: pass the shape of one input, such as (3, 32, 32)")
    if head is not None and layer is not None:
        raise AuditError(f"head={head!r} and layer={layer!r}: pass one of the two")
    prepare()
    spending = Spending(max_seconds, max_steps, clock)
    old, new = read_pair(*saved_by_transformers(before, after, module), state)
    adapted: dict[str, LowRank] = {}
    if (holds_adapter(old) or holds_adapter(new)) and not holds_adapter(module.state_dict()):
        old, new, adapted = without_adapter(old, new, module, read_config(after) or read_config(before))
        named = layer or head
        if named is None or named in adapted:
            layer, head = named or first_moved(adapted), None
        elif not {f"{named}.weight", f"{named}.bias"} & set(changed_tensors(old, new)):  # nor trained beside them
            raise AuditError(f"layer={named!r} is not adapted; the adapters are of {some(adapted)}")
    states = matched_pair(old, new, module)
    changed = changed_tensors(*states)
    undecided: SeveralLayers | None = None
    if layer is not None:
        chosen_layer(module, layer)
        head = layer
    else:
        try:
            head = find_head(module, changed) if head is None else head
        except SeveralLayers as error:  # it is decided where one of them is the model's first layer
            undecided, head = error, error.names[0]
        head_layer(module, head)
    if isinstance(report, str | os.PathLike):  # anything else is refused below
        if os.path.splitext(os.fsdecode(report))[1].lower() in (".json", ".sarif"):
            raise AuditError(f"report={str(report)!r}: a report is HTML; pass json= or sarif= for machines")
    page = None if report is None else usable_path("report", report, AuditError, is_report)
    machine = {
        name: usable_path(name, path, AuditError, is_json)
        for name, path in (("json", json), ("sarif", sarif))
        if path is not None
    }
    low_rank = adapted.get(head)
    factor = None if low_rank is None else low_rank.A

    def pair_of(name):
        return HeadChange(*states, module, name, input_shape, norm, device, inputs, weight_decay, factor)

    if undecided is None:
        pair = pair_of(head)
    else:
        pair = _first_layers_pair(undecided, module, states, math.prod(check_input_shape(input_shape)), pair_of)
        head = pair.head
    features, picture = pair.features, _picture_shape(image_shape, pair)
    pool = None if candidates is None else candidates_from(candidates, input_shape, inputs)
    how = (n, spending, references, seed, progress, "inputs" if picture is None else "pictures")
    asked = _Asked(pair, module, states, changed, pool, *how, low_rank=low_rank, undecided=undecided)
    facts = {
        "d": features.d,
        "p": features.p,
        "n": n,
        "outputs": len(pair.change),
        **{name: getattr(pair, name) for name in ("rank", "noise", "moved", "tolerance")},
        "parity": features.parity,
        "changed": changed,
        "picture": picture,
    }
    names = [Path(x).name if isinstance(x, str | Path) else type(x).__name__ for x in (before, after)]
    settings = {
        "before": names[0],
        "after": names[1],
        "model": type(module).__name__,
        "head" if layer is None else "layer": head,
        "input shape": " × ".join(map(str, pair.input_shape)),
        "n": "estimated" if n is None else n,
        "inputs": pair.where,
        "budget": str(spending),
        "seed": seed,
    }
    made = Audit(**{**facts, **_answer(asked)}, settings=settings, report=page)
    if page is not None:
        try:
            write(made, page)
            asked.say(f"report: {page}")
        except OSError as error:  # a full disk must not cost the audit
            warnings.warn(f"the report was not written to {page}: {error}", RuntimeWarning, stacklevel=2)
            made = dataclasses.replace(made, report=None)
    for name, path in machine.items():
        try:
            write_json(made, path, name == "sarif")
        except OSError as error:
            warnings.warn(f"the {name} was not written to {path}: {error}", RuntimeWarning, stacklevel=2)
    return made


def _first_layers_pair(undecided: SeveralLayers, module, states, d: int, pair_of) -> HeadChange:
    """The pair of the one of several layers that is the model's first, and that a ReLU follows.

    Raises:
        SeveralLayers: none of them is.
    """
    for name in undecided.names:
        if linear_layers(module)[name].in_features == d:
            pair = pair_of(name)
            first = find_first_layer(pair, module, states)
            if first is not None and first.name == name and first.gated and first.transform.nothing:
                return pair
    raise undecided


def _picture_shape(image_shape, pair):
    """(H, W) or (H, W, 3) or (3, H, W) to draw an input by, or None."""
    shape = pair.input_shape
    if image_shape is not None:
        shape = tuple(check_count("image_shape", side) for side in listed("image_shape", image_shape))
    if math.prod(shape) != pair.features.d:
        raise AuditError(f"image_shape={shape} has {math.prod(shape)} numbers; an input has {pair.features.d}")
    if len(shape) == 3 and 1 in (shape[0], shape[2]):
        shape = shape[1:] if shape[0] == 1 else shape[:2]
    if len(shape) == 2 and min(shape) > 1 or len(shape) == 3 and 3 in (shape[0], shape[2]):
        return shape
    if image_shape is not None:
        raise AuditError(f"image_shape={shape} is no picture; pass (H, W), (H, W, 3) or (3, H, W)")
    return None


@dataclass(frozen=True)
class _Asked:
    """A pair to audit, with all that was said of it."""

    pair: HeadChange
    module: torch.nn.Module
    states: tuple[dict, dict]
    changed: dict[str, float]
    pool: tuple[torch.Tensor, tuple[str, ...]] | None
    n: int | None
    spending: Spending
    references: int
    seed: int
    progress: bool
    what: str
    low_rank: LowRank | None = None
    undecided: SeveralLayers | None = None

    def say(self, text: str) -> None:
        """Tell people at the keyboard what is being done."""
        if self.progress:
            print(text, file=sys.stderr, flush=True)


def _answer(asked: _Asked) -> dict:
    """What came out, as arguments of :class:`Audit`."""
    pair, changed = asked.pair, asked.changed
    if not changed:
        said = (
            "No tensor of the model differs between the two checkpoints: nothing was learned, so nothing can be read "
            "out of their difference."
        )
        same = Check("Did any tensor change?", "No, not in one digit.", "shut")
        return {**parts_of(Verdict("unchanged", said)), "checks": (same,)}
    first, told, pool = find_first_layer(pair, asked.module, asked.states), None, None
    saw: tuple[Check, ...] = ()
    if asked.undecided is not None:
        saw = (_which_layer(pair.head, asked.undecided.names),)
    if first is not None:
        pool, told_of_pool = _first_layers_pool(asked, first)
        saw += (*first.seen(), *told_of_pool)
        how = (asked.n, asked.spending, asked.seed, asked.what, asked.say)
        read = read_first_layer(first, pair, asked.states, *how)
        named = None if pool is None or asked.pool is None or not bool(pool.named.any()) else asked.pool[0][pool.named]
        if isinstance(read, dict) and (read["verdict"] == "recovered" or named is None):
            every = (*check_body(pair, changed, *read["checks"]), *saw)
            beside = {} if pool is None else {"pool": pool, "summary": _with_pool(read["summary"], pool)}
            return read | beside | {"checks": every}
        told = first.check(read if isinstance(read, str) else read["summary"])
        if named is not None:
            made = Verdict("recovered", pool_summary(pool), X=named)
            return {**parts_of(made), "pool": pool, "checks": (*check_body(pair, changed, told), *saw)}
    else:
        saw += convolution_not_read(asked.module, changed)
    checks = [*check_body(pair, changed, told), *saw]
    if pair.rank:
        checks = [*checks, *check_change(pair), *check_layer(pair, asked.low_rank), *check_optimiser(pair)]
    if not pair.size:
        said = elsewhere(pair, asked.module, changed)
    elif not pair.rank:
        said = (
            f"The head's change is no larger than the rounding of {pair.dtype} numbers. Nothing can be read out "
            "of these files; files with more digits might tell more."
        )
    elif pair.too_far:
        said = too_far(pair, asked.module, changed, told)
    else:
        try:
            if first is not None and first.name == pair.head:
                asked = dataclasses.replace(asked, pool=None)  # it was asked of that layer, or cannot be
                answer = _attacked(asked, checks)
                said = answer["summary"] if pool is None else f"{nobody_named(pool)} {answer['summary']}"
                return {**answer, "pool": pool, "summary": said}
            return _searched(asked, checks)
        except NotEstimated as error:
            if told is None:
                raise
            seen = told.answer.removeprefix("Yes. ")
            said = f"The first trained layer holds its inputs, but this did not read them off. {seen} {error}."
    if pool is not None:
        said = _with_pool(said, pool)
    return {**parts_of(Verdict("inconclusive", said)), "pool": pool, "checks": tuple(checks)}


def _which_layer(head: str, names: list[str]) -> Check:
    """Which of several layers was audited, and what to pass for another."""
    answer = (
        f"{head!r}, the model's first. Several linear layers changed ({some(names)}), and none has a usual name; "
        f"head={names[-1]!r} audits the last of them."
    )
    return Check("Which layer was audited?", answer)


def _first_layers_pool(asked: _Asked, first):
    """Which candidates the first layer saw, where it can be told, and the line of the audit on it."""
    if asked.pool is None:
        return None, ()
    asked.say(f"candidates: which of them lie in the span of the change of {first.name!r}?")
    try:
        found = ask_first_layer(first, asked.pair, asked.states, asked.n, asked.pool, asked.seed)
    except AuditError as error:
        return None, (Check(SEEN, f"They were not asked of {first.name!r}: {error}."),)
    return found, (pool_check(found),)


def _with_pool(summary: str, pool) -> str:
    """The summary, and what became of the pool."""
    return f"{pool_summary(pool)} {summary}" if bool(pool.named.any()) else f"{summary} {nobody_named(pool)}"


def _searched(asked: _Asked, checks) -> dict:
    """The same, of a head that moved on a body that hardly did: from the pool, else by the attack."""
    if asked.pool is None:
        return _attacked(asked, checks)
    asked.say("candidates: which of them lie in the span of the head's change?")
    X, names = asked.pool
    few = asked.n is not None and not asked.pair.moved and unexplained_rank(asked.pair, asked.n)
    found = identify(asked.pair, X, names, None if few else asked.n, asked.seed)
    made = {"pool": found, "checks": (*checks, pool_check(found))}
    if not bool(found.named.any()):
        answer = _attacked(asked, made["checks"])
        return {**made, **answer, "summary": f"{nobody_named(found)} {answer['summary']}"}
    moved = bool(asked.pair.changed)
    verdict = Verdict("close" if moved else "recovered", pool_summary(found), X=None if moved else X[found.named])
    return {**made, **parts_of(verdict)}


def _attacked(asked: _Asked, checks) -> dict:
    """What came out of the attack, as arguments of :class:`Audit`."""
    pair, n, result = asked.pair, asked.n, None
    if n is None:
        result = estimate(pair, asked.spending, asked.seed, asked.progress, asked.say)
        n = int(needed(result).sum())
    with within(asked.spending.deadline(AFTER)):
        counted = pair.count(n)
    ratio = counted.equations / (pair.features.d * n)
    made = {"n": n, "ratio": ratio, "checks": (*checks, *check_counts(pair, n, counted, ratio))}
    room = pair.features.p > n * pair.features.positions
    determined = counted.enough and room
    if not determined and not (pair.bounded and room):
        return {**made, **parts_of(not_determined(pair, n, counted))}
    how = (asked.spending, asked.references, asked.seed, asked.progress, asked.say)
    examined = examine(pair, n, result, *how)
    verdict = judge(examined, pair, n, asked.what)
    if not determined and verdict.verdict != "recovered":
        verdict = dataclasses.replace(not_determined(pair, n, counted), findings=verdict.findings)
    parts = parts_of(examined)
    second = parts.pop("second")
    return {**made, **parts, "second_loss": None if second is None else second.loss, **parts_of(verdict)}
