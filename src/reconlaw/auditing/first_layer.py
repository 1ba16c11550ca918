r"""What the model's own first layer holds, where it was trained: inputs, read off the neurons that they were silent to.

A head is fed features, a first layer the inputs themselves. Where a ReLU takes its values, a neuron that was off for an
input was never moved along it, whatever was trained above, and :func:`reconlaw.silent_neurons` reads the inputs off
that. What it says of them is not taken for granted here: a second search from other starts must end at the same
inputs, and none may be called recovered in the same change with its columns in another order, which keeps every
hyperplane and loses the side on which its neurons lie.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import nn

from .._random import seeded_generator
from .._words import many
from ..attack.count import independent_rows
from ..attack.examine import flag_of
from ..attack.result import Flag, Status
from ..networks.first_layer.change import read_change, read_rank
from ..networks.silent import SilentNeurons, silent_neurons
from ..networks.silent.decay import without_decay
from .change import HeadChange
from .checks import Check, as_percent, as_power
from .errors import AuditError
from .examination import OTHER_SEED, from_second
from .head import linear_layers, trained_layers
from .judgement import read_out, same_place
from .outcome import Finding, Verdict, in_words, loose, parts_of
from .pool import Identified, identify
from .precision import FULL
from .transform import Transform, as_in_training, find_transforms, given_to

# Shares of the budget, and the most steps of the search; the others may take four times as many as it took, or so many.
_SEARCH, _AGAIN, _REFERENCES, _MOST, _LEAST = 0.2, 0.1, 0.1, 200_000, 2_000
# A step asks one direction of all neurons; one of the attack on a head is counted as so many.
_DIRECTIONS = 100
# Inputs on which a ReLU is recognised, and the share of the neurons that are on which a gradient must reach.
_PROBES, _REACHED = 8, 0.5
# In how many orders of its columns the change must give nothing.
_ORDERS = 2
_OTHERWISE = "In training mode it is given something else, as below dropout or batch norm"


@dataclass(frozen=True, eq=False)
class FirstLayer:
    """The first linear layer that was trained: what it sees of the model's inputs never moved.

    Attributes:
        name: of the layer.
        rank: of its change; each row of that is a combination of what it sees.
        gated: whether a ReLU takes its values as they are.
        transform: what it sees of an input.
    """

    name: str
    rank: int
    gated: bool
    transform: Transform

    @property
    def called(self) -> str:
        """The layer in words."""
        which = "model's first layer" if self.transform.nothing else "first layer that was trained"
        return f"{self.name!r}, the {which}"

    def seen(self) -> tuple[Check, ...]:
        """The line of the audit on what stands before the layer, where something does."""
        if self.transform.nothing:
            return ()
        if self.transform.why:
            answer = (
                f"Not the input itself, but {self.transform.width:,} numbers that the layers below make of it, which "
                f"were not trained; {self.transform.why}. What is read off {self.name!r} are inputs of that layer, and "
                "not of the model."
            )
        else:
            answer = (
                f"The input through what was not trained: {self.transform.words}. What is read off {self.name!r} are "
                "inputs of that layer. Where their lengths are known, the map can be undone."
            )
        return (Check("What does the first trained layer see of an input?", answer),)

    def tensors(self, states) -> list[tuple[torch.Tensor, ...]]:
        """(W,) or (W, b) of each state, as they are stored."""
        keys = (f"{self.name}.weight", f"{self.name}.bias")
        return [tuple(state[key] for key in keys if key in state) for state in states]

    def check(self, said: str) -> Check:
        """The line of the audit on it, and what a search ``said``."""
        what = "the inputs themselves"
        if not self.transform.nothing:
            what = "what layers that were not trained make of the inputs"
        told = f"Yes. {self.name!r} sees {what}, and "
        if self.rank == 1:
            told += "its change has rank 1: if one input made it, every row of it is that input, up to a factor."
            told = told if self.transform.nothing else told.replace("that input", "what it saw of that input")
        else:
            told += f"each row of its change is a combination of them; the change has rank {self.rank}."
        return Check("Does the first layer hold inputs?", f"{told} {said}", "open")


def find_first_layer(pair, module: nn.Module, states) -> FirstLayer | None:
    """The first trained linear layer, be it the one audited: nothing that was trained is below it.

    None where there is none, or only the one audited, which no ReLU follows and no affine map of the inputs feeds.
    """
    linear, other = linear_layers(module), None
    keys = {name: f"{name}.weight" for name in linear if f"{name}.weight" in states[0]}
    moved = [name for name, key in keys.items() if not torch.equal(states[0][key], states[1][key])]
    for name, transform in find_transforms(pair, states, moved).items() if moved else ():
        layer, key = linear[name], keys[name]
        change = states[1][key].double() - states[0][key].double()
        rounding = torch.finfo(states[0][key].dtype).eps * float(states[1][key].double().norm()) / 3
        shared = sum(one is layer.weight for _, one in module.named_parameters(remove_duplicate=False)) > 1
        rank = len(independent_rows(change, rounding)[0])
        made = FirstLayer(name, rank, not shared and _gated(pair, name), transform)
        if made.gated:
            return made
        if other is None and (name != pair.head or not transform.why):
            other = made
    return other


def convolution_not_read(module: nn.Module, changed) -> tuple[Check, ...]:
    """The line of the audit on the first convolution that was trained, whose patches it does not look for.

    Measured on small networks: of 3 × 3 pixels patches fill their space, averages over positions make those of one
    picture silent together, and of 64 filters none came back where of 256 and more, flattened, all eight did.
    """
    names = trained_layers(module, changed, nn.Conv1d | nn.Conv2d)
    if not names:
        return ()
    numbers = module.get_parameter(f"{names[0]}.weight")[0].numel()
    answer = (
        f"{names[0]!r} is a convolution, and neurons that were silent to its patches are not looked for: a patch "
        f"has {numbers:,} numbers, so that as many patches fill the space, and to tell fewer apart takes "
        "hundreds of filters and positions that are not averaged. reconlaw.silent_neurons tries it."
    )
    return (Check("Does the first layer hold inputs?", answer),)


def _gated(pair, name: str) -> bool:
    """Whether a ReLU takes what the layer gives: no gradient comes back where that is negative, and else mostly one.

    Asked of the derivative, it holds of a ReLU that is a module, of one that is a function, and of no leaky one.
    """
    seen: list[torch.Tensor] = []

    def keep(_, __, out):
        seen.append(out)
        return out.clone()  # some ReLUs work in place

    hook = pair.body.model.get_submodule(name).register_forward_hook(keep)
    try:
        X = pair.features.probes(_PROBES, "first layer").requires_grad_(True)
        with torch.enable_grad():
            inputs = X.reshape(len(X), *pair.shape)
            body = pair.body.to(X.device)
            fed = body.outputs(inputs) if name == pair.head else body(inputs)
            weights = torch.randn(
                fed.shape, generator=seeded_generator("first layer", 0), dtype=torch.float64, device="cpu"
            )
            (back,) = torch.autograd.grad((fed * weights.to(fed)).sum(), seen)
    except RuntimeError:  # nothing of what the head is fed, or of what the model gives, depends on the layer
        return False
    finally:
        hook.remove()
    off, on = seen[0] < 0, seen[0] > 0
    reached = float((back[on] != 0).double().mean()) if bool(on.any()) else 0.0
    return bool(off.any()) and not bool(back[off].any()) and reached >= _REACHED


def read_first_layer(first: FirstLayer, pair, states, n, spending, seed: int, what: str, say) -> dict | str:
    """What came of it, as arguments of :class:`~reconlaw.auditing.outcome.Audit`; or in words why nothing did.

    Raises:
        KeyboardInterrupt: Ctrl-C before the search was over.
    """
    if not as_in_training(pair, first.name):
        return f"{_OTHERWISE}, and is not read."
    if not first.gated:
        return "No ReLU takes its values as they are, so that they are not told apart here."
    old, new = (tuple(one.double() for one in state) for state in first.tensors(states))
    stored = max((state[f"{first.name}.weight"].dtype for state in states), key=lambda dtype: torch.finfo(dtype).eps)
    if torch.finfo(stored).eps > FULL:
        return f"In {str(stored).removeprefix('torch.')} its change has too few digits to tell them apart."

    def search(after, share, most, seed):
        states = (tuple(one.to(stored) for one in state) for state in (old, after))
        limits = spending.share(share)
        limits["max_steps"] = most if limits["max_steps"] is None else min(most, _DIRECTIONS * limits["max_steps"])
        return silent_neurons(*states, n, seed=seed, **limits)

    say(f"first layer: which neurons of {first.name!r} was each input silent to?")
    found = search(new, _SEARCH, _MOST, seed)
    if found.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    if Flag.RECOVERED not in found.flags:
        return f"Silent neurons do not tell them apart: {found.message}."
    most = max(_LEAST, math.ceil(4 * found.steps))
    say("repetition: the same search from other starts")
    second = search(new, _AGAIN, most, seed + OTHER_SEED)
    called = 0
    for k in range(_ORDERS):
        say(f"reference {k + 1} of {_ORDERS}: the same search where columns stand in another order")
        null = search(_reordered(old, new, found.decay_factor, seed + k), _REFERENCES / _ORDERS, most, seed)
        called += Flag.RECOVERED in null.flags
    again = second if Flag.RECOVERED in second.flags else None
    why = first.transform.why
    if not found.lengths and not first.transform.linear:
        why = "without a bias their lengths are not known, and the map before it cannot be undone without"
    if why:
        return _of_the_layer(first, tuple(_findings(found, again, called)), why)
    eps = torch.finfo(stored).eps
    shown, again = _undone(found, first.transform, eps), again and _undone(again, first.transform, eps)
    said = tuple(_findings(shown, again, called))
    candidates = shown.X * (1.0 if found.lengths else pair.scale)
    held = torch.tensor([one.recovered for one in said], device=candidates.device)
    made = {
        "first_layer": first.name,
        "n": len(candidates),
        "parity": "mixed",
        "candidates": candidates,
        "result": found,
        "standard_errors": shown.standard_errors,
        "second_loss": second.loss,
        "checks": (replace(first, rank=found.rank).check("Neurons that were silent to them tell them apart."),),
    }
    summary = _summary(first, found, said, what)
    if not bool(held.any()):
        return made | parts_of(Verdict("close", summary, said))
    return made | parts_of(Verdict("recovered", summary, said, candidates[held]))


def _undone(found: SilentNeurons, transform: Transform, eps: float) -> SilentNeurons:
    """The same of the model's inputs: the layer's, with what stands before it undone, and their errors.

    In training T was computed in numbers of relative rounding ``eps``, and that is not undone.
    """
    if transform.nothing:
        return found
    assert found.standard_errors is not None
    X = transform.back(found.X)
    lengths = X.norm(dim=1)
    if not found.lengths:
        X = X / lengths[:, None] * X.shape[1] ** 0.5
    errors = (found.standard_errors + eps) * transform.amplifies * found.X.norm(dim=1) / lengths
    flags = [
        flag_of(float(error)) if flag is Flag.RECOVERED else flag
        for flag, error in zip(found.flags, errors, strict=True)
    ]
    return replace(found, X=X, standard_errors=errors, flags=tuple(flags))


def _of_the_layer(first: FirstLayer, said, why: str) -> str:
    """What is said where inputs of the layer were read, and cannot be given as the model sees them."""
    held = [one for one in said if one.recovered]
    if len(held) < len(said):
        reasons = dict.fromkeys(reason for one in said for reason in one.against)
        are = "is" if len(said) == 1 else "are"
        which = f"{many(len(said), 'candidate')} for what {first.name!r} sees"
        return f"{which} {are} not confirmed: {'; '.join(reasons)}."
    worst = as_power(max(one.standard_error for one in held))
    return (
        f"Neurons that were silent to them tell apart all {len(held)} that {first.name!r} was given, each of them "
        f"{first.transform.width:,} numbers, off by about {worst} of its length or less. These are inputs of that "
        f"layer, and not of the model: {why}. From each of them an input may be sought by itself."
    )


@dataclass(frozen=True, eq=False)
class _Inputs:
    """A layer's change, decay taken out, for :func:`~reconlaw.auditing.pool.identify`, and what the layer is given."""

    change: torch.Tensor
    bias: bool
    pair: HeadChange
    name: str
    scale: float = 1.0
    moved: float = 0.0
    positions: int = 1

    @property
    def features(self):
        return self

    @property
    def p(self) -> int:
        return self.change.shape[1]

    def __call__(self, X: torch.Tensor) -> torch.Tensor:
        X = self.pair.features._to(X) / self.pair.scale
        H = given_to(self.pair.body, [self.name], X, self.pair.shape)[self.name]
        return torch.cat([H, torch.ones_like(H[:, :1])], 1) if self.bias else H


