"""Reconstruction by the KKT conditions."""

import math

import pytest
import torch
from roads import to_the_margin

import reconlaw as rl
from reconlaw.networks import TwoLayer, tangent
from reconlaw.sphere import to_sphere

OPTIONS = {"max_steps": 400, "learning_rate": 0.05, "max_seconds": None}


def trained(X, y, log_loss=-150.0):
    return to_the_margin(TwoLayer(X.shape[1], 200, seed=0), X, y, log_loss)


@pytest.fixture(scope="module")
def margin():
    """Two samples of opposite labels, at an obtuse angle, of which the network keeps nothing but the margin."""
    X, y = rl.data.sphere(2, 20, seed=5).X, torch.tensor([-1.0, 1.0], dtype=torch.float64)
    assert X[0] @ X[1] < 0
    return X, y, trained(X, y)


def test_training_to_the_margin_gets_there(margin):
    X, y, (before, after, loss) = margin
    f = y * after(X)[:, 0].detach()
    assert loss == pytest.approx(float(torch.nn.functional.softplus(-f).mean()), rel=1e-6) and loss < 1e-65
    assert float(f.max() / f.min()) < 1.05
    assert math.isclose(float(before.head.weight.detach().norm()), 1, rel_tol=1e-12)
    assert math.isclose(float(before.body[0].weight.detach().norm()), 1, rel_tol=1e-12)


def test_the_truth_meets_the_conditions(margin):
    X, y, (_, after, _) = margin
    at = tangent.layers("after", after)
    c, loss, _ = tangent.fit([at], at, X, y, nonnegative=True)
    assert loss < 0.02 and (c > 0).all()
    assert tangent.fit([at], at, X, -y, nonnegative=True)[1] > 0.5  # wrong labels
    assert tangent.fit([at], at, X.flip(1), y, nonnegative=True)[1] > 0.5  # wrong samples


def test_recovers_an_easy_set_from_the_trained_weights_alone(margin):
    X, _, (_, after, _) = margin
    result = rl.kkt(after, 2, seed=0, **OPTIONS)
    assert rl.match(result.X, X).error.max() < 0.2
    assert result.X.shape == (4, 20) and (result.coefficients >= 0).all() and result.method == "kkt"


def test_labels_go_with_candidates(margin):
    """The first half of the candidates has label −1: the sample of that label is among them."""
    X, _, (_, after, _) = margin
    result = rl.kkt(after, 2, seed=0, **OPTIONS)
    order = rl.match(result.X, X).order
    assert order[0] < 2 <= order[1]


def test_the_scale_of_the_network_is_immaterial(margin):
    _, _, (_, after, _) = margin
    scaled = rl.networks.between(after, after)
    for weight in scaled.parameters():
        weight.data *= 3.0
    plain, other = (rl.kkt(network, 2, seed=1, max_steps=30) for network in (after, scaled))
    torch.testing.assert_close(plain.X, other.X, rtol=0, atol=1e-6)
    assert math.isclose(plain.loss, other.loss, rel_tol=1e-6)


def test_acute_angles_hide_the_samples():
    """Other samples meet the conditions as well: each lies along a neuron, at a right angle to the other sample."""
    X = rl.data.sphere(2, 20, seed=5).X * torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    cosine = float(X[0] @ X[1] / 20)
    assert cosine > 0.3
    y = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    at = tangent.layers("after", trained(X, y)[1])
    dual = to_sphere(torch.stack([X[0] - cosine * X[1], X[1] - cosine * X[0]]))
    smooth = {"nonnegative": True, "sharpness": 100.0}
    assert tangent.fit([at], at, X, y, **smooth)[1] < 0.02 and tangent.fit([at], at, dual, y, **smooth)[1] < 0.02
    assert rl.match(dual, X).error.min() > 0.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n=0"),
        ({"candidates": 1}, "candidates=1"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_bad_arguments(margin, arguments, message):
    with pytest.raises(ValueError, match=message):
        rl.kkt(**({"network": margin[2][1], "n": 2} | arguments))


def test_a_network_of_another_kind():
    with pytest.raises(TypeError, match="network is a Linear"):
        rl.kkt(torch.nn.Linear(3, 1), 2)
    broken = rl.networks.TwoLayer(3, 5)
    broken.head.weight.data[0, 0] = math.nan
    with pytest.raises(ValueError, match="network holds 1 NaN"):
        rl.kkt(broken, 2)
