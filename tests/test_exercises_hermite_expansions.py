import math

import torch

from reconlaw import exercises
from reconlaw.features.hermite import hermite_polynomials


def factorials(degree):
    return torch.tensor([math.factorial(k) for k in range(degree + 1)], dtype=torch.float64)


def physicists(z, degree):
    h = [torch.ones_like(z), 2 * z]
    for k in range(1, degree):
        h.append(2 * z * h[k] - 2 * k * h[k - 1])
    return torch.stack(h[: degree + 1], dim=1)


def k(mu):
    return torch.arange(len(mu), dtype=torch.float64)


def signed(mu):
    return mu.square() * (-1.0) ** k(mu)


RIGHT = [
    (exercises.check_hermite_polynomials, hermite_polynomials),
    (exercises.check_derivative_coefficients, lambda mu: (k(mu).sqrt() * mu)[1:]),
    (exercises.check_flip_cosine, lambda mu: float(signed(mu).sum() / mu.square().sum())),
]
WRONG = [
    (exercises.check_hermite_polynomials, lambda z, m: hermite_polynomials(z, m) * factorials(m).sqrt(), "√k!"),
    (
        exercises.check_hermite_polynomials,
        lambda z, m: hermite_polynomials(z, m) / factorials(m).sqrt(),
        "divided by k!",
    ),
    (exercises.check_hermite_polynomials, physicists, "physicists'"),
    (exercises.check_hermite_polynomials, lambda z, m: z[:, None] ** torch.arange(m + 1), "monomials"),
    (exercises.check_hermite_polynomials, lambda z, m: hermite_polynomials(z, m).T, "columns"),
    (exercises.check_hermite_polynomials, lambda z, m: hermite_polynomials(z, max(m, 1)), "shape"),
    (exercises.check_hermite_polynomials, lambda z, m: None, "return statement"),
    (exercises.check_derivative_coefficients, lambda mu: mu[1:], "forget the factor"),
    (exercises.check_derivative_coefficients, lambda mu: (k(mu) * mu)[1:], "the factor k"),
    (exercises.check_derivative_coefficients, lambda mu: (k(mu).sqrt() * mu)[:-1], "falls by one"),
    (exercises.check_derivative_coefficients, lambda mu: k(mu)[:-1].sqrt() * mu[1:], "degree before"),
    (exercises.check_derivative_coefficients, lambda mu: k(mu)[1:].sqrt() * mu[:-1], "raises the degree"),
    (exercises.check_derivative_coefficients, lambda mu: k(mu).sqrt() * mu, "leave out"),
    (exercises.check_flip_cosine, lambda mu: signed(mu).sum(), "divide by the lengths"),
    (exercises.check_flip_cosine, lambda mu: (mu * (-1.0) ** k(mu)).sum() / mu.sum(), "squared"),
    (exercises.check_flip_cosine, lambda mu: (mu * (-1.0) ** k(mu)).sum(), "squared; and"),
    (exercises.check_flip_cosine, lambda mu: signed(mu).sum() / mu.norm(), "both feature vectors"),
    (exercises.check_flip_cosine, lambda mu: -signed(mu).sum() / mu.square().sum(), "other way round"),
    (exercises.check_flip_cosine, lambda mu: mu[0::2].square().sum() / mu.square().sum(), "share of the even"),
    (exercises.check_flip_cosine, lambda mu: mu[1::2].square().sum() / mu.square().sum(), "share of the odd"),
    (exercises.check_flip_cosine, lambda mu: mu.square().sum() / mu.square().sum(), "ignores the sign"),
    (exercises.check_flip_cosine, lambda mu: 0.123, "not yet"),
]
