"""What the attack asks of a feature map, asked of every kind there is, and of the one that the how-to shows."""

import math
import pickle

import pytest
import torch
from helpers import FEATURE_MAPS, normal

import reconlaw as rl
from reconlaw.sphere import to_sphere


@pytest.fixture(scope="module", params=FEATURE_MAPS)
def features(request):
    return FEATURE_MAPS[request.param]()


@pytest.fixture
def X(features):
    return to_sphere(normal(5, features.d, seed=4))


cases = pytest.mark.parametrize(("K", "lifted"), [(1, True), (1, False), (3, True), (3, False)])


def lifted_at(features, K, lifted):
    U, alpha = to_sphere(normal(3, features.d, seed=5)), normal(6 if lifted else 3, K, seed=6)
    made = features.lift(U, lifted)
    made.linearise(alpha)
    return U, alpha, made


def fit(features, U, alpha, lifted):
    return alpha.T @ features.apply(torch.cat([U, -U]) if lifted else U)


# --- the map -------------------------------------------------------------------------------------------------------


def test_it_says_what_it_is(features, X):
    assert isinstance(features, rl.FeatureMap)
    made = features(X)
    assert made.shape == (5, features.p) and made.dtype == features.dtype == torch.float64
    assert made.device == features.device and bool(made.isfinite().all())
    assert f"{features!r}" == f"{features!r}" and f"p={features.p}" in f"{features!r}" or "known(" in f"{features!r}"
    assert (features.activation is None) == (features.V is None)


def test_each_row_is_mapped_by_itself_and_always_the_same(features, X):
    torch.testing.assert_close(features(X[[3, 1]]), features(X)[[3, 1]], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(features(X), features.apply(X).detach(), rtol=1e-10, atol=1e-12)


def test_it_keeps_the_dtype_of_what_it_is_applied_to(features, X):
    half = features.apply(X.float())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.double(), features(X), rtol=1e-3, atol=1e-4)


def test_it_refuses_what_are_no_samples(features):
    with pytest.raises(ValueError, match=r"X has shape"):
        features(normal(2, features.d + 1))
    with pytest.raises(TypeError, match="X has dtype"):
        features(torch.ones(2, features.d, dtype=torch.int64))
    with pytest.raises(ValueError, match="NaN"):
        features(torch.full((1, features.d), math.nan, dtype=torch.float64))


def test_it_regresses(features, X):
    y = normal(5, 2, seed=7)
    theta = features.fit(X, y)
    assert theta.shape == (2, features.p)
    torch.testing.assert_close(features.predict(X, theta), y, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="theta has shape"):
        features.check_theta(torch.ones(features.p + 1))


def test_it_travels(request, features, X):
    if "one's own" in request.node.name:
        pytest.skip("its class lives on a page, where pickle does not find it")
    again = pickle.loads(pickle.dumps(features))
    torch.testing.assert_close(again(X), features(X), rtol=0, atol=0)
    assert f"{again!r}" == f"{features!r}"


def test_the_parity_is_that_of_its_values(features):
    U = to_sphere(normal(7, features.d, seed=8))
    plus, minus = features(U), features(-U)
    even, odd = (float((plus + sign * minus).norm() / plus.norm()) < 1e-8 for sign in (-1, 1))
    assert features.parity == ("even" if even else "odd" if odd else "mixed")


def test_the_rank_is_that_of_many_samples(features):
    U = to_sphere(normal(3 * features.p, features.d, seed=9))
    assert features.rank(features.p + 1) == int(torch.linalg.matrix_rank(features(U)))


# --- its lift ------------------------------------------------------------------------------------------------------