def ask_first_layer(first: FirstLayer, pair, states, n, pool, seed: int) -> Identified:
    """Which candidates (X, names) of a pool the layer saw: all that it saw lies in the span of its change.

    Whatever the activation, and whatever was trained above. Weight decay is taken out as for silent neurons.

    Raises:
        AuditError: the change fills its space, in training mode the layer saw something else, or the pool is too small.
    """
    if not as_in_training(pair, first.name):
        raise AuditError(f"{_OTHERWISE[0].lower()}{_OTHERWISE[1:]}")
    old, new = first.tensors(states)
    change, _ = without_decay(read_change(old, new, read_out=False))
    rank, _ = read_rank(change, n)
    if not rank:
        raise AuditError("its change fills its space, so that every input lies in the span of it")
    X, names = pool
    found = identify(_Inputs(change.D, change.bias, pair, first.name), X, names, rank, seed)
    return replace(found, layer=first.name, lengths=change.bias)


def _reordered(old, new, kept, seed):
    """The layer after training if the columns of its change stood in another order; ``kept`` of decay."""
    order = torch.randperm(old[0].shape[1], generator=seeded_generator("reordered", seed), device="cpu")
    return kept * old[0] + (new[0] - kept * old[0])[:, order.to(old[0].device)], *new[1:]


