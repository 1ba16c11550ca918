"""Budgets of work: what a step is, and that a budget of steps ends a run at the same place whatever the clock says."""

import contextlib
import itertools
import os
import subprocess
import sys

import pytest
import torch

import reconlaw as rl
from reconlaw.attack.run import Run
from reconlaw.features import threads
from reconlaw.features.passes import Passes, count_passes, counted
from reconlaw.features.spectral import linear_fit, second_moment_directions, third_moment_directions
from reconlaw.features.threads import LONG, one_thread, shared


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
    assert made(lambda: lift.linearise(torch.ones(10, 1, dtype=torch.float64))) == 0  # ReLU's columns tell all
    smooth = rl.RandomFeatures(20, 200, "gelu", device="cpu").lift(case.X, lifted=True)
    smooth.linearise(torch.ones(10, 1, dtype=torch.float64))
    assert made(lambda: smooth.linearise(torch.ones(10, 1, dtype=torch.float64))) == 5  # the pre-activations anew
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


# --- threads -------------------------------------------------------------------------------------------------------


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_short_products_run_on_one_thread_and_long_ones_on_those_given(three_threads):
    with shared(LONG):
        assert torch.get_num_threads() == 3  # outside a search nothing is touched
    with one_thread():
        assert torch.get_num_threads() == 1
        with shared(LONG / 2):
            assert torch.get_num_threads() == 1
        with shared(LONG), one_thread():  # a search within a long product
            assert torch.get_num_threads() == 1
        with pytest.raises(KeyboardInterrupt), shared(LONG):
            assert torch.get_num_threads() == 3
            raise KeyboardInterrupt
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


def test_never_more_threads_than_torch_was_given(three_threads):
    torch.set_num_threads(1)
    with one_thread(), shared(10 * LONG):
        assert torch.get_num_threads() == 1


def test_the_last_search_out_puts_the_threads_back(three_threads):
    first, second = one_thread(), one_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert torch.get_num_threads() == 1
    second.__exit__(None, None, None)
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ZeroDivisionError, None])
def test_a_reconstruction_puts_the_threads_back(problem, three_threads, monkeypatch, failure):
    case, seen = problem(), []

    def record(run, *_):
        seen.append(torch.get_num_threads())
        if failure is not None:
            raise failure

    monkeypatch.setattr(Run, "record", record)
    with contextlib.suppress(KeyboardInterrupt, ZeroDivisionError, AttributeError):  # the last: nothing was recorded
        attack(case, max_steps=50)
    assert set(seen) == {1} and torch.get_num_threads() == 3


def test_long_products_of_a_search_are_shared(three_threads, problem, monkeypatch):
    case, seen = problem(), set()
    monkeypatch.setattr(threads, "LONG", 1.0)
    product = torch.mm

    def watched(*given, **named):
        seen.add(torch.get_num_threads())
        return product(*given, **named)

    monkeypatch.setattr(torch, "mm", watched)
    attack(case, max_steps=20)
    assert seen == {3} and torch.get_num_threads() == 3


def test_a_modules_pass_is_measured_in_multiplications():
    body = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(36, 7))
    assert rl.ModuleFeatures(body, (2, 5, 5), device="cpu").multiplications == 4 * 9 * 2 * 9 + 36 * 7
    assert rl.RandomFeatures(6, 50, device="cpu").multiplications == 300


# --- other machines ------------------------------------------------------------------------------------------------

ELSEWHERE = """
import sys, torch, reconlaw as rl
features = rl.RandomFeatures(20, 1000, "relu", device="cpu")
data = rl.data.sphere(5, 20)
theta = features.fit(data.X, data.y)
kind, path = sys.argv[1:]
if kind == "converges":
    result = rl.reconstruct(theta, features, 5, max_seconds=None)
else:  # noise, and a tolerance that is out of reach: ended by its budget
    noise = torch.randn(1000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    theta = theta + 0.05 * theta.norm() / noise.norm() * noise
    result = rl.reconstruct(theta, features, 5, max_seconds=None, max_steps=400, tol=1e-30)
torch.save({"X": result.X, "steps": result.steps}, path)
"""


def elsewhere(folder, kind, **environment):
    """X̂ and the steps of the same call in another process, under other variables of the environment."""
    path, script = folder / "made.pt", folder / "elsewhere.py"
    script.write_text(ELSEWHERE)
    subprocess.run([sys.executable, script, kind, path], check=True, env=os.environ | environment)
    return torch.load(path)


@contextlib.contextmanager
def busy():
    """Another program for every core."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count())]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def test_three_runs_are_bit_identical_one_of_them_under_load(tmp_path):
    first, second = (elsewhere(tmp_path, "budget") for _ in range(2))
    with busy():
        third = elsewhere(tmp_path, "budget")
    for other in (second, third):
        assert torch.equal(other["X"], first["X"]) and other["steps"] == first["steps"]


@pytest.mark.parametrize(
    "environment",
    [{"MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "default"}, {"OMP_NUM_THREADS": "2", "MKL_CBWR": "AVX2"}],
    ids=["an old processor", "two threads"],
)
def test_other_arithmetic_ends_at_the_same_samples(tmp_path, environment):
    here, there = elsewhere(tmp_path, "converges"), elsewhere(tmp_path, "converges", **environment)
    torch.testing.assert_close(there["X"], here["X"], rtol=0, atol=1e-6)
