from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import reconlaw as rl
from reconlaw.attack.projection import Projection
from reconlaw.attack.tools import pair_costs
from reconlaw.features.gram import SpanError, factor_gram


def candidates(n, d, seed=11):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def qr_loss(X, features, theta):
    """‖P⊥θ‖²/‖θ‖² through an orthonormal basis of the span, K outputs as K vectors; autograd does the rest."""
    rows = theta if theta.ndim == 2 else theta[None]
    phi = features.activation
    Q = torch.linalg.qr(phi(X @ features.V.T).T).Q
    rest = rows - (rows @ Q) @ Q.T
    return rest.square().sum() / rows.square().sum()


@settings(max_examples=40)
@given(
    name=st.sampled_from(rl.ACTIVATIONS),
    d=st.integers(2, 10),
    n=st.integers(1, 6),
    n_hat=st.integers(1, 6),
    K=st.none() | st.integers(1, 3),
    seed=st.integers(0, 10**6),
)
def test_value_and_gradient_are_those_of_autograd_through_qr(problem, name, d, n, n_hat, K, seed):
    case = problem(d=d, n=n, p=60, activation=name, seed=seed, outputs=K)
    X = candidates(n_hat, d, seed).requires_grad_(True)
    expected = qr_loss(X, case.features, case.theta)
    (slope,) = torch.autograd.grad(expected, X)
    loss = rl.projection_loss(X, case.features, case.theta)
    assert loss.shape == () and 0 <= loss <= 1 + 1e-14
    condition = float(torch.linalg.cond(case.features(X.detach())))
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12 * condition)
    (gradient,) = torch.autograd.grad(loss, X)
    # Both carry the condition number, the QR way too; 1e-10 where it is moderate.
    torch.testing.assert_close(gradient, slope, rtol=1e-10, atol=1e-12 * condition**2)


@pytest.mark.parametrize("name", ["tanh", "gelu", "softplus"])
@pytest.mark.parametrize("outputs", [None, 2])
def test_gradcheck(problem, name, outputs):
    case = problem(d=5, n=3, p=40, activation=name, outputs=outputs)
    X = candidates(3, 5).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda X: rl.projection_loss(X, case.features, case.theta), X)
    assert torch.autograd.gradcheck(lambda X: 3 * rl.projection_loss(X, case.features, case.theta) ** 2, X)


@pytest.mark.parametrize("name", rl.ACTIVATIONS)
@pytest.mark.parametrize("outputs", [None, 3])
def test_zero_at_the_truth_far_below_single_precision(problem, name, outputs):
    case = problem(d=20, n=5, p=400, activation=name, outputs=outputs)
    loss = rl.projection_loss(case.X, case.features, case.theta)
    assert 0 <= loss < 1e-24
    assert rl.projection_loss(candidates(5, 20), case.features, case.theta) > 1e-3


def test_float32_goes_below_the_precision_of_theta_squared(problem):
    case = problem(d=20, n=5, p=1000, dtype=torch.float32)
    loss = rl.projection_loss(case.X, case.features, case.theta)
    assert loss.dtype == torch.float32 and loss < 1e-12


def test_an_atom_more_than_there_are_samples_keeps_it_zero(problem):
    case = problem()
    more = torch.cat([candidates(2, 20), case.X])
    assert rl.projection_loss(more, case.features, case.theta) < 1e-24
    assert rl.projection_loss(case.X[1:], case.features, case.theta) > 1e-4


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), order=st.permutations(range(4)), scale=st.floats(1e-6, 1e6))
def test_order_of_atoms_and_size_of_theta_do_not_matter(problem, seed, order, scale):
    case = problem(d=8, n=4, p=60, activation="gelu", seed=seed)
    X = candidates(4, 8, seed)
    loss = rl.projection_loss(X, case.features, case.theta)
    torch.testing.assert_close(rl.projection_loss(X[order], case.features, case.theta), loss, rtol=1e-10, atol=0)
    torch.testing.assert_close(rl.projection_loss(X, case.features, scale * case.theta), loss, rtol=1e-10, atol=0)
    torch.testing.assert_close(rl.projection_loss(X, case.features, -case.theta), loss, rtol=1e-10, atol=0)


