import math

import torch

from reconlaw import exercises


def rest(f, Phi):
    return f - torch.linalg.pinv(Phi) @ (Phi @ f)


def K(omega):
    return (torch.sin(omega) + (math.pi - omega) * torch.cos(omega)) / (2 * math.pi)


def cube(x):
    return x ** (1 / 3)


off_span, distance, angle = exercises.check_off_span, exercises.check_feature_distance, exercises.check_closest_angle

RIGHT = [
    (off_span, lambda f, Phi: rest(f, Phi).square().sum() / f.square().sum()),
    (off_span, lambda f, Phi: float(1 - (torch.linalg.qr(Phi.T).Q.T @ f).square().sum() / f.square().sum())),
    (distance, lambda omega: 2 * (0.5 - K(omega))),
    (angle, lambda tolerance: cube(12 * math.pi * tolerance)),
]
WRONG = [
    (off_span, lambda f, Phi: rest(f, Phi).square().sum(), "between 0 and 1"),
    (off_span, lambda f, Phi: rest(f, Phi).norm() / f.norm(), "ratio of the lengths"),
    (off_span, lambda f, Phi: rest(f, Phi).norm(), "length of the residual"),
    (off_span, lambda f, Phi: 1 - rest(f, Phi).square().sum() / f.square().sum(), "in\\* the span"),
    (off_span, lambda f, Phi: (f - rest(f, Phi)).square().sum(), "length of the projection"),
    (off_span, lambda f, Phi: rest(f, Phi).square().mean(), "divided by p"),
    (off_span, rest, "returned the residual"),
    (distance, lambda omega: 0.5 - K(omega), "factor 2 is missing"),
    (distance, lambda omega: 1 - K(omega), "cross term enters twice"),
    (distance, lambda omega: (1 - 2 * K(omega)).sqrt(), "squared distance is wanted"),
    (distance, lambda omega: 1 + 2 * K(omega), "wrong sign"),
    (distance, lambda omega: 2 - 2 * K(omega), "not 1"),
    (distance, lambda omega: 2 - 2 * torch.cos(omega), "distance of the \\*inputs"),
    (distance, lambda omega: 1 - 4 * K(omega), "not four times"),
    (angle, lambda tolerance: (12 * math.pi * tolerance) ** 0.5, "square root"),
    (angle, lambda tolerance: (12 * math.pi * tolerance) ** 0.25, "smooth"),
    (angle, lambda tolerance: cube(6 * math.pi * tolerance), "denominator"),
    (angle, lambda tolerance: cube(tolerance / (12 * math.pi)), "upside down"),
    (angle, cube, "constant 12π"),
    (angle, lambda tolerance: 12 * math.pi * tolerance, "cube root"),
    (angle, lambda tolerance: cube(12 * math.pi * tolerance) * 180 / math.pi, "radians"),
    (angle, lambda tolerance: 2 * cube(12 * math.pi * tolerance), "100.0%"),
]
