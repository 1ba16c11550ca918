r"""Activations with their derivative, parity and Hermite coefficients.

An activation splits as φ = φ_e + φ_o, φ_e(z) = (φ(z) + φ(−z))/2 and φ_o(z) = (φ(z) − φ(−z))/2. Where one part
vanishes, Φ(−x) = ±Φ(x): the span of the features is the same for x and −x, and no method can tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

import torch
import torch.nn.functional as F

from .built_in import BUILT_IN, Elementwise, built_in, relu_and_tanh
from .hermite import hermite_coefficients, parity

ACTIVATIONS = tuple(BUILT_IN)


def _autograd_derivative(f: Elementwise, z: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode(False), torch.enable_grad():
        z = (z.clone() if z.is_inference() else z.detach()).requires_grad_(True)
        value = f(z)
        if not value.requires_grad:
            return torch.zeros_like(z)
        return torch.autograd.grad(value.sum(), z)[0]


@dataclass(frozen=True)
class Activation:
    """An elementwise function φ with its derivative φ'; call it, or ``derivative``, on a tensor of any shape.

    Attributes:
        name: the built-in's name, or the callable's.
        f: φ.
        derivative: φ' (almost everywhere; where φ has a kink at 0 the built-ins count 0 for the kinked part).
        parity: "even", "odd" or "mixed".
    """

    name: str
    f: Elementwise
    derivative: Elementwise

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        return self.f(z)

    def __reduce__(self):  # a built-in is pickled by its name, since a lambda has none
        if self.built_in:
            return get_activation, (self.name,)
        return Activation, (self.name, self.f, self.derivative)

    @property
    def built_in(self) -> bool:
        """Whether this is the activation of its name: a function of one's own may be called "relu" as well."""
        return BUILT_IN.get(self.name) == (self.f, self.derivative)

    def write(
        self,
        z: torch.Tensor,
        plus: torch.Tensor,
        minus: torch.Tensor | None = None,
        scratch: torch.Tensor | None = None,
    ) -> None:
        """Write φ(z) to ``plus``, and φ(−z) to ``minus`` where given, which z may be where these :attr:`tell` φ'.

        ``scratch``, of the shape of z, is written to in the place of new memory.
        """
        if self.f in (F.relu, relu_and_tanh):  # without temporaries: z⁻ = z⁺ − z, exactly
            # It is odd, and costs more than the product with V.
            tanh = torch.tanh(z, out=scratch) if self.f is relu_and_tanh else None
            torch.clamp_min(z, 0, out=plus)
            if minus is not None:
                torch.sub(plus, z, out=minus)
            if tanh is not None:
                plus.add_(tanh)
                if minus is not None:
                    minus.sub_(tanh)
            return
        plus.copy_(self.f(z))
        if minus is not None:
            minus.copy_(self.f(-z))

    @property
    def tell(self) -> bool:
        """Whether φ(z) and φ(−z) tell φ'(z) and φ'(−z): of ReLU by their signs, and less of them gives tanh |z|."""
        return self.f in (F.relu, relu_and_tanh) and self.built_in

    def told(self, plus: torch.Tensor, minus: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """φ'(z) and φ'(−z), new tensors, of φ(z) and φ(−z), where these :attr:`tell` them."""
        if self.f is F.relu:
            return plus.sign(), minus.sign()
        sech2 = torch.minimum(plus, minus).square_().neg_().add_(1)  # min(φ(z), φ(−z)) = −tanh |z|, exactly
        return plus.clamp_min(0).sign_().add_(sech2), minus.clamp_min(0).sign_().add_(sech2)

    def write_slopes(
        self,
        plus: torch.Tensor,
        minus: torch.Tensor,
        a: torch.Tensor,
        b: torch.Tensor,
        out: torch.Tensor,
        scratch: torch.Tensor,
    ) -> None:
        """Write a φ'(z) − b φ'(−z) to ``out``, as :meth:`told` and without temporaries; ``scratch`` is written to."""
        if self.f is F.relu:
            torch.sign(plus, out=out).mul_(a)
            torch.sign(minus, out=scratch)
        else:
            torch.minimum(plus, minus, out=out).square_().sub_(1).mul_(b - a)
            out.addcmul_(torch.clamp_min(plus, 0, out=scratch).sign_(), a)
            torch.clamp_min(minus, 0, out=scratch).sign_()
        out.addcmul_(scratch, b, value=-1)

    def even(self, z: torch.Tensor) -> torch.Tensor:
        """φ_e(z) = (φ(z) + φ(−z))/2, a new tensor."""
        if self.f in (F.relu, relu_and_tanh):
            return z.abs().mul_(0.5)
        return self.f(z).add(self.f(-z)).mul_(0.5)

    def odd(self, z: torch.Tensor) -> torch.Tensor:
        """φ_o(z) = (φ(z) − φ(−z))/2, a new tensor."""
        if self.f is F.relu:
            return z * 0.5
        if self.f is relu_and_tanh:
            return torch.tanh(z).add_(z, alpha=0.5)
        return self.f(z).sub(self.f(-z)).mul_(0.5)

    @cached_property
    def parity(self) -> str:
        """``"even"``, ``"odd"`` or ``"mixed"``: which Hermite coefficients are not all zero."""
        return parity(self.f)

    def hermite(self, degree: int) -> torch.Tensor:
        """Coefficients μ_0 … μ_degree in the orthonormal Hermite basis, shape (degree + 1,), float64."""
        return hermite_coefficients(self.f, degree)


def get_activation(activation: str | Elementwise | Activation, derivative: Elementwise | None = None) -> Activation:
    """The :class:`Activation` of a name or of any elementwise callable.

    Args:
        activation: one of ``reconlaw.ACTIVATIONS``, or a callable from a tensor to a tensor of the same shape.
        derivative: φ' of a callable; autograd differentiates it where none is given.

    Raises:
        TypeError: neither a name nor a callable, or a derivative given to what has one.
        ValueError: an unknown name; a callable, or its derivative, that is not elementwise, changes or refuses a dtype,
            has parameters that require gradients, writes to its argument or gives NaN on [−4, 4]; one that autograd
            cannot differentiate, with no derivative given.
    """
    if derivative is not None and isinstance(activation, str | Activation):
        raise TypeError("derivative is for a callable; a built-in or an Activation has its own")
    if isinstance(activation, Activation):
        return activation
    if isinstance(activation, str):
        return Activation(activation, *built_in(activation))
    if not callable(activation):
        raise TypeError(f"activation is a {type(activation).__name__}; pass a name or an elementwise callable")
    if derivative is None:
        for name, (f, _) in BUILT_IN.items():
            if activation is f or (activation is torch.relu and f is F.relu):
                return get_activation(name)
    _check_elementwise(activation, "the activation")
    if derivative is None:
        derivative = partial(_autograd_derivative, activation)
        z = _probe()
        try:
            flat = not derivative(z).any()
        except RuntimeError as error:
            raise ValueError(f"autograd cannot differentiate the activation ({error}); pass its derivative") from error
        if flat and (activation(z + 1e-3) != activation(z - 1e-3)).sum() > len(z) // 2:
            raise ValueError("autograd sees a constant in the activation (does it leave torch?); pass its derivative")
    elif not callable(derivative):
        raise TypeError(f"derivative is a {type(derivative).__name__}; pass an elementwise callable")
    _check_elementwise(derivative, "the derivative")
    name = getattr(activation, "__name__", type(activation).__name__)
    return Activation(name, activation, derivative)


def check_device(activation: Activation, device: torch.device) -> None:
    """ValueError where φ or φ' holds tensors that ``device`` cannot take beside its own."""
    if device.type == "cpu":  # get_activation has tried there
        return
    z = _probe().float().to(device)
    try:
        activation(z), activation.derivative(z)
    except RuntimeError as error:
        raise ValueError(f"the activation fails on {device} ({error}); {_WHAT_TO_HOLD}") from error


_WHAT_TO_HOLD = (
    "tensors that it holds are of one device: let it hold plain numbers, or 0-dimensional tensors on the CPU, which "
    "serve on every device"
)


def _probe() -> torch.Tensor:
    return torch.linspace(-4, 4, 9, dtype=torch.float64, device="cpu")


def _check_elementwise(f: Elementwise, name: str) -> None:
    z = _probe()
    try:
        f(z.float())
        value = f(z)
    except Exception as error:
        if "same device" in str(error):
            raise ValueError(f"{name} fails on the CPU ({error}); {_WHAT_TO_HOLD}") from error
        raise ValueError(
            f"{name} must take float32 and float64 alike, and fails ({type(error).__name__}: {error})"
        ) from error
    if isinstance(value, torch.Tensor) and value.requires_grad:
        raise ValueError(f"{name} has parameters that are trained; call requires_grad_(False) on it")
    if not torch.equal(z, _probe()):
        raise ValueError(f"{name} writes to its argument; return a new tensor")
    elementwise = (
        isinstance(value, torch.Tensor)
        and (value.shape, value.dtype) == (z.shape, z.dtype)
        and torch.allclose(f(z[2:4].clone()), value[2:4], equal_nan=True)
    )
    if not elementwise:
        raise ValueError(f"{name} must map a tensor to one of the same shape and dtype, entry by entry")
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name} gives NaN or infinity on [−4, 4]; it must be finite on the real line")
