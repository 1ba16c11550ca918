"""Reconstruction by the neural tangent kernel."""

import copy
import itertools

import pytest
import torch

import reconlaw as rl
from reconlaw.attack.run import Run
from reconlaw.networks import TwoLayer, tangent, train


@pytest.fixture(scope="module")
def lazy():
    """A wide network of which all layers were trained on three samples."""
    data, before = rl.data.sphere(3, 10, seed=2), TwoLayer(10, 1000, seed=0)
    y = torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)
    return data.X, before, train(before, data.X, y, tol=1e-8).network


OPTIONS = {"max_steps": 300, "learning_rate": 0.1, "max_seconds": None}


def test_the_truth_leaves_little_and_the_less_the_wider(lazy):
    X, before, after = lazy
    wide = train(TwoLayer(10, 16_000, seed=0), X, torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64), tol=1e-8)
    losses = []
    for start, end in ((before, after), (TwoLayer(10, 16_000, seed=0), wide.network)):
        (W0, v0), (W1, v1) = tangent.layers("start", start), tangent.layers("end", end)
        losses.append(tangent.fit([(W0, v0)], (W1 - W0, v1 - v0), X)[1])
    assert losses[0] < 0.05 and losses[1] < losses[0] / 2


@pytest.mark.parametrize("ends", ["before", "both"])
def test_recovers_an_easy_set(lazy, ends):
    X, before, after = lazy
    result = rl.ntk(before, after, 3, ends=ends, seed=0, **OPTIONS)
    report = rl.match(result.X, X)
    assert report.error.max() < 0.1 and result.loss < 0.02
    assert result.X.shape == (6, 10) and result.method == "ntk" and result.message.startswith("steps done")
    assert result.coefficients.shape == ((6, 2) if ends == "both" else (6,))
    torch.testing.assert_close(result.X.norm(dim=1), torch.full((6,), 10**0.5, dtype=torch.float64))


def test_the_loss_falls_and_is_that_of_the_result(lazy):
    _, before, after = lazy
    result = rl.ntk(before, after, 3, ends="before", seed=1, **OPTIONS)
    losses = [entry.loss for entry in result.history]
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] / 10
    (W0, v0), (W1, v1) = tangent.layers("before", before), tangent.layers("after", after)
    assert tangent.fit([(W0, v0)], (W1 - W0, v1 - v0), result.X)[1] == pytest.approx(result.loss)


def test_neurons_have_no_order(lazy):
    _, before, after = lazy
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    shuffled = []
    for network in (before, after):
        network = copy.deepcopy(network)
        network.body[0].weight.data = network.body[0].weight.data[order]
        network.head.weight.data = network.head.weight.data[:, order]
        shuffled.append(network)
    plain, other = (rl.ntk(*pair, 3, max_steps=20, learning_rate=0.05) for pair in ((before, after), shuffled))
    torch.testing.assert_close(plain.X, other.X, rtol=0, atol=1e-6)


def test_a_seed_fixes_the_answer_and_networks_are_left_alone(lazy):
    _, before, after = lazy
    kept = copy.deepcopy(after.state_dict())
    one, same, other = (rl.ntk(before, after, 3, seed=s, max_steps=20).X for s in (3, 3, 4))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert all(torch.equal(kept[name], value) for name, value in after.state_dict().items())


def test_ctrl_c_returns_the_best_so_far(lazy, monkeypatch):
    _, before, after = lazy
    record, calls = Run.record, []

    def interrupt(run, U, loss, note=""):
        calls.append(loss)
        record(run, U, loss, note)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "record", interrupt)
    result = rl.ntk(before, after, 3, max_steps=1000)
    assert result.message.startswith("interrupted") and result.loss == pytest.approx(min(calls))
    assert result.status is rl.Status.INTERRUPTED


def test_the_budget_ends_it(lazy):
    _, before, after = lazy
    result = rl.ntk(before, after, 3, max_steps=10**9, max_seconds=30, clock=itertools.count().__next__)
    assert 30 <= result.seconds < 40 and result.message.startswith("budget spent")
    assert result.status is rl.Status.BUDGET_SPENT


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n=0"),
        ({"candidates": 0}, "candidates=0"),
        ({"ends": "after"}, "ends='after' is unknown"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"learning_rate": -1}, "learning_rate=-1"),
        ({"max_seconds": 0}, "max_seconds=0"),
        ({"sharpness": (0.0, 1.0)}, "sharpness=0.0"),
        ({"sharpness": 10.0}, "sharpness=10.0 must be two numbers"),
        ({"seed": -1}, "seed=-1"),
        ({"after": TwoLayer(10, 999)}, "before has a first layer .1000, 10., after .999, 10."),
    ],
)
def test_bad_arguments(lazy, arguments, message):
    _, before, after = lazy
    with pytest.raises(ValueError, match=message):
        rl.ntk(**({"before": before, "after": after, "n": 3} | arguments))


def test_a_network_that_did_not_move_holds_nothing(lazy):
    _, before, _ = lazy
    with pytest.raises(ValueError, match="training moved nothing"):
        rl.ntk(before, before, 3)
