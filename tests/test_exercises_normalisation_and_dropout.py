import math

import torch

from reconlaw import exercises


def steps(momentum, share):
    k = 0
    while (1 - momentum) ** k > share:
        k += 1
    return k


def another(X, e, t, root=-1, kappa=None):
    b = torch.linalg.solve(X @ X.T, torch.ones(len(X), dtype=X.dtype)) @ X
    square = b @ b
    kappa = (-1 - root * torch.sqrt(1 - square * t**2)) / square if kappa is None else kappa(square)
    return X + kappa * b + t * e


def on_sphere(X):
    return X * X.shape[1] ** 0.5 / X.norm(dim=1, keepdim=True)


def by_samples(Phi, y, rate):
    scaled = Phi / Phi.square().sum(0)
    return torch.linalg.solve(scaled @ Phi.T + rate / (1 - rate) * torch.eye(len(y)).to(y), y) @ scaled


def minimiser(Phi, y, rate, c=None, power=1.0):
    D = torch.diag(Phi.square().sum(0) ** power)
    c = rate / (1 - rate) if c is None else c
    if c == 0:
        root = torch.diag(D.diagonal().rsqrt())
        return root @ torch.linalg.pinv(Phi @ root) @ y
    return torch.linalg.solve(Phi.T @ Phi + c * D, Phi.T @ y)


STEPS, ANOTHER = exercises.check_steps_needed, exercises.check_another_batch
MINIMISER = exercises.check_dropout_minimiser

RIGHT = [(STEPS, steps), (ANOTHER, another), (MINIMISER, by_samples)]
WRONG = [
    (STEPS, lambda m, s: math.log(s) / math.log(1 - m), "whole number"),
    (STEPS, lambda m, s: steps(m, s) - 1, "one step fewer"),
    (STEPS, lambda m, s: steps(1 - m, s), "weight of the new"),
    (STEPS, lambda m, s: math.ceil((1 - s) / m), "a power"),
    (STEPS, lambda m, s: steps(m, 1 - s), "left of the old"),
    (STEPS, lambda m, s: 3, "off by"),
    (ANOTHER, lambda X, e, t: X + t * e, "left the sphere"),
    (ANOTHER, lambda X, e, t: on_sphere(X + t * e), "by a factor"),
    (ANOTHER, lambda X, e, t: another(X, e, t, root=1), "other root"),
    (ANOTHER, lambda X, e, t: another(X, e, t, kappa=lambda _: -(t**2) / 2), "first order"),
    (
        ANOTHER,
        lambda X, e, t: another(X, e, t, kappa=lambda square: (1 - torch.sqrt(1 - square * t**2)) / square),
        "shorten",
    ),
    (ANOTHER, lambda X, e, t: None, "None"),
    (MINIMISER, minimiser, "the way is not: you formed a p × p matrix"),
    (MINIMISER, lambda Phi, y, rate: minimiser(Phi, y, rate, c=0.0), "interpolates"),
    (MINIMISER, lambda Phi, y, rate: minimiser(Phi, y, rate, power=0.0), "no plain ridge"),
    (MINIMISER, lambda Phi, y, rate: minimiser(Phi, y, rate, c=rate), "variance of a mask"),
    (MINIMISER, lambda Phi, y, rate: minimiser(Phi, y, rate, c=1 / (1 - rate)), r"− 1"),
    (MINIMISER, lambda Phi, y, rate: minimiser(Phi, y, 1 - rate), "share that is kept"),
    (MINIMISER, lambda Phi, y, rate: minimiser(Phi, y, rate, power=0.5), "not its root"),
    (MINIMISER, lambda Phi, y, rate: minimiser(Phi, y, rate, power=-1.0), "exchanged"),
    (MINIMISER, lambda Phi, y, rate: minimiser(Phi, y, rate) * Phi.square().sum(0), "in front"),
]
