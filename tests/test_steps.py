"""Budgets of work: what a step is, and that a budget of steps ends a run at the same place whatever the clock says."""

import itertools

import pytest
import torch

import reconlaw as rl
from reconlaw.features.passes import Passes, count_passes, counted
from reconlaw.features.spectral import linear_fit, second_moment_directions, third_moment_directions


def endless(problem, **changed):
    """A problem without an exact solution that tells when to stop: noise in θ, a tolerance that no loss reaches."""
    case = problem(**changed)
    noise = torch.randn(case.theta.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    case.theta = case.theta + 0.05 * case.theta.norm() / noise.norm() * noise
    return case


def attack(case, **options):
    options = {"n": case.n, "max_seconds": None} | options
    return rl.reconstruct(case.theta, case.features, **options)


# --- the currency --------------------------------------------------------------------------------------------------


def made(work):
    with counted(Passes()) as passes:
        work()
    return passes.made


def test_passes_of_the_kernels(problem):
    case = problem(d=20, n=5, p=200)
    features, theta = case.features, case.features.check_theta(case.theta)
    lift = features.lift(case.X, lifted=True)
    assert made(lambda: features.lift(case.X, lifted=True)) == 5  # both columns of a pair share a product with V
    lift.linearise(torch.ones(10, 1, dtype=torch.float64))
    assert made(lambda: lift.jvp(case.X)) == made(lambda: lift.vjp(theta)) == 5
    assert made(lambda: lift.linearise(torch.ones(10, 1, dtype=torch.float64))) == 5  # the pre-activations anew
    assert made(lambda: second_moment_directions(features, theta, 3, torch.Generator())) == 2 * 20  # d columns
    assert made(lambda: third_moment_directions(features, theta, 3, torch.Generator(), iterations=2)) == 3 * 3 * 20
    assert made(lambda: linear_fit(features, theta, iterations=4)) == 2 + 2 * 4


def test_passes_of_a_module():
    features = rl.ModuleFeatures(torch.nn.Sequential(torch.nn.Linear(6, 40), torch.nn.GELU()), 6, device="cpu")
    U = features.probes(3)
    lift = features.lift(U, lifted=True)
    assert made(lambda: features.lift(U, lifted=True)) == 6
    assert made(lambda: lift.linearise(torch.ones(6, 1, dtype=torch.float64))) == 12
    assert made(lambda: lift.jvp(U)) == made(lambda: lift.vjp(lift.columns[:1])) == 6
    assert made(lambda: lift.jacobians()) == 6 * (1 + 6)
    places = lift.jacobians()
    assert made(lambda: lift.jacobians(places)) == 0  # taken where they were
    assert made(features.metric) == made(lambda: features.rank(50)) == 0  # made once, and kept for all runs


def test_the_innermost_run_alone_counts():
    outer, inner = Passes(), Passes()
    count_passes(7)  # nobody listens
    with counted(outer):
        count_passes(2)
        with counted(inner):
            count_passes(3)
        count_passes(2)
    assert (outer.made, inner.made) == (4, 3)


def test_a_step_of_sgd_is_an_iteration(problem):
    case = problem()
    result = attack(case, method="sgd", max_steps=20, tol=1e-30)
    assert result.history[-1].steps <= 20.5 and result.steps == 21  # one evaluation at the end, another to return
    assert result.message.startswith("budget spent")


def test_float32_steps_count_alike(problem):
    case = endless(problem, dtype=torch.float32)
    assert attack(case, method="sgd", max_steps=20, tol=1e-30).steps == 21


# --- the same road -------------------------------------------------------------------------------------------------

METHODS = [("varpro", 400), ("sgd", 60), ("sparse", 4000)]


def racing_clock():
    """Seconds that never pass at the same pace twice."""
    ticks = itertools.count()
    return lambda: float(next(ticks) ** 2)


@pytest.mark.parametrize(("method", "steps"), METHODS)
def test_the_clock_does_not_move_a_budget_of_steps(problem, method, steps):
    case = endless(problem, d=16, n=4, p=400)
    options = {"n": None if method == "sparse" else 4, "method": method, "max_steps": steps, "tol": 1e-30}
    runs = [attack(case, **options), attack(case, **options), attack(case, **options, clock=racing_clock())]
    assert steps <= runs[0].steps and runs[0].message.startswith(("budget spent", "not determined"))
    for other in runs[1:]:
        assert torch.equal(other.X, runs[0].X) and torch.equal(other.coefficients, runs[0].coefficients)
        assert other.steps == runs[0].steps
        assert [entry[1:] for entry in other.history] == [entry[1:] for entry in runs[0].history]
