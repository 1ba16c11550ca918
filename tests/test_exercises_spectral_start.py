import math

import torch

from reconlaw import exercises, hermite_polynomials


def ratio(mu, start=2, factor=2.0):
    return mu[start:].square().sum() / (factor * mu[2].square())


def moment(V, theta, Q, d=None, identity=None):
    p, d = len(V), V.shape[1] if d is None else d
    identity = theta.mean() if identity is None else identity
    return d / p * V.T @ (theta[:, None] * (V @ Q)) - identity * Q


def gradient(V, theta, u, weights=None):
    z = V @ u
    h = math.sqrt(3) * (z * z - 1) / math.sqrt(2) if weights is None else weights(z)
    return (theta * h) @ V / len(V)


def value(V, theta, u):
    return (theta * hermite_polynomials(V @ u, 3)[:, 3]).mean()


def along_the_sphere(V, theta, u):
    g = gradient(V, theta, u)
    return g - (g @ u) * u / (u @ u)


def on_the_sphere(V, theta, u):
    g = gradient(V, theta, u)
    return g * u.norm() / g.norm()


RIGHT = [
    (exercises.check_outlier_ratio, ratio),
    (exercises.check_apply_moment, moment),
    (exercises.check_third_moment_gradient, gradient),
]
RATIO, MOMENT, GRADIENT = (check for check, _ in RIGHT)
WRONG = [
    (RATIO, lambda mu: ratio(mu, start=0), "leave out μ₀ and μ₁"),
    (RATIO, lambda mu: ratio(mu, start=1), "leave out μ₁"),
    (RATIO, lambda mu: ratio(mu, start=3), "starts at k = 2"),
    (RATIO, lambda mu: ratio(mu, factor=1), "factor 2"),
    (RATIO, lambda mu: 1 / ratio(mu), "upside down"),
    (RATIO, lambda mu: mu[2:].square().sum() / (2 * mu[2].abs()), "enters squared"),
    (RATIO, lambda mu: mu[2:].square().sum() / (2 * mu[2]), "its sign"),
    (RATIO, lambda mu: ratio(mu, factor=0.5), "not with the edge"),
    (RATIO, lambda mu: ratio(mu).sqrt(), "the root"),
    (RATIO, lambda mu: mu[2:].sum() ** 2 / (2 * mu[2] ** 2), "not square the sum"),
    (RATIO, lambda mu: None, "return statement"),
    (MOMENT, lambda V, t, Q: moment(V, t, Q, identity=0), "forget the identity"),
    (MOMENT, lambda V, t, Q: moment(V, t, Q, d=1), "factor d"),
    (MOMENT, lambda V, t, Q: len(V) * moment(V, t, Q), "factor 1/p"),
    (MOMENT, lambda V, t, Q: moment(V, t, Q, identity=t.sum()), "the mean, not the sum"),
    (MOMENT, lambda V, t, Q: moment(V, t, Q, identity=1), "weighted, too"),
    (MOMENT, lambda V, t, Q: moment(V, t, Q, identity=-t.mean()), "subtracted"),
    (MOMENT, lambda V, t, Q: moment(V, torch.ones_like(t), Q), "weights"),
    (MOMENT, lambda V, t, Q: moment(V, t * t, Q), "enters once"),
    (MOMENT, lambda V, t, Q: moment(V, t, torch.eye(6).double()), "that is M itself"),
    (MOMENT, lambda V, t, Q: moment(V, t, Q).T, "transpose"),
    (MOMENT, lambda V, t, Q: moment(V, t, torch.eye(len(Q)).to(Q)) @ Q, "the way is not"),
    (GRADIENT, value, "a number"),
    (GRADIENT, lambda V, t, u: gradient(V, t, u, lambda z: (z**3 - 3 * z) / math.sqrt(6)), "with h₃"),
    (GRADIENT, lambda V, t, u: gradient(V, t, u) / math.sqrt(3), "factor √3"),
    (GRADIENT, lambda V, t, u: gradient(V, t, u, lambda z: z * z - 1), "z² − 1 = √2 h₂"),
    (GRADIENT, lambda V, t, u: gradient(V, t, u) * math.sqrt(3), "not 3 h₂"),
    (GRADIENT, lambda V, t, u: gradient(V, t, u, lambda z: 3 * z * z - 3), "divide by √6"),
    (GRADIENT, lambda V, t, u: gradient(V, t, u, lambda z: (z * z - 1) / 2), "not He₃/6"),
    (GRADIENT, lambda V, t, u: gradient(V, t, u, lambda z: math.sqrt(3) * z), "degree 2"),
    (GRADIENT, lambda V, t, u: gradient(V, torch.ones_like(t), u), "weights"),
    (GRADIENT, lambda V, t, u: len(V) * gradient(V, t, u), "factor 1/p"),
    (GRADIENT, lambda V, t, u: len(u) * gradient(V, t, u), "no factor d"),
    (GRADIENT, along_the_sphere, "along the sphere"),
    (GRADIENT, on_the_sphere, "before it is put back"),
    (GRADIENT, lambda V, t, u: value(V, t, u) * gradient(V, t, u), "step of the power iteration"),
    (GRADIENT, lambda V, t, u: -gradient(V, t, u), "other way round"),
]


def test_gradient_is_that_of_the_moment():
    """The closed form against autograd."""
    generator = torch.Generator().manual_seed(0)
    V, theta, u = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((30, 4), (30,), (4,)))
    u.requires_grad_()
    torch.testing.assert_close(gradient(V, theta, u), torch.autograd.grad(value(V, theta, u), u)[0])
