"""Columns of a descent take turns in the same memory, and nothing that somebody holds is ever written to."""

import pytest
import torch
from helpers import normal

import reconlaw as rl
from reconlaw.attack.varpro import descend
from reconlaw.features import memory
from reconlaw.features.memory import empty, used_again
from reconlaw.sphere import to_sphere

F64, CPU = torch.float64, torch.device("cpu")


def made():
    return empty(3, 100, F64, CPU)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_memory_is_given_again_once_nobody_holds_it_or_a_view_of_it(mode):
    with mode(), used_again():
        first, second = made(), made()
        place, other = first.data_ptr(), second.data_ptr()
        view, array = first[0], second.numpy()
        del first, second
        third = made()
        assert len({place, other, third.data_ptr()}) == 3
        del view
        again = made()
        assert again.data_ptr() == place and again.shape == (3, 100) and again.is_contiguous()
        del array, third
        assert made().data_ptr() == other
        assert empty(3, 100, torch.float32, CPU).dtype == torch.float32


def test_what_was_made_in_inference_mode_is_not_given_outside_it():
    with used_again():
        with torch.inference_mode():
            made()
        made().zero_()


def test_outside_and_without_a_count_of_holders_all_memory_is_new(monkeypatch):
    with used_again():
        kept = made()
        place = kept.data_ptr()
    assert made().data_ptr() != place  # still held here
    monkeypatch.setattr(memory, "_holders", None)
    with used_again():
        made()
        assert memory._KEPT.get() == {}


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_descent_goes_the_same_way_in_old_memory_and_leaves_alone_what_its_caller_keeps(activation, monkeypatch):
    features = rl.RandomFeatures(12, 2_000, activation, seed=1, device="cpu")
    data = rl.data.sphere(4, 12, seed=0)
    theta = features.fit(data.X, data.y)[None]
    start = to_sphere(data.X + 0.5 * normal(4, 12, seed=0))
    kept = []
    end = descend(features, theta, start, target=1e-28, on_step=lambda point: kept.append(point))
    assert end.reason == "converged" and len(kept) > memory._MOST
    for point in kept:
        assert torch.equal(point.lift.columns, features.lift(point.U).columns)
    places = []
    descend(features, theta, start, target=1e-28, on_step=lambda point: places.append(point.lift.columns.data_ptr()))
    assert len(places) == len(kept) and len(set(places)) <= memory._MOST
    monkeypatch.setattr(memory, "_holders", None)
    assert torch.equal(descend(features, theta, start, target=1e-28).point.U, end.point.U)
