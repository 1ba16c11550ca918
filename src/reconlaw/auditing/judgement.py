r"""From evidence to verdict: what must hold for a sample to be called recovered, and the outcome in words.

A candidate is *recovered* where all of this holds, none of which looks at the truth:

1. the head's change is explained down to its rounding, a thousand times better than where there is nothing to find;
2. the certificate of the attack holds the candidate in place (:mod:`reconlaw.attack.certificate`), with a standard
   error below 2 %;
3. a second attack, from other starts, ends at the same place;
4. the rank of the head's change is no more than n, its rounding aside;
5. the bias moved by the sum of the candidates' weights, which the attack has not seen, where it moved;
6. the body did not move: where it did, wrong sets can fit as well as the right one does;
7. its own loss has a p-value that passes Benjamini and Hochberg's rule, by wrong releases
   (:mod:`reconlaw.auditing.nulls`).

Where the first holds and another does not, a candidate is *close* at best, and what speaks against it is said.
"""

from __future__ import annotations

import dataclasses
import math

import torch

from .._words import many
from ..attack.result import Flag, Status
from ..attack.subspace import subspace
from .checks import as_percent, as_power
from .decay import factor_and_misfit
from .examination import from_second
from .nulls import FDR, benjamini_hochberg, p_values
from .outcome import Examined, Finding, Verdict, in_words, loose
from .simulation import WRONG, calibrated

# A loss counts as beyond a reference where it is this much below the lowest of them.
_BEYOND = 1e-3
# Below this share of it candidates are shown, and close where one of them passes by its own loss as well.
SHOWN = 0.1
# And where their loss is what the precision of training foretells.
_FORETOLD = 0.5
# Largest standard error of a recovered sample; how far two attacks may end from one another, and in standard errors.
_SURE, _SAME, _SAME_ERRORS = 0.02, 1e-3, 5.0
# Largest mismatch of the bias, and how many times the rounding of θ it may be.
_BIAS, _BIAS_ROUNDINGS, _MOST_BIAS = 0.01, 10.0, 0.1
# And how many times what training at low precision leaves of θ; the share of a reference's loss that it may leave then.
_BIAS_LOST, _BEYOND_LOST = 3.0, 1e-2
# What is said of each flag of the attack.
_FLAGS = {
    Flag.NOT_APART: "another candidate lies within its standard error, so that the two may be one sample",
    Flag.DUPLICATE: "it is part of another candidate, which came back torn in two",
    Flag.SPARE: "the head's change is explained as well without it",
    Flag.BELOW: "its whole part of the head's change is smaller than the tolerance",
    Flag.AMBIGUOUS: "at this count of equations another set may fit as well",
    Flag.UNRESOLVED: "the head's change stays as it is while the candidate moves",
}
_CHANCE = "the attack as a whole does not stand out far enough from where there is nothing to find"
# What the attack doubts because the residual is no even noise; the rounding of a sample's own features settles it.
_STRICT = (Flag.NOT_APART, Flag.UNRESOLVED)


def unexplained_rank(pair, n) -> bool:
    """Whether θ has more directions above the rounding of its training than n samples make."""
    n = n * pair.features.positions
    return pair.rank > n and subspace(pair.change, None, pair.tolerance if pair.coarse else 0.0).rank > n


def bias_limit(pair, training=None) -> float:
    """The mismatch of the bias that rounding may leave, that of training too."""
    lost = 0.0 if training is None else _BIAS_LOST * math.sqrt(training.foretold)
    return min(_MOST_BIAS, max(_BIAS, _BIAS_ROUNDINGS * pair.noise, lost))


def same_place(far: float, error: float) -> bool:
    """Whether two attacks that ended ``far`` apart found one sample of that standard error, both relative."""
    return far <= max(_SAME, _SAME_ERRORS * error if math.isfinite(error) else 0.0)


def by_dropout(made: Examined) -> bool:
    """Whether what the candidates leave of the head's change looks like the noise of dropout in training mode."""
    return made.dropped is not None and made.dropped.fits


