"""A search that is interrupted and resumed ends, bit for bit, where one call would have."""

import io
import itertools

import pytest
import torch

import reconlaw as rl
from reconlaw._files import sealed, write_whole
from reconlaw.attack import road, search
from reconlaw.attack.run import Run

# d, n, p/dn, activation, seed; n given; start. All need many pieces: θ carries noise, and no set explains it.
CASES = {
    "varpro": ((20, 5, 2, "relu", 0), 5, {}),  # respawn, then message passing
    "near the limit": ((15, 4, 1.4, "relu+tanh", 1), 4, {"start": "random"}),
    "more than enough": ((20, 3, 12, "relu", 4), 3, {}),  # a part of θ's coordinates, then all
    "two outputs": ((12, 3, 2, "gelu", 2), 3, {}),
    "float32": ((20, 5, 2, "relu", 3), 5, {}),
    "sparse": ((15, 3, 4, "relu", 0), None, {"method": "sparse"}),
}
STEPS = 1_300


@pytest.fixture(autouse=True)
def _of_any_size(monkeypatch):
    monkeypatch.setattr(search, "_WORTH", 0)


def problem(kind):
    (d, n, ratio, activation, seed), count, options = CASES[kind]
    dtype = torch.float32 if kind == "float32" else torch.float64
    features = rl.RandomFeatures(d, round(ratio * d * n), activation, seed=seed, device="cpu", dtype=dtype)
    data = rl.data.sphere(n, d, seed=seed, dtype=dtype)
    y = torch.stack([data.y, data.y.flip(0)], 1) if kind == "two outputs" else data.y
    theta = features.fit(data.X, y)
    noise = torch.randn(theta.shape, generator=torch.Generator().manual_seed(1), dtype=theta.dtype)
    theta = theta + 1e-3 * theta.norm() / noise.norm() * noise
    return lambda **more: rl.reconstruct(theta, features, count, **{"seed": 3, "max_seconds": None} | options | more)


def same(one, other):
    assert torch.equal(one.X, other.X) and torch.equal(one.coefficients, other.coefficients)
    assert one.loss == other.loss and one.steps == other.steps and one.status == other.status
    assert [entry[1:] for entry in one.history] == [entry[1:] for entry in other.history]


def road_of(path):
    return torch.load(path, weights_only=True)["state"]["way"]


@pytest.mark.parametrize("kind", CASES)
def test_a_resumed_search_takes_the_very_road(kind, tmp_path):
    attack = problem(kind)
    whole = attack(checkpoint=tmp_path / "whole.pt", max_steps=STEPS)
    assert len(road_of(tmp_path / "whole.pt")["kept"]) > 3 and len(whole.history) > 5
    for stops in ((20,), (21, 22, 300, 1_100)):
        path = tmp_path / f"{stops}.pt"
        for stop in stops:
            part = attack(checkpoint=path, max_steps=stop)
            assert part.history[-1].loss >= whole.history[-1].loss
        same(attack(checkpoint=path, max_steps=STEPS), whole)


def test_without_a_checkpoint_the_road_is_the_same(tmp_path):
    attack = problem("varpro")
    same(attack(max_steps=STEPS), attack(checkpoint=tmp_path / "run.pt", max_steps=STEPS))


@pytest.mark.parametrize("kind", ["varpro", "sparse"])
@pytest.mark.parametrize("moment", [2, 9])
def test_ctrl_c_leaves_the_road(kind, moment, tmp_path, monkeypatch):
    attack, record, calls = problem(kind), Run.record, itertools.count()
    whole = attack(max_steps=STEPS)

    def interrupted(self, *given):
        if next(calls) == moment:
            raise KeyboardInterrupt
        return record(self, *given)

    monkeypatch.setattr(Run, "record", interrupted)
    part = attack(checkpoint=tmp_path / "run.pt", max_steps=STEPS)
    assert part.message.startswith("interrupted") and len(part.history) <= moment
    monkeypatch.undo()
    same(attack(checkpoint=tmp_path / "run.pt", max_steps=STEPS), whole)


def test_calls_too_short_for_a_piece_still_come_further(tmp_path):
    """Each ends in its first descent; from the third on they begin at the best."""
    attack, path, losses = problem("varpro"), tmp_path / "run.pt", []
    for _ in range(6):
        part = attack(checkpoint=path, max_seconds=12, clock=itertools.count().__next__)
        losses.append(part.history[-1].loss)
    assert not road_of(path)["kept"] and road_of(path)["begin"] is not None
    assert losses == sorted(losses, reverse=True) and losses[0] == losses[1] > losses[2] > losses[5]


@pytest.mark.parametrize("kind", ["varpro", "sparse"])
def test_what_does_not_fit_is_left_for_the_best(kind, tmp_path):
    attack, path = problem(kind), tmp_path / "run.pt"
    part = attack(checkpoint=path, max_steps=700)
    content = torch.load(path, weights_only=True)
    content["state"]["way"]["kept"][1]["key"] = "computed on another device"
    made = io.BytesIO()
    torch.save(content, made)
    write_whole(path, sealed(made.getvalue()))
    after = attack(checkpoint=path, max_steps=STEPS)
    assert after.steps >= STEPS and after.history[: len(part.history)] == part.history
    assert after.history[-1].loss <= part.history[-1].loss
    assert torch.equal(road_of(path)["begin"]["best"], content["best"])


def test_no_more_is_kept_than_is_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(road, "_MOST", 1_000)  # bytes: five atoms in twenty dimensions are 800
    attack, path = problem("varpro"), tmp_path / "run.pt"
    part = attack(checkpoint=path, max_steps=700)
    assert road_of(path)["full"] and not road_of(path)["kept"]
    after = attack(checkpoint=path, max_steps=STEPS)
    assert after.steps >= STEPS and after.history[: len(part.history)] == part.history


def test_a_smaller_budget_takes_nothing_back(tmp_path):
    attack, path = problem("varpro"), tmp_path / "run.pt"
    part = attack(checkpoint=path, max_steps=700)
    again = attack(checkpoint=path, max_steps=50)
    assert torch.equal(again.X, part.X) and again.history == part.history and again.steps >= part.steps
    same(attack(checkpoint=path, max_steps=STEPS), attack(max_steps=STEPS))
