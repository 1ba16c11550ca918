"""Every step of a search may fail: the best so far comes back, and the message says what happened."""

import random

import pytest
import torch
from torch import nn

import reconlaw as rl
from reconlaw.attack import projection, varpro
from reconlaw.features import autograd, gram, moment_regression

FACTORISATIONS = ("cholesky", "eigh", "eigvalsh", "svd", "svdvals", "lstsq", "solve", "qr", "inv", "matrix_rank")
CODED = ("cholesky_ex", "solve_ex")  # these tell of a failure by a code


class Faults:
    """Makes a share of all factorisations fail, by a seed; ``armed`` counts those let through first."""

    def __init__(self, share, seed, spared):
        self.draw, self.share, self.spared, self.raised = random.Random(seed), share, spared, 0

    def due(self):
        self.spared -= 1
        if self.spared >= 0 or self.draw.random() >= self.share:
            return False
        self.raised += 1
        return True

    def wrap(self, function, error):
        def faulty(*args, **options):
            if self.due():
                raise error()
            return function(*args, **options)

        return faulty

    def wrap_coded(self, function):
        def faulty(*args, **options):
            found = function(*args, **options)
            return type(found)((found[0], torch.ones_like(found[1]))) if self.due() else found

        return faulty


def _out_of_memory():
    return RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory")


@pytest.fixture
def faults(monkeypatch):
    """``faults(share, seed, spared)`` breaks torch's factorisations, and :func:`factor_gram`, from then on."""

    def inject(share=0.1, seed=0, spared=60):
        made = Faults(share, seed, spared)

        def singular():
            return torch.linalg.LinAlgError("the input is singular")

        for name in FACTORISATIONS:
            monkeypatch.setattr(torch.linalg, name, made.wrap(getattr(torch.linalg, name), singular))
        for name in CODED:
            monkeypatch.setattr(torch.linalg, name, made.wrap_coded(getattr(torch.linalg, name)))
        for name in ("cholesky_solve", "cholesky_inverse"):
            monkeypatch.setattr(torch, name, made.wrap(getattr(torch, name), singular))
        factor = made.wrap(gram.factor_gram, lambda: gram.SpanError("dependent"))
        for module in (projection, varpro, moment_regression):
            monkeypatch.setattr(module, "factor_gram", factor)
        return made

    return inject


def problem_of(kind):
    """θ with noise, so that the search goes down every road, and what to call with it."""
    n, options = 4, {}
    if kind == "modules":
        torch.manual_seed(0)
        features = rl.ModuleFeatures(nn.Sequential(nn.Linear(8, 120), nn.GELU()), 8, device="cpu")
    else:
        features = rl.RandomFeatures(10, 200, "relu", seed=0, device="cpu")
        options = {"method": kind}
    g = torch.Generator().manual_seed(1)
    X = rl.data.sphere(n, features.d, seed=0).X
    theta = torch.randn(n, generator=g, dtype=torch.float64) @ features(X)
    theta = theta + 1e-3 * torch.randn(features.p, generator=g, dtype=torch.float64)
    return theta, features, None if kind == "sparse" else n, options


def some_time():
    """A budget on a clock that counts how often it is read: the same on every machine."""
    reads = iter(range(10**9))
    return {"max_seconds": 400, "clock": lambda: float(next(reads))}


@pytest.mark.parametrize("kind", ["varpro", "sparse", "sgd", "modules"])
@pytest.mark.parametrize("share, seed", [(0.02, 0), (0.1, 1), (0.1, 2), (0.5, 3), (1.0, 4)])
def test_factorisations_that_fail_cost_a_step_and_not_the_result(faults, kind, share, seed):
    theta, features, n, options = problem_of(kind)
    broken = faults(share, seed)
    result = rl.reconstruct(theta, features, n, **some_time(), **options)
    assert broken.raised
    assert bool(torch.isfinite(result.X).all()) and bool(torch.isfinite(result.coefficients).all())
    assert 0 <= result.loss <= 1 + 1e-9 and result.message
    rows = result.coefficients.reshape(len(result.X), -1)
    rest = theta - (rows.T @ features(result.X))[0]
    assert float(rest.square().sum() / theta.square().sum()) == pytest.approx(result.loss, rel=1e-6, abs=1e-12)
    if share == 1.0:
        assert "could not be" in result.message


def test_where_nothing_can_be_computed_the_error_says_so(faults):
    theta, features, n, _ = problem_of("varpro")
    faults(1.0, spared=0)
    with pytest.raises(rl.StepError):
        rl.reconstruct(theta, features, n, max_seconds=None)


