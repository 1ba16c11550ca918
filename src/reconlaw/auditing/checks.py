"""What an audit asks of a checkpoint pair before it attacks, and the answers in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from .._words import many, some
from .head import trained_layers
from .precision import still

# θ counts as flat above both: the features of tanh and sigmoid bodies can be flat themselves, and then so is SGD's θ.
_FLAT, _FLATTER, _FLAT_PROBES = 0.9, 0.05, 16


@dataclass(frozen=True)
class Check:
    """One line of the audit: what was asked, the answer, and whether that helps the attack ("open", "shut", "note")."""

    question: str
    answer: str
    kind: str = "note"


def _listed(changed: dict[str, float]) -> str:
    """Tensors with their relative changes, the largest first."""
    ordered = sorted(changed.items(), key=lambda item: -item[1])
    shown = [f"{name} ({as_percent(size) if math.isfinite(size) else 'from zero'})" for name, size in ordered]
    return some(shown)


def elsewhere(pair, module, changed) -> str:
    """The summary where the weights of the head did not change, and other tensors did."""
    layers = [name for name in trained_layers(module, changed, torch.nn.Linear) if name != pair.head]
    text = (
        f"The weights of {pair.head!r} are the same in both checkpoints, but other tensors changed: "
        f"{_listed(changed)}. They may hold training data, and this audit did not look there."
    )
    if layers:
        return f"{text} Linear layers that changed: {some(layers)}; pass one of them as head=."
    return text + (_lowest(pair, module, changed) or " The audit attacks linear layers and convolutions, and none did.")


def _lowest(pair, module, changed) -> str:
    layers = [name for name in trained_layers(module, changed) if name != pair.head]
    if not layers:
        return ""
    return (
        f" The lowest layer that changed is {layers[0]!r}, and what it saw never moved: layer={layers[0]!r} audits it."
    )


def too_far(pair, module, changed, first: Check | None) -> str:
    """The summary where the body moved too much; ``first``, what the first layer holds."""
    text = (
        f"The features moved by {as_percent(pair.moved)} while the head was trained, and the attack takes them to be "
        f"nearly the same throughout, so it was not run. What changed: {_listed(changed)}. These layers may hold "
        "training data themselves; this is no proof of safety."
    )
    return text + (f" First layer: {first.answer}" if first else _lowest(pair, module, changed))


def check_body(pair, changed, first: Check | None) -> list[Check]:
    """Which tensors changed, what a trained ``first`` layer holds, and whether the body is the same in both."""
    found = [Check("Which tensors changed?", f"{_listed(changed)}."), *([first] if first else [])]
    if not pair.changed:
        rest = f" What else changed lies above {pair.head!r}, and moved nothing that it saw." if pair.above else ""
        found.append(Check("Is the body the same in both?", f"Yes, in every digit.{rest}", "open"))
    else:
        much = (
            "That is too much for the attack on the head, which takes features to be nearly the same throughout."
            if pair.too_far
            else "The attack uses the body midway between both, which leaves an error of about the square of that."
        )
        if pair.statistics:
            much = (
                "These are running statistics alone, so batch norm ran in training mode. The attack uses the body "
                "after training, whose statistics are nearly those of the batch if all samples were one."
            )
        answer = (
            f"No: {some(pair.changed, 4)} changed, and the features of random inputs with them, by "
            f"{as_percent(pair.moved)}. {much}"
        )
        found.append(Check("Is the body the same in both?", answer, "shut"))
    if pair.random_layers:
        answer = (
            f"It holds {', '.join(pair.random_layers)}. Features are taken in evaluation mode; a head that was "
            "trained in training mode saw others."
        )
        found.append(Check("Does the body act the same in training?", answer))
    return found


def check_change(pair) -> list[Check]:
    """What θ and its bias are, and what the body tells of signs, lengths and places."""
    K, p = pair.change.shape
    size = (
        f"θ, what training changed, is {K} × {p}, of norm {pair.size:.2g}, stored with a rounding of about "
        f"{as_power(pair.noise)} of it ({str(pair.dtype).removeprefix('torch.')}). "
        + ("The attack looks for" if pair.coarse else "θ counts as explained at")
        + f" a loss of {as_power(pair.tolerance)}."
    )
    least = -(-pair.rank // pair.features.positions)
    found = [
        Check("How large is the head's change?", size, "open" if pair.noise < 1e-3 else "shut"),
        Check(
            "What is the rank of θ?", f"{pair.rank} of {K}: at least {many(least, 'sample')}, if the body is frozen."
        ),
    ]
    if pair.coarse:
        kinds = " or ".join(str(one).removeprefix("torch.") for one in pair.coarse)
        answer = (
            f"In {kinds}, it seems: a direction of the outputs that no sample moves after a softmax holds "
            f"{as_power(still(pair.change))} of θ, more than the rounding of the files leaves there."
        )
        found.append(Check("At which precision did training compute?", answer))
    if pair.bias_change is not None:
        moved = float(pair.bias_change.norm())
        answer = f"By {moved:.2g}. The attack does not use it; it serves as a check." if moved else "No."
        found.append(Check("Did the head's bias change?", answer))
    parity = {
        "mixed": "No: the sign of an input can be told.",
        "even": "Yes, it answers x and −x alike: nothing tells an input from its negative.",
        "odd": "Yes, −x gives the negative of what x gives: nothing tells an input from its negative.",
    }[pair.features.parity]
    place = (
        f"In {pair.where}. If the model was trained on inputs that lie elsewhere, the attack will fail, and the "
        "failure means nothing."
    )
    return [
        *found,
        Check("Is the body even or odd?", parity, "open" if pair.features.parity == "mixed" else "note"),
        Check("Does the length of an input matter?", "No, only its direction." if pair.homogeneous else "Yes."),
        Check("Where are inputs looked for?", place),
    ]


def check_optimiser(pair) -> list[Check]:
    """Says where θ looks as if Adam made it: numbers of one size, where the features of an input are not of one size.

    Adam divides every number of the gradient by its own size. The flatness mean |θ| / (mean θ²)^{1/2} over the columns
    that moved is 1 where all sizes are equal, and that of its features where a gradient step on one sample made θ.
    """
    if pair.features.positions > 1:
        return []
    probes = pair.features(pair.features.probes(_FLAT_PROBES))
    flattest = max(_flatness(row[None]) for row in probes)
    found = _flatness(pair.change)
    if found <= max(_FLAT, flattest + _FLATTER):
        return []
    answer = (
        "It looks like Adam or another method that divides by sizes: the numbers of θ are of nearly one size (mean "
        f"size over root mean square {found:.2f}, against {flattest:.2f} at most for the features of random "
        "inputs). Such a change does not lie in the span of the samples' features, so that this attack will hardly "
        "find them. Where the recipe and the labels are known, reconlaw.retrace_adam may."
    )
    return [Check("Does θ look like gradient descent?", answer, "shut")]


def _flatness(change: torch.Tensor) -> float:
    sizes = change[:, change.norm(dim=0) > 1e-9 * change.norm()].abs()
    return float(sizes.mean() / sizes.square().mean().sqrt()) if sizes.numel() else 0.0


def check_layer(pair, low_rank=None) -> list[Check]:
    """What is asked of layers in the middle, of adapters, and of decay."""
    found, T, p = [], pair.features.positions, pair.features.p
    if T > 1:
        answer = (
            f"{T} (tokens, patches, groups), each a column of {p} numbers: the rank of θ is at least {pair.rank} of "
            f'them, and {-(-pair.rank // T)} or more samples. Below, "the head" is the layer {pair.head!r}.'
        )
        found.append(Check("At how many positions does the layer see an input?", answer))
    if low_rank is not None:
        B = low_rank.B[0]
        answer = (
            f"θ is the change of A, {low_rank.rank} × {p}, which lies in the span of what {pair.head!r} sees. B began "
            + ("at zero" if not bool(B.any()) else "elsewhere than zero")
            + f": to first order in the step size only its {B.numel():,} numbers move, r·out, and they know the inputs "
            f"through A alone; the {low_rank.A[0].numel():,} of A move at second order, and are what is attacked."
        )
        found.append(Check("What do the adapter's two factors hold?", answer))
    if bool(pair.old.any()):
        decay = pair.decay
        if decay.factor is not None:
            answer = (
                f"Yes: a direction of the outputs that no sample moves shows that the old weights shrank by a factor "
                f"of {decay.factor:.6g}. That is taken out of θ."
            )
        elif decay.beside:
            answer = (
                f"Taken to be so. The {len(pair.old)} old rows stand beside the samples, at a price of as many "
                "equations an output; one factor must explain them in the end."
            )
        elif decay.ruled_out:
            answer = "No: in a direction of the outputs that no sample moves the old weights are as they were."
        else:
            answer = "The change alone does not show it. If there was any, pass weight_decay=True."
        found.append(Check("Was there weight decay?", answer))
    return found


def check_counts(pair, n, counted, ratio: float) -> list[Check]:
    """Whether there are as many equations as unknowns."""
    p, d = pair.features.p, pair.features.d
    columns = n * pair.features.positions
    determined = counted.enough and p > columns
    span = counted.equations // min(columns, pair.rank)
    answer = (
        f"{'Yes' if determined else 'No'}: {counted.equations:,} for {counted.unknowns:,} (rank × "
        f"{'p' if span == p else f'the {span:,} dimensions that the features span'} for n inputs of dimension d = "
        f"{d} and their weights); rank·p/dn = {ratio:.2g}, p/dn = {p / (d * n):.2g}."
    )
    found = [Check("Are there as many equations as unknowns?", answer, "open" if determined else "shut")]
    if p <= columns:
        places = many(pair.features.positions, "position")
        answer = f"Yes: n inputs at {places} are {many(columns, 'column')}, and θ has {p}. The count is empty."
        found.append(Check("Do the samples' columns fill the space?", answer, "shut"))
    if pair.rank > columns:
        answer = f"Not by gradient descent on a frozen body: its rank {pair.rank} is larger. Is n right?"
        found.append(Check(f"Can θ come from n = {many(n, 'sample')}?", answer, "shut"))
    return found


def as_percent(value):
    return f"{100 * value:,.0f} %" if value >= 1 else f"{100 * value:.2g} %"


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
