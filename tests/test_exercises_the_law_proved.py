import math

import torch

from reconlaw import exercises

FROM, ANGLES = exercises.check_unique_from, exercises.check_all_angles
UNKNOWNS = {
    "fixed": lambda n, d, k: n * d,
    "labels": lambda n, d, k: n * d + n - 1,
    "all": lambda n, d, k: 2 * n * d - 1,
    "free": lambda n, d, k: n * d + n,
    "family": lambda n, d, k: n * k + n,
    "span": lambda n, d, k: d - 1 + n,
}


def count(more=1, **changes):
    return lambda what, n, d, k: (UNKNOWNS | changes)[what](n, d, k) + more


def angles(theta, V):
    """By Newton's method from many starts."""

    def f(t):
        x, dx = torch.stack([t.cos(), t.sin()], -1), torch.stack([-t.sin(), t.cos()], -1)
        z = math.sqrt(2) * x @ V.T
        value, slope = torch.nn.functional.softplus(z), torch.sigmoid(z) * (math.sqrt(2) * dx @ V.T)
        cut = theta[1] * value[:, 0] - theta[0] * value[:, 1]
        return value, cut, theta[1] * slope[:, 0] - theta[0] * slope[:, 1]

    t = torch.linspace(0, 2 * math.pi, 400, dtype=torch.float64)
    for _ in range(50):
        _, cut, slope = f(t)
        t = t - (cut / slope).clamp(-0.1, 0.1)
    values, cut, _ = f(t)
    fits = (cut.abs() < 1e-12) & (values @ theta > (1 - 1e-10) * values.norm(dim=1) * theta.norm())
    t = (t[fits] % (2 * math.pi)).sort().values
    return t[torch.cat([torch.tensor([True]), t.diff() > 1e-6])]


def of_a_pair(theta, V):
    return angles(theta[:2], V[:2])


RIGHT = [(FROM, count()), (ANGLES, angles)]
WRONG = [
    (FROM, count(0), "one more"),
    (FROM, count(fixed=lambda n, d, k: n * (d - 1)), "coefficients"),
    (FROM, count(labels=lambda n, d, k: n * d + n, all=lambda n, d, k: 2 * n * d), "one unknown less"),
    (FROM, count(labels=lambda n, d, k: n * d + n), "any labels"),
    (FROM, count(all=lambda n, d, k: 2 * n * d), "any samples"),
    (FROM, count(free=lambda n, d, k: n * d), "d coordinates"),
    (FROM, count(family=lambda n, d, k: n * k), "still unknown"),
    (FROM, count(span=lambda n, d, k: d - 1), "one candidate"),
    (FROM, count(span=lambda n, d, k: d + n), "d − 1 coordinates"),
    (FROM, count(span=lambda n, d, k: n * d), "one at a time"),
    (FROM, lambda what, n, d, k: None, "None"),
    (FROM, lambda what, n, d, k: 3, "not yet"),
    (ANGLES, of_a_pair, "first two"),
    (ANGLES, lambda theta, V: angles(theta, V).flip(0), "increasing"),
    (ANGLES, lambda theta, V: angles(theta, V) * 180 / math.pi, "radians"),
    (ANGLES, lambda theta, V: (angles(theta, V) + math.pi) % (2 * math.pi) - math.pi, "0 to 2π"),
    (ANGLES, lambda theta, V: angles(theta, V)[:1], "shape|true angle"),
]
