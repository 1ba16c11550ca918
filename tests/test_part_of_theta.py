"""A search on a part of θ's coordinates, where these are many times as many as it needs."""

import pytest
import torch

import reconlaw as rl
from reconlaw.attack import search
from reconlaw.attack.run import Run
from reconlaw.features.passes import Passes, count_passes, counted, counted_in_share


def problem(p=3_000, activation="relu", noise=0.0, dtype=torch.float64, outputs=1):
    features = rl.RandomFeatures(20, p, activation, seed=1, dtype=dtype, device="cpu")
    data = rl.data.sphere(5, 20, seed=1, dtype=dtype)
    y = data.y if outputs == 1 else torch.stack([data.y.roll(k) for k in range(outputs)], 1)
    theta = features.fit(data.X, y)
    draw = torch.randn(theta.shape, generator=torch.Generator().manual_seed(2), dtype=dtype)
    return features, data.X, theta + noise * theta.norm() / draw.norm() * draw


@pytest.fixture
def sizes(monkeypatch):
    """How many features each descent had."""
    seen, descend = [], search.Search._descend_in_part

    def watched(self, *given, **options):
        seen.append(self.part[0].p)
        return descend(self, *given, **options)

    monkeypatch.setattr(search, "_WORTH", 0)
    monkeypatch.setattr(search.Search, "_descend_in_part", watched)
    return seen


def test_passes_through_a_part_count_as_their_share_exactly():
    passes = Passes()
    with counted(passes), counted_in_share(1 / 3):
        for _ in range(999):
            count_passes(1)
        with counted(None):
            count_passes(7)
    assert passes.made == 999 * 342 / 1024  # rounded up to 1/1024, and nothing lost in the sum
    with counted(None), counted_in_share(0.5):
        count_passes(1)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ({}, 1e-9),
        ({"activation": "relu+tanh"}, 1e-9),
        ({"activation": "tanh"}, 1e-9),
        ({"outputs": 2}, 1e-9),
        ({"dtype": torch.float32}, 1e-3),
    ],
)
def test_a_part_finds_what_all_hold(kind, error, sizes):
    features, X, theta = problem(**kind)
    found = rl.reconstruct(theta, features, 5, seed=3, max_seconds=None, max_steps=4_000)
    assert sizes and max(sizes) <= features.p / 2
    assert float(rl.match(found.X, X).error_up_to_sign.max()) < error
    again = rl.reconstruct(theta, features, 5, seed=3, max_seconds=None, max_steps=4_000)
    assert torch.equal(found.X, again.X) and found.steps == again.steps


def test_enough_and_no_more_is_searched_whole(sizes):
    features, X, theta = problem(p=600)
    found = rl.reconstruct(theta, features, 5, seed=3, max_seconds=None, max_steps=4_000)
    assert not sizes and float(rl.match(found.X, X).error_up_to_sign.max()) < 1e-9


def test_what_is_recorded_is_the_loss_on_all(sizes, monkeypatch):
    features, _, theta = problem(noise=0.1)
    recorded, record = [], Run.record

    def watched(self, U, loss, note=""):
        recorded.append((U.clone(), loss))
        return record(self, U, loss, note)

    monkeypatch.setattr(Run, "record", watched)
    rl.reconstruct(theta, features, 5, seed=3, max_seconds=None, max_steps=300)
    assert sizes and len(recorded) > 3
    for U, loss in recorded:  # of atoms of two columns each
        both = torch.cat([U, -U]).double()
        assert loss == pytest.approx(float(rl.projection_loss(both, features, theta)), rel=1e-3)


def test_noise_is_averaged_over_all_coordinates(sizes, monkeypatch):
    """Where the part cannot be explained all come in, and what is found is what a search of all finds."""
    features, X, theta = problem(noise=0.03)
    found = rl.reconstruct(theta, features, 5, seed=3, max_seconds=None, max_steps=4_000)
    assert sizes
    monkeypatch.setattr(search.Search, "_easy", lambda self, ratio: None)
    whole = rl.reconstruct(theta, features, 5, seed=4, max_seconds=None, max_steps=4_000)
    assert found.loss == pytest.approx(whole.loss, rel=1e-6)
    errors = [rl.match(result.X, X).error_up_to_sign for result in (found, whole)]
    assert torch.allclose(*errors, atol=1e-5) and float(errors[0].max()) > 1e-4
