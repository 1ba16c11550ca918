"""One sample at a time where θ's rows span the samples' features."""

import itertools
import math

import pytest
import torch
from helpers import draws, layer, windows
from torch import nn

import reconlaw as rl
from reconlaw.attack import span
from reconlaw.attack.membership import Membership, descend_each
from reconlaw.attack.run import Run
from reconlaw.inputs import Affine, Box, Free, Sphere


def spread(features, X, K=None, decades=0.0, seed=9):
    """θ of K outputs whose coefficients have singular values over so many decades."""
    n = len(X)
    A = torch.randn(K or n, n, generator=draws(seed), dtype=torch.float64)
    U, _, V = torch.linalg.svd(A, full_matrices=False)
    return U * torch.logspace(0, -decades, U.shape[1], dtype=torch.float64) @ V @ features(X)


def pictures(n, d=6, seed=4):
    X = torch.rand(n, d, generator=draws(seed), dtype=torch.float64)
    return torch.where(X < 0.3, 0.0, X)


def worst(result, X):
    return float(rl.match(result.X, X).error.max())


@pytest.mark.parametrize("decades", [0, 5])
@pytest.mark.parametrize("inputs", [Box(0.0, 1.0), Free()], ids=["box", "free"])
def test_every_sample_is_found_and_n_is_read_off(inputs, decades):
    features, X = layer(p=100), pictures(7)
    result = rl.reconstruct(spread(features, X, 9, decades), features, method="span", inputs=inputs)
    assert result.converged and result.determined and len(result.X) == 7 and result.segments is None
    assert worst(result, X) < 1e-6
    assert result.method == "span" and result.message.startswith("recovered")


def test_the_last_bits_do_not_decide_which_sample_comes_first():
    features, X = layer(p=100), pictures(12)
    theta, options = spread(features, X), {"method": "span", "inputs": Box(0.0, 1.0), "max_seconds": None}
    whole = rl.reconstruct(theta, features, **options)
    for seed in range(3):
        moved = theta * (1 + 1e-14 * torch.randn(theta.shape, generator=draws(seed), dtype=theta.dtype))
        torch.testing.assert_close(rl.reconstruct(moved, features, **options).X, whole.X, rtol=0, atol=1e-6)


def test_samples_too_many_to_polish_together_are_as_exact(monkeypatch):
    monkeypatch.setattr(span, "_POLISHED", 0)
    features, X = layer(p=100), pictures(7)
    result = rl.reconstruct(spread(features, X, 9, 5), features, method="span", inputs=Box(0.0, 1.0))
    assert result.loss < 1e-17 and worst(result, X) < 2e-8


def test_on_the_sphere_and_in_a_family():
    features = rl.RandomFeatures(6, 150, "gelu", device="cpu")
    X = Sphere().starts(4, 6, draws(2))
    result = rl.reconstruct(spread(features, X), features, method="span")
    assert result.converged and worst(result, X) < 1e-6
    family = Affine(torch.randn(3, 6, generator=draws(5), dtype=torch.float64), torch.ones(6))
    Z = torch.randn(4, 3, generator=draws(6), dtype=torch.float64)
    X = torch.ones(6, dtype=torch.float64) + Z @ family.basis
    result = rl.reconstruct(spread(layer(), X), layer(), method="span", inputs=family)
    assert result.converged and worst(result, X) < 1e-6 and result.latent.shape == (4, 3)


