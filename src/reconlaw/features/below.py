r"""What a layer of a model sees of each input: the feature map of the first layer that was trained.

Whatever is trained above it, and however often, the first trained layer sees inputs that never move: those that the
frozen part below makes of the data. Each gradient of its weight W (K × p) is a combination of them, so that

    W_after − W_before = Σ_i Σ_t a_it h_t(x_i)ᵀ,        a_it ∈ R^K,

holds to rounding, h_t(x) ∈ R^p what the layer sees at position t of x: one vector a sample for a head, one a token for
a linear layer on sequences, one a patch for a convolution. The same holds of the first factor A of a low-rank adapter
W + BA on that layer.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import Sequence

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from .._checks import as_tensor, check_input_shape
from .._words import many, some
from .module_features import ModuleError, ModuleFeatures, copied

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)


class LayerError(ModuleError):
    """A layer, or the model below it, that cannot be attacked, and why."""


def layer_of(module: nn.Module, name: str) -> nn.Module:
    """The linear or convolutional layer of that name.

    Raises:
        LayerError: no such layer, or one of another kind; the message lists those that there are.
    """
    shown = some((key for key, layer in module.named_modules() if isinstance(layer, LAYERS)), none="none")
    try:
        layer = module.get_submodule(name) if isinstance(name, str) and name else None
    except AttributeError:
        layer = None
    if layer is None:
        raise LayerError(f"the model has no layer {name!r}; its linear and convolutional layers are: {shown}")
    if not isinstance(layer, LAYERS):
        raise LayerError(
            f"{name!r} is a {type(layer).__name__}; a torch.nn.Linear, Conv1d or Conv2d is wanted. Such layers of the "
            f"model: {shown}"
        )
    return layer


def groups_of(layer: nn.Module) -> int:
    """Into how many groups a layer's channels are parted; a linear layer's into one."""
    return int(getattr(layer, "groups", 1))


def patches(layer: nn.Conv1d | nn.Conv2d, h: torch.Tensor) -> torch.Tensor:
    r"""What a convolution multiplies its weight with: (n, T, g·C·k) of inputs (n, C·g, …), T its output positions.

    With g groups the columns of one group are zero where the others' weights are, g·T columns a sample.
    """
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        h, padding = nn.functional.pad(h, layer._reversed_padding_repeated_twice, mode=mode), (0,) * len(layer.stride)
    else:
        padding = layer.padding
    size, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
    if len(size) == 1:  # unfold takes pictures
        h = h[:, :, None]
        size, stride, dilation, padding = (1, *size), (1, *stride), (1, *dilation), (0, *padding)
    columns = nn.functional.unfold(h, size, dilation, padding, stride).transpose(1, 2)  # (n, T, C g k)
    g = layer.groups
    if g == 1:
        return columns
    n, T, width = columns.shape
    parted = columns.reshape(n, T, g, width // g)
    return (parted[:, :, :, None] * torch.eye(g).to(h)[:, :, None]).reshape(n, T * g, width)


def change_of(weight: torch.Tensor, groups: int = 1) -> torch.Tensor:
    """The change of a layer's weight as θ (K, p), in the columns' order; of a convolution a filter a row."""
    weight = weight.flatten(1)
    if groups == 1:
        return weight
    blocks = weight.unflatten(0, (groups, -1))  # (g, K/g, C k)
    return (blocks[:, :, None] * torch.eye(groups).to(weight)[:, None, :, None]).flatten(2).flatten(0, 1)


class LayerInput(nn.Module):
    """x ↦ what the model feeds to one of its layers on scale·x, (n, p) or (n, T, p), whatever it does after that.

    Gradients flow even where the model runs its body under ``no_grad`` or detaches what comes out of it, as in training
    a linear probe: the attack differentiates the same function.
    """

    def __init__(self, model: nn.Module, layer: str, scale: float = 1.0):
        super().__init__()
        self.scale = scale
        self.model = copied(model).eval()
        self._keyword = _only_keyword(self.model)
        target = layer_of(self.model, layer)
        self._tap = [_Tap(target)]  # in a list: it is registered below
        self.names: list[str] = []
        for name, part in list(self.model.named_modules(remove_duplicate=False)):
            if part is target:  # shared weights have several names, and all their inputs count
                self.names.append(name)
                parent, _, leaf = name.rpartition(".")
                setattr(self.model.get_submodule(parent), leaf, self._tap[0])

    def forward(self, X):
        tap = self._tap[0]
        tap.seen = []
        try:
            with _WithGradients() if torch.is_grad_enabled() else contextlib.nullcontext():
                try:
                    self.model(**{self._keyword: X * self.scale}) if self._keyword else self.model(X * self.scale)
                except Exception as error:
                    if len(tap.seen) != 1:  # what follows the layer may fail, and does not matter
                        raise _diagnosed(self.model, X, error) from error
            calls = len(tap.seen)
            if calls != 1:
                raise LayerError(f"the layer must be called once for an input; it was called {calls} times")
            return self._columns(tap.layer, tap.seen[0], len(X))
        finally:
            tap.seen = []

    def probe(self, shape) -> torch.Tensor:
        """What comes out of two inputs of zeros, on the device where the model's parameters are."""
        where = next(
            itertools.chain(self.model.parameters(), self.model.buffers()), torch.empty(0, device="cpu")
        ).device
        with torch.no_grad():
            return self(torch.zeros(2, *shape, dtype=torch.float64, device=where))

    def load(self, state: dict) -> None:
        """Take the tensors of a state dictionary of the model, under the names they have there."""
        tensors = {**self.model.state_dict()}
        for name, value in state.items():
            inside = next((own for own in self.names if name.startswith(f"{own}.") and name not in tensors), None)
            tensors[name if inside is None else f"{inside}.layer.{name.removeprefix(inside + '.')}"] = value
        self.model.load_state_dict(tensors)

    @staticmethod
    def _columns(layer, h, n):
        if h.ndim < 2 or len(h) != n:
            raise LayerError(f"the layer is given {tuple(h.shape)} of {many(n, 'input')}; a row for each is needed")
        linear = isinstance(layer, nn.Linear)
        given, taken = (h.shape[-1], layer.in_features) if linear else (h.shape[1], layer.in_channels)
        if given != taken:
            raise LayerError(f"the layer takes {taken} numbers and is given {given}; does input_shape fit the model?")
        if not linear:
            return patches(layer, h)
        return h if h.ndim == 2 else h.flatten(1, -2)


