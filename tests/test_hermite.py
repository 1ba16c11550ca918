import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reconlaw.features.activations import ACTIVATIONS, get_activation
from reconlaw.features.hermite import (
    gaussian_quadrature,
    hermite_coefficients,
    hermite_polynomials,
    most_samples,
    parity,
)

DEGREE = 60


def relu(k):
    """E[g₊ h_k(g)]: 1/√2π, 1/2, then (−1)^{k/2−1} (k−3)!!/√(2π k!) for even k and 0 for odd."""
    if k < 2:
        return (1 / math.sqrt(2 * math.pi), 0.5)[k]
    if k % 2:
        return 0.0
    log = sum(math.log(j) for j in range(k - 3, 0, -2)) - 0.5 * math.lgamma(k + 1)
    return (-1) ** (k // 2 - 1) * math.exp(log) / math.sqrt(2 * math.pi)


def absolute(k):
    """|z| = 2 relu(z) − z."""
    return 2 * relu(k) - (k == 1)


def erf(k):
    """√k! μ_k = E[erf⁽ᵏ⁾(g)]; by Gaussian integration, 2/√π (−2)^m (2m−1)!!/√3^{2m+1} … for k = 2m + 1."""
    if k % 2 == 0:
        return 0.0
    m = (k - 1) // 2
    # E[erf'(g) He_{2m}(g)] with erf' = 2/√π e^{−z²}: g under e^{−z²} is Gaussian of variance s = 1/3,
    # and E[He_{2m}(√s g)] = (2m−1)!! (s − 1)^m.
    log = sum(math.log(j) for j in range(2 * m - 1, 0, -2)) + m * math.log(2 / 3) - 0.5 * math.lgamma(k + 1)
    return (-1) ** m * 2 / math.sqrt(math.pi) / math.sqrt(3) * math.exp(log)


@pytest.mark.parametrize(("name", "closed_form"), [("relu", relu), ("abs", absolute), ("erf", erf)])
def test_closed_forms(name, closed_form):
    expected = torch.tensor([closed_form(k) for k in range(DEGREE + 1)], dtype=torch.float64)
    torch.testing.assert_close(get_activation(name).hermite(DEGREE), expected, rtol=0, atol=1e-12)


def test_relu_at_the_highest_degree():
    assert hermite_coefficients(torch.relu, 200)[200].item() == pytest.approx(relu(200), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=9))
def test_polynomials_are_read_back(mu):
    mu = torch.tensor(mu, dtype=torch.float64)

    def phi(z):
        return hermite_polynomials(z, len(mu) - 1) @ mu

    found = hermite_coefficients(phi, 12)
    torch.testing.assert_close(found[: len(mu)], mu, rtol=0, atol=1e-11)
    assert found[len(mu) :].abs().max() < 1e-11


def test_polynomials_by_hand():
    z = torch.linspace(-3, 3, 13, dtype=torch.float64).reshape(13, 1)
    h = hermite_polynomials(z, 3)
    assert h.shape == (13, 1, 4)
    by_hand = [z**0, z, (z**2 - 1) / math.sqrt(2), (z**3 - 3 * z) / math.sqrt(6)]
    torch.testing.assert_close(h, torch.stack(by_hand, dim=-1), rtol=1e-13, atol=1e-13)


def test_orthonormal():
    z, w = gaussian_quadrature()
    H = hermite_polynomials(z, 20)
    torch.testing.assert_close(H.T @ (w[:, None] * H), torch.eye(21, dtype=torch.float64), rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_bessel_and_smooth_series(name):
    activation = get_activation(name)
    z, w = gaussian_quadrature()
    norm = (w * activation(z) ** 2).sum().item()
    energy = activation.hermite(150).square().cumsum(0)
    assert energy[-1].item() <= norm * (1 + 1e-12)
    assert energy[-1].item() == pytest.approx(norm, rel=2e-3)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_parity_agrees_with_coefficients(name):
    activation = get_activation(name)
    mu = activation.hermite(20).abs()
    even, odd = mu[0::2].max() > 1e-12, mu[1::2].max() > 1e-12
    assert (
        activation.parity
        == {(True, False): "even", (False, True): "odd", (True, True): "mixed"}[(bool(even), bool(odd))]
    )


def test_parity_of_callables():
    assert parity(torch.cos) == "even"
    assert parity(torch.sin) == "odd"
    assert parity(lambda z: torch.sin(z) + 1e-6 * z**2) == "mixed"
    assert parity(torch.sigmoid) == "mixed"


def test_a_name_will_do():
    torch.testing.assert_close(hermite_coefficients("tanh", 5), hermite_coefficients(torch.tanh, 5))


@pytest.mark.parametrize(
    ("phi", "count"),
    [
        (torch.square, 1),
        (lambda z: 3 * z - 2, 1),
        (lambda z: z * 0 + 1, 1),
        (lambda z: z * z + z, 2),
        (lambda z: z**3, math.inf),
        (lambda z: z * z + 1e-6 * torch.sin(z), math.inf),
        (torch.relu, math.inf),
        (torch.abs, math.inf),
    ],
)
def test_polynomials_of_degree_two_determine_few_samples(phi, count):
    assert most_samples(phi) == count


def test_bad_input():
    with pytest.raises(ValueError, match="zero on"):
        parity(torch.zeros_like)
    with pytest.raises(ValueError, match="NaN or infinite at z = -"):
        parity(torch.sqrt)
    with pytest.raises(ValueError, match="NaN or infinite"):
        hermite_coefficients(torch.log, 3)
    for degree in (-1, 1.5, 201, True):
        with pytest.raises(ValueError, match="degree"):
            hermite_coefficients(torch.tanh, degree)
    with pytest.raises(ValueError, match="degree"):
        hermite_polynomials(torch.zeros(1), -1)