def _findings(found: SilentNeurons, again: SilentNeurons | None, called: int):
    assert found.standard_errors is not None and found.bits is not None
    far = from_second(found, again, "mixed")
    for error, bits, flag, off in zip(
        found.standard_errors.tolist(), found.bits.tolist(), found.flags, far, strict=True
    ):
        against = []
        if flag is not Flag.RECOVERED:
            against.append(loose(error))
        if off is None:
            against.append("a second search, from other starts, did not tell the inputs apart")
        elif not same_place(off, error):
            against.append(f"a second search, from other starts, ended {as_percent(off)} away from it")
        if called:
            against.append(
                f"in {called} of {_ORDERS} other orders of the change's columns, which no inputs made, the same search "
                "called what it found recovered"
            )
        yield Finding(not against, error, off, tuple(against), p_value=2.0 ** -min(bits, 1000.0))


def _summary(first: FirstLayer, found: SilentNeurons, said, what: str) -> str:
    held = sum(one.recovered for one in said)
    assert found.silent is not None
    least = int(found.silent.sum(0).min())
    if not held:
        return (
            f"The change of {first.called}, holds {many(len(said), 'candidate')}, and none is "
            f"confirmed: {in_words(said)}. Some may be close to training data. Treat the layer as leaking."
        )
    worst = max(one.standard_error for one in said if one.recovered)
    which, were, _ = read_out(held, len(said), what, len(said))
    lengths = "" if found.lengths else " It has no bias that tells their lengths: only directions are known."
    if found.assumed:
        lengths = (
            " Their lengths rest on one assumption, that the bias was trained at the same rate as the weights: here "
            "other lengths would explain the change as well. Their directions do not rest on it."
        )
    if not first.transform.nothing:
        lengths += (
            f" What was read are inputs of that layer. Before it the model changes an input, {first.transform.words}; "
            "that is undone, and they are given as the model sees them."
        )
    others = "" if held == len(said) else f" Something speaks against {len(said) - held} others; see there."
    return (
        f"{which} {were} read out of the change of {first.called}: each was silent to {least:,} "
        "neurons or more, none of which training moved along it. Each is off by about "
        f"{as_power(worst)} of its length, or less. A second search from other starts found the same, and nothing was "
        f"called in changes whose columns stand in another order.{lengths}{others}"
    )
