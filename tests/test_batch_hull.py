"""Batch normalisation in training mode: what its running statistics give away, and the samples of its mini-batches."""

import pytest
import torch
from batch_problem import ALTERNATING, EPOCHS, KEPT, SHUFFLED, SIZE, D, N, P, X, Y, recipe, seen
from helpers import normal

import reconlaw as rl
from reconlaw.networks import batch_hull
from reconlaw.networks.retrace.fit import begin, descend
from reconlaw.networks.retrace.recipe import Recipe


def off(hull, X=X):
    rest = X - hull.point
    return float((rest - rest @ hull.directions.T @ hull.directions).norm() / X.norm())


@pytest.mark.parametrize("bias", [False, True])
def test_the_hull_of_shuffled_batches_holds_the_inputs(bias):
    hull = batch_hull(**seen(SHUFFLED, bias=bias))
    assert hull.n == N and off(hull) < 1e-10 and bool((hull.singular_values > 0.1).all())
    assert torch.allclose(hull.directions @ hull.directions.T, torch.eye(N - 1).double(), atol=1e-12)
    assert hull.inputs.k == N - 1
    assert torch.equal(batch_hull(**seen(SHUFFLED, bias=bias), rank=N - 1).directions, hull.directions)


def test_one_batch_of_all():
    hull = batch_hull(**seen(torch.arange(N).repeat(2 * EPOCHS, 1)))
    assert hull.n == N and off(hull) < 1e-10 and torch.allclose(hull.point, X.mean(0), atol=1e-10)


# Two batches that share no sample: each may be shifted against the other, and no normalised feature changes.
def test_batches_that_share_nothing_are_not_told_apart():
    hull = batch_hull(**seen(ALTERNATING))
    assert hull.n == N - 1 and off(hull) > 0.1
    train, shift = recipe(ALTERNATING[:4]), normal(D, seed=6)
    moved = X + torch.cat([shift.expand(SIZE, D) / 0.9, -shift.expand(SIZE, D)])  # the last counts more
    for one, other in zip(train(X, Y), train(moved, Y), strict=True):
        assert torch.allclose(one, other, atol=1e-9)
    found = rl.retrace(train(X, Y), train, X + 1e-3 * normal(N, D, seed=7), Y, inputs=rl.inputs.Free())
    assert found.mismatch < 1e-9 and found.status is rl.Status.NOT_DETERMINED, found
    assert rl.Flag.RECOVERED not in found.flags


# All samples are right, and two stand where the other should: a descent from there ends in a valley of its own.
def test_samples_of_batches_are_put_in_order():
    train = recipe(SHUFFLED)
    theta, hull = train(X, Y), batch_hull(**seen(SHUFFLED))
    start = X[[0, 4, 2, 3, 1, 5]] + 0.02 * normal(N, D, seed=8)
    coordinates = (start - hull.point) @ torch.linalg.pinv(hull.inputs.basis)
    alone = Recipe(train, theta, hull.inputs.decoder(D), (N, N - 1), Y, False, (), {}, D)
    alone.check(coordinates.flatten())
    stuck = descend(alone, begin(alone, coordinates.flatten()), hull.inputs, 60, 1e-9)
    assert stuck.mismatch > 1e-2, stuck.history
    found = rl.retrace(theta, train, start, Y, inputs=hull.inputs)
    assert found.status is rl.Status.RECOVERED and float((found.X - X).norm()) < 1e-9 * float(X.norm()), found


def test_statistics_in_float32():
    made = seen(SHUFFLED)
    made["after"] = tuple(one.float() for one in made["after"])
    hull = batch_hull(**made)
    assert hull.n == N and off(hull) < 1e-4


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"kept": 0.9**10, "rank": 5}, "running variances"),
        ({"rank": 4}, "running variances"),
        ({"weight": normal(P, D, seed=9)}, "running means"),
        ({"weight": normal(D, D, seed=9)}, "more rows"),
        ({"kept": 1.5}, "kept"),
        ({"after": (torch.zeros(P), torch.ones(3))}, "a statistic"),
        ({"before": torch.zeros(P)}, "pair of running mean"),
        ({"rank": 0}, "rank"),
        ({"bias": torch.ones(2)}, "a statistic"),
    ],
)
def test_arguments_that_are_wrong(wrong, says):
    with pytest.raises((TypeError, ValueError), match=says):
        batch_hull(**seen(SHUFFLED) | wrong)


def test_inputs_that_are_all_one_have_no_directions():
    given = seen(SHUFFLED, X=X[:1].expand(N, D))
    mean, var = given["after"]
    given["after"] = mean, KEPT * given["before"][1]  # to the last digit, which a running sum need not be
    assert float((var - given["after"][1]).norm()) < 1e-9
    with pytest.raises(ValueError, match="running variances"):
        batch_hull(**given)
