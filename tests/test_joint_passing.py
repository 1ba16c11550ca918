"""Message passing with joint posteriors, and the state evolution that predicts it."""

import math

import pytest
import torch

import reconlaw as rl
from reconlaw.attack.joint_passing import pass_messages, state_evolution
from reconlaw.attack.joint_posterior import INVERSES, JointPosterior

A = (1.0, 0.7, -0.85)


@pytest.mark.parametrize("activation", INVERSES)
def test_inverses_find_every_place(activation):
    z = torch.linspace(-3, 3, 601, dtype=torch.float64)
    phi = rl.get_activation(activation)
    places = torch.stack(INVERSES[activation](phi(z)))
    back = (phi(places) - phi(z)).abs()
    assert float(back[~back.isnan()].max()) < 1e-12
    invertible = phi(z) != 0  # ReLU's silent half has an orthant of its own
    assert float((places - z)[:, invertible].abs().nan_to_num(math.inf).min(0).values.max()) < 1e-9
    outside = torch.tensor([-1.5], dtype=torch.float64)
    if activation != "abs":
        assert all(bool(found.isnan()) for found in INVERSES[activation](outside))


@pytest.mark.parametrize("activation", INVERSES)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_posterior_is_that_of_rejection(activation, n):
    generator = torch.Generator().manual_seed(n)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    posterior = JointPosterior(activation, A[:n], nodes=31 if n == 3 else None)
    B = draw(n, n)
    C, omega = B @ B.T / n + 0.2 * torch.eye(n), 0.3 + 0.5 * draw(1, n)
    root = torch.linalg.cholesky(C)
    y = posterior.h(omega + draw(1, n) @ root.T)
    shift = torch.rand(100, n, generator=generator, dtype=torch.float64)
    mean, spread = posterior(y.expand(100), omega.expand(100, n), C, shift)
    z = omega + draw(1_000_000, n) @ root.T
    kept = z[(posterior.h(z) - y).abs() <= (0.0 if y == 0 else 0.02)]
    assert len(kept) > 500
    error = kept.std(0) / math.sqrt(len(kept))
    assert bool(((mean.mean(0) - kept.mean(0)).abs() < 4 * error + 0.01).all())
    assert float((spread - torch.cov(kept.T).reshape(n, n)).abs().max()) < 0.06


def test_silent_neurons_say_that_all_are_negative():
    """One ReLU sample: E[z | z ≤ 0] has a closed form."""
    omega = torch.tensor([[0.7], [-0.4]], dtype=torch.float64)
    C = torch.tensor([[0.5]], dtype=torch.float64)
    grids = [torch.full((2, 1), s / 20, dtype=torch.float64) for s in range(20)]
    posterior = JointPosterior("relu", [1.0])
    mean = sum(posterior(torch.zeros(2).double(), omega, C, shift)[0] for shift in grids) / 20
    normal = torch.distributions.Normal(0.0, 1.0)
    s = math.sqrt(0.5)
    exact = omega - s * normal.log_prob(omega / s).exp() / normal.cdf(-omega / s)
    assert float((mean - exact).abs().max()) < 2e-3


def test_one_sample_jumps_at_its_known_place():
    """|z|: 1.13 (Barbier et al. 2019); ReLU: not below 2; tanh: at 1."""

    def least(activation, c):
        options = {"rounds": 1_000, "neurons": 4_096}
        return float(state_evolution(JointPosterior(activation, [1.0]), c, **options)[0, 0])

    assert least("abs", 1.11) < 0.8 and least("abs", 1.15) > 0.999
    assert least("relu", 1.9) < 0.997 and least("relu", 2.1) > 0.9998
    assert least("tanh", 0.9) == pytest.approx(0.9, abs=5e-3) and least("tanh", 1.1) > 0.999


@pytest.mark.parametrize("n", [1, 2, 3])
def test_near_the_truth_it_is_the_count_that_decides(n):
    """From near Q = I the errors shrink above p/dn = 1, for ReLU above 1/(1 − 2⁻ⁿ), and grow below."""
    posterior = JointPosterior("relu", A[:n])
    limit = 1 / (1 - 0.5**n)
    for ratio, shrinks in ((0.85 * limit, False), (1.2 * limit, True)):
        Q = state_evolution(posterior, ratio * n, rounds=25, start=0.995, neurons=1024)
        assert (float((1 - Q.diagonal()).max()) < 0.004) == shrinks


def test_what_is_linear_is_solved_as_least_squares_does():
    """tanh of one sample is p linear equations: below p = d message passing finds the projection."""
    d, p = 100, 60
    X = rl.data.sphere(n=1, d=d, seed=0).X
    features = rl.RandomFeatures(d, p, "tanh", seed=0, device="cpu")
    x, C = pass_messages(features(X)[0], features, JointPosterior("tanh", [1.0]), iterations=100)
    projection = torch.linalg.pinv(features.V) @ features.V @ X[0]
    assert float((x[0] - projection).norm() / projection.norm()) < 0.05
    assert float(C) == pytest.approx(1 - p / d, abs=0.02)


@pytest.mark.parametrize("activation", INVERSES)
def test_runs_do_what_is_predicted(activation):
    """Two samples, d = 200: the squared cosines of a run are the overlaps, on either side of the jump."""
    posterior, d = JointPosterior(activation, A[:2]), 200
    for ratio in (0.8, 1.6):
        predicted = state_evolution(posterior, 2 * ratio, neurons=1024).diagonal()
        runs = []
        for seed in range(3):
            X = rl.data.sphere(n=2, d=d, seed=seed).X
            features = rl.RandomFeatures(d, round(2 * ratio * d), activation, seed=seed, device="cpu")
            theta = posterior.a @ features(X)
            x, _ = pass_messages(theta, features, posterior, iterations=120, seed=seed)
            squares = torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(X).T
            runs.append(squares.square().max(0).values)  # an early end may have exchanged the two
        found = torch.stack(runs).mean(0)
        assert float((found - predicted).abs().max()) < (0.35 if ratio < 1 else 0.01)


def test_it_wants_what_it_can_invert():
    with pytest.raises(ValueError, match="inverse is known"):
        JointPosterior("gelu", [1.0])
    for wrong in ([1.0] * 4, [1.0, 0.0], [[1.0]]):
        with pytest.raises(ValueError, match="one to three coefficients"):
            JointPosterior("abs", wrong)