@pytest.mark.parametrize("found", [0, 2])
def test_gradient_and_matrix_are_those_of_the_membership_loss(found):
    """Against autograd: the gradient of ℓ, and JᵀJ of the residual Pf/‖Df‖."""
    features, X = layer(p=40), pictures(5)
    Q = torch.linalg.qr(features(X).T).Q.T
    basis = torch.linalg.qr(features(X[:found]).T).Q.T if found else None
    membership = Membership(features, Q, basis)
    U = torch.rand(3, 6, generator=draws(1), dtype=torch.float64)

    def residual(u):
        f = features.apply(u[None])[0]
        D = f if basis is None else f - basis.T @ (basis @ f)
        return (f - Q.T @ (Q @ f)) / D.norm()

    loss, G, h, size = membership.values(U)
    H, g = membership.model(U, G, h, size, loss)
    for i, u in enumerate(U):
        J = torch.autograd.functional.jacobian(residual, u)
        assert float(loss[i]) == pytest.approx(float(residual(u).square().sum()))
        torch.testing.assert_close(g[i], -J.T @ residual(u), rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(H[i], J.T @ J, rtol=1e-3, atol=1e-5 * float(H[i].abs().max()))


def test_a_sample_that_was_found_is_a_zero_no_more():
    features, X = layer(p=60), pictures(5)
    Q = torch.linalg.qr(features(X).T).Q.T
    found = torch.linalg.qr(features(X[:1]).T).Q.T
    near = X[:1] + 1e-3 * torch.randn(1, 6, generator=draws(1), dtype=torch.float64)
    assert float(Membership(features, Q).values(near)[0]) < 1e-4
    assert float(Membership(features, Q, found).values(near)[0]) > 0.1
    others = Membership(features, Q, found).values(X[1:])[0]
    assert float(others.max()) < 1e-20


def test_each_start_goes_its_own_way():
    """In a batch as alone: no start changes another's road."""
    features, X = layer(p=60), pictures(4)
    membership = Membership(features, torch.linalg.qr(features(X).T).Q.T)
    U, box = torch.rand(5, 6, generator=draws(3), dtype=torch.float64), Box(0.0, 1.0)
    together, loss = descend_each(membership, U, box, 1e-24, lambda: False)
    assert (together >= 0).all() and (together <= 1).all()
    for i in range(5):
        alone, own = descend_each(membership, U[i : i + 1], box, 1e-24, lambda: False)
        if float(own) < 1e-20:
            assert float(loss[i]) < 1e-20
            torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-8)


def test_a_linear_piece_between_two_samples_is_reported_as_a_segment():
    """Two samples in one linear region of a ReLU body: any two points between them explain θ as well."""
    features = layer(p=60, activation=nn.ReLU)
    X = pictures(3)
    X[1] = X[0] + 1e-3 * torch.randn(6, generator=draws(8), dtype=torch.float64)
    regions = features(X[:2]) > 0
    assert torch.equal(regions[0], regions[1])
    result = rl.reconstruct(spread(features, X), features, method="span", inputs=Free())
    assert not result.determined and len(result.segments) == 2 and "segments" in result.message
    third = rl.match(result.X, X).error.argmin()
    assert float(rl.match(result.X, X).error[third]) < 1e-6
    for row, (one, other) in result.segments.items():
        along = (other - one) / (other - one).norm()
        for x in X[:2]:
            assert float((x - one - ((x - one) @ along) * along).norm()) < 1e-6
        assert row in range(3)


def test_more_samples_than_rank_are_never_called_found():
    features, X = layer(p=100), pictures(6)
    theta = spread(features, X, K=4)
    with pytest.raises(ValueError, match="rank 4.*less than n=6"):
        rl.reconstruct(theta, features, 6, method="span", inputs=Box(0.0, 1.0))
    with pytest.raises(RuntimeError, match="more samples"):
        rl.reconstruct(theta, features, method="span", inputs=Box(0.0, 1.0), max_seconds=None)


@pytest.mark.parametrize("wrong", ["box", "body"])
def test_what_is_wrong_is_never_called_recovered(wrong):
    features, X = layer(p=100), pictures(4)
    theta = spread(features, X)
    inputs, other = (Box(0.0, 0.3), features) if wrong == "box" else (Box(0.0, 1.0), layer(p=100, seed=7))
    try:
        result = rl.reconstruct(theta, other, method="span", inputs=inputs)
    except RuntimeError as error:
        assert "inputs may lie elsewhere" in str(error)
    else:
        assert not result.converged and "recovered" not in result.message


def test_rounding_of_float32_is_survived_and_noise_is_refused():
    features, X = layer(p=300), pictures(4)
    before = torch.randn(6, 300, generator=draws(3))
    theta = (before + spread(features, X, 6, decades=1.5).float()) - before
    result = rl.reconstruct(theta.double(), features, 4, method="span", inputs=Box(0.0, 1.0))
    assert result.converged and 1e-9 < worst(result, X) < 1e-3
    noisy = spread(features, X, 6, decades=3) + 1e-3 * torch.randn(6, 300, generator=draws(1), dtype=torch.float64)
    with pytest.raises(ValueError, match="its noise"):
        rl.reconstruct(noisy, features, 4, method="span", inputs=Box(0.0, 1.0))


