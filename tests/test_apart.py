"""Known columns beside the unknown ones: weight decay, and samples that the attacker holds already."""

import pytest
import torch
from helpers import normal, seeded
from torch import nn

import reconlaw as rl
from reconlaw.sphere import to_sphere


def decayed(weight_decay, decoupled, n=4, d=6, p=120, K=5, momentum=0.9):
    """A head trained from W₀ with decay whose rate falls: features, θ, W₀ and samples."""
    body = seeded(lambda: nn.Sequential(nn.Linear(d, p), nn.GELU())).double()
    features = rl.ModuleFeatures(body, d, device="cpu")
    X, W0 = normal(n, d, seed=3), normal(K, p, seed=4)
    F, W, v = features(X), W0.clone(), 0
    for t in range(40):
        rate = 0.05 / (1 + t / 10)
        error = torch.softmax(F @ W.T, 1) - nn.functional.one_hot(torch.arange(n) % K, K)
        gradient = error.T @ F + (0 if decoupled else weight_decay * W)
        v = momentum * v + gradient
        W = (1 - rate * weight_decay) * W - rate * v if decoupled else W - rate * v
    return features, W - W0, W0, X


@pytest.mark.parametrize("decoupled", [False, True], ids=["coupled", "decoupled"])
@pytest.mark.parametrize("weight_decay", [5e-4, 1e-2])
def test_the_old_rows_beside_undo_decay_of_any_kind(weight_decay, decoupled):
    features, theta, W0, X = decayed(weight_decay, decoupled)
    options = {"inputs": rl.inputs.Free(), "max_seconds": None, "max_steps": 3000}
    found = rl.reconstruct(theta, rl.apart(features, W0), 4, **options)
    assert found.status is rl.Status.RECOVERED, found.message
    assert float(rl.match(found.X, X).error.max()) < 1e-6
    assert rl.projection_loss(X, features, theta).item() > 1e-6  # without them the truth itself does not explain θ
    assert rl.projection_loss(X, rl.apart(features, W0), theta).item() < 1e-20


def test_known_samples_leave_the_others():
    """A pair of models with and without one sample, the rest known: the case n = 1."""
    features, d = rl.RandomFeatures(12, 300, "gelu", seed=1, device="cpu"), 12
    X = to_sphere(normal(8, d, seed=5))
    y = normal(8, 1, seed=6)[:, 0]
    theta = features.fit(X, y) - features.fit(X[1:], y[1:])
    found = rl.reconstruct(theta, rl.apart(features, features(X[1:])), 1, max_seconds=None, max_steps=3000)
    assert found.status is rl.Status.RECOVERED
    assert float(rl.match(found.X, X[:1]).error.max()) < 1e-6


def test_only_the_span_of_the_rows_counts():
    features = rl.RandomFeatures(5, 40, "gelu", seed=1, device="cpu")
    rows = normal(2, 40, seed=2)
    twice = torch.cat([rows, 1e6 * rows[:1] - rows[1:]])
    one, other, X = rl.apart(features, rows), rl.apart(features, twice), normal(3, 5, seed=3)
    torch.testing.assert_close(one(X), other(X))
    assert len(other.known) == 2 and one.rank(100) == 38
    torch.testing.assert_close(one.check_theta(normal(1, 40) + 5 * rows[:1]), one.check_theta(normal(1, 40)))


def test_it_goes_off_the_rows_at_every_position():
    model = seeded(lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU(), nn.Conv2d(4, 3, 2))).double()
    features = rl.below(model, "2", (1, 5, 5), device="cpu")
    part = rl.apart(features, model[2].weight.detach())
    X = normal(2, 25)
    C = part.columns(part(X))
    assert part.positions == features.positions == 4 and len(part.known) == 3
    assert float((C @ features.check_theta(model[2].weight.detach()).T).abs().max()) < 1e-12


def test_what_does_not_serve_is_said():
    features = rl.RandomFeatures(5, 10, "gelu", seed=1, device="cpu")
    with pytest.raises(TypeError, match="apart takes a feature map"):
        rl.apart(normal(2, 10), features)
    with pytest.raises(ValueError, match="all zero"):
        rl.apart(features, torch.zeros(2, 10))
    with pytest.raises(ValueError, match="rank 10, all of the p = 10"):
        rl.apart(features, normal(12, 10))
    with pytest.raises(ValueError, match="theta has shape"):
        rl.apart(features, normal(2, 9))
    with pytest.raises(ValueError, match="NaN"):
        rl.apart(features, normal(2, 10) * torch.nan)
