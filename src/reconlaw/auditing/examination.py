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
from ..sphere import distances
from .decay import factor_and_misfit
from .dropped import dropped, share_of
from .errors import NotEstimated
from .evidence import INPUTS, guesses, own, random_theta, reordered, standard_errors
from .nulls import LEAST
from .outcome import Examined
from .precision import training_of
from .simulation import errors, simulate

# Shares of the budget: the attack, all references together, and its repetition or the control.
_ATTACK, _REFERENCES, _AGAIN = 0.4, 0.2, 0.3
# Heads with dropout may take this share of it.
_DROPPED = 0.1
# What is asked of the candidates may take this share of it.
AFTER = 0.05
# References, repetition and control may take as many steps as the attack took, or so many where it was quick.
_LEAST_STEPS = 300
# Times the attack's own steps that its repetition may take: random starts need more than spectral ones.
_MORE = 10
# The repetition's seed is this much further.
OTHER_SEED = 1_000_003
# Times as many references where only some candidates lie below all that they found.
_MOST = 4
_NEEDLESS = (Flag.SPARE, Flag.DUPLICATE)


def attack(pair, theta, n, seed, limits, progress=False, start="spectral") -> Result:
    """Samples whose features span θ: one by one where the rank allows it, else all together.

    From ``start="spectral"`` two seeds take the same road; from "random" they do not.
    """
    options = {"seed": seed, "tol": pair.tolerance, "progress": progress, "inputs": pair.domain}
    columns = None if n is None else n * pair.features.positions
    if n is None or applies(subspace(theta, columns, pair.tolerance), columns):
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
        NotEstimated: n could not be estimated.
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
        raise NotEstimated(f"{refusal} ({error})") from error
    if result.status is Status.INTERRUPTED:
        raise KeyboardInterrupt  # without n there is nothing to report
    if not result.converged:
        raise NotEstimated(f"{refusal} ({result.message})")
    return result


def needed(result: Result) -> torch.Tensor:
    """(n,) bool: the candidates without those that θ is explained as well without."""
    found = [flag not in _NEEDLESS for flag in result.flags] or [True] * len(result.X)
    return torch.tensor(found, dtype=torch.bool, device="cpu")


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


def _errors(pair, result: Result, training, spending, say) -> torch.Tensor | None:
    """The standard errors, where the head's change is explained and the time suffices."""
    if result.loss > pair.tolerance:
        return None
    try:
        with as_step(), within(spending.deadline(AFTER)):
            return standard_errors(pair, result, None if training is None else training.theta)
    except StepError as error:
        say(f"the standard errors could not be computed ({error})")
        return None


def _bias_mismatch(pair, result: Result) -> float | None:
    if pair.bias_change is None or not bool(pair.bias_change.any()):
        return None
    moved = result.coefficients.reshape(-1, len(pair.theta)).sum(0).cpu() @ pair.turn.cpu().T
    wanted, factor = [pair.bias_change], pair.decay.factor
    if pair.decay.beside:
        factor = factor_and_misfit(pair, result)[0]
    if factor is not None:  # recipes differ in whether they decay biases, too
        wanted.append(pair.bias_change - (factor - 1) * pair.old_bias)
    return min(float((moved - one).norm() / max(float(one.norm()), 1e-300)) for one in wanted)


def _uninterrupted(result: Result) -> Result:
    if result.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    return result


def _few(own: torch.Tensor, nulls: list[float]) -> bool:
    """Whether more nulls would let those candidates pass that lie below all of them."""
    below = int((own < min(nulls)).sum())
    return below > 0 and len(nulls) * below < LEAST * len(own)


