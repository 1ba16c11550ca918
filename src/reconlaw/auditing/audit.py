r"""Does a fine-tuned head give its training data away? An audit of a checkpoint pair, before and after.

θ = head after − head before is all that the attack sees, beside the body as a feature map: with the body frozen,
gradient descent adds to every row of the head a combination of the samples' features, θ = AᵀΦ(X), so that the law
applies. How sure an outcome is, is judged without the truth, by what the same attack attains on a θ that no n samples
made, and by how far the equations hold each sample in place.

The audit stands on both sides of the threat model: what it hands to :func:`reconlaw.reconstruct` is θ, the feature map
and n, and nothing else; scores are taken of samples that it drew itself, as a test of the attack's power.
"""

from __future__ import annotations

import math
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import torch

from .._checks import check_count, check_positive
from .._files import usable_path
from ..attack.reconstruct import reconstruct
from ..attack.result import Result, Status
from ..attack.run import wall_clock
from ..features.budget import Budget, within
from ..features.gram import StepError, as_step
from ..matching import match
from .change import MOST_MOVED, HeadChange
from .checkpoints import matched_pair, read_state
from .checks import Check, as_power, check_body, check_change, check_counts
from .errors import AuditError
from .evidence import INPUTS, guesses, prune, random_theta, standard_errors
from .head import changed_tensors, find_head, head_layer

# Verdicts, and the exit status of ``python -m reconlaw audit``; 2 is for arguments and files that do not serve.
EXIT = {"unchanged": 0, "not determined": 0, "recovered": 1, "partial": 3, "inconclusive": 3}

# Shares of the budget: the attack, all references together, the control.
_ATTACK, _REFERENCES, _CONTROL = 0.5, 0.3, 0.2
# What is asked of the candidates, whether all are needed and how sure they are, may add this share of it each.
_AFTER = 0.05
# References and control may take as many steps as the attack took, or so many where it was quick.
_LEAST_STEPS = 300
# A loss counts as beyond a reference where it is this much below the lowest of them.
_BEYOND = 1e-3
# A sample is held in place where its standard error is below this, relative to its norm.
_HELD = 0.1


