"""The feature map of the coordinates that are known."""

import numpy as np
import pytest
import torch
from torch import nn

import reconlaw as rl
from reconlaw.features.select import known
from reconlaw.networks import LayerFeatures, TwoLayer


def index_of(p, count, seed=0):
    return torch.randperm(p, generator=torch.Generator().manual_seed(seed))[:count]


def maps():
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(10, 4, dtype=torch.float64)).Q.T
    V = rl.RandomFeatures(10, 30, seed=1).V
    return {
        "random": rl.RandomFeatures(10, 30, "relu+tanh", seed=1),
        "layer": LayerFeatures(V, "gelu"),
        "span": LayerFeatures(V, "relu", basis=basis),
        "module": rl.ModuleFeatures(nn.Sequential(nn.Linear(10, 30), nn.GELU()), 10),
    }


@pytest.mark.parametrize("name", ["random", "layer", "span", "module"])
def test_known_features_are_columns_of_all_features(name):
    features = maps()[name]
    index = index_of(30, 12)
    part, X = known(features, index), torch.randn(5, features.d, dtype=torch.float64)
    assert (part.d, part.p, part.dtype, part.device) == (features.d, 12, features.dtype, features.device)
    torch.testing.assert_close(part(X), features(X)[:, index], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["random", "module"])
def test_the_lift_is_that_of_the_known_rows(name):
    features, index = maps()[name], index_of(30, 12, seed=2)
    shapes = ((3, 10), (3, 10), (1, 12), (6, 1))
    U, delta, R, alpha = (torch.randn(s, dtype=torch.float64, device=features.device) for s in shapes)
    whole, part = features.lift(U), known(features, index).lift(U)
    for lift in (whole, part):
        lift.linearise(alpha)
    torch.testing.assert_close(part.jvp(delta), whole.jvp(delta)[:, index], rtol=1e-10, atol=1e-12)
    spread = torch.zeros(1, 30).to(R).index_copy(1, index.to(R.device), R)
    torch.testing.assert_close(part.vjp(R), whole.vjp(spread), rtol=1e-10, atol=1e-12)


def test_random_features_stay_random_features():
    """So that the fast kernels, message passing and the descent in float32 go on serving."""
    features = rl.RandomFeatures(6, 20, seed=3, dtype=torch.float32)
    part = known(features, [4, 2])
    assert isinstance(part, rl.RandomFeatures) and torch.equal(part.V, features.V[[4, 2]])
    assert part.to(torch.float64).V.dtype == torch.float64
    part.V.zero_()
    assert bool(features.V.any())


def test_two_choices_are_two_problems():
    """A checkpoint knows a problem by what its features print."""
    features = rl.RandomFeatures(6, 20, seed=3)
    assert repr(known(features, [1, 2])) != repr(known(features, [1, 3]))
    body = maps()["module"]
    assert repr(known(body, [1, 2])) != repr(known(body, [1, 3]))


def test_every_kind_of_index():
    features = rl.RandomFeatures(6, 5, seed=3)
    mask = torch.tensor([True, False, True, False, False])
    for index in (
        mask,
        mask.numpy(),
        [0, 2],
        np.array([0, 2]),
        torch.tensor([0, 2], dtype=torch.int32),
        range(0, 4, 2),
    ):
        assert torch.equal(known(features, index).V, features.V[[0, 2]])
    assert torch.equal(known(features, [2, 0]).V, features.V[[2, 0]])


@pytest.mark.parametrize(
    ("index", "error", "words"),
    [
        ([], ValueError, "empty"),
        ([False] * 5, ValueError, "empty"),
        ([1, 1], ValueError, "twice"),
        ([5], ValueError, "0 to 4"),
        ([-1], ValueError, "0 to 4"),
        ([True], ValueError, r"\(5,\) booleans"),
        ([[1]], ValueError, "shape"),
        ([1.0], TypeError, "whole numbers"),
        ([1j], TypeError, "whole numbers"),
    ],
)
def test_bad_indices(index, error, words):
    with pytest.raises(error, match=words):
        known(rl.RandomFeatures(6, 5), index)


def test_other_feature_maps_are_refused():
    with pytest.raises(TypeError, match="Linear"):
        known(nn.Linear(3, 4), [0])


@pytest.mark.parametrize("activation", ["relu", "relu+tanh"])
def test_samples_come_back_from_a_third_of_the_weights(activation, problem):
    easy = problem(d=20, n=5, p=900, activation=activation, seed=2)
    index = index_of(900, 300)
    result = rl.reconstruct(easy.theta[index], known(easy.features, index), easy.n, seed=1)
    assert result.determined and rl.match(result.X, easy.X).recovered(1e-6).all()
    few = rl.reconstruct(easy.theta[index[:80]], known(easy.features, index[:80]), easy.n, seed=1, max_seconds=None)
    assert not few.determined  # 80 equations, 100 unknowns


def test_several_outputs_share_the_choice(problem):
    easy = problem(d=15, n=4, p=300, outputs=3, seed=1)
    index = index_of(300, 90)
    result = rl.reconstruct(easy.theta[:, index], known(easy.features, index), easy.n, seed=1)
    assert rl.match(result.X, easy.X).recovered(1e-6).all()


def test_samples_come_back_from_some_outputs_of_a_body():
    body = TwoLayer(12, 400, activation="gelu", bias=True, seed=4).body
    features, data = rl.ModuleFeatures(body, 12), rl.data.sphere(3, 12, seed=4)
    theta, index = features.fit(data.X, data.y), index_of(400, 200)
    result = rl.reconstruct(theta[index], known(features, index), 3, seed=1)
    assert rl.match(result.X, data.X).recovered(1e-6).all()


def test_pruned_weights_are_unknown_and_not_zero(problem):
    """The largest third, and nothing of the others: exact. The others taken for zeros: not even close to exact."""
    easy = problem(d=20, n=4, p=800, seed=5)
    index = easy.theta.abs().argsort(descending=True)[:300]
    result = rl.reconstruct(easy.theta[index], known(easy.features, index), 4, seed=1)
    assert rl.match(result.X, easy.X).recovered(1e-6).all()
    zeros = torch.zeros_like(easy.theta).index_copy(0, index, easy.theta[index])
    result = rl.reconstruct(zeros, easy.features, 4, seed=1, tol=0.1, max_seconds=None)
    assert not rl.match(result.X, easy.X).recovered(1e-2).any()