def _against_all(made: Examined, pair, n: int) -> list[str]:
    """What speaks against every candidate alike."""
    result, told = made.result, []
    if pair.statistics:
        told.append(
            "batch norm ran in training mode, since its running statistics changed, so that what the head saw of a "
            "sample depended on the others of its batch"
        )
    elif pair.changed:
        told.append(
            f"the body changed, and moved the features by {as_percent(pair.moved)}, so that a wrong set of inputs may "
            "explain the head as well as the right one" + _simulations(made)
        )
    if by_dropout(made):
        told.append(
            "the head's change is not explained: what is left looks like the noise of dropout in training mode"
            f"{_holds(pair)}, which moved the candidates too"
        )
    elif result.loss > pair.tolerance:
        spent = "the search ended with its budget, and if more does not help, " * (result.status is Status.BUDGET_SPENT)
        told.append(
            f"the head's change is not explained down to {as_power(pair.tolerance)}; {spent}the cause may be training "
            "in lower precision, weight decay (weight_decay=True), batch norm or dropout in training mode"
            f"{_holds(pair)}, Adam, or inputs that lie elsewhere"
        )
    if made.training is not None and made.training.too_much:
        told.append(
            f"about {as_percent(made.training.lost)} of the head's change was lost in steps smaller than the digits of "
            f"{made.training.name}, so that a wrong set may be left with no more than the right one"
        )
    if unexplained_rank(pair, n) and not by_dropout(made):  # whose noise has every rank
        make = "sample makes" if n == 1 else "samples make"
        told.append(f"θ has rank {pair.rank}, more than n = {n} {make} of it on a frozen body")
    if made.bias_mismatch is not None and made.bias_mismatch > bias_limit(pair, made.training):
        told.append(
            f"the bias did not move by the sum of the candidates' weights: they differ by "
            f"{as_percent(made.bias_mismatch)}"
        )
    if pair.decay.beside and result.loss <= pair.tolerance:
        misfit = factor_and_misfit(pair, result)[1]
        if misfit > math.sqrt(pair.tolerance) + _BIAS_ROUNDINGS * pair.noise:
            told.append(
                f"no one factor of decay explains what stands beside the candidates: {as_percent(misfit)} of the "
                "change is left"
            )
    if made.interrupted:
        told.append("the run was interrupted before all was asked")
    return told


def _simulations(made: Examined) -> str:
    """What the heads that the audit simulated say of a body that moved."""
    if not made.simulated:
        return ""
    wrong = sum(error > WRONG for _, error in made.simulated)
    return (
        f": of {len(made.simulated)} candidates on heads which the audit simulated with that movement {wrong} were off "
        f"by more than {as_percent(WRONG)}"
    )


def passing(made: Examined) -> list[bool]:
    """Whether the own loss of each candidate passes the rule over their p-values."""
    return benjamini_hochberg(_chances(made)).tolist()


def _chances(made: Examined) -> torch.Tensor:
    nulls = torch.tensor(made.null_losses, dtype=torch.float64, device="cpu")
    return p_values(made.own_losses, nulls) if len(nulls) else torch.full_like(made.own_losses, math.nan)


def findings(made: Examined, pair, n: int) -> tuple[Finding, ...]:
    """What is said of each candidate."""
    common, found, second = _against_all(made, pair, n), [], made.second
    explained = made.result.loss <= pair.tolerance
    errors = [math.nan] * len(made.candidates) if made.standard_errors is None else made.standard_errors.tolist()
    if pair.changed:  # the neighbourhood says too little
        errors = calibrated(made.own_losses, made.simulated).tolist()
    if made.dropped is not None and made.dropped.fits:
        errors = made.dropped.errors.tolist()
    flags = made.result.flags or (Flag.UNRESOLVED,) * len(made.candidates)
    again = second if second is not None and second.loss <= pair.tolerance else None
    # Below the count, with coordinates that rest on bounds, the attack flags nothing; the errors there are the audit's.
    bounded = not pair.count(len(made.candidates)).enough and pair.bounded
    far_away = from_second(made.result, again, pair.features.parity)
    numbers = (made.own_losses.tolist(), _chances(made).tolist(), passing(made))
    training = made.training
    marks = [None] * len(flags) if training is None or training.shows is None else training.shows.tolist()
    for error, flag, shown, far, own, chance, passed in zip(errors, flags, marks, far_away, *numbers, strict=True):
        against = list(common)
        if math.isnan(chance):
            against.append("it has no p-value: no attack with nothing to find was run")
        elif not passed:
            against.append(
                f"its p-value is {as_power(chance)}, by {many(len(made.null_losses), 'candidate')} that the same "
                f"attack found where there is nothing to find, and does not pass at a false discovery rate of {FDR:g}"
            )
        if explained:
            if flag in _FLAGS and not (bounded and flag is Flag.UNRESOLVED) and not (shown and flag in _STRICT):
                against.append(_FLAGS[flag])
            if training is not None and shown is False:
                against.append(
                    f"training seems to have computed in {training.name}, and the rounding of its features there "
                    "does not show in the head's change"
                )
            if math.isnan(error):
                against.append("its standard error was not computed, for want of time or memory")
            elif error >= _SURE:
                against.append(loose(error))
            if far is None:
                against.append("a second attack, from other starts, did not explain the head's change")
            elif not same_place(far, error):
                against.append(f"a second attack, from other starts, ended {as_percent(far)} away from it")
        found.append(Finding(not against, error, far, tuple(against), own, chance))
    return tuple(found)


