"""All exact solutions of small problems: what the theorem on uniqueness says of them."""

import math

import pytest
import torch

import reconlaw as rl
from reconlaw.attack.solutions import all_solutions


def problem(n, d, p, activation, seed=0):
    X = rl.data.sphere(n=n, d=d, seed=seed).X
    a = torch.linspace(1.0, -0.7, n).double() if n > 1 else torch.ones(1).double()
    features = rl.RandomFeatures(d, p, activation, seed=seed, device="cpu")
    return X, a, features, features(X).T @ a


@pytest.mark.parametrize("activation", ["gelu", "softplus", "tanh", "relu+tanh"])
def test_one_more_equation_than_unknowns_leaves_the_truth(activation):
    arrived = 0
    for seed in range(3):
        X, a, features, theta = problem(2, 2, 5, activation, seed)
        found = all_solutions(theta, features, 2, starts=100, seed=seed)
        for points, beta, times in found:  # whatever arrives
            assert (theta - features(points).T @ beta).norm() < 1e-11 * theta.norm()
            errors = rl.match(points, X).error_up_to_sign if activation == "tanh" else rl.match(points, X).error
            assert errors.max() < 1e-5
            arrived += times
    assert arrived > 0


def test_one_positive_feature_map_has_an_even_number_of_solutions_at_the_count():
    for d, seed in ((2, 0), (2, 1), (3, 2)):
        _, _, features, theta = problem(1, d, d, "softplus", seed)
        found = all_solutions(theta, features, 1, starts=60, seed=seed)
        assert len(found) >= 2 and len(found) % 2 == 0


def test_below_the_count_every_start_ends_elsewhere():
    _, _, features, theta = problem(2, 2, 3, "gelu")
    found = all_solutions(theta, features, 2, starts=30)
    assert len(found) > 10 and sum(times for *_, times in found) <= len(found) + 2


def test_a_family_of_one_dimension_and_wrong_arguments():
    d = 6
    frame = torch.linalg.qr(torch.randn(d, 4, generator=torch.Generator().manual_seed(3)).double()).Q

    k = torch.tensor([1.0, 2.0]).double()

    def curve(t):
        cos, sin = (k * t).cos(), (k * t).sin()
        scale = math.sqrt(d / 2) * frame.T
        return torch.cat([cos, sin], -1) @ scale, (torch.cat([-k * sin, k * cos], -1) @ scale)[..., None]

    X = curve(torch.tensor([[0.3], [2.0]]).double())[0]
    features = rl.RandomFeatures(d, 5, "gelu", seed=1, device="cpu")
    theta = features(X).T @ torch.tensor([1.0, -0.6]).double()
    found = all_solutions(theta, features, 2, starts=100, family=curve, k=1)
    assert len(found) == 1 and rl.match(found[0][0], X).error.max() < 1e-5
    with pytest.raises(ValueError, match="belong together"):
        all_solutions(theta, features, 2, family=curve)
    with pytest.raises(ValueError, match="one output"):
        all_solutions(theta[None], features, 2)
