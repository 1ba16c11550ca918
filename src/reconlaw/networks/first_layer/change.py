r"""What training did to a first layer and its read-out, as matrices: from two networks, or from their tensors.

A neuron j reads z_j = w_j·x (+ b_j), passes a ReLU, and is read out by a linear layer along V_j ∈ R^Q: one number an
output. A convolution reads every patch of a picture with the same w_j. Where its positions are flattened before the
read-out each of the T positions has directions of its own, V_{t,j}; where they are averaged, all share one (T = 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from ..._checks import check_finite, check_matrix, check_plain
from ...features.activations import Activation, get_activation
from ...features.below import groups_of

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_POOLS = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
_SILENT = (nn.Identity, nn.Flatten, nn.Unflatten)  # move numbers about, or do nothing
# Training at a precision leaves a floor this much above the rounding of storage (measured: ten to twenty times).
_TRAINING = 15.0
_GAP = 30.0  # between singular values n and n + 1
_ROUNDING = 4.0  # singular values above this many times that of rounding count


@dataclass(frozen=True, eq=False)
class Change:
    r"""A first layer before and after training, and its read-out.

    Attributes:
        before: (p, m) weights, the bias as a last column where there is one.
        after: (p, m) likewise.
        V: (T, p, Q) directions of the read-out before.
        V_after: (T, p, Q) those after.
        bias: whether m = d + 1, the last column a bias.
        rounding: size of the error that storing and training at the files' precision leave in an entry of the change.
        offsets: biases (p,) before and after where their change does not belong beside that of the weights: decay
            spared them, they had a learning rate of their own, or they were not trained. Then m = d and ``bias`` is
            False. They tell a sample's side of a neuron.
    """

    before: torch.Tensor
    after: torch.Tensor
    V: torch.Tensor
    V_after: torch.Tensor
    bias: bool
    rounding: float
    offsets: tuple[torch.Tensor, torch.Tensor] | None = None

    @property
    def D(self) -> torch.Tensor:
        """(p, m), after less before."""
        return self.after - self.before

    @cached_property
    def spectrum(self) -> tuple[torch.Tensor, float, int]:
        """Singular values of the change, what rounding leaves of them, and how many stand above that."""
        s = torch.linalg.svdvals(self.D)
        p, m = self.D.shape
        floor = max(self.rounding * (p**0.5 + m**0.5) / _ROUNDING, torch.finfo(s.dtype).eps * float(s[0]) * max(p, m))
        return s, floor, int((s > _ROUNDING * floor).sum())

    @property
    def moved(self) -> bool:
        """Whether the read-out was trained along."""
        return bool((self.V_after != self.V).any())


def read_change(before, after, layer=None, head=None, read_out=True) -> Change:
    """The change of a first layer; arguments as of :func:`reconlaw.first_layer`.

    Without ``read_out`` whatever stands above the ReLU is left alone: V is empty, and tuples are (W,) or (W, b).
    """
    if isinstance(before, nn.Module) != isinstance(after, nn.Module):
        raise TypeError("before and after must both be networks, or both be tuples of tensors")
    if isinstance(before, nn.Module):
        read = _of_network if read_out else _layer_of_network
    else:
        read = _of_tensors if read_out else _layer_of_tensors
    old, new = read("before", before, layer, head), read("after", after, layer, head)
    for name, x, y in zip(("weight", "bias", "read-out"), old, new, strict=True):
        if (x is None) != (y is None) or x is not None and x.shape != y.shape:
            shapes = [None if t is None else tuple(t.shape) for t in (x, y)]
            raise ValueError(f"the {name} is {shapes[0]} before and {shapes[1]} after; pass one network's two states")
    eps = max(torch.finfo(t.dtype).eps for t in (old[0], new[0]))
    wide = torch.float32 if old[0].device.type == "mps" else torch.float64
    states: list[list[Any]] = [[None if t is None else t.to(old[0].device, wide) for t in s] for s in (old, new)]
    (W0, b0, V0), (W1, b1, V1) = states
    trained, offsets = b0 is not None and not torch.equal(b0, b1), None
    if trained:
        W0, W1 = torch.cat([W0, b0[:, None]], 1), torch.cat([W1, b1[:, None]], 1)
    elif b0 is not None:
        offsets = b0, b1
    if not bool((W1 != W0).any()):
        raise ValueError("the first layer is the same before and after: training moved nothing there")
    if read_out and not bool(V0.any()) and not bool(V1.any()):
        raise ValueError("the read-out is zero: no gradient reaches the first layer through it")
    rounding = _TRAINING * eps * float(W0.square().mean().sqrt())
    return Change(W0, W1, V0, V1, trained, rounding, offsets)


def _tensor(name: str, value) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} is a {type(value).__name__}; pass a torch tensor")
    if not check_plain(name, value).is_floating_point():
        raise TypeError(f"{name} has dtype {value.dtype}; pass a floating tensor")
    return check_finite(name, value.detach())


def _of_tensors(name, given, layer, head):
    """W (p, d), b (p,) or None, V (T, p, Q), of a tuple (W, V) or (W, b, V)."""
    if layer is not None or head is not None:
        raise ValueError("layer= and head= name layers of networks; tuples of tensors have none")
    if not isinstance(given, tuple | list) or len(given) not in (2, 3):
        raise TypeError(
            f"{name} is a {type(given).__name__}; pass a network, or its tensors (W, V) or (W, b, V), "
            "W (p, d) of the first layer and V (K, p) of the read-out"
        )
    V = _tensor(f"{name}: V", given[-1])
    W, b = _weights(name, given[:-1])
    V = V[None] if V.ndim == 1 else V
    if V.ndim != 2 or V.shape[1] != len(W):
        raise ValueError(f"{name}: V has shape {tuple(V.shape)}; expected (K, {len(W)}), a column for each neuron")
    return W, b, V.T[None]


def _weights(name, given):
    """W (p, d), and b (p,) or None, of (W,) or (W, b)."""
    W = check_matrix(f"{name}: W", _tensor(f"{name}: W", given[0]))
    b = _tensor(f"{name}: b", given[1]) if len(given) == 2 else None
    if b is not None and b.shape != W.shape[:1]:
        raise ValueError(f"{name}: b has shape {tuple(b.shape)}; expected ({len(W)},)")
    return W, b


def _layer_of_tensors(name, given, layer, head):
    """The same without a read-out."""
    if layer is not None:
        raise ValueError("layer= names a layer of networks; tuples of tensors have none")
    if not isinstance(given, tuple | list) or len(given) not in (1, 2):
        raise TypeError(
            f"{name} is a {type(given).__name__}; pass a network, or the tensors (W,) or (W, b) of its first layer"
        )
    W, b = _weights(name, given)
    return W, b, W.new_zeros(1, len(W), 0)


def _relu(module) -> bool | None:
    """Whether a module is a ReLU; None where it is no activation that is known here."""
    if isinstance(module, nn.ReLU):
        return True
    named = getattr(module, "activation", None)
    if isinstance(named, Activation):
        return named == get_activation("relu")
    return False if module.__module__ == "torch.nn.modules.activation" else None


def _of_network(name, network, layer, head):
    """The same of a network whose modules stand in the order in which they are applied."""
    leaves, names, trained, start = _start(name, network, layer)
    end = _named(names, head, "head") if head is not None else next((k for k in trained if k > start), None)
    if end is None or end <= start or not isinstance(leaves[end][1], nn.Linear):
        raise ValueError(
            f"{name}: {names[start]!r} must be followed by a linear layer that reads its neurons out; name it by head="
        )
    first, last, active, pooled = leaves[start][1], leaves[end][1], 0, False
    for at, module in leaves[start + 1 : end]:
        relu = _relu(module)
        active += bool(relu)
        pooled |= isinstance(module, _POOLS)
        if relu is False:
            raise ValueError(
                f"{name}: {at!r} is {module}; the change of a first layer is a parallelepiped for ReLU alone. The span "
                "of its inputs is read off for any activation: reconlaw.networks.input_span"
            )
        single = isinstance(module, _POOLS) and set(_tuple(module.output_size)) == {1}
        if relu is None and not single and not isinstance(module, _SILENT):
            raise ValueError(
                f"{name}: {at!r} is {module}, which is not supported between a first layer and its read-out"
            )
    if active != 1:
        raise ValueError(
            f"{name}: between {names[start]!r} and {names[end]!r} stand {active} ReLU modules; expected one"
        )
    W, b = _ungrouped(name, names[start], first)
    V = _tensor(f"{name}: V", last.weight)
    positions, rest = divmod(V.shape[1], len(W))
    if rest or positions < 1 or positions > 1 and (pooled or isinstance(first, nn.Linear)):
        raise ValueError(f"{name}: {names[end]!r} takes {V.shape[1]} numbers, which {len(W)} neurons do not give")
    return W, b, V.reshape(len(V), len(W), positions).permute(2, 1, 0)


def _start(name, network, layer):
    """The modules without children as (name, module), their names, where linear layers stand, and where the layer."""
    leaves = [(at, module) for at, module in network.named_modules() if not any(module.children())]
    names = [at for at, _ in leaves]
    trained = [k for k, (_, module) in enumerate(leaves) if isinstance(module, (nn.Linear, *_CONVOLUTIONS))]
    start = _named(names, layer, "layer") if layer is not None else trained[0] if trained else None
    if start is None or start not in trained:
        raise ValueError(f"{name} has no linear layer or convolution {layer or ''}; name the first one by layer=")
    return leaves, names, trained, start


def _ungrouped(name, at, module):
    """W (p, d), and b (p,) or None, of a linear layer or convolution."""
    if groups_of(module) > 1:
        raise ValueError(f"{name}: {at!r} has groups={module.groups}; each group would be a layer of its own")
    W = _tensor(f"{name}: {at}.weight", module.weight).flatten(1)
    return W, None if module.bias is None else _tensor(f"{name}: {at}.bias", module.bias)


def _layer_of_network(name, network, layer, head):
    """The same without a read-out: the layer, whose outputs a ReLU takes as they are."""
    leaves, names, _, start = _start(name, network, layer)
    at, module = next((leaf for leaf in leaves[start + 1 :] if not isinstance(leaf[1], _SILENT)), ("", None))
    if module is None or not _relu(module):
        what = "nothing" if module is None else f"{at!r}, {module}"
        raise ValueError(
            f"{name}: {names[start]!r} is followed by {what}; neurons are silent to samples where a ReLU takes their "
            "values as they are. Where the ReLU is no module, pass the layer's tensors (W,) or (W, b)"
        )
    W, b = _ungrouped(name, names[start], leaves[start][1])
    return W, b, W.new_zeros(1, len(W), 0)


def _tuple(value):
    return value if isinstance(value, tuple | list) else (value,)


def _named(names, name, what):
    """Where a layer of that name stands."""
    if name not in names:
        raise ValueError(f"there is no layer {name!r} for {what}=; the network has {', '.join(names[:12])}")
    return names.index(name)


def read_rank(change: Change, n) -> tuple[int, str]:
    """Dimension of the span of the inputs, 0 where the change fills the space; and what is odd about it, in words."""
    s, floor, above = change.spectrum
    p, m = change.D.shape
    below = s.clamp_min(floor)
    drops = below[:-1] / below[1:]
    if n is not None and n < len(s) and float(drops[n - 1]) >= _GAP:
        return n, "" if above == n else f"the change has more directions than n={n}, as noise leaves them"
    at = int(drops.argmax()) + 1 if len(drops) else len(s)
    rank = above if above < len(s) else at if len(drops) and float(drops[at - 1]) >= _GAP else 0
    if not rank or rank == len(s) and p <= 2 * m:
        return 0, ""
    if n is not None and n != rank:
        why = (
            "samples that coincide or depend on others count once" if n > rank else "there are more, or more than them"
        )
        return rank, f"the change has rank {rank}, not n={n}: {why}"
    return rank, ""