def examine(pair, n: int, result: Result | None, spending, references, seed, progress, say) -> Examined:
    """Attack θ, unless that gave ``result`` already, and ask what its outcome is worth."""
    losses = tuple(guesses(pair, n, seed, spending.timer(AFTER)))
    if result is None:
        say("attack: looking for the samples")
        result = attack(pair, pair.theta, n, seed, spending.share(_ATTACK), progress)
    result = _kept(result)
    training = training_of(pair, result)
    if pair.coarse:  # a loss that no precision foretells is not explained by one
        pair.tolerance = pair.stored_tolerance if training is None else training.tolerance
    held, interrupted = None, result.status is Status.INTERRUPTED
    try:
        held = _errors(pair, result, training, spending, say)
    except KeyboardInterrupt:
        interrupted = True
    found = own(pair, pair.theta, result)
    first = Examined(result, result.X * pair.scale, found, None, held, _bias_mismatch(pair, result), losses)
    first = dataclasses.replace(first, training=training, tolerance=pair.tolerance)
    if interrupted:
        return dataclasses.replace(first, interrupted=True)
    masks = None
    if result.loss > pair.tolerance and training is None:
        say("dropout: heads that it makes of the candidates")
        masks = dropped(pair, result, seed, spending.timer(_DROPPED))
    # The same work for all, in steps of n samples; those of "sparse" are of one.
    taken = max(_LEAST_STEPS, result.steps / (n if result.method == "sparse" else 1))
    blank: list[float] = []
    nulls: list[float] = []
    off: list[tuple[float, float]] = []
    second, control = None, None
    shares: list[float] = []
    references = max(references, math.ceil(LEAST / n))

    def refer(k):
        say(f"reference {k + 1} of {references}: the same attack where there is nothing to find")
        theta = reordered(pair, seed + k) if k % 2 else random_theta(pair, n, INPUTS * n, seed + k)[0]
        limits = spending.share(_REFERENCES / references, taken)
        wrong = _kept(_uninterrupted(attack(pair, theta, n, seed, limits)))
        found = own(pair, theta, wrong).tolist()
        nulls.extend(found)
        if min(found) < 1:  # else free numbers explain this θ, and its loss is no yardstick
            blank.append(wrong.loss)
        if masks is not None and not k % 2:  # in another order features are noise to those of any input
            shares.append(share_of(pair, theta, wrong, seed))

    steps = spending.share(_REFERENCES / references, taken)["max_steps"]
    try:
        refer(0)
        # What earlier parts left over goes to these two, the other references' share aside.
        share = _AGAIN / 2 if pair.changed else _AGAIN
        limits = spending.share(share, _MORE * taken, _REFERENCES * (1 - 1 / references) + _AGAIN - share)
        if result.loss <= pair.tolerance:
            say("repetition: the same attack from other starts")
            again = attack(pair, pair.theta, len(result.X), seed + OTHER_SEED, limits, start="random")
            second = _kept(_uninterrupted(again))
        elif not spending.spent:
            say("control: the same attack on a head that the audit trains itself")
            theta, Z = random_theta(pair, n, n, seed + references)
            found = _uninterrupted(attack(pair, theta, n, seed, limits)).X
            control = float(match(found, Z.to(found)).recovered_up_to_sign().double().mean())
        for k in range(1, _MOST * references):
            if not spending.spent and (k < references or _few(first.own_losses, nulls)):
                refer(k)
        heads = (
            math.ceil(LEAST / n)
            if pair.changed and pair.features is pair.body_features and result.loss <= pair.tolerance
            else 0
        )
        for k in range(heads):
            if not spending.spent:
                say(f"simulation {k + 1} of {heads}: the same attack on a head whose samples are known")
                theta, Z = simulate(pair, result, n, seed + k)
                limits = spending.share(_AGAIN / 2 / heads, taken)
                known = _kept(_uninterrupted(attack(pair, theta, n, seed, limits)))
                far = errors(known.X, Z, pair.features.parity)
                off.extend(zip(own(pair, theta, known).tolist(), far, strict=True))
    except KeyboardInterrupt:
        interrupted = True
    return dataclasses.replace(
        first,
        second=second,
        references=tuple(blank),
        null_losses=tuple(nulls),
        simulated=tuple(off),
        reference_steps=steps,
        control=control,
        dropped=None if masks is None else dataclasses.replace(masks, wrong=tuple(shares)),
        interrupted=interrupted,
    )


def from_second(result: Result, second: Result | None, parity: str) -> list[float | None]:
    """How far each candidate is from the nearest of a second attack, relative; up to sign where that is not told."""
    if second is None:
        return [None] * len(result.X)
    X, Y = result.X.cpu().double(), second.X.cpu().double()
    return (distances(X, Y, parity).amin(1) / X.norm(dim=1).clamp_min(math.ulp(0.0))).tolist()
