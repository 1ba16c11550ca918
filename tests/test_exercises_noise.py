import math

import torch

from reconlaw import exercises


def stopped(Phi, y, rate, steps):
    G, a = Phi @ Phi.T, torch.zeros_like(y)
    for _ in range(steps):
        a = a + rate * (y - G @ a)
    return a


def in_parameters(Phi, y, rate, steps):
    theta = torch.zeros_like(Phi[0])
    for _ in range(steps):
        theta = theta + rate * (y - Phi @ theta) @ Phi
    return torch.linalg.solve(Phi @ Phi.T, Phi @ theta)


def noise(theta, step=None, rule=torch.round):
    step = theta.abs().max() / 127 if step is None else step
    return (rule(theta / step) * step - theta).norm() / theta.norm()


def bound(e, s, w, factor=3, top=lambda q: 1 + q):
    q = factor * w * e / s**2
    return top(q) / (1 - q) * e / s if q < 1 / 3 else math.inf


STOPPED, INT8, BOUND = exercises.check_stopped_coefficients, exercises.check_int8_noise, exercises.check_noise_bound

RIGHT = [(STOPPED, stopped), (INT8, noise), (BOUND, bound)]
WRONG = [
    (STOPPED, lambda Phi, y, *rest: stopped(Phi, y, *rest) @ Phi, "length p"),
    (STOPPED, lambda Phi, y, rate, k: stopped(Phi, y, 2 * rate, k), "factor 2"),
    (STOPPED, lambda Phi, y, rate, k: stopped(Phi, y, rate, k - 1), "too few"),
    (STOPPED, lambda Phi, y, rate, k: stopped(Phi, y, rate, k + 1), "too many"),
    (STOPPED, lambda Phi, y, rate, k: torch.linalg.solve(Phi @ Phi.T, y), "infinitely"),
    (STOPPED, lambda Phi, y, rate, k: Phi @ Phi.T @ stopped(Phi, y, rate, k), "forget G"),
    (STOPPED, lambda Phi, y, rate, k: y - Phi @ Phi.T @ stopped(Phi, y, rate, k), "unexplained"),
    (STOPPED, lambda Phi, y, rate, k: k * rate * y, "first order"),
    (STOPPED, in_parameters, "steps of length p"),
    (STOPPED, lambda *arguments: None, "None"),
    (INT8, lambda theta: noise(theta) * theta.norm(), "divide it"),
    (INT8, lambda theta: noise(theta) ** 2, "take the root"),
    (INT8, lambda theta: noise(theta, theta.abs().max() / 128), "127, not 128"),
    (INT8, lambda theta: noise(theta, 2 * theta.abs().max() / 127), "−127 as well"),
    (INT8, lambda theta: noise(theta, theta.max() / 127), "absolute value"),
    (
        INT8,
        lambda theta: ((theta * 127 / theta.abs().max()).round() - theta).norm() / theta.norm(),
        "by the step again",
    ),
    (INT8, lambda theta: noise(theta, rule=torch.trunc), "nearest"),
    (INT8, lambda theta: noise(theta, rule=torch.floor), "rounds down"),
    (INT8, lambda theta: (theta.round() - theta).norm() / theta.norm(), "forget the scale"),
    (INT8, lambda theta: 3 * noise(theta), "off by"),
    (BOUND, lambda e, s, w: bound(e, s, w, factor=1), "forget the 3"),
    (BOUND, lambda e, s, w: bound(e, s, w * s), "twice"),
    (BOUND, lambda e, s, w: e / s, "first order"),
    (BOUND, lambda e, s, w: bound(e, s, w, top=lambda q: 1), "from the estimate"),
    (BOUND, lambda e, s, w: bound(e, s, w, top=lambda q: 2), "part 1"),
    (BOUND, lambda e, s, w: (1 + 3 * w * e / s**2) / (1 - 3 * w * e / s**2) * e / s, "math.inf"),
]
