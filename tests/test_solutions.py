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


def circle(t):
    """Angles (…, 1) → points of the plane's sphere, and derivatives."""
    points, slopes = torch.cat([t.cos(), t.sin()], -1), torch.cat([-t.sin(), t.cos()], -1)
    return math.sqrt(2) * points, math.sqrt(2) * slopes[..., None]


def test_known_labels_are_enough_where_any_labels_are():
    """a = (ΦΦᵀ)⁻¹y depends on V: from n(d + 1) on the truth is alone all the same."""
    for seed in range(3):
        X = rl.data.sphere(n=2, d=2, seed=seed).X
        features = rl.RandomFeatures(2, 6, "gelu", seed=seed, device="cpu")
        theta = features.fit(X, torch.tensor([1.0, -1.0]).double())
        found = all_solutions(theta, features, 2, starts=100, seed=seed)
        assert found and all(rl.match(points, X).error.max() < 1e-5 for points, *_ in found)


def test_off_the_sphere_there_is_one_unknown_more_a_sample():
    """n(d + 1) + 1 parameters are enough where candidates may lie anywhere; n(d + 1) − 1 leave a continuum."""

    def anywhere(Z):
        return Z, torch.eye(2).to(Z).expand(*Z.shape, 2)

    for n in (1, 2):
        X = torch.tensor([[0.8, -0.5], [0.3, 1.4]]).double()[:n]
        for excess in (1, -1):
            features = rl.RandomFeatures(2, 3 * n + excess, "gelu", seed=n, device="cpu")
            theta = torch.tensor([1.0, -0.7]).double()[:n] @ features(X)
            found = all_solutions(theta, features, n, starts=60, family=anywhere, k=2)
            errors = [rl.match(points, X).error.max() for points, *_ in found]
            assert (len(found) == 1 and errors[0] < 1e-5) if excess == 1 else sum(e > 1e-2 for e in errors) > 10


def test_a_bias_tells_the_signs_of_an_odd_activation():
    """(x, 1) has no negative among the candidates: tanh is unique from dn + 1 on, signs included."""

    def with_one(t):
        points, slopes = circle(t)
        return torch.cat([points, torch.ones_like(t)], -1), torch.cat([slopes, torch.zeros_like(t)[..., None]], -2)

    for seed in range(3):
        features = rl.RandomFeatures(3, 5, "tanh", seed=seed, device="cpu")
        X = with_one(torch.tensor([[0.4], [2.1]]).double())[0]
        theta = torch.tensor([1.0, -0.7]).double() @ features(X)
        found = all_solutions(theta, features, 2, starts=100, seed=seed, family=with_one, k=1)
        assert found and all(rl.match(points, X).error.max() < 1e-5 for points, *_ in found)


def test_single_points_of_a_span_are_told_from_d_plus_n_on():
    """Three samples in the plane: at p = d + n − 1 a fourth point always has its features in the span, at d + n none.

    φ(Vx̂) is in the span of three rows of R⁴ where a determinant vanishes. On a circle it changes its sign an even
    number of times, so that three zeros are not all.
    """
    X = circle(torch.tensor([[0.4], [2.1], [4.0]]).double())[0]
    grid = torch.linspace(0, 2 * math.pi, 20_001)[:, None].double()
    points = circle(grid)[0]
    for seed in range(5):
        features = rl.RandomFeatures(2, 5, "gelu", seed=seed, device="cpu")
        known, all_of_them = features(X), features(points)
        normal = torch.linalg.svd(known[:, :4]).Vh[3]  # off the span of the first four neurons' features
        sides = (all_of_them[:, :4] @ normal).sign()
        zeros = (sides[:-1] != sides[1:]).nonzero()[:, 0]
        assert len(zeros) >= 4 and len(zeros) % 2 == 0
        off = torch.linalg.svd(known).Vh[3:]
        rest = (all_of_them[zeros] @ off.T).norm(dim=1) / all_of_them[zeros].norm(dim=1)
        assert (rest < 1e-3).sum() == 3  # the grid's resolution; the fifth neuron sorts the others out