def test_samples_found_are_kept_and_the_rest_is_found_on_resuming(tmp_path, monkeypatch):
    from reconlaw.attack import membership, span

    monkeypatch.setattr(membership, "_BLOCK", 3)  # several blocks
    features, X = layer(p=100), pictures(8)
    theta, path = spread(features, X), tmp_path / "span.pt"
    whole = rl.reconstruct(theta, features, method="span", inputs=Box(0.0, 1.0))
    half = int(whole.steps * 1 / 2 / 8)  # a step of unknown n is that of one sample
    first = rl.reconstruct(theta, features, 8, method="span", inputs=Box(0.0, 1.0), max_steps=half, checkpoint=path)
    assert 0 < len(first.X) < 8 and not first.converged and "of 8 samples were found" in first.message
    assert rl.match(first.X, X).error.min() < 1e-6
    taken = []
    monkeypatch.setattr(span.Span, "_add", lambda self, X, add=span.Span._add: taken.append(add(self, X)) or taken[-1])
    rest = rl.reconstruct(theta, features, 8, method="span", inputs=Box(0.0, 1.0), checkpoint=path)
    assert taken[0] == len(first.X)
    assert rest.converged and worst(rest, X) < 1e-6 and worst(whole, X) < 1e-6


def test_the_number_of_processes_changes_no_bit():
    """To the end, and where the budget ends midway."""
    features, X = layer(p=100), pictures(20)
    theta, most = spread(features, X), None
    for found in (range(20, 21), range(1, 20)):
        options = {"method": "span", "inputs": Box(0.0, 1.0), "max_seconds": None, "max_steps": most}
        one, two = (rl.reconstruct(theta, features, 20, jobs=jobs, **options) for jobs in (1, 2))
        assert torch.equal(one.X, two.X) and one.loss == two.loss and one.steps == two.steps
        assert [entry.steps for entry in one.history] == [entry.steps for entry in two.history]
        assert len(one.X) in found and len(one.history) > 1  # kept block by block
        most = int(0.4 * one.steps)


def test_a_budget_finishes_what_it_has_room_for_block_by_block():
    """With the steps that the whole search took to its k-th improvement it finds what that had then."""
    features, X = layer(p=100), pictures(20)
    theta, options = spread(features, X), {"method": "span", "inputs": Box(0.0, 1.0), "max_seconds": None}
    whole = rl.reconstruct(theta, features, **options)
    assert whole.converged and len(whole.history) > 2
    for entry in whole.history[:2]:
        part = rl.reconstruct(theta, features, **options, max_steps=math.ceil(entry.steps))
        assert part.history[-1].loss == entry.loss and 0 < len(part.X) < 20
        assert part.status.value == "budget spent" and f"{len(part.X)} of 20 samples were found" in part.message
        assert "a larger max_steps" in part.message and rl.match(part.X, X).error.sort().values[len(part.X) - 1] < 1e-6


@pytest.mark.parametrize("n, most", [(None, 10), (20, 1)])
def test_a_budget_spent_before_a_first_sample_ends_as_that_of_any_method(n, most):
    """What comes back are starts: as many as θ tells of, and nothing is claimed of them."""
    features, X = layer(p=100), pictures(20)
    result = rl.reconstruct(
        spread(features, X), features, n, "span", inputs=Box(0, 1), max_seconds=None, max_steps=most
    )
    assert result.status is rl.Status.BUDGET_SPENT and result.X.shape == X.shape and not result.converged
    assert "no input was found whose features lie in the span of theta's 20 rows" in result.message
    assert "a larger max_steps" in result.message and set(result.flags) == {rl.Flag.UNRESOLVED}
    assert rl.match(result.X, X).error.min() > 0.1 and 0 < result.loss < 1


def of_windows(X, n):
    """The search for n samples X of several columns, in a θ of more rows than they have columns."""
    features = windows(X.shape[1], 120)
    columns = features.columns(features(X))
    theta = torch.randn(len(columns) + 1, len(columns), generator=draws(200), dtype=torch.float64) @ columns
    return span.Span(features, theta, n, Run(None, None, None, {}, samples=n), 0, 1e-20, Box(0.0, 1.0))