@pytest.mark.parametrize("share", [0.2, 1.0])
@pytest.mark.parametrize("kind", ["varpro", "sparse", "sgd", "modules"])
def test_want_of_memory_comes_back_as_the_best_so_far(monkeypatch, kind, share):
    theta, features, n, options = problem_of(kind)
    draw, calls = random.Random(0), iter(range(10**9))
    lift = type(features).lift

    def greedy(self, *args, **kwargs):
        if next(calls) > 12 and draw.random() < share:
            raise _out_of_memory()
        return lift(self, *args, **kwargs)

    monkeypatch.setattr(type(features), "lift", greedy)
    result = rl.reconstruct(theta, features, n, **some_time(), **options)
    assert bool(torch.isfinite(result.X).all()) and 0 <= result.loss <= 1 + 1e-9
    if share == 1.0:
        assert "memory" in result.message and not result.converged


def test_other_errors_are_not_taken_for_a_failed_step(monkeypatch):
    theta, features, n, _ = problem_of("varpro")
    monkeypatch.setattr(type(features), "lift", lambda *_: (_ for _ in ()).throw(RuntimeError("a fault of the code")))
    with pytest.raises(RuntimeError, match="a fault of the code") as caught:
        rl.reconstruct(theta, features, n, max_seconds=None)
    assert not isinstance(caught.value, rl.StepError)


@pytest.mark.parametrize("kind", ["varpro", "sparse", "sgd", "modules"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_nan_in_the_features_of_a_candidate_is_a_refused_step(monkeypatch, kind, bad):
    theta, features, n, options = problem_of(kind)
    draw, met = random.Random(1), []
    lift = type(features).lift

    def patchy(self, *args, **kwargs):
        made = lift(self, *args, **kwargs)
        if len(met) < 3 or draw.random() < 0.7:
            met.append(False)
        else:
            made.columns[-1, 0] = bad
            met.append(True)
        return made

    monkeypatch.setattr(type(features), "lift", patchy)
    result = rl.reconstruct(theta, features, n, **some_time(), **options)
    assert any(met)
    assert bool(torch.isfinite(result.X).all()) and bool(torch.isfinite(result.coefficients).all())
    assert 0 <= result.loss <= 1 + 1e-9


def test_without_a_limit_of_time_nothing_looks_at_a_clock(problem):
    case = problem()

    def no_clock():
        read.append(1)
        return float(len(read))

    read = []
    rl.reconstruct(case.theta, case.features, case.n, max_seconds=None, max_steps=200, clock=no_clock)
    first = len(read)
    assert first < 10**4
    outcomes = []
    for speed in (1.0, 1e6):
        ticks = iter(range(10**9))
        result = rl.reconstruct(
            case.theta,
            case.features,
            case.n,
            max_seconds=None,
            max_steps=200,
            clock=lambda ticks=ticks, speed=speed: speed * next(ticks),
        )
        outcomes.append(result.X)
    assert torch.equal(*outcomes)


class Slow(rl.FeatureMap):
    """φ of random directions, each call of which moves the clock on by the rows that it was given."""

    def __init__(self, d, p):
        super().__init__(d, p, device="cpu")
        self.now, self.W = 0.0, torch.randn(d, p, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def apply(self, X):
        self.now += len(X) / 256
        return torch.nn.functional.gelu(X @ self.W.to(X.dtype) / self.d**0.5)


def test_a_rank_for_which_there_is_no_memory_is_not_taken_for_a_full_one(monkeypatch):
    def full(*_):
        raise _out_of_memory()

    features = Slow(6, 60)
    theta = features(rl.data.sphere(2, 6, seed=0).X).sum(0)
    with monkeypatch.context() as patch:
        patch.setattr(autograd, "in_batches", full)
        with pytest.raises(gram.StepError, match="can't allocate memory"):
            features.rank(20)
    with monkeypatch.context() as patch:
        rank = autograd.rank

        def measured(*given):
            with pytest.MonkeyPatch.context() as within:
                within.setattr(autograd, "in_batches", full)
                return rank(*given)

        patch.setattr(autograd, "rank", measured)
        result = rl.reconstruct(theta, features, 2, max_seconds=None, max_steps=2_000)
    assert result.loss < 1e-20 and result.determined is None and result.status != "recovered"
    assert "independent equations it holds could not be measured in the time or the memory" in result.message
    assert features.rank(20) == 60  # nothing was kept of what failed


def test_what_is_made_once_keeps_to_its_share_of_the_time():
    features = Slow(60, 2000)
    X = rl.data.sphere(4, 60, seed=0).X
    theta = features(X).sum(0)
    result = rl.reconstruct(theta, features, 4, max_seconds=3, clock=lambda: features.now)
    assert features.now < 3 * 1.2 + 1
    assert bool(torch.isfinite(result.X).all()) and "did not fit into the time" in result.message
    assert not result.converged
    # With time enough nothing is given up.
    result = rl.reconstruct(theta, features, 4, max_seconds=1e9, clock=lambda: features.now)
    assert result.converged and "did not fit" not in result.message
