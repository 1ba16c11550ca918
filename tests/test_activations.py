import math
import pickle

import pytest
import torch
from helpers import PARITY
from hypothesis import given, settings
from hypothesis import strategies as st

import reconlaw as rl
from reconlaw.features.activations import ACTIVATIONS, Activation, get_activation

each_activation = pytest.mark.parametrize("name", ACTIVATIONS)


def test_parity_is_known_for_every_built_in():
    assert {name: get_activation(name).parity for name in ACTIVATIONS} == PARITY


@each_activation
@settings(max_examples=50)
@given(z=st.floats(-30, 30).filter(lambda z: abs(z) > 1e-6))
def test_derivative_is_that_of_autograd(name, z):
    phi = get_activation(name)
    z = torch.tensor([z], dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(phi(z).sum(), z)
    torch.testing.assert_close(phi.derivative(z.detach()), expected, rtol=1e-10, atol=1e-12)


@each_activation
def test_derivative_is_that_of_central_differences(name):
    phi, h = get_activation(name), 1e-5
    z = torch.linspace(-5, 5, 400, dtype=torch.float64)  # 0 is not among them
    numeric = (phi(z + h) - phi(z - h)) / (2 * h)
    torch.testing.assert_close(phi.derivative(z), numeric, rtol=0, atol=1e-8)


@pytest.mark.parametrize(("name", "at_zero"), [("relu", 0.0), ("abs", 0.0), ("relu+tanh", 1.0)])
def test_derivative_at_the_kink_is_the_documented_one(name, at_zero):
    assert float(get_activation(name).derivative(torch.zeros(1))) == at_zero


@each_activation
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_dtype_are_kept(name, dtype):
    phi, z = get_activation(name), torch.randn(2, 3, 4, dtype=dtype)
    before = z.clone()
    for value in (phi(z), phi.derivative(z)):
        assert value.shape == z.shape and value.dtype == dtype
    assert torch.equal(z, before)


@each_activation
def test_finite_far_out(name):
    z = torch.tensor([-1e4, 1e4], dtype=torch.float32)
    phi = get_activation(name)
    assert torch.isfinite(phi(z)).all() and torch.isfinite(phi.derivative(z)).all()


def test_softplus_has_no_jump():
    z = torch.tensor([20 - 1e-9, 20 + 1e-9], dtype=torch.float64)
    value = get_activation("softplus")(z)
    assert abs(float(value[1] - value[0]) - 2e-9) < 1e-12


def test_callable_is_differentiated_by_autograd():
    phi = get_activation(lambda z: z**3 - torch.sin(z))
    z = torch.linspace(-3, 3, 50, dtype=torch.float64)
    torch.testing.assert_close(phi.derivative(z), 3 * z**2 - torch.cos(z), rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(phi.derivative(z), 3 * z**2 - torch.cos(z), rtol=1e-12, atol=1e-12)
    assert not phi.derivative(z).requires_grad
    assert phi.parity == "odd"


def test_callable_that_is_constant_in_pieces_has_derivative_zero():
    phi = get_activation(lambda z: (z > 0).to(z.dtype))
    assert not phi.derivative(torch.linspace(-1, 1, 7)).any()


def test_given_derivative_is_used():
    phi = get_activation(torch.sin, torch.cos)
    assert phi.derivative is torch.cos and phi.name == "sin"


def test_module_is_an_activation():
    phi = get_activation(torch.nn.ELU())
    assert phi.name == "ELU" and phi.parity == "mixed"


@pytest.mark.parametrize("name", [*ACTIVATIONS, "a callable", "with a derivative"])
def test_an_activation_can_be_pickled(name):
    made = {"a callable": (torch.sinh,), "with a derivative": (torch.sin, torch.cos)}.get(name, (name,))
    phi, z = get_activation(*made), torch.linspace(-2, 2, 9, dtype=torch.float64)
    again = pickle.loads(pickle.dumps(phi))
    assert again == phi or name == "a callable"
    assert torch.equal(again(z), phi(z)) and torch.equal(again.derivative(z), phi.derivative(z))


def test_an_activation_knows_whether_it_is_built_in():
    def relu(z):
        return torch.relu(3 * z)

    assert all(get_activation(name).built_in for name in ACTIVATIONS)
    assert not get_activation(relu).built_in and get_activation(relu).name == "relu"
    assert not get_activation(torch.relu, torch.ones_like).built_in  # the function, with another derivative
    assert not Activation("relu", torch.relu, torch.ones_like).built_in
    assert pickle.loads(pickle.dumps(get_activation("relu"))).built_in


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (torch.relu, "relu"),
        (torch.nn.functional.relu, "relu"),
        (torch.tanh, "tanh"),
        (torch.nn.functional.gelu, "gelu"),
    ],
)
def test_torchs_own_function_is_the_built_in(function, name):
    assert get_activation(function) == get_activation(name)