@cases
def test_columns_and_products_are_those_of_autograd(features, K, lifted):
    U, alpha, made = lifted_at(features, K, lifted)
    assert isinstance(made, rl.Lift) and made.n == 3 and made.lifted == lifted and torch.equal(made.alpha, alpha)
    torch.testing.assert_close(made.columns, features(torch.cat([U, -U]) if lifted else U), rtol=1e-10, atol=1e-12)
    delta, R = normal(3, features.d, seed=10), normal(K, features.p, seed=11)
    along = torch.autograd.functional.jvp(lambda U: fit(features, U, alpha, lifted), U, delta)[1]
    back = torch.autograd.functional.vjp(lambda U: fit(features, U, alpha, lifted), U, R)[1]
    torch.testing.assert_close(made.jvp(delta), along, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(made.vjp(R), back, rtol=1e-9, atol=1e-10)
    for several, one, at in ((made.jvps, made.jvp, delta), (made.vjps, made.vjp, R)):
        both = torch.stack([at, at.flip(0)])
        torch.testing.assert_close(several(both), torch.stack([one(each) for each in both]), rtol=1e-12, atol=1e-13)
    other = normal(len(alpha), K, seed=12)  # the same atoms, at other coefficients
    made.linearise(other)
    along = torch.autograd.functional.jvp(lambda U: fit(features, U, other, lifted), U, delta)[1]
    torch.testing.assert_close(made.jvp(delta), along, rtol=1e-9, atol=1e-10)


@cases
def test_what_preconditions_is_of_the_size_of_the_curvature(features, K, lifted):
    """K ⊗ C has nearly the trace of JᵀJ, and is symmetric and without negative directions."""
    U, alpha, made = lifted_at(features, K, lifted)
    J = torch.autograd.functional.jacobian(lambda U: fit(features, U, alpha, lifted), U).reshape(-1, U.numel())
    block = made.block_gram()
    assert block.shape == (3, 3) and torch.allclose(block, block.T)
    assert float(torch.linalg.eigvalsh(block)[0]) >= -1e-10 * float(block.trace())
    assert 0.2 < float(block.trace()) * features.d / float(J.square().sum()) < 5
    metric = made.metric()
    if metric is not None:
        values, vectors = metric
        assert values.shape == (features.d,) and float(values.min()) > 0
        assert math.isclose(float(values.mean()), 1, rel_tol=1e-9)
        torch.testing.assert_close(vectors.T @ vectors, torch.eye(features.d).double(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("lifted", [True, False])
def test_jacobians_are_those_of_the_columns(features, lifted):
    U, _, made = lifted_at(features, 1, lifted)
    W = torch.cat([U, -U]) if lifted else U
    exact = torch.autograd.functional.jacobian(lambda W: features.apply(W).sum(0), W).permute(1, 2, 0)
    taken = made.jacobians()
    if taken is not None:
        places, found = taken
        assert found.shape == (len(W), features.d, features.p)
        torch.testing.assert_close(places, W)
        torch.testing.assert_close(found.double(), exact, rtol=1e-3, atol=1e-4)
        again = made.jacobians(taken)
        torch.testing.assert_close(again[1], found, rtol=0, atol=0)
    torch.testing.assert_close(features.jacobians(W, dtype=torch.float64)[1], exact, rtol=1e-8, atol=1e-9)
    folded = exact[:3] - exact[3:] if lifted else exact
    torch.testing.assert_close(made.fold(exact), folded, rtol=0, atol=0)


def test_a_derivative_is_for_what_has_an_activation(features):
    U = to_sphere(normal(2, features.d))
    if features.activation is None:
        with pytest.raises(ValueError, match="derivative must be None"):
            features.lift(U, derivative=torch.ones_like)
    else:
        made = features.lift(U, lifted=False, derivative=torch.ones_like)
        made.linearise(torch.ones(2, 1, dtype=torch.float64))
        delta = normal(2, features.d, seed=1)
        torch.testing.assert_close(made.jvp(delta)[0], (delta @ features.V.T).sum(0), rtol=1e-9, atol=1e-10)


# --- what the search asks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [1, 2])
def test_directions_lie_on_the_sphere(features, X, outputs):
    R = normal(outputs, 5, seed=13) @ features(X)
    R = features.without_linear_part(R)
    assert R.shape == (outputs, features.p) and bool(R.isfinite().all())
    for residual in (R, torch.zeros_like(R)):
        found, strength = features.directions(residual, 3, torch.Generator().manual_seed(0))
        assert len(found) == len(strength) <= 3 and found.shape[1] == features.d
        assert found.dtype == strength.dtype == torch.float64 and bool(strength.isfinite().all())
        torch.testing.assert_close(found, to_sphere(found), rtol=1e-5, atol=1e-6)


def test_the_norm_of_a_column_is_the_mean_one(features):
    U = to_sphere(normal(4000, features.d, seed=14))
    mean = float(features(U).square().sum(1).mean()) ** 0.5
    assert math.isclose(features.column_norm(torch.Generator().manual_seed(0)), mean, rel_tol=0.25)


def test_the_coarse_features_are_the_same_in_float32(features, X):
    coarse = features.coarse()
    if coarse is not None:
        assert coarse.dtype == torch.float32 and coarse.coarse() is None
        torch.testing.assert_close(coarse(X).double(), features(X), rtol=1e-3, atol=1e-5)


def test_most_samples_is_no_limit_for_what_is_no_polynomial(features):
    assert features.most_samples() == math.inf


def test_a_selection_is_a_feature_map_of_its_columns(features, X):
    index = torch.tensor([4, 1, 7])
    part = rl.known(features, index)
    assert isinstance(part, rl.FeatureMap) and (part.d, part.p) == (features.d, 3)
    torch.testing.assert_close(part(X), features(X)[:, index], rtol=1e-10, atol=1e-12)
    assert f"{part!r}" != f"{rl.known(features, [4, 1, 8])!r}"


# --- the defaults ---------------------------------------------------------------------------------------------------


class Bare(rl.FeatureMap):
    """Random features that say nothing but what their features are."""

    def __init__(self, features):
        super().__init__(features.d, features.p, features.dtype, features.device)
        self.features = features

    def apply(self, X):
        return self.features.apply(X)


@cases
def test_what_random_features_do_faster_is_what_the_defaults_do(K, lifted):
    fast = FEATURE_MAPS["gelu"]()
    slow = Bare(fast)
    assert (slow.parity, slow.rank(40), slow.most_samples()) == (fast.parity, fast.rank(40), fast.most_samples())
    made = [lifted_at(features, K, lifted)[2] for features in (fast, slow)]
    delta, R = normal(3, 8, seed=10), normal(K, 60, seed=11)
    torch.testing.assert_close(made[0].columns, made[1].columns, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(made[0].jvp(delta), made[1].jvp(delta), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(made[0].vjp(R), made[1].vjp(R), rtol=1e-9, atol=1e-10)


def test_a_map_that_does_not_say_what_its_features_are_is_none():
    class Nothing(rl.FeatureMap):
        pass

    with pytest.raises(TypeError, match="apply"):
        Nothing(3, 4)
    for d, p, dtype, error in ((0, 4, torch.float64, ValueError), (3, 4, torch.int32, TypeError)):
        with pytest.raises(error, match="d=0|dtype"):
            type("Some", (rl.FeatureMap,), {"apply": lambda self, X: X})(d, p, dtype)


def test_what_was_measured_of_a_map_is_not_handed_to_its_copies():
    whole = rl.RandomFeatures(8, 60, "gelu", device="cpu")
    whole.metric(), whole.jacobians(whole.probes(2))
    for part in (whole.to(torch.float32), rl.known(whole, range(30))):
        assert part.metric()[0].dtype == part.dtype and part.jacobians(part.probes(2))[1].shape == (2, 8, part.p)
