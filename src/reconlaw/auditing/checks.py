"""What an audit asks of a checkpoint pair before it attacks, and the answers in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .change import MOST_MOVED


@dataclass(frozen=True)
class Check:
    """One line of the audit: what was asked, the answer, and whether that helps the attack ("open", "shut", "note")."""

    question: str
    answer: str
    kind: str = "note"


def check_body(made, pair):
    if not pair.changed:
        made.checks.append(Check("Is the body the same in both?", "Yes, in every digit.", "open"))
    else:
        names = ", ".join(pair.changed[:4]) + (f" and {len(pair.changed) - 4} more" if len(pair.changed) > 4 else "")
        much = (
            "That is too much for this attack, which takes the features to be nearly the same throughout training."
            if pair.moved > MOST_MOVED
            else "The attack uses the body midway between both, which leaves an error of about the square of that."
        )
        made.checks.append(
            Check(
                "Is the body the same in both?",
                f"No: {names} changed, and the features of random inputs with them, by "
                f"{as_percent(pair.moved)}. {much}",
                "shut",
            )
        )
    if pair.random_layers:
        made.checks.append(
            Check(
                "Does the body act the same in training?",
                f"It holds {', '.join(pair.random_layers)}. Features are taken in evaluation mode; a head that was "
                "trained in training mode saw others.",
            )
        )


def check_change(made, pair):
    K, p = pair.change.shape
    made.checks.append(
        Check(
            "How large is the head's change?",
            f"θ is {K} × {p}, of norm {pair.size:.2g}, stored with a rounding of about {as_power(pair.noise)} of it "
            f"({str(pair.dtype).removeprefix('torch.')}). θ counts as explained at a loss of "
            f"{as_power(pair.tolerance)}.",
            "open" if pair.noise < 1e-3 else "shut",
        )
    )
    made.checks.append(
        Check(
            "What is the rank of θ?",
            f"{pair.rank} of {K}: at least {pair.rank} {'samples' if pair.rank > 1 else 'sample'}, if the body is "
            "frozen.",
        )
    )
    if pair.bias_change is not None:
        size = float(pair.bias_change.norm())
        text = f"By {size:.2g}. The attack does not use it; it serves as a check." if size else "No."
        made.checks.append(Check("Did the head's bias change?", text))
    parity = {
        "mixed": "No: the sign of an input can be told.",
        "even": "Yes, it answers x and −x alike: no method can tell an input from its negative.",
        "odd": "Yes, −x gives the negative of what x gives: no method can tell an input from its negative.",
    }[pair.features.parity]
    made.checks.append(Check("Is the body even or odd?", parity, "open" if pair.features.parity == "mixed" else "note"))
    made.checks.append(
        Check(
            "Does the length of an input matter?",
            "No, only its direction."
            if pair.homogeneous
            else f"Yes. The attack looks for inputs of norm {pair.norm:.4g}. If the model was trained on others, it "
            "will fail, and the failure means nothing.",
        )
    )


def check_counts(made, pair, n):
    """Whether there are as many equations as unknowns."""
    features, p, counted = pair.features, pair.features.p, pair.count(n)
    determined = counted.enough and p > n
    span = counted.equations // min(n, pair.rank)
    made.checks.append(
        Check(
            "Are there as many equations as unknowns?",
            f"{'Yes' if determined else 'No'}: {counted.equations:,} for {counted.unknowns:,} (rank × "
            f"{'p' if span == p else f'the {span:,} dimensions that the features span'} for n inputs of dimension d = "
            f"{features.d} and their weights); rank·p/dn = {made.ratio:.2g}, p/dn = {p / (features.d * n):.2g}.",
            "open" if determined else "shut",
        )
    )
    if pair.rank > n:
        made.checks.append(
            Check(
                f"Can θ come from n = {n} samples?",
                f"Not by gradient descent on a frozen body: its rank {pair.rank} is larger. Is n right?",
                "shut",
            )
        )
    return determined


def as_percent(value):
    return f"{100 * value:.2g} %"


def as_power(value: float) -> str:
    """A positive number as people read it: 0.3, or 2 × 10⁻⁸."""
    if not math.isfinite(value):
        return "∞"
    if value >= 0.01:
        return f"{value:.2g}"
    if value <= 0:
        return "0"
    exponent = math.floor(math.log10(value))
    lead = round(value / 10.0**exponent)
    if lead == 10:
        lead, exponent = 1, exponent + 1
    digits = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{lead}\u00a0×\u00a010{digits}"
