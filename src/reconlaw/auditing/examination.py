"""The attacks of an audit: the one on θ, one that repeats it, those with nothing to find, and one on a known head."""

from __future__ import annotations

import dataclasses
import math

import torch

from ..attack.reconstruct import reconstruct
from ..attack.result import Flag, Result, Status
from ..attack.span import applies
from ..attack.subspace import subspace
from ..features.budget import within
from ..features.gram import StepError, as_step
from ..inputs import Sphere
from ..matching import match
from .errors import AuditError
from .evidence import INPUTS, guesses, random_theta, standard_errors
from .outcome import Audit

# Shares of the budget: the attack, all references together, and its repetition or the control.
_ATTACK, _REFERENCES, _AGAIN = 0.4, 0.2, 0.3
# What is asked of the candidates may take this share of it.
AFTER = 0.05
# References, repetition and control may take as many steps as the attack took, or so many where it was quick.
_LEAST_STEPS = 300
# Times the attack's own steps that its repetition may take: random starts need more than spectral ones.
_MORE = 10
# The repetition's seed is this much further.
_OTHER_SEED = 1_000_003
_NEEDLESS = (Flag.SPARE, Flag.DUPLICATE)


def attack(pair, theta, n, seed, limits, progress=False, start="spectral") -> Result:
    """Samples whose features span θ: one by one where the rank allows it, else all together.

    From ``start="spectral"`` two seeds take the same road; from "random" they do not.
    """
    options = {"seed": seed, "tol": pair.tolerance, "progress": progress, "inputs": pair.domain}
    if n is None or applies(subspace(theta, n, pair.tolerance), n):
        try:
            found = reconstruct(theta, pair.features, n, "span", **options, **limits)
            if found.converged or found.status is Status.INTERRUPTED:
                return found
        except (RuntimeError, ValueError):
            if n is None:
                raise
    return reconstruct(theta, pair.features, n, start=start, **options, **limits)


def estimate(pair, spending, seed, progress, say) -> Result:
    """An attack that finds n, too.

    Raises:
        AuditError: n could not be estimated.
    """
    say("n is not given: estimating it")
    refusal = "n could not be estimated for this model; pass n, the number of samples the head was fine-tuned on"
    limits = spending.share(_ATTACK)
    try:
        if isinstance(pair.domain, Sphere):
            options = {"seed": seed, "tol": pair.tolerance, "progress": progress}
            result = reconstruct(pair.theta, pair.features, None, "sparse", **options, **limits)
        else:
            result = attack(pair, pair.theta, None, seed, limits, progress)
    except (RuntimeError, ValueError) as error:
        raise AuditError(f"{refusal} ({error})") from error
    if result.status is Status.INTERRUPTED:
        raise KeyboardInterrupt  # without n there is nothing to report
    if not result.converged:
        raise AuditError(f"{refusal} ({result.message})")
    return result


def needed(result: Result) -> torch.Tensor:
    """(n,) bool: the candidates without those that θ is explained as well without."""
    return torch.tensor([flag not in _NEEDLESS for flag in result.flags] or [True] * len(result.X), dtype=torch.bool)


def _kept(result: Result) -> Result:
    kept = needed(result)
    if bool(kept.all()):
        return result
    rows = kept.to(result.X.device)
    return dataclasses.replace(
        result,
        X=result.X[rows],
        coefficients=result.coefficients[rows.to(result.coefficients.device)],
        latent=None if result.latent is None else result.latent[rows],
        standard_errors=None if result.standard_errors is None else result.standard_errors[kept],
        flags=tuple(flag for flag, keep in zip(result.flags, kept.tolist(), strict=True) if keep),
    )


def examine(made: Audit, pair, n, result, spending, references, seed, progress, say):
    """Attack θ, and ask what its outcome is worth; all of it is written into ``made``. Returns the second attack."""
    made.guesses = guesses(pair, n, seed, spending.timer(AFTER))
    if result is None:
        say("attack: looking for the samples")
        result = attack(pair, pair.theta, n, seed, spending.share(_ATTACK), progress)
    made.interrupted = result.status is Status.INTERRUPTED
    made.result = result = _kept(result)
    made.candidates = result.X * pair.scale
    if result.loss <= pair.tolerance:
        try:
            with as_step(), within(spending.deadline(AFTER)):
                made.standard_errors = standard_errors(pair, result)
        except StepError as error:
            say(f"the standard errors could not be computed ({error})")
        except KeyboardInterrupt:
            made.interrupted = True
    alpha = result.coefficients.reshape(len(result.X), -1).cpu() @ pair.turn.T
    if pair.bias_change is not None and float(pair.bias_change.norm()) > 0:
        made.bias_mismatch = float((alpha.sum(0) - pair.bias_change).norm() / pair.bias_change.norm())
    if made.interrupted:
        return None
    # The same work for all, in steps of n samples; those of "sparse" are of one.
    taken = max(_LEAST_STEPS, result.steps / (n if result.method == "sparse" else 1))
    made.reference_steps = spending.share(_REFERENCES / references, taken)["max_steps"]
    second = None

    def refer(k):
        say(f"reference {k + 1} of {references}: the same attack where there is nothing to find")
        theta, _ = random_theta(pair, n, INPUTS * n, seed + k)
        blank = attack(pair, theta, n, seed, spending.share(_REFERENCES / references, taken))
        if blank.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        made.references.append(blank.loss)

    try:
        refer(0)
        # What earlier parts left over goes to these two, the other references' share aside.
        limits = spending.share(_AGAIN, _MORE * taken, _REFERENCES * (1 - 1 / references))
        if result.loss <= pair.tolerance:
            say("repetition: the same attack from other starts")
            second = _kept(attack(pair, pair.theta, len(result.X), seed + _OTHER_SEED, limits, start="random"))
            if second.status is Status.INTERRUPTED:
                raise KeyboardInterrupt
            made.second_loss = second.loss
        elif not spending.spent:
            say("control: the same attack on a head that the audit trains itself")
            theta, Z = random_theta(pair, n, n, seed + references)
            test = attack(pair, theta, n, seed, limits)
            if test.status is Status.INTERRUPTED:
                raise KeyboardInterrupt
            found = match(test.X, Z.to(test.X))
            made.control = float(found.recovered_up_to_sign().double().mean())
        for k in range(1, references):
            if not spending.spent:
                refer(k)
    except KeyboardInterrupt:
        made.interrupted = True
    return second


def distances(result: Result, second: Result | None, parity: str) -> list[float | None]:
    """How far each candidate is from the nearest of a second attack, relative; up to sign where that is not told."""
    if second is None:
        return [None] * len(result.X)
    X, Y = result.X.double().cpu(), second.X.double().cpu()
    far = torch.cdist(X, Y)
    if parity != "mixed":
        far = torch.minimum(far, torch.cdist(X, -Y))
    return (far.amin(1) / X.norm(dim=1).clamp_min(math.ulp(0.0))).tolist()
