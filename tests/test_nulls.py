"""p-values without the truth: own losses by leaving out, the false discovery rate, and what the nulls are made of."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

import reconlaw as rl
from reconlaw.auditing.evidence import reordered
from reconlaw.auditing.nulls import FDR, LEAST, benjamini_hochberg, own_losses, p_values


@pytest.fixture
def found(problem):
    """A reconstruction in the midst of its way: nothing is explained, and nothing is far from it."""
    case = problem(d=10, n=4, p=120, activation="relu+tanh", seed=0)
    result = rl.reconstruct(case.theta, case.features, 4, seed=0, max_seconds=None, max_steps=3)
    return case, result


def left(features, theta, X):
    """‖P⊥θ‖² by least squares."""
    Phi = features(X)
    return float((theta - Phi.T @ torch.linalg.lstsq(Phi.T, theta[:, None]).solution[:, 0]).square().sum())


def test_own_loss_is_what_leaving_a_candidate_out_would_leave(found):
    case, result = found
    own = own_losses(case.features, case.theta, result)
    whole = left(case.features, case.theta, result.X)
    for i in range(4):
        others = torch.cat([result.X[:i], result.X[i + 1 :]])
        assert float(own[i]) == pytest.approx(whole / left(case.features, case.theta, others), rel=1e-6)
    assert 0.01 < float(own.min()) and float(own.max()) <= 1


def test_candidates_that_coincide_have_nothing_of_their_own(found):
    case, result = found
    twins = dataclasses.replace(result, X=result.X[[0, 0, 2, 3]])
    assert float(own_losses(case.features, case.theta, twins)[0]) > 1 - 1e-6


def test_p_values_count_themselves():
    nulls = torch.linspace(0, 1, 19, dtype=torch.float64)
    assert p_values(torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64), nulls).tolist() == [1 / 20, 2 / 20, 1.0]
    assert 1 / (1 + LEAST) < FDR <= 1 / LEAST


def test_the_false_discovery_rate_holds_for_independent_nulls():
    """Half of 20 are drawn as the nulls are: in the mean over 400 draws a share of at most 5 % of what is found."""
    generator, shares, found = torch.Generator().manual_seed(0), [], 0
    for _ in range(400):
        nulls = torch.rand(400, generator=generator, dtype=torch.float64)
        values = torch.cat([torch.rand(10, generator=generator, dtype=torch.float64), torch.zeros(10).double()])
        passed = benjamini_hochberg(p_values(values, nulls))
        shares.append(float(passed[:10].sum()) / max(1, int(passed.sum())))
        found += int(passed[10:].sum())
    assert sum(shares) / len(shares) < 0.05 and found == 4000


def test_a_reordered_change_has_the_same_numbers_in_another_order():
    pair = SimpleNamespace(theta=torch.randn(3, 50, generator=torch.Generator().manual_seed(0)))
    other = reordered(pair, 1)
    assert torch.equal(other.sort(dim=1).values, pair.theta.sort(dim=1).values) and not torch.equal(other, pair.theta)
    assert torch.allclose(torch.linalg.svdvals(other), torch.linalg.svdvals(pair.theta), atol=1e-4)
    assert torch.equal(other, reordered(pair, 1)) and not torch.equal(other, reordered(pair, 2))