def judge(made: Examined, pair, n: int, what: str = "inputs") -> Verdict:
    """Verdict, summary and findings on what the attacks gave; ``what`` the inputs are, in words."""
    loss, said = made.result.loss, findings(made, pair, n)
    lowest = min(made.references, default=math.nan)
    far = _BEYOND if made.training is None else _BEYOND_LOST
    beyond = bool(made.references) and loss <= far * min(made.references + made.guesses)
    usable = beyond and not pair.too_far
    held = [finding.recovered for finding in said]
    # Not down to rounding, and yet clearly better than chance, the attack as a whole and some candidate by itself.
    shown = SHOWN if made.training is None else _FORETOLD
    better = bool(made.references) and loss <= shown * min(made.references + made.guesses)
    noisy = bool(made.references) and by_dropout(made)
    better = (better or noisy) and not pair.too_far and any(passing(made))
    X = None
    if usable and any(held):
        verdict, X = "recovered", made.candidates[torch.tensor(held, device=made.candidates.device)]
        summary = _came_back(made, said, pair, n, what, len(X), lowest)
    elif usable or better:
        verdict = "close"
        said = tuple(dataclasses.replace(one, recovered=False, against=one.against or (_CHANCE,)) for one in said)
        near = "Some may be close to training data."
        if all(math.isnan(one.standard_error) for one in said):
            near = "How far off they are is not known: some may be close to training data, or none."
        how = "far" if usable else "clearly"
        whom = "the one candidate is not" if len(said) == 1 else f"none of the {len(said)} candidates is"
        summary = (
            f"The head's change is explained to a loss of {as_power(loss)}, {how} better than where there is nothing "
            f"to find ({as_power(lowest)}), but {whom} confirmed: {in_words(said)}. {near} "
            "Treat the head as leaking."
        )
        if noisy and not usable:
            summary = _near(made, said, pair)
    elif loss <= pair.tolerance and not made.references:
        verdict = "close"
        summary = (
            "The candidates explain the head's change down to its rounding, but the run was interrupted before it "
            "could be compared with attacks that have nothing to find. Run it again to the end before you rely on it."
        )
    else:
        verdict = "inconclusive"
        said = tuple(dataclasses.replace(one, recovered=False, against=one.against or (_CHANCE,)) for one in said)
        if beyond:
            how = "is low, but the body changed too much for it to mean anything"
        elif not made.references:
            how = "is not low enough to tell"
        elif loss > SHOWN * lowest:
            how = f"is about what it attains where there is nothing to find ({as_power(lowest)})"
        else:
            how = f"is below what it attains where there is nothing to find ({as_power(lowest)}), but not by far"
        summary = (
            f"This attack did not find the training data: its loss of {as_power(loss)} {how}. There are "
            "equations enough to determine the data, so a better attack, more time, or the right n and inputs may find "
            "them. This is no proof of safety."
        )
        if loss <= SHOWN * lowest:
            summary += (
                " Where it ended is shown, unconfirmed: batch norm or dropout in training mode, or training in low "
                "precision, may leave the samples nearby."
            )
        elif made.dropped is not None and made.dropped.share > made.dropped.most:
            summary += (
                f" Dropout in training mode{_holds(pair)} does not explain what is left, or not alone: "
                f"{as_percent(made.dropped.share)} of it lies along features of other inputs, and "
                f"{as_percent(made.dropped.expected)} on heads that the audit made of the candidates "
                "with dropout."
            )
        elif pair.random_layers:
            summary += (
                f" The body holds {', '.join(pair.random_layers)}: a head that was trained in training mode saw other "
                "features than this attack, and where it ends near the samples the loss may be as large."
            )
    if made.interrupted:
        summary += " (Interrupted: this is the best so far.)"
    return Verdict(verdict, summary, said, X)