class _WithGradients(TorchFunctionMode):
    """Gradients stay on, whatever the code within says."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.detach:
            return args[0]
        if function is torch._C._set_grad_enabled:
            args = (True,)
        return function(*args, **(kwargs or {}))


def _required(model):
    parameters = inspect.signature(model.forward).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p for p in parameters if p.default is p.empty and p.kind in kinds]


def _only_keyword(model) -> str | None:
    """The name of the input of a model that takes it by name alone, as those of Hugging Face may."""
    needed = _required(model)
    alone = len(needed) == 1 and needed[0].kind is inspect.Parameter.KEYWORD_ONLY
    return needed[0].name if alone else None


def _diagnosed(model, X, error) -> LayerError:
    """What is wrong with a model that fails on inputs X, as far as it can be told."""
    text = " ".join(str(error).split())
    needed, shape = _required(model), tuple(X.shape[1:])
    if len(needed) > 1:
        return LayerError(
            f"the model takes {len(needed)} inputs ({', '.join(p.name for p in needed)}), and one is looked for; "
            "wrap it in a module that takes the input in question and holds the others fixed"
        )
    first = next((m for m in model.modules() if not list(m.children()) and not isinstance(m, _Tap)), None)
    if isinstance(first, nn.Embedding | nn.EmbeddingBag) or "indices to be one of the following types" in text:
        return LayerError(
            "the model takes token ids, whole numbers without a gradient; attack it from its embedding on: pass a "
            "module that takes the embedded sequence, and input_shape (length, width)"
        )
    if "Byte" in text or "uint8" in text or "unsigned char" in text:
        return LayerError(
            "the model takes uint8 pixels; pass a module that takes the same pixels as floating numbers (0 to 255) and "
            "skips the cast"
        )
    return LayerError(
        f"the model fails on an input of shape {shape} ({type(error).__name__}: {text[:200]}); does input_shape fit "
        "its first layer?"
    )


class _Tap(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer, self.seen = layer, []

    def forward(self, h, *_, **__):
        self.seen.append(h)
        return self.layer(h)


class BelowLayer(ModuleFeatures):
    """The feature map of the part of a model below one of its layers: what :func:`below` makes."""

    def __init__(
        self,
        module: nn.Module,
        layer: str,
        input_shape: int | Sequence[int],
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "auto",
    ) -> None:
        kind = layer_of(module, layer)
        self.layer, self.groups = layer, groups_of(kind)
        self._weight_shape = tuple(kind.get_parameter("weight").shape)
        shape = check_input_shape(input_shape)
        body = LayerInput(module, layer).to(torch.float64)
        seen = body.probe(shape)
        super().__init__(body, shape, dtype, device, several=seen.ndim == 3)

    def check_theta(self, theta, outputs=None):
        """θ, (p,) or (K, p), or the change of the layer's weight in the weight's own shape; as of a feature map."""
        theta = as_tensor(theta)
        if tuple(theta.shape) == self._weight_shape:
            theta = change_of(theta, self.groups)
        return super().check_theta(theta, outputs)


def below(
    module: nn.Module,
    layer: str,
    input_shape: int | Sequence[int],
    dtype: torch.dtype = torch.float64,
    device: str | torch.device = "auto",
) -> ModuleFeatures:
    r"""What a layer of a model sees of each input: ``reconstruct(after − before, below(model, layer, shape), n)``.

    For the first layer that was trained, whatever was trained above it: its inputs never moved, so its change lies in
    their span, at all positions. A linear layer sees one column a sample, or one a token; a convolution one a patch, in
    T = (output height)·(output width) positions (times g, of g groups). θ is the change of the layer's weight, as it
    is: ``reconstruct`` accepts the weight's own shape. Of a low-rank adapter it is the change of A.

    Args:
        module: the model, a ``torch.nn.Module``, with the parameters that its part below the layer had in training.
        layer: name of a ``torch.nn.Linear``, ``Conv1d`` or ``Conv2d`` in it, called once for an input.
        input_shape: of one input, such as (3, 32, 32).
        dtype: torch.float64 or torch.float32.
        device: "auto" or any torch device.

    Returns:
        :class:`~reconlaw.ModuleFeatures` of p features and ``positions`` T.

    Raises:
        LayerError: no such layer, one of another kind, one that is called more than once, a model that fails on an
            input of that shape.
        TypeError, ValueError: as :class:`~reconlaw.ModuleFeatures` does.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3, stride=2))
        >>> features = below(model, "2", (1, 7, 7), device="cpu")
        >>> features.d, features.p, features.positions  # 4·3·3 numbers at each of 2·2 positions
        (49, 36, 4)
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module is a {type(module).__name__}; pass the model, a torch.nn.Module")
    return BelowLayer(module, layer, input_shape, dtype, device)