def test_of_samples_that_may_exchange_a_part_those_are_taken_that_span_theta_together():
    X = torch.rand(3, 8, generator=draws(100), dtype=torch.float64)
    X[:2, 3:5] = 0.5
    mixed = X[:2].clone()
    mixed[0, 5:], mixed[1, 5:] = X[1, 5:], X[0, 5:]
    for wrong in (mixed[:1], mixed[1:]):  # goes with neither of the first two alone
        search, three = of_windows(X, 3), torch.cat([wrong, X[:1], X[2:]])
        assert search._add(three) == 3 and not search.full and "span only 15" in search.incomplete
        assert torch.equal(search.together, three) and search.left() > 1e-8
        assert search._add(X[1:2]) == 1 and search.full
        assert torch.equal(search.together, X[[0, 2, 1]]) and search.left() < 1e-20
    search = of_windows(X, 3)
    assert search._add(torch.cat([mixed, X[2:]])) == 3  # this set fits as well, and will be called ambiguous
    assert search.full and search.left() < 1e-20


def test_samples_that_span_theta_only_with_one_too_many_do_not_explain_it():
    x = torch.tensor([0.7, 0.0, 0.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    two = torch.tensor([[0.7, 0.0, 0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0, 1.0, 0.0]], dtype=torch.float64)
    search = of_windows(x[None], 1)
    assert search._add(two) == 2 and search.full
    assert torch.equal(search.together, two[:1]) and search.left() > 1e-3


@pytest.mark.parametrize("jobs", [0, 1.5, True])
def test_jobs_are_a_whole_number(jobs):
    with pytest.raises(ValueError, match="whole number but 0"):
        rl.reconstruct(spread(layer(), pictures(3)), layer(), method="span", inputs=Box(0.0, 1.0), jobs=jobs)


def test_many_samples_are_looked_for_one_by_one(monkeypatch):
    """varpro takes this road by itself, and finishes together what it could not find singly."""
    from reconlaw.attack import domains, span

    features, X = layer(p=140), pictures(9)
    theta = spread(features, X, 12)
    whole = rl.reconstruct(theta, features, 9, inputs=Box(0.0, 1.0))
    assert whole.converged and whole.method == "varpro" and worst(whole, X) < 1e-6
    rounds = []
    search = span.Span.search

    def one_round(self):
        monkeypatch.setattr(span, "batch_size", lambda *_: 3)
        monkeypatch.setattr(span, "_FRUITLESS", 0 if rounds else 1)
        rounds.append(1)
        self.n = 3
        search(self)

    monkeypatch.setattr(domains.Span, "search", one_round)
    rest = rl.reconstruct(theta, features, 9, inputs=Box(0.0, 1.0))
    assert rounds and rest.converged and worst(rest, X) < 1e-6


@pytest.mark.parametrize("method", ["span", "varpro", "sparse"])
def test_time_that_is_over_in_the_midst_of_a_step_ends_with_a_result(method):
    """Wherever it is over, and nothing may have been found yet: a second passes with each look at the clock."""
    features, X = layer(), pictures(9)
    given = (spread(features, X, 11), features, None if method == "sparse" else 9, method)
    short = 0
    for budget in (*range(1, 40), 60, 100):
        result = rl.reconstruct(*given, inputs=Box(0.0, 1.0), max_seconds=budget, clock=itertools.count().__next__)
        assert result.X.shape[1] == 6 and bool(torch.isfinite(result.X).all()) and 0 <= result.loss <= 1
        short += result.status is rl.Status.BUDGET_SPENT
    assert short > 20


@pytest.mark.parametrize("method", ["span", "sparse"])
def test_steps_that_found_nothing_count_for_the_next_call(method, tmp_path):
    features, X = layer(), pictures(9)
    given = (spread(features, X, 11), features, None if method == "sparse" else 9, method)
    budget = {"inputs": Box(0.0, 1.0), "max_steps": 5, "max_seconds": None, "checkpoint": tmp_path / "run.pt"}
    first, second = rl.reconstruct(*given, **budget), rl.reconstruct(*given, **budget)
    assert first.status is second.status is rl.Status.BUDGET_SPENT and not first.history
    assert 5 < first.steps < second.steps < 1.2 * first.steps  # a start is projected on, and nothing searched anew
