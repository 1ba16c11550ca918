"""Samples of known batches: what running statistics leave of them is one rotation, and the head tells it."""

import pytest
import torch
from batch_problem import ALTERNATING, SHUFFLED, D, N, P, X, Y, recipe, seen
from helpers import normal

import reconlaw as rl
from reconlaw.networks import TurnedHull, batch_hull, read_off
from reconlaw.networks.retrace.fit import derivative
from reconlaw.networks.retrace.recipe import Recipe


def turned(order=SHUFFLED, X=X):
    hull = batch_hull(**seen(order, X=X))
    return hull, TurnedHull(hull, order)


def coordinates(domain, X):
    return (X - domain.offset) @ torch.linalg.pinv(domain.basis)


@pytest.mark.parametrize("sizes", [[3] * 12, [4, 2] * 6])
def test_the_truth_and_everything_in_the_domain_leave_the_statistics_as_they_are(sizes):
    order = list(SHUFFLED.flatten().split(sizes))
    hull, domain = turned(order)
    U = coordinates(domain, X)
    assert float((domain.retract(U) - U).norm()) < 1e-9
    V = domain.retract(normal(N, N - 1, seed=10))
    other = domain.decoder(D)(V)
    assert float((other - X).norm()) > 0.1 * float(X.norm())
    for one, as_seen in zip(seen(order, X=other)["after"], seen(order)["after"], strict=True):
        assert torch.allclose(one, as_seen, atol=1e-9)


def test_moves_are_orthonormal_and_stay_in_the_domain():
    _, domain = turned()
    U = domain.retract(normal(N, N - 1, seed=11))
    B = domain.moves(U)
    assert B.shape == (N * (N - 1), 10) and torch.allclose(B.T @ B, torch.eye(10).double(), atol=1e-12)
    for size in (1e-3, 1e-4):  # what is left after a step is of second order
        V = U + size * (B @ torch.ones(10).double()).reshape(U.shape)
        assert float((domain.retract(V) - V).norm()) < 20 * size**2


# Seven samples in a plane: their hull has fewer dimensions than six, and Q is no square matrix.
def test_samples_that_lie_in_a_plane():
    order = torch.cat([torch.randperm(7, generator=torch.Generator().manual_seed(e))[:6] for e in range(6)])
    order = order.reshape(-1, 3)
    flat = normal(7, 2, seed=12) @ normal(2, D, seed=13) + normal(D, seed=14)
    hull, domain = turned(order, flat)
    U = coordinates(domain, flat)
    assert domain.k == 2 and float((domain.retract(U) - U).norm()) < 1e-8
    B = domain.moves(U)
    assert B.shape == (14, 1 + 2 * 4) and torch.allclose(B.T @ B, torch.eye(9).double(), atol=1e-12)
    V = U + 1e-4 * (B @ torch.ones(9).double()).reshape(U.shape)
    assert float((domain.retract(V) - V).norm()) < 1e-6


def test_the_derivative_along_the_moves_is_that_of_differences():
    _, domain = turned()
    theta = recipe(SHUFFLED)(X, Y)
    U = domain.retract(normal(N, N - 1, seed=15))
    one = Recipe(recipe(SHUFFLED), theta, domain.decoder(D), (N, N - 1), Y, False, (), {}, D)
    one.check(U.flatten())
    moves = domain.moves(U)
    J, move = derivative(one, U.flatten(), domain, moves), moves @ normal(10, seed=16)
    ahead, back = (one(domain.retract(U + h * move.reshape(U.shape)).flatten()) for h in (1e-6, -1e-6))
    assert torch.allclose(J @ move, (ahead - back) / 2e-6, atol=1e-6)
    # Statistics change along other moves, and not along these.
    assert float(one.jacobian(U.flatten())[P:].norm()) > 0.1 and float(J[P:].norm()) < 1e-9


@pytest.mark.parametrize("unknown", [False, True])
def test_samples_of_known_batches_come_back_from_random_starts(unknown):
    _, domain = turned()
    train = recipe(SHUFFLED)
    theta = train(X, Y)
    if unknown:
        found = rl.retrace(
            theta, lambda X, y, rate: recipe(SHUFFLED, rate)(X, y), (N, D), Y, inputs=domain,
            numbers={"rate": 0.35 / P}, starts=12, max_steps=400,
        )  # fmt: skip
    else:
        found = rl.retrace(theta, train, (N, D), Y, inputs=domain, starts=12, max_steps=400)
    assert found.status is rl.Status.RECOVERED and float((found.X - X).norm()) < 1e-8 * float(X.norm()), found
    assert found.unknowns == 10 + unknown < found.equations


def test_a_start_is_taken_into_the_domain():
    _, domain = turned()
    train = recipe(SHUFFLED)
    start = X + 0.05 * normal(N, D, seed=17)
    found = rl.retrace(train(X, Y), train, start, Y, inputs=domain)
    assert found.status is rl.Status.RECOVERED and float((found.X - X).norm()) < 1e-8, found


HULL = batch_hull(**seen(SHUFFLED))


@pytest.mark.parametrize(
    ("hull", "batches", "momentum", "says"),
    [
        ("hull", SHUFFLED, 0.1, "batch_hull"),
        (read_off(normal(9, 3, seed=18) @ normal(3, D, seed=20)), SHUFFLED, 0.1, "batch_hull"),
        (HULL, SHUFFLED, 1.0, "momentum"),
        (HULL, SHUFFLED.double(), 0.1, "whole numbers"),
        (HULL, SHUFFLED > 2, 0.1, "whole numbers"),
        (HULL, [torch.tensor([0])], 0.1, "two samples or more"),
        (HULL, [torch.tensor([0, 1, 1])], 0.1, "each once"),
        (HULL, [torch.tensor([-1, 0, 1])], 0.1, "counted from 0"),
        (HULL, [], 0.1, "none"),
        (HULL, SHUFFLED % 3, 0.1, "each once"),
        (HULL, [torch.tensor([0, 1, 2, 3])], 0.1, "5 dimensions"),
        (HULL, ALTERNATING, 0.1, "shifted"),
    ],
)  # fmt: skip
def test_arguments_that_are_wrong(hull, batches, momentum, says):
    with pytest.raises((TypeError, ValueError), match=says):
        TurnedHull(hull, batches, momentum)


def test_two_samples_are_known_but_for_their_order():
    order = torch.tensor([[0, 1]] * 12)
    hull = batch_hull(**seen(order, X=X[:2]))
    with pytest.raises(ValueError, match="which is which"):
        TurnedHull(hull, order)


def test_other_numbers_of_samples_are_refused():
    _, domain = turned()
    with pytest.raises(ValueError, match="only retrace"):
        domain.retract(torch.zeros(4, N - 1).double())
    with pytest.raises(ValueError, match="only retrace"):
        rl.retrace(recipe(SHUFFLED)(X, Y), recipe(SHUFFLED), (4, D), Y[:4], inputs=domain)
    assert "6 samples" in repr(domain)