def test_activation_passes_through_and_knows_its_coefficients():
    phi = get_activation("abs")
    assert isinstance(phi, Activation) and get_activation(phi) is phi
    torch.testing.assert_close(phi.hermite(3), rl.hermite_coefficients(torch.abs, 3))


def numpy_relu(z):
    return torch.from_numpy(z.detach().numpy().clip(0))


def in_place_relu(z):
    return z.clamp_(min=0)


class Trained(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, z):
        return torch.relu(z) + self.slope * torch.sin(z)


@pytest.mark.parametrize(
    ("activation", "derivative", "error", "message"),
    [
        ("swish", None, ValueError, "unknown activation 'swish'.*relu\\+tanh"),
        (3, None, TypeError, "int"),
        (None, None, TypeError, "NoneType"),
        (lambda z: torch.softmax(z, -1), None, ValueError, "entry by entry"),
        (lambda z: z.flip(0), None, ValueError, "entry by entry"),
        (lambda z: z.sum(), None, ValueError, "same shape"),
        (lambda z: 1.0, None, ValueError, "same shape"),
        (lambda z: z.float(), None, ValueError, "dtype"),
        (lambda z: z > 0, None, ValueError, "dtype"),
        (torch.log, None, ValueError, "NaN or infinity"),
        (lambda z: 1 / z, None, ValueError, "NaN or infinity"),
        (in_place_relu, None, ValueError, "writes to its argument"),
        (numpy_relu, lambda z: z.sum(), ValueError, "the derivative must map"),
        (numpy_relu, None, ValueError, "leave torch"),
        (torch.sin, torch.log, ValueError, "the derivative gives NaN"),
        (torch.sin, 3, TypeError, "derivative is a int"),
        (lambda z: z.abs().sqrt(), None, ValueError, "the derivative gives NaN"),
        (math.tanh, None, ValueError, "the activation must take float32 and float64 alike"),
        (torch.nn.PReLU(), None, ValueError, "the activation must take float32 and float64 alike"),
        (torch.nn.PReLU().double().requires_grad_(False), None, ValueError, "must take float32"),
        (Trained(), None, ValueError, "has parameters that are trained"),
        ("relu", torch.cos, TypeError, "has its own"),
    ],
)
def test_what_is_no_activation_is_refused(activation, derivative, error, message):
    with pytest.raises(error, match=message):
        get_activation(activation, derivative)


class Undifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        return z.sign()


def test_callable_without_autograd_asks_for_a_derivative():
    with pytest.raises(ValueError, match="pass its derivative"):
        get_activation(Undifferentiable.apply)
    assert get_activation(Undifferentiable.apply, torch.zeros_like).parity == "odd"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", rl.ACTIVATIONS)
def test_written_pairs_are_the_values_at_both_signs_bit_for_bit(name, dtype):
    phi = rl.get_activation(name)
    z = 4 * torch.randn(7, 1001, generator=torch.Generator().manual_seed(0), dtype=dtype)
    z[0, :2] = torch.tensor([0.0, 60.0])
    pair = torch.empty(14, 1001, dtype=dtype)
    phi.write(z, pair[:7], pair[7:])
    assert torch.equal(pair[:7], phi(z)) and torch.equal(pair[7:], phi(-z))
    alone = torch.empty_like(z)
    phi.write(z, alone)
    assert torch.equal(alone, phi(z))
    assert phi.tell == (name in ("relu", "relu+tanh"))
    if phi.tell:  # z may be where φ(−z) goes, and φ' comes back of the two; of ReLU z does as well, bit for bit
        pair[7:] = z
        phi.write(pair[7:], pair[:7], pair[7:], torch.empty_like(z))
        assert torch.equal(pair[:7], phi(z)) and torch.equal(pair[7:], phi(-z))
        assert name != "relu" or torch.equal(pair[:7] - pair[7:], z)
        slopes, a, b = phi.told(pair[:7], pair[7:]), torch.rand(7, 1, dtype=dtype), torch.rand(7, 1, dtype=dtype)
        for slope, at in zip(slopes, (z, -z), strict=True):
            torch.testing.assert_close(slope, phi.derivative(at), rtol=0, atol=2 * torch.finfo(dtype).eps)
        out, expected = torch.empty_like(z), a * phi.derivative(z) - b * phi.derivative(-z)
        phi.write_slopes(pair[:7], pair[7:], a, b, out, torch.empty_like(z))
        torch.testing.assert_close(out, expected, rtol=0, atol=8 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("activation", [*rl.ACTIVATIONS, lambda z: z**3 - torch.sin(z) + z**2])
def test_even_and_odd_part_are_what_their_definition_says(activation):
    phi = rl.get_activation(activation)
    z = torch.linspace(-5, 5, 101, dtype=torch.float64)
    kept = z.clone()
    torch.testing.assert_close(phi.even(z), (phi(z) + phi(-z)) / 2, rtol=1e-15, atol=1e-15)
    torch.testing.assert_close(phi.odd(z), (phi(z) - phi(-z)) / 2, rtol=1e-14, atol=1e-14)
    assert torch.equal(z, kept)