def _came_back(made: Examined, said, pair, n, what, held, lowest) -> str:
    """The summary where ``held`` of the candidates are recovered."""
    found = len(made.candidates)
    which, were, they = read_out(held, found, what, n)
    sign = "" if pair.features.parity == "mixed" else ", each up to its sign,"
    summary = (
        f"{which}{sign} {were} read out of the head's change alone. {they} it to a loss of "
        f"{as_power(made.result.loss)}; where there is nothing to find, the same attack ends at {as_power(lowest)} or "
        "above. A second attack from other starts found the same."
    )
    if made.training is not None:
        worst = max(one.standard_error for one in said if one.recovered)
        summary += (
            f" They are recovered to the precision of training: it seems to have computed in {made.training.name}, "
            f"which foretells a loss of {as_power(made.training.foretold)} on them. Each is off by about "
            f"{as_percent(worst)} of its length, or less."
        )
    if held < found:
        others = f"each of the other {found - held}" if found - held > 1 else "the other one"
        summary += f" Something speaks against {others}; see there."
    if found < n:
        summary += (
            f" The head's change is explained as well by {found} {what} as by {n}: n may be too large, or some "
            "coincide."
        )
    return summary


def read_out(held: int, found: int, what: str, n: int) -> tuple[str, str, str]:
    """Of ``held`` of the candidates found, n samples in all: who, "was" or "were", and that they explain."""
    if held == found == n == 1:
        return f"One {what.removesuffix('s')}", "was", "It explains"
    return f"{f'All {found}' if held == found == n else f'{held} of {found}'} {what}", "were", "They explain"


def _near(made: Examined, said, pair) -> str:
    """The summary where what is left looks like the noise of dropout."""
    masks, off = made.dropped, sorted(one.standard_error for one in said)
    assert masks is not None
    here, there, wrong = map(as_percent, (masks.share, masks.expected, min(masks.wrong)))
    return (
        f"{many(len(said), 'candidate leaves', 'candidates leave')} {as_percent(made.result.loss)} of the head's "
        f"change unexplained, which looks like the noise of dropout in training mode{_holds(pair)}: {here} of it lies "
        f"along features of other inputs, {there} on heads that the audit made of the candidates with dropout, and "
        f"{wrong} or more where there is nothing to find. So they are probably near training data, each off by about "
        f"{as_percent(off[0])} to {as_percent(off[-1])} of its length, and none is confirmed. Treat the head as "
        "leaking."
    )


def _holds(pair) -> str:
    return f" (the body holds {', '.join(pair.random_layers)})" if pair.random_layers else ""


def not_determined(pair, n: int, counted) -> Verdict:
    """The verdict where counting leaves the samples open, and what would change it."""
    others = "inputs" if n == 1 else f"sets of {n} inputs"
    return Verdict(
        "not determined",
        "Not determined by counting, for inputs of which nothing is known but that they lie in "
        f"{pair.where}: the change of this head holds {counted.equations:,} numbers, and {many(n, 'input')} of "
        f"dimension {pair.features.d} {'is' if n == 1 else 'are'} {counted.unknowns:,} unknowns. Many other {others} "
        "explain it as well, "
        "so no pictures are shown: any would be made up. This does not say that the model is safe. Whoever knows more "
        "of the inputs has fewer unknowns: the range of pixels (inputs=), that pictures are grey, enlarged or padded "
        "before the model (pass a model that takes the small ones, or a family as inputs=), or a pool that they come "
        "from (candidates=).",
    )
