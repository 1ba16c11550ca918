import math

import pytest
import torch

from reconlaw import exercises
from reconlaw.exercises._diagnose import Made, NotYet, diagnose

PI = math.pi


def pinv(Phi):
    return torch.linalg.pinv(Phi)


def needed(n, t, delta, s=None):
    s = math.log(n * (n + 1) / delta) if s is None else s
    return s / ((math.sqrt(3 + 8 * t) - math.sqrt(3)) / 4) ** 2


def with_a_projector(Phi, y, theta0):
    return theta0 - pinv(Phi) @ Phi @ theta0 + pinv(Phi) @ y


RIGHT = [
    (exercises.check_kernel_estimate, lambda Phi: Phi @ Phi.T / Phi.shape[1]),
    (exercises.check_minimum_norm, lambda Phi, y, theta0: theta0 + pinv(Phi) @ (y - Phi @ theta0)),
    (exercises.check_step_kernel, lambda rho: (PI - torch.arccos(rho)) / (2 * PI)),
    (exercises.check_features_needed, lambda n, t, delta: math.ceil(needed(n, t, delta))),
]
WRONG = [
    (exercises.check_kernel_estimate, lambda Phi: Phi @ Phi.T, "1/p"),
    (exercises.check_kernel_estimate, lambda Phi: Phi @ Phi.T / Phi.shape[0], "divided by n"),
    (exercises.check_kernel_estimate, lambda Phi: Phi @ Phi.T / math.sqrt(Phi.shape[1]), "√p"),
    (exercises.check_kernel_estimate, lambda Phi: Phi.T @ Phi / Phi.shape[1], "compares samples"),
    (exercises.check_kernel_estimate, lambda Phi: Phi.T @ Phi, "compares samples"),
    (exercises.check_kernel_estimate, lambda Phi: torch.cov(Phi, correction=0), "not a covariance"),
    (exercises.check_kernel_estimate, torch.cov, "covariance"),
    (exercises.check_kernel_estimate, lambda Phi: Phi, "shape"),
    (exercises.check_minimum_norm, lambda Phi, y, theta0: pinv(Phi) @ y, "ignored θ₀"),
    (exercises.check_minimum_norm, lambda Phi, y, theta0: pinv(Phi) @ (y - Phi @ theta0), "add θ₀ back"),
    (exercises.check_minimum_norm, lambda Phi, y, theta0: theta0 + pinv(Phi) @ y, "unexplained"),
    (exercises.check_minimum_norm, lambda Phi, y, theta0: theta0 - pinv(Phi) @ (y - Phi @ theta0), "sign"),
    (
        exercises.check_minimum_norm,
        lambda Phi, y, theta0: torch.linalg.solve(Phi @ Phi.T, y - Phi @ theta0),
        "coefficients a",
    ),
    (exercises.check_minimum_norm, with_a_projector, "the way is not: you formed a p × p matrix"),
    (exercises.check_step_kernel, lambda rho: (PI - torch.arccos(rho)) / PI, "factor 2"),
    (exercises.check_step_kernel, lambda rho: torch.arccos(rho) / (2 * PI), "u > 0, w < 0"),
    (exercises.check_step_kernel, lambda rho: torch.arccos(rho) / PI, "opposite signs"),
    (exercises.check_step_kernel, lambda rho: (PI - rho) / (2 * PI), "correlation"),
    (exercises.check_step_kernel, lambda rho: PI - torch.arccos(rho), "full turn"),
    (
        exercises.check_step_kernel,
        lambda rho: ((1 - rho**2).sqrt() + (PI - torch.arccos(rho)) * rho) / (2 * PI),
        "kernel of ReLU",
    ),
    (exercises.check_features_needed, needed, "whole number"),
    (exercises.check_features_needed, lambda n, t, delta: math.floor(needed(n, t, delta)), "rounded down"),
    (
        exercises.check_features_needed,
        lambda n, t, delta: math.ceil(needed(n, t, delta, math.log(2 / delta))),
        "union bound",
    ),
    (
        exercises.check_features_needed,
        lambda n, t, delta: math.ceil(needed(n, t, delta, math.log(1 / delta))),
        "union bound",
    ),
    (
        exercises.check_features_needed,
        lambda n, t, delta: math.ceil(needed(n, t, delta, math.log(n * (n + 1) / (2 * delta)))),
        "one tail",
    ),
    (exercises.check_features_needed, lambda n, t, delta: math.ceil(needed(n, t, delta) / 16), "factor ¼"),
    (
        exercises.check_features_needed,
        lambda n, t, delta: math.ceil(needed(n, t, delta, math.log(n * (n + 1)))),
        "depend on δ",
    ),
    (
        exercises.check_features_needed,
        lambda n, t, delta: math.ceil(3 * math.log(n * (n + 1) / delta) / t**2),
        "dropped the term",
    ),
]


@pytest.mark.parametrize(
    "answer, hint",
    [
        (None, "returned a NoneType|return statement"),
        ("text", "returned a str"),
        (torch.zeros(3), "shape"),
        (torch.tensor([1.0, math.nan]), "NaN"),
        (torch.tensor([1.0, 1.5]), "not yet: .* 25.0%"),
        (torch.tensor([1.0, 2.0004]), "close, not exact: .* 2e-04"),
    ],
)
def test_unforeseen_answer_is_described(answer, hint):
    with pytest.raises(AssertionError, match=hint):
        diagnose(answer, torch.tensor([1.0, 2.0]))


def test_least_number_of_features_is_the_least():
    for n, t, delta in [(10, 0.1, 0.05), (100, 0.5, 0.5)]:
        p, s = math.ceil(needed(n, t, delta)), math.log(n * (n + 1) / delta)
        bound = [math.sqrt(3 * s / q) + 2 * s / q for q in (p - 1, p)]
        assert bound[0] > t >= bound[1]


def test_what_is_made_on_the_way_is_seen_and_views_are_not():
    A = torch.eye(3, 5)
    with Made() as made:
        _ = A.T, A.reshape(15), A[:, None]
        assert made.shapes == set()
        _ = (A.T @ A).to_sparse(), A * 2
    assert made.shapes >= {(5, 5), (3, 5)} and (15,) not in made.shapes
    made.refuse(lambda shape: shape == (5, 3), "not made")
    with pytest.raises(NotYet, match="the way is not: too large"):
        made.refuse(lambda shape: shape == (5, 5), "too large")
