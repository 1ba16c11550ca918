"""Gaussian privacy: its (ε, δ), the sensitivities it rests on, and what it says of reconstruction."""

import math

import pytest
import torch
from scipy.special import betainc, ndtr, ndtri
from scipy.stats import norm

import reconlaw as rl
from reconlaw import privacy


@pytest.mark.parametrize(("mu", "epsilon"), [(0.3, 0.5), (1.0, 1.0), (2.0, 5.0), (5.0, 0.0)])
def test_delta_is_the_largest_excess_of_any_half_line(mu, epsilon):
    lines = torch.linspace(-12, 12, 200_001, dtype=torch.float64).numpy()
    excess = norm.sf(lines - mu) - math.exp(epsilon) * norm.sf(lines)
    assert privacy.gaussian_delta(mu, epsilon) == pytest.approx(excess.max(), rel=1e-6)


def test_epsilon_inverts_delta_and_known_values():
    for mu in (0.1, 1.0, 7.0, 40.0):
        for delta in (1e-3, 1e-5, 1e-9):
            assert privacy.gaussian_delta(mu, privacy.gaussian_epsilon(mu, delta)) == pytest.approx(delta, rel=1e-6)
    assert privacy.gaussian_delta(1.0, 1.0) == pytest.approx(0.12693674, abs=1e-7)
    assert privacy.gaussian_epsilon(1e-7, 1e-5) == 0.0
    for wrong in ({"mu": 0.0}, {"mu": -1.0}, {"mu": 1.0, "delta": 1.0}):
        with pytest.raises(ValueError):
            privacy.gaussian_epsilon(**wrong)


def test_a_library_of_privacy_counts_no_less():
    accountants = pytest.importorskip("opacus.accountants")
    for multiplier, steps in ((2.0, 10), (0.7, 3), (10.0, 100)):
        accountant = accountants.RDPAccountant()
        accountant.history = [(multiplier, 1.0, steps)]
        theirs, ours = accountant.get_epsilon(1e-5), privacy.gaussian_epsilon(math.sqrt(steps) / multiplier, 1e-5)
        assert ours <= theirs <= 1.2 * ours


@pytest.mark.parametrize("ridge", [1e-3, 0.3, 5.0, 100.0])
def test_no_replacement_moves_the_ridge_solution_further(ridge):
    generator = torch.Generator().manual_seed(7)
    n, p, radius, bound = 6, 9, 1.5, 2.0
    limit = privacy.ridge_sensitivity(n, ridge, radius, bound)
    largest = 0.0
    for trial in range(300):
        Phi = torch.randn(n + 1, p, generator=generator, dtype=torch.float64)
        if trial % 2:  # all along one line: where the largest moves are
            Phi = Phi[:, :1] * torch.ones(p).double() + 0.05 * Phi
        Phi = Phi * radius / Phi.norm(dim=1, keepdim=True)
        y = bound * torch.randn(n + 1, generator=generator, dtype=torch.float64).sign()
        solutions = []
        for rows in (range(n), [*range(1, n), n]):
            A, b = Phi[list(rows)], y[list(rows)]
            solutions.append(torch.linalg.solve(A.T @ A + ridge * torch.eye(p).double(), A.T @ b))
        largest = max(largest, float((solutions[0] - solutions[1]).norm()))
    assert limit / 50 < largest <= limit


def test_one_noisy_step_by_hand_and_the_clipped_sum_moves_by_two_clips_at_most():
    generator = torch.Generator().manual_seed(3)
    Phi, y = torch.randn(4, 30, generator=generator).double(), torch.tensor([1.0, -3.0, 0.1, 2.0]).double()
    clean, mu = privacy.noisy_descent(Phi, y, clip=1.5, multiplier=0.0, steps=1, rate=0.5)
    gradients = -y[:, None] * Phi
    cut = gradients * (1.5 / gradients.norm(dim=1, keepdim=True)).clamp(max=1)
    torch.testing.assert_close(clean, -0.5 * cut.sum(0))
    assert mu == math.inf
    other, _ = privacy.noisy_descent(-Phi[[0, 1, 2, 2]], -y[[0, 1, 2, 2]] * 9, 1.5, 0.0, 1, 1.0)
    same, _ = privacy.noisy_descent(Phi[[3, 1, 2, 2]], y[[3, 1, 2, 2]], 1.5, 0.0, 1, 1.0)
    both, _ = privacy.noisy_descent(Phi[[0, 1, 2, 2]], y[[0, 1, 2, 2]], 1.5, 0.0, 1, 1.0)
    assert (both - same).norm() <= 3.0 + 1e-12 and other.isfinite().all()
    noisy, mu = privacy.noisy_descent(Phi, y, 1.5, 4.0, 9, 1e-3, seed=1)
    assert mu == pytest.approx(1.5)
    again, _ = privacy.noisy_descent(Phi, y, 1.5, 4.0, 9, 1e-3, seed=1)
    for bad in (y[:, None], y[:3], y * math.nan):
        with pytest.raises(ValueError, match="y"):
            privacy.noisy_descent(Phi, bad, 1.5, 4.0, 9, 1e-3)
    assert torch.equal(noisy, again) and not torch.equal(noisy, privacy.noisy_descent(Phi, y, 1.5, 4.0, 9, 1e-3)[0])


