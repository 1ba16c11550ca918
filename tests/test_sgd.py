import math

import pytest
import torch

import reconlaw as rl
from reconlaw.attack import sgd
from reconlaw.attack.run import Run


def iterates(case, steps, monkeypatch, **options):
    """X after each of the first ``steps`` steps."""
    seen = []
    monkeypatch.setattr(sgd, "_RECORD_EVERY", 1)
    monkeypatch.setattr(Run, "record", lambda self, X, loss, note="": keep(self, X, loss))

    def keep(run, X, loss):
        seen.append(X.clone())
        run.best, run.best_loss = X, loss
        return False

    rl.reconstruct(case.theta, case.features, case.n, method="sgd", seed=3, max_steps=steps, **options)
    return seen


@pytest.mark.parametrize(("name", "leak"), [("gelu", 0.02), ("relu", 0.0), ("relu+tanh", 0.02), ("tanh", 0.02)])
@pytest.mark.parametrize("outputs", [None, 2])
def test_steps_are_those_of_momentum_written_out(problem, monkeypatch, name, leak, outputs):
    """v ← 0.9v + ∂L/∂X̂, X̂ ← X̂ − ηv, rows back at √d, the gradient by autograd of the public loss."""
    case = problem(d=10, n=3, p=200, activation=name, outputs=outputs)
    seen = iterates(case, 12, monkeypatch, learning_rate=5.0, leak=leak)
    X, velocity = seen[0], torch.zeros_like(seen[0])
    torch.testing.assert_close(X.norm(dim=1), torch.full((3,), math.sqrt(10), dtype=torch.float64))
    for expected in seen[1:]:
        Y = X.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(rl.projection_loss(Y, case.features, case.theta), Y)
        velocity = 0.9 * velocity + gradient
        X = X - 5.0 * velocity
        X = X * (math.sqrt(10) / X.norm(dim=1, keepdim=True))
        torch.testing.assert_close(expected, X, rtol=1e-8, atol=1e-10)


def test_leak_replaces_the_slope_of_relu_in_the_backward_pass_only(problem, monkeypatch):
    case = problem(d=10, n=3, p=200)
    start, first = iterates(case, 1, monkeypatch, learning_rate=5.0, leak=0.02)
    Phi = case.features(start)
    alpha = torch.linalg.lstsq(Phi.T, case.theta[:, None]).solution
    r = case.theta - alpha[:, 0] @ Phi
    slope = torch.where(start @ case.features.V.T > 0, 1.0, 0.02)
    gradient = -2 * ((alpha * r) * slope) @ case.features.V / case.theta.square().sum()
    X = start - 5.0 * gradient
    torch.testing.assert_close(first, X * (math.sqrt(10) / X.norm(dim=1, keepdim=True)), rtol=1e-9, atol=1e-11)


def test_a_function_called_relu_keeps_its_own_slope(problem, monkeypatch):
    def relu(z):
        return torch.relu(3 * z) - torch.relu(-z)

    case = problem(d=10, n=3, p=200, activation=relu)
    assert torch.equal(*(iterates(case, 2, monkeypatch, leak=leak)[-1] for leak in (0.0, 0.5)))


def test_default_learning_rate_is_the_papers_at_its_size(problem, monkeypatch):
    case = problem(d=100, n=20, p=600)
    default, papers, other = (
        iterates(case, 2, monkeypatch, **options) for options in ({}, {"learning_rate": 20.0}, {"learning_rate": 19.0})
    )
    assert torch.equal(default[2], papers[2]) and not torch.equal(default[2], other[2])


def test_the_start_is_normal_on_the_sphere_and_not_the_data(problem):
    for seed in range(5):
        case = problem(d=30, n=8, p=400, seed=seed)
        start = rl.reconstruct(case.theta, case.features, 8, method="sgd", seed=seed, max_steps=0).X
        assert rl.match(start, case.X).error_up_to_sign.min() > 0.3
        torch.manual_seed(seed)
        drawn = torch.randn(8, 30, dtype=torch.float64)
        assert rl.match(start, drawn).error_up_to_sign.min() > 0.3
        again = rl.reconstruct(case.theta, case.features, 8, method="sgd", seed=seed, max_steps=0).X
        assert torch.equal(start, again)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_converges_where_signs_make_no_minimum(problem, n):
    case = problem(d=10, n=n, p=600, activation="tanh")
    result = rl.reconstruct(case.theta, case.features, n, method="sgd", seed=1, max_seconds=None)
    assert result.converged and result.loss <= 1e-7 and result.method == "sgd"
    assert rl.match(result.X, case.X).error_up_to_sign.max() < 1e-2
    assert result.sign_identifiable is False


def test_converged_on_mixed_parity_knows_the_signs(problem):
    case = problem(d=10, n=1, p=600, activation="softplus")
    result = rl.reconstruct(case.theta, case.features, 1, method="sgd", seed=0, max_seconds=None)
    assert result.converged and result.sign_identifiable is True
    assert rl.match(result.X, case.X).error.max() < 1e-2


def test_max_steps_ends_it(problem, monkeypatch):
    case = problem(d=10, n=3, p=200)
    seen = iterates(case, 7, monkeypatch)
    assert len(seen) == 8


def test_too_large_a_step_gives_the_best_so_far(problem):
    case = problem(d=10, n=3, p=200)
    result = rl.reconstruct(case.theta, case.features, 3, method="sgd", learning_rate=1e308, max_seconds=None)
    assert torch.isfinite(result.X).all() and 0 < result.loss <= 1 and not result.converged


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0}, "learning_rate=0"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
        ({"learning_rate": math.nan}, "learning_rate=nan"),
        ({"leak": -0.1}, "leak=-0.1"),
        ({"leak": "a"}, "leak='a'"),
        ({"max_steps": -1}, "max_steps=-1"),
        ({"max_steps": 1e6}, "max_steps=1000000.0"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_bad_options(problem, options, message):
    case = problem(d=10, n=3, p=200)
    with pytest.raises(ValueError, match=message):
        rl.reconstruct(case.theta, case.features, 3, method="sgd", **options)