@settings(max_examples=25)
@given(name=st.sampled_from(rl.ACTIVATIONS), signs=st.lists(st.sampled_from([-1.0, 1.0]), min_size=4, max_size=4))
def test_signs_do_not_matter_exactly_where_the_parity_is_pure(problem, name, signs):
    case = problem(d=8, n=4, p=60, activation=name)
    X, flip = candidates(4, 8), torch.tensor(signs, dtype=torch.float64)[:, None]
    loss, flipped = (rl.projection_loss(U, case.features, case.theta) for U in (X, flip * X))
    if case.features.activation.parity != "mixed":
        torch.testing.assert_close(flipped, loss, rtol=1e-9, atol=0)
    elif (flip < 0).any():
        assert abs(flipped - loss) > 1e-6


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), name=st.sampled_from(rl.ACTIVATIONS))
def test_turning_V_and_the_atoms_together_changes_nothing(problem, seed, name):
    case = problem(d=8, n=4, p=60, activation=name, seed=seed)
    turn = torch.linalg.qr(candidates(8, 8, seed + 1)).Q
    X = candidates(4, 8, seed).requires_grad_(True)
    loss = rl.projection_loss(X, case.features, case.theta)
    (gradient,) = torch.autograd.grad(loss, X)
    turned = rl.RandomFeatures(8, 60, name, device="cpu")
    turned.V = case.features.V @ turn
    Y = (X.detach() @ turn).requires_grad_(True)
    loss_turned = rl.projection_loss(Y, turned, case.theta)
    torch.testing.assert_close(loss_turned, loss, rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(torch.autograd.grad(loss_turned, Y)[0], gradient @ turn, rtol=1e-7, atol=1e-10)


def test_outputs_share_one_projector(problem):
    case = problem(outputs=3)
    X = candidates(5, 20)
    losses = torch.stack([rl.projection_loss(X, case.features, row) for row in case.theta])
    weights = case.theta.square().sum(1)
    together = rl.projection_loss(X, case.features, case.theta)
    torch.testing.assert_close(together, (weights * losses).sum() / weights.sum(), rtol=1e-12, atol=0)


def test_more_outputs_than_features(problem):
    case = problem(d=4, n=3, p=6, activation="gelu", outputs=9)
    X = candidates(3, 4).requires_grad_(True)
    loss, expected = rl.projection_loss(X, case.features, case.theta), qr_loss(X, case.features, case.theta)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(torch.autograd.grad(loss, X), torch.autograd.grad(expected, X), rtol=1e-8, atol=1e-12)


def test_coefficients_residual_and_projector(problem):
    case = problem(outputs=2)
    point = Projection(case.features, case.theta, candidates(5, 20))
    B = case.features(point.U)
    torch.testing.assert_close(point.residual, case.theta - point.alpha.T @ B, rtol=0, atol=1e-13)
    assert (point.residual @ B.T).abs().max() < 1e-11
    T = candidates(2, 1000, seed=4)
    rest = point.project_out(T.clone())
    torch.testing.assert_close(point.project_out(rest.clone()), rest, rtol=0, atol=1e-12)
    torch.testing.assert_close(T - rest, torch.linalg.lstsq(B.T, T.T).solution.T @ B, rtol=0, atol=1e-11)


@pytest.mark.parametrize("outputs", [None, 2])
def test_gradient_may_be_asked_for_twice(problem, outputs):
    case = problem(outputs=outputs)
    theta = case.features.check_theta(case.theta)
    point = Projection(case.features, theta, candidates(5, 20))
    first = point.gradient()
    torch.testing.assert_close(point.gradient(), first, rtol=1e-12, atol=0)


def test_no_gradient_is_computed_where_none_is_asked(problem, monkeypatch):
    case = problem()
    monkeypatch.setattr(Projection, "gradient", lambda self: pytest.fail("computed"))
    assert not rl.projection_loss(candidates(5, 20), case.features, case.theta).requires_grad


def test_a_second_derivative_is_refused(problem):
    case = problem()
    X = candidates(5, 20).requires_grad_(True)
    (gradient,) = torch.autograd.grad(rl.projection_loss(X, case.features, case.theta), X, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad|once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize(("dtype", "scale"), [(torch.float64, 1e-200), (torch.float64, 1e200), (torch.float32, 1e-30)])
def test_squares_that_leave_the_range_of_the_dtype_are_none_of_the_losss(problem, dtype, scale):
    case = problem(dtype=dtype)
    X = torch.roll(case.X, 1, 1).to(dtype)
    expected = rl.projection_loss(X, case.features, case.theta)
    torch.testing.assert_close(rl.projection_loss(X, case.features, case.theta * scale), expected)


def test_theta_zero_is_refused(problem):
    features = problem().features
    with pytest.raises(ValueError, match="theta is zero"):
        rl.projection_loss(candidates(2, 20), features, torch.zeros(1000))


def test_more_rows_than_features_are_refused():
    features = rl.RandomFeatures(6, 4)
    theta = torch.ones(4, dtype=torch.float64)
    with pytest.raises(ValueError, match="5 rows but there are only p = 4"):
        rl.projection_loss(candidates(5, 6), features, theta)
    assert rl.projection_loss(candidates(4, 6), features, theta) < 1e-20  # as many: the span is everything


def coinciding(kind):
    X = candidates(4, 20)
    if kind == "equal":
        X[3] = X[1]
    elif kind == "multiple":
        X[3] = 3 * X[1]
    elif kind == "near":
        X[3] = X[1] + 1e-10
    else:
        X[3] = 0
    return X


@pytest.mark.parametrize("kind", ["equal", "multiple", "near", "zero"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dependent_features_are_a_span_error(problem, kind, dtype):
    case = problem(dtype=dtype)
    with pytest.raises(SpanError, match="linearly dependent"):
        rl.projection_loss(coinciding(kind), case.features, case.theta)


def test_opposite_atoms_are_dependent_for_pure_parity_only(problem):
    X = candidates(4, 20)
    X[3] = -X[1]
    for name in ("tanh", "abs"):
        case = problem(activation=name)
        with pytest.raises(SpanError):
            rl.projection_loss(X, case.features, case.theta)
    case = problem(activation="relu")
    assert rl.projection_loss(X, case.features, case.theta) > 0


def test_factor_of_a_sound_gram_has_no_jitter():
    A = candidates(4, 9)
    gram = A @ A.T
    for strict in (False, True):
        L = factor_gram(gram, strict)
        torch.testing.assert_close(L @ L.T, gram, rtol=1e-14, atol=1e-14)


def test_jitter_carries_a_solver_past_equal_atoms_and_the_loss_stays_honest(problem):
    case = problem()
    twice = torch.cat([case.X, case.X[:1]])
    point = Projection(case.features, case.theta[None], twice)
    torch.testing.assert_close(point.residual, case.theta - point.alpha.T @ case.features(twice), rtol=0, atol=1e-12)
    assert point.loss < 1e-20


@pytest.mark.parametrize("strict", [False, True])
def test_a_gram_matrix_beyond_repair_is_a_span_error(strict):
    for gram in (torch.full((3, 3), torch.nan), torch.full((3, 3), torch.inf), -torch.eye(3)):
        with pytest.raises(SpanError):
            factor_gram(gram, strict)


def test_the_refinement_takes_back_what_the_gram_matrix_squares():
    """Two atoms 1e-5 apart: the Gram matrix has condition 1e11, and one solve leaves θ's span at √L = 1e-6 or so."""
    features = rl.RandomFeatures(20, 1000, "gelu", device="cpu")
    X = candidates(5, 20)
    X[4] = X[3] + 1e-5 * candidates(1, 20, seed=3)[0]
    theta = torch.linalg.qr(features(X).T).Q.sum(1)  # every direction of the span, the faint one too
    assert rl.projection_loss(X, features, theta) < 1e-16  # 1e-21 to 1e-19 by the rounding; one solve leaves 1e-11


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_an_atom_whose_block_is_singular_has_a_finite_cost_and_the_others_keep_theirs(dtype):
    # Atom 0 has columns (0, 2) that agree to working precision, so that its block of G⁻¹ rounds to a singular one.
    G = torch.tensor([[1.0, 0.1, 1.0, 0.2], [0.1, 2, 0.1, 0], [1, 0.1, 1, 0.2], [0.2, 0, 0.2, 3]], dtype=dtype)
    factor = torch.zeros(4, 4, dtype=dtype)
    factor[[0, 1, 3]], order = torch.zeros(3, 4, dtype=dtype), [0, 1, 3]
    L = torch.linalg.cholesky(G[order][:, order])
    for i, row in enumerate(order):
        factor[row, order] = L[i]
    factor[2] = factor[0]
    factor[2, 2] = 1e-9 if dtype == torch.float64 else 1e-5
    alpha = torch.tensor([[1.0], [2.0], [1.0], [-1.0]], dtype=dtype)
    point = SimpleNamespace(U=torch.zeros(2, 3, dtype=dtype), factor=factor, alpha=alpha)
    inverse = torch.cholesky_inverse(factor)
    assert int(torch.linalg.solve_ex(inverse[[0, 2]][:, [0, 2]], alpha[[0, 2]]).info)
    costs = pair_costs(point)
    assert bool(torch.isfinite(costs).all()) and bool((costs >= 0).all())
    whole = torch.linalg.inv(inverse.double()[[1, 3]][:, [1, 3]])
    expected = float(alpha.double()[[1, 3], 0] @ whole @ alpha.double()[[1, 3], 0])
    assert float(costs[1]) == pytest.approx(expected, rel=1e-3)