@dataclass(eq=False)
class Audit:
    r"""How an audit ended.

    Attributes:
        verdict: "recovered", "partial" (θ is explained far better than chance would, not down to its rounding),
            "inconclusive" (data could be there, this attack did not find them), "not determined" (fewer equations
            than unknowns) or "unchanged".
        summary: the verdict in words.
        exit_code: 1 where data came back, 0 where none can, 3 else.
        d, p, n, outputs: of an input, of the features, samples (None until known), and of the head.
        moved: how far the features of random inputs moved between the checkpoints, relative to their norm.
        X: (k, d) recovered samples of norm √d (before ``norm``), the candidates that are ``held``; None unless the
            verdict is "recovered".
        candidates: (m, d) where the attack ended, whatever the verdict, without those that θ does not need (m ≤ n);
            None where it did not run.
        standard_errors: (m,) of the candidates, relative to their norm; None where they were not computed.
        held: bool for each candidate, whether its standard error is below a tenth; all true where none were computed.
        result: of :func:`reconlaw.reconstruct`, or None.
        ratio: equations for each unknown number of the samples, rank(θ)·p/(d·n), or less where features are
            dependent.
        rank: numerical rank of θ. noise: ‖rounding of θ‖/‖θ‖, by the dtype of the checkpoints.
        tolerance: the loss at which θ counts as explained.
        guesses, references: losses of random candidates, and of the attack on a θ that no n samples made.
        control: share of samples recovered from a θ that the audit made itself, or None where not needed.
        bias_mismatch: ‖Σ_i α_i − Δb‖/‖Δb‖ of the bias, which the attack does not see; None where there is none.
        checks: what was asked of the pair, and the answers.
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
    parity: str = "mixed"
    ratio: float = 0.0
    tolerance: float = 0.0
    X: torch.Tensor | None = None
    candidates: torch.Tensor | None = None
    standard_errors: torch.Tensor | None = None
    held: torch.Tensor | None = None
    result: Result | None = None
    guesses: list[float] = field(default_factory=list)
    references: list[float] = field(default_factory=list)
    reference_steps: int | None = None
    control: float | None = None
    bias_mismatch: float | None = None
    interrupted: bool = False
    checks: list = field(default_factory=list)
    settings: dict = field(default_factory=dict)
    picture: tuple[int, ...] | None = None
    report: object = None

    @property
    def exit_code(self) -> int:
        return EXIT[self.verdict]

    def __repr__(self):
        return f"Audit({self.verdict}: {self.summary})"


@dataclass
class _Budget:
    """What an audit may spend, None without limit."""

    seconds: float | None
    steps: int | None

    def deadline(self, part) -> Budget:
        """A part of its seconds, from now on."""
        if self.seconds is None:
            return Budget(lambda: math.inf)
        end = wall_clock() + part * self.seconds
        return Budget(lambda: end - wall_clock())

    def share(self, part, most=None) -> dict:
        """A part of it as options of :func:`reconlaw.reconstruct`, ``most`` steps at most."""
        steps = [count for count in (None if self.steps is None else part * self.steps, most) if count is not None]
        return {
            "max_seconds": None if self.seconds is None else part * self.seconds,
            "max_steps": math.ceil(min(steps)) if steps else None,
        }

    def __str__(self):
        limits = [] if self.seconds is None else [f"{self.seconds:g} s"]
        limits += [] if self.steps is None else [f"{self.steps:,} steps"]
        return ", ".join(limits) or "none"


def audit(
    before,
    after,
    head=None,
    input_shape=None,
    n=None,
    module=None,
    max_seconds=120.0,
    report="audit.html",
    norm=None,
    image_shape=None,
    references=3,
    seed=0,
    device="auto",
    progress=False,
    max_steps=None,
    state=None,
) -> Audit:
    r"""Audit a checkpoint pair: can the samples that the head was fine-tuned on be read back out of its change?

    Args:
        before: checkpoint from before the fine-tuning: a path (torch.save of a state_dict or of more, ``.safetensors``,
            an index of shards, or a folder), a state dictionary, or a module.
        after: the one from after it; what it lacks, as a file of the head alone does, is taken to be as before.
        head: name of the fine-tuned ``torch.nn.Linear``; None for the linear layer that changed, or of several the
            usual last one ("fc", "classifier", "head", …).
        input_shape: of one input of the model, such as (3, 32, 32).
        n: number of samples it was fine-tuned on; None to have it estimated, where that works.
        module: the architecture, a ``torch.nn.Module``; not needed where ``before`` is one.
        max_seconds: budget of attack, references and control together; None for no limit.
        report: where to write the HTML report; None for none. It replaces an earlier report, and nothing else; a
            symbolic link is followed.
        norm: ‖x‖ of the inputs that the model was trained on; √d where None. It matters for bodies with biases.
        image_shape: (H, W), (H, W, 3) or (3, H, W), where ``input_shape`` does not tell how to draw an input.
        references: how many attacks on a θ that holds no n samples to compare with, at least 1.
        seed: of the attack, references and control.
        device: "auto" (CUDA where there is any, else the CPU) or any torch device.
        progress: say on stderr what is being done.
        max_steps: the same budget in steps, as of :func:`reconlaw.reconstruct`; None for no limit. With
            ``max_seconds=None`` the outcome does not depend on the speed of the machine.
        state: where in the files the state dictionary is, such as "state_dict_ema"; None for the usual places.

    Returns:
        :class:`Audit`. Ctrl-C ends the attack early, and the report tells of the best so far.

    Raises:
        AuditError: a file, key, shape, dtype or layer that does not serve; the message names it.
        ValueError, TypeError: what is wrong with another argument, or with the body.
    """
    budget = _Budget(
        None if max_seconds is None else check_positive("max_seconds", max_seconds),
        None if max_steps is None else check_count("max_steps", max_steps),
    )
    references = check_count("references", references)
    n = None if n is None else check_count("n", n)
    if module is None:
        module = before if isinstance(before, torch.nn.Module) else after
    if not isinstance(module, torch.nn.Module):
        raise AuditError("a state_dict holds no architecture: pass module=, a torch.nn.Module that the keys belong to")
    if input_shape is None:
        raise AuditError("input_shape is missing: pass the shape of one input, such as (3, 32, 32)")
    states = matched_pair(read_state(before, "before", state), read_state(after, "after", state), module)
    changed = changed_tensors(*states)
    head = find_head(module, changed) if head is None else head
    head_layer(module, head)
    if report is not None:
        from .report import is_report

        report = usable_path("report", report, AuditError, is_report)
    pair = HeadChange(*states, module, head, input_shape, norm, device)
    picture = _picture_shape(image_shape, pair.features)
    say = (lambda text: print(text, file=sys.stderr, flush=True)) if progress else (lambda text: None)
    made = _examine(pair, n, picture, budget, references, seed, progress, say)
    names = [Path(x).name if isinstance(x, str | Path) else type(x).__name__ for x in (before, after)]
    made.settings = {
        "before": names[0],
        "after": names[1],
        "model": type(module).__name__,
        "head": head,
        "input shape": " × ".join(map(str, pair.features.input_shape)),
        "n": "estimated" if n is None else n,
        "norm of an input": f"{pair.norm:.4g}" + (" (√d)" if norm is None else ""),
        "budget": str(budget),
        "seed": seed,
    }
    if report is not None:
        from .report import write

        try:
            made.report = write(made, report)
            say(f"report: {made.report}")
        except OSError as error:  # a full disk must not cost the audit
            warnings.warn(f"the report was not written to {report}: {error}", RuntimeWarning, stacklevel=2)
    return made


def _picture_shape(image_shape, features):
    """(H, W) or (H, W, 3) or (3, H, W) to draw an input by, or None."""
    shape = features.input_shape if image_shape is None else tuple(image_shape)
    if math.prod(shape) != features.d:
        raise AuditError(f"image_shape={shape} has {math.prod(shape)} numbers; an input has {features.d}")
    if len(shape) == 3 and 1 in (shape[0], shape[2]):
        shape = shape[1:] if shape[0] == 1 else shape[:2]
    if len(shape) == 2 and min(shape) > 1 or len(shape) == 3 and 3 in (shape[0], shape[2]):
        return shape
    if image_shape is not None:
        raise AuditError(f"image_shape={shape} is no picture; pass (H, W), (H, W, 3) or (3, H, W)")
    return None


def _examine(pair, n, picture, budget, references, seed, progress, say) -> Audit:
    features = pair.features
    K, p = pair.change.shape
    made = Audit(
        "unchanged",
        "The head's weights are the same in both checkpoints. Nothing was learned by them, so nothing can be read out "
        "of them.",
        *(features.d, p, n, K, pair.rank, pair.noise, pair.moved),
        parity=features.parity,
        tolerance=pair.tolerance,
        picture=picture,
    )
    check_body(made, pair)
    if pair.size == 0:
        made.checks.append(Check("Did the head's weights change?", "No, not in one digit.", "shut"))
        return made
    if pair.rank == 0:
        made.verdict, made.summary = (
            "inconclusive",
            (
                f"The head's change is no larger than the rounding of {pair.dtype} numbers. Nothing can be read out "
                "of these files; files with more digits might tell more."
            ),
        )
        return made
    check_change(made, pair)
    if n is None:
        result = _estimate(pair, budget.share(_ATTACK), seed, progress, say)
        n = made.n = len(result.X)
    else:
        result = None
    counted = pair.count(n)
    made.ratio = counted.equations / (features.d * n)
    if not check_counts(made, pair, n):
        made.verdict, made.summary = (
            "not determined",
            (
                f"The change of this head holds {counted.equations:,} numbers, and {n} inputs of dimension "
                f"{features.d} are {counted.unknowns:,} unknowns. Endlessly many other sets of {n} inputs explain it "
                "equally well, so by itself it does not name the training data, whatever the method. No pictures "
                "are shown, since any would be made up."
            ),
        )
        return made
    _attack(made, pair, n, result, budget, references, seed, progress, say)
    _judge(made, pair)
    return made


def _estimate(pair, limits, seed, progress, say):
    say("n is not given: estimating it")
    refusal = "n could not be estimated for this model; pass n, the number of samples the head was fine-tuned on"
    try:
        result = reconstruct(
            pair.theta, pair.features, None, "sparse", seed, tol=pair.tolerance, progress=progress, **limits
        )
    except (RuntimeError, ValueError) as error:
        raise AuditError(f"{refusal} ({error})") from error
    if result.status is Status.INTERRUPTED:
        raise KeyboardInterrupt  # without n there is nothing to report
    if not result.converged:
        raise AuditError(f"{refusal} ({result.message})")
    return result


def _attack(made, pair, n, result, budget, references, seed, progress, say):
    features, tol = pair.features, pair.tolerance
    made.guesses = guesses(pair, n, seed)
    if result is None:
        say("attack: looking for the samples")
        result = reconstruct(pair.theta, features, n, seed=seed, tol=tol, progress=progress, **budget.share(_ATTACK))
    made.interrupted = result.status is Status.INTERRUPTED
    if not made.interrupted and not pair.changed:
        say("check: are all of them needed?")
        try:
            with within(budget.deadline(_AFTER)):
                result = prune(pair, result)
        except KeyboardInterrupt:
            made.interrupted = True
    made.result, made.candidates = result, result.X
    try:
        with as_step(), within(budget.deadline(_AFTER)):
            made.standard_errors = standard_errors(pair, result)
    except StepError as error:
        say(f"the standard errors could not be computed ({error})")
    errors = made.standard_errors
    made.held = torch.ones(len(result.X), dtype=torch.bool, device="cpu") if errors is None else errors < _HELD
    alpha = result.coefficients.reshape(len(result.X), -1).cpu() @ pair.turn.T
    if pair.bias_change is not None and float(pair.bias_change.norm()) > 0:
        made.bias_mismatch = float((alpha.sum(0) - pair.bias_change).norm() / pair.bias_change.norm())
    if made.interrupted:
        return
    # The same work for all, in steps of n samples; those of "sparse" are of one.
    taken = max(_LEAST_STEPS, result.steps / (n if result.method == "sparse" else 1))
    limits = budget.share(_REFERENCES / references, taken)
    made.reference_steps = limits["max_steps"]
    try:
        for k in range(references):
            say(f"reference {k + 1} of {references}: the same attack where there is nothing to find")
            theta, _ = random_theta(pair, n, INPUTS * n, seed + k)
            blank = reconstruct(theta, features, n, seed=seed, tol=tol, progress=progress, **limits)
            if blank.status is Status.INTERRUPTED:
                raise KeyboardInterrupt
            made.references.append(blank.loss)
        if result.loss > tol:
            say("control: the same attack on a head that the audit trains itself")
            theta, Z = random_theta(pair, n, n, seed + references)
            limits = budget.share(_CONTROL, taken)
            test = reconstruct(theta, features, n, seed=seed, tol=tol, progress=progress, **limits)
            if test.status is not Status.INTERRUPTED:
                found = match(test.X, Z)
                made.control = float(found.recovered_up_to_sign().double().mean())
    except KeyboardInterrupt:
        made.interrupted = True


def _judge(made, pair):
    n, loss, tol = made.n, made.result.loss, pair.tolerance
    lowest = min(made.references, default=math.nan)
    beyond = bool(made.references) and loss <= _BEYOND * min(made.references + made.guesses)
    usable = beyond and pair.moved <= MOST_MOVED
    found, held = len(made.candidates), int(made.held.sum())
    if loss <= tol and usable and held:
        made.verdict, made.X = "recovered", made.candidates[made.held.to(made.candidates.device)]
        which = f"All {found}" if held == found else f"{held} of {found}"
        what = "inputs" if made.picture is None else "pictures"
        sign = "" if pair.features.parity == "mixed" else ", each up to its sign,"
        how = "read, approximately, out" if pair.changed else "read out"
        made.summary = (
            f"{which} {what}{sign} were {how} of the head's change alone. They explain it to a loss of "
            f"{as_power(loss)}; where there is nothing to find, the same attack ends at {as_power(lowest)} or above."
        )
        if found < n:
            made.summary += f" No more are needed to explain it: there were probably {found} of them, not {n}."
    elif loss <= tol and not made.references:
        made.verdict = "partial"
        made.summary = (
            "The candidates explain the head's change down to its rounding, but the run was interrupted before it "
            "could be compared with attacks that have nothing to find. Run it again to the end before you rely on it."
        )
    elif usable and loss > tol:
        made.verdict = "partial"
        made.summary = (
            f"The head's change is explained to a loss of {as_power(loss)}, far better than where there is nothing "
            f"to find ({as_power(lowest)}), but not down to {as_power(tol)}. Some of the training data may be close to "
            "the candidates; which ones, this audit cannot say. Treat the head as leaking."
        )
    else:
        made.verdict = "inconclusive"
        if usable:
            how = "is low, but each of its candidates could be another one"
        elif beyond:
            how = "is low, but the body changed too much for it to mean anything"
        elif not made.references:
            how = "is not low enough to tell"
        elif loss > 0.1 * lowest:
            how = f"is about what it attains where there is nothing to find ({as_power(lowest)})"
        else:
            how = f"is below what it attains where there is nothing to find ({as_power(lowest)}), but not by far"
        made.summary = (
            f"This attack did not find the training data: its loss of {as_power(loss)} {how}. There are "
            "equations enough to determine the data, so a better attack, more time, or the right n and norm may find "
            "them. This is no proof of safety."
        )
    if made.interrupted:
        made.summary += " (Interrupted: this is the best so far.)"