def test_noise_off_the_span_has_the_size_that_was_asked_for(problem):
    given = problem(p=4000)
    Phi = given.features(given.X)
    theta, _ = privacy.noisy_descent(Phi, given.y, 30.0, 0.5, 4, 1e-4)
    clean, _ = privacy.noisy_descent(Phi, given.y, 30.0, 0.0, 4, 1e-4)
    assert rl.projection_loss(given.X, given.features, clean) < 1e-20  # clipping alone hides nothing
    off = float(rl.projection_loss(given.X, given.features, theta)) ** 0.5 * theta.norm()
    assert off == pytest.approx(1e-4 * 0.5 * 30.0 * math.sqrt(4 * 4000), rel=0.05)


def test_reconstruction_bound():
    assert privacy.reconstruction_bound(0.0, math.log(0.2)) == pytest.approx(0.2)
    assert privacy.reconstruction_bound(1.5, math.log(0.01)) == pytest.approx(ndtr(ndtri(0.01) + 1.5))
    assert 0 < privacy.reconstruction_bound(5.0, -500.0) < 1e-100
    with pytest.raises(ValueError, match="below 0"):
        privacy.reconstruction_bound(1.0, 0.0)


def test_no_attack_beats_the_bound():
    """The best attack on a list of candidates, one Gaussian release, the candidates at most Δ apart."""
    generator = torch.Generator().manual_seed(11)
    candidates = torch.randn(20, 50, generator=generator, dtype=torch.float64)
    spread = torch.cdist(candidates, candidates).max()
    for mu in (0.5, 2.0, 5.0):
        truth = torch.randint(20, (4000,), generator=generator)
        noise = torch.randn(4000, 50, generator=generator, dtype=torch.float64)
        released = candidates[truth] + spread / mu * noise
        share = (torch.cdist(released, candidates).argmin(1) == truth).double().mean()
        assert share <= privacy.reconstruction_bound(mu, math.log(1 / 20)) + 0.03


@pytest.mark.parametrize("d", [2, 3, 10, 64])
def test_caps_of_the_sphere(d):
    for error in (0.05, 0.3, 0.9):
        assert privacy.log_cap(d, error) == pytest.approx(math.log(betainc((d - 1) / 2, 0.5, error**2) / 2), rel=1e-9)
    half = (1 - math.sqrt(1 - 0.6**2)) / 2  # by area: height over diameter
    assert privacy.log_cap(3, 0.6) == pytest.approx(math.log(half))
    assert privacy.log_cap(3072, 0.1) < -7000
    with pytest.raises(ValueError, match="less than 1"):
        privacy.log_cap(d, 1.0)


def test_the_best_guess_lies_inside_the_sphere():
    """Where κ was the cap around a guess on the sphere, it was 8 % too small at d = 64 and an error of 0.1."""
    error, d = 0.6, 5
    generator = torch.Generator().manual_seed(4)
    z = torch.randn(400_000, d, generator=generator, dtype=torch.float64)
    z /= z.norm(dim=1, keepdim=True)
    share = [(z - r * torch.eye(d).double()[0]).norm(dim=1).le(error).double().mean() for r in (0.8, 1.0)]
    assert math.log(share[0]) == pytest.approx(privacy.log_cap(d, error), abs=0.02)  # (1 − η²)^½ = 0.8
    assert share[1] < 0.95 * share[0]
    on_it = math.log(betainc(31.5, 0.5, 0.1**2 - 0.1**4 / 4) / 2)
    assert math.exp(privacy.log_cap(64, 0.1) - on_it) == pytest.approx(1.08, abs=0.01)


@pytest.mark.parametrize("size", [0.05, 0.3, 1.0, 4.0])
def test_no_posterior_mean_beats_the_least_error(size):
    """The best estimate there is, of one point of a circle from noisy features, and half of it, which is biased."""
    generator = torch.Generator().manual_seed(2)
    V = torch.randn(12, 2, generator=generator, dtype=torch.float64) / math.sqrt(2)
    t = 2 * math.pi * torch.arange(2000, dtype=torch.float64) / 2000
    x = math.sqrt(2) * torch.stack([t.cos(), t.sin()], 1)
    slope = math.sqrt(2) * torch.stack([-t.sin(), t.cos()], 1)
    theta = torch.tanh(x @ V.T)
    information = ((1 - theta.square()) * (slope @ V.T)).square().sum(1).mean() / size**2
    rows = torch.randint(2000, (4000,), generator=generator)
    seen = theta[rows] + size * torch.randn(4000, 12, generator=generator, dtype=torch.float64)
    mean = torch.softmax(-torch.cdist(seen, theta).square() / (2 * size**2), 1) @ x
    for shrunk in (1.0, 0.5):
        error = ((shrunk * mean - x[rows]).square().sum(1).mean() / 2).sqrt()
        assert error > privacy.least_error(float(information), 2) * 0.97
    assert privacy.least_error(0.0, 2) == 1.0
