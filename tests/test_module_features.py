"""ModuleFeatures: any network body as a feature map, and the solver unchanged on it."""

import math
import weakref

import pytest
import torch
from helpers import BODIES, features_of, mlp, normal, norms, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import reconlaw as rl
from reconlaw._random import seeded_generator
from reconlaw.attack import varpro
from reconlaw.attack.projection import Projection
from reconlaw.features import autograd, moment_regression
from reconlaw.features.moment_regression import MomentRegression
from reconlaw.sphere import to_sphere

every_body = pytest.mark.parametrize("name", BODIES)


def rf_module(features):
    """Random features as a module."""
    layer = nn.Linear(features.d, features.p, bias=False).double()
    layer.weight.data.copy_(features.V)
    return nn.Sequential(layer, {"gelu": nn.GELU(), "relu": nn.ReLU()}[features.activation.name])


# --- the map and its derivatives -----------------------------------------------------------------------------------


@every_body
def test_features_are_the_modules_output_flattened(name):
    features, X = features_of(name), normal(7, 8)
    make, shape = BODIES[name]
    module = seeded(make).double().eval()
    shape = shape if isinstance(shape, tuple) else (shape,)
    expected = module(X.reshape(7, *shape)).flatten(1).detach()
    torch.testing.assert_close(features(X), expected, rtol=1e-10, atol=1e-12)
    assert (features.d, features.p) == (8, expected.shape[1]) and features.dtype == torch.float64
    assert not features(X).requires_grad


@pytest.mark.parametrize("lifted", [True, False])
@pytest.mark.parametrize("K", [1, 3])
@every_body
def test_products_are_those_of_the_jacobian(name, K, lifted):
    features, U, delta = features_of(name), normal(3, 8, seed=1), normal(3, 8, seed=2)
    alpha, R = normal(6 if lifted else 3, K, seed=3), normal(K, features.p, seed=4)
    lift = features.lift(U, lifted)
    lift.linearise(alpha)

    def fit(U):
        return alpha.T @ features.apply(torch.cat([U, -U]) if lifted else U)

    J = torch.autograd.functional.jacobian(fit, U)  # (K, p, n, d)
    torch.testing.assert_close(lift.columns, features(torch.cat([U, -U]) if lifted else U), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(lift.jvp(delta), torch.einsum("kpnd,nd->kp", J, delta), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(lift.vjp(R), torch.einsum("kpnd,kp->nd", J, R), rtol=1e-9, atol=1e-11)
    h = 1e-6
    numeric = (fit(U + h * delta) - fit(U - h * delta)) / (2 * h)
    torch.testing.assert_close(lift.jvp(delta), numeric, rtol=1e-6, atol=1e-7)

    taken = lift.jacobians()[1].double()  # (2n or n, d, p) in float32
    A = torch.stack([lift.fold(row[:, None, None] * taken) for row in alpha.T])
    torch.testing.assert_close(A, J.permute(0, 2, 3, 1), rtol=1e-3, atol=1e-4)


@settings(max_examples=15)
@given(
    name=st.sampled_from(sorted(BODIES)),
    n=st.integers(1, 4),
    K=st.integers(1, 3),
    lifted=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_jvp_and_vjp_are_adjoint(name, n, K, lifted, seed):
    features = features_of(name)
    lift = features.lift(normal(n, 8, seed=seed), lifted)
    lift.linearise(normal((2 if lifted else 1) * n, K, seed=seed + 1))
    delta, R = normal(n, 8, seed=seed + 2), normal(K, features.p, seed=seed + 3)
    forward, backward = lift.jvp(delta), lift.vjp(R)
    scale = float(forward.norm() * R.norm()) + 1e-12
    assert abs(float((forward * R).sum() - (delta * backward).sum())) < 1e-11 * scale


def test_a_linear_module_has_its_matrix_for_a_derivative():
    features = rl.ModuleFeatures(seeded(lambda: nn.Linear(5, 9)), 5, device="cpu")
    lift = features.lift(normal(2, 5), lifted=False)
    lift.linearise(torch.ones(2, 1, dtype=torch.float64))
    delta = normal(2, 5, seed=1)
    weight = seeded(lambda: nn.Linear(5, 9)).double().weight.detach()
    torch.testing.assert_close(lift.jvp(delta)[0], (delta @ weight.T).sum(0), rtol=1e-12, atol=1e-12)


def test_linearising_again_takes_the_new_coefficients():
    features = features_of("mlp")
    lift, delta = features.lift(normal(3, 8)), normal(3, 8, seed=1)
    lift.linearise(normal(6, 1, seed=2))
    other = normal(6, 1, seed=3)
    lift.linearise(other)
    fresh = features.lift(normal(3, 8))
    fresh.linearise(other)
    torch.testing.assert_close(lift.jvp(delta), fresh.jvp(delta), rtol=1e-12, atol=1e-12)


def test_a_body_may_need_more_than_one_row():
    """As batch normalisation does in training mode; a row's share of the work is counted all the same."""

    class OfABatch(rl.ModuleFeatures):
        def apply(self, X, dtype=None):
            assert len(X) > 1
            return super().apply(X, dtype)

    body = seeded(lambda: nn.Linear(8, 30))
    assert OfABatch(body, 8, device="cpu").multiplications == 8 * 30
    assert rl.projection_loss(normal(3, 8), OfABatch(body, 8, device="cpu"), normal(30, 1)[:, 0]) > 0


@pytest.mark.skipif(not hasattr(torch.backends, "mha"), reason="torch < 2.3 has no switch for them")
def test_the_fused_kernels_are_left_as_they_were():
    before = torch.backends.mha.get_fastpath_enabled()
    features = features_of("transformer")
    features(normal(2, 8))
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_the_module_is_left_as_it_was():
    module = seeded(lambda: nn.Sequential(nn.Linear(8, 30), nn.BatchNorm1d(30))).train()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.warns(UserWarning, match="1 acts otherwise; its features are taken in evaluation mode"):
        features = rl.ModuleFeatures(module, 8, device="cpu")
    features(normal(5, 8))
    assert module.training and all(torch.equal(state[name], value) for name, value in module.state_dict().items())
    assert all(p.requires_grad and p.dtype == torch.float32 for p in module.parameters())
    module[0].weight.data.zero_()
    assert features(normal(5, 8)).std() > 0


class Centred(nn.Module):
    def forward(self, x):
        return x.sub_(0.5).div_(2)


@pytest.mark.parametrize("first", [lambda: nn.ReLU(inplace=True), Centred])
def test_a_module_that_writes_to_its_input_writes_to_a_copy(first):
    module, X = seeded(lambda: nn.Sequential(first(), nn.Linear(8, 300), nn.GELU())), normal(3, 8)
    features, before = rl.ModuleFeatures(module, 8, device="cpu"), X.clone()
    Phi = features(X)
    assert torch.equal(X, before) and torch.equal(features(X), Phi)
    theta = features.fit(before, torch.ones(3))
    result = rl.reconstruct(theta, features, 3, max_seconds=None)
    assert float(rl.projection_loss(result.X, features, theta)) == pytest.approx(result.loss, abs=1e-20)


def test_dropout_that_does_nothing_is_not_warned_of(recwarn):
    rl.ModuleFeatures(nn.Sequential(nn.Linear(8, 30), nn.Dropout(0.0)).train(), 8, device="cpu")
    assert not recwarn.list


@pytest.mark.parametrize(
    ("module", "parity"),
    [
        (lambda: nn.Sequential(nn.Linear(8, 30, bias=False), nn.Tanh()), "odd"),
        (lambda: nn.Sequential(nn.Linear(8, 30, bias=False), nn.Tanh(), nn.Linear(30, 20, bias=False)), "odd"),
        (lambda: nn.Sequential(nn.Linear(8, 30, bias=False), nn.Softshrink(), nn.Threshold(-99, 0)), "odd"),
        (lambda: nn.Sequential(nn.Linear(8, 30), nn.Tanh()), "mixed"),
        (lambda: nn.Sequential(nn.Linear(8, 30, bias=False), nn.GELU()), "mixed"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_parity_is_measured(module, parity, dtype):
    assert rl.ModuleFeatures(seeded(module), 8, dtype=dtype, device="cpu").parity == parity


def test_an_even_module_is_even():
    class Even(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 30, bias=False)

        def forward(self, X):
            return self.layer(X).square()

    assert rl.ModuleFeatures(Even(), 8, device="cpu").parity == "even"


# --- as the solver sees it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["relu", "gelu"])
def test_a_linear_layer_and_an_activation_are_random_features(problem, name):
    case = problem(activation=name)
    features = rl.ModuleFeatures(rf_module(case.features), 20, device="cpu")
    torch.testing.assert_close(features(case.X), case.features(case.X), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(features.fit(case.X, case.y), case.theta, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(
        features.predict(case.X, case.theta), case.features.predict(case.X, case.theta), rtol=1e-10, atol=1e-12
    )
    U, alpha, delta = normal(4, 20, seed=1), normal(8, 1, seed=2), normal(4, 20, seed=3)
    one, two = features.lift(U), case.features.lift(U)
    one.linearise(alpha), two.linearise(alpha)
    torch.testing.assert_close(one.columns, two.columns, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(one.jvp(delta), two.jvp(delta), rtol=1e-11, atol=1e-12)
    R = normal(1, 1000, seed=4)
    torch.testing.assert_close(one.vjp(R), two.vjp(R), rtol=1e-11, atol=1e-12)

    result = rl.reconstruct(case.theta, features, 5, max_seconds=None)
    assert result.converged and result.sign_identifiable is True
    assert rl.match(result.X, case.X).error.max() < 1e-9


def test_losses_and_gradients_agree_with_random_features(problem):
    case = problem(activation="gelu", outputs=2)
    features = rl.ModuleFeatures(rf_module(case.features), 20, device="cpu")
    U = to_sphere(normal(5, 20, seed=7))
    for lifted in (True, False):
        one, two = (Projection(f, case.theta, U, lifted) for f in (features, case.features))
        assert math.isclose(one.loss, two.loss, rel_tol=1e-11)
        torch.testing.assert_close(one.gradient(), two.gradient(), rtol=1e-9, atol=1e-12)
    X = U.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda X: rl.projection_loss(X, features, case.theta), (X,), atol=1e-7)


@pytest.mark.parametrize("mu", [1e-6, 1e-2, 10.0])
@pytest.mark.parametrize("outputs", [1, 3])
def test_preconditioners_change_the_way_to_a_step_and_not_the_step(problem, monkeypatch, mu, outputs):
    case = problem(d=8, n=3, p=60, outputs=outputs)
    features, steps, products = features_of("mlp"), [], []
    U = to_sphere(normal(3, 8, seed=1))
    jvp = autograd.AutogradLift.jvp

    def counting(self, delta):
        products[-1] += 1
        return jvp(self, delta)

    monkeypatch.setattr(autograd.AutogradLift, "jvp", counting)
    for room in (1 << 27, 0):
        monkeypatch.setattr(autograd, "_DENSE_NUMBERS", room)
        model = varpro._model(Projection(features, features.check_theta(case.theta), U, lifted=True))
        assert type(model) is (varpro._DenseStep if room else varpro._Step)
        model.D = steps[0][2] if steps else model.D
        products.append(0)
        steps.append((*model.solve(mu, 1e-11, 3000), model.D))
    torch.testing.assert_close(steps[0][0], steps[1][0], rtol=1e-5, atol=1e-7 * float(steps[0][0].norm()))
    assert math.isclose(steps[0][1], steps[1][1], rel_tol=1e-6)
    assert products[0] <= 12 and products[0] < products[1]


def test_jacobians_are_taken_anew_where_an_atom_has_moved(monkeypatch):
    features, W, taken = features_of("mlp"), to_sphere(normal(4, 8)), []
    graph = autograd._graph
    monkeypatch.setattr(autograd, "_graph", lambda f, W: taken.append(len(W)) or graph(f, W))
    first = features.jacobians(W)
    near = W + 1e-3
    near[2] = -W[2]
    second = features.jacobians(near[[1, 2, 3, 0]], first)
    assert taken == [4, 1]
    torch.testing.assert_close(second[1][[0, 2, 3]], first[1][[1, 3, 0]], rtol=0, atol=0)
    torch.testing.assert_close(second[1][1], features.jacobians(near[2:3])[1][0])
    state, moving = first, W.clone()
    for _ in range(30):  # small steps add up: what counts is the distance from where it was taken
        moving = moving + 0.02
        state = features.jacobians(moving, state)
        assert (state[0] - moving).norm(dim=1).max() <= 0.1 * 8**0.5 + 1e-9


def test_a_module_that_insists_on_float64():
    class Insists(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 40)

        def forward(self, X):
            if X.dtype != torch.float64:
                raise RuntimeError("float64 only")
            return nn.functional.gelu(self.layer(X))

    features, data = rl.ModuleFeatures(Insists(), 8, device="cpu"), rl.data.sphere(1, 8, seed=0)
    result = rl.reconstruct(features.fit(data.X, data.y), features, 1, max_seconds=None)
    assert result.converged and rl.match(result.X, data.X).error.max() < 1e-6


def test_a_seed_fixes_the_answer_whatever_came_before():
    features, data = features_of("cnn"), rl.data.sphere(1, 8, seed=0)
    theta = features.fit(data.X, data.y)
    one, two = (rl.reconstruct(theta, features, 1, seed=1, start="random", max_seconds=None) for _ in range(2))
    assert torch.equal(one.X, two.X)


def test_without_room_for_the_jacobian_it_goes_by_products(problem, monkeypatch):
    monkeypatch.setattr(autograd, "_DENSE_NUMBERS", 0)
    case = problem(d=8, n=2, p=300, activation="gelu")
    features = rl.ModuleFeatures(rf_module(case.features), 8, device="cpu")
    result = rl.reconstruct(case.theta, features, 2, max_seconds=None)
    assert result.converged and rl.match(result.X, case.X).error.max() < 1e-8


def test_the_metric_is_the_mean_of_JtJ():
    features = features_of("mlp")
    values, vectors = features.metric()
    C = vectors @ torch.diag(values) @ vectors.T
    U = to_sphere(normal(2000, 8, seed=3))
    J = torch.autograd.functional.jacobian(lambda U: features.apply(U).sum(0), U).transpose(0, 1)  # (2000, p, d)
    mean = torch.einsum("npd,npe->de", J, J)
    mean *= 8 / mean.trace()
    assert math.isclose(float(values.mean()), 1, rel_tol=1e-9)
    assert (C - mean).norm() < 0.5 * mean.norm()


class Saved:
    """What a backward pass has kept."""

    def __init__(self, tensor):
        self.tensor = tensor


@pytest.mark.parametrize("block", [5, 256])
def test_the_metric_is_one_sum_in_whatever_blocks_and_holds_one_of_them(monkeypatch, block):
    monkeypatch.setattr(autograd, "ROWS", block)
    module = seeded(lambda: nn.Sequential(nn.Linear(8, 32), nn.Unflatten(-1, (4, 8)), nn.Tanh())).double()
    features, w = rl.ModuleFeatures(module, 8, device="cpu"), seeded_generator("metric", 1)
    J = torch.func.vmap(torch.func.jacrev(module))(features.probes(32, "metric")).flatten(1, 2)  # (32, p, d)
    G = torch.einsum("mp,mpd->md", torch.randn(32, 32, generator=w, dtype=torch.float64), J)
    C, held, rows = G.T @ G, weakref.WeakSet(), []

    def pack(tensor):
        saved = Saved(tensor)
        held.add(saved)
        rows.append(sum(len(one.tensor) for one in held if one.tensor.ndim == 3))
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor):
        values, vectors = features.metric()
    torch.testing.assert_close(vectors @ values.diag() @ vectors.T, C * 8 / C.trace(), rtol=1e-12, atol=1e-12)
    assert max(rows) == min(block, 32)


def test_learned_moments_point_at_the_samples(problem):
    """Probes in the place of neurons: the directions of θ under a module come near those of random features."""
    case = problem(d=16, n=3, p=1500)
    features = rl.ModuleFeatures(rf_module(case.features), 16, device="cpu")
    moments = MomentRegression(features)
    assert 0.5 < moments.explained < 1
    U, _ = moments.directions(features.check_theta(case.theta), 3, torch.Generator())
    torch.testing.assert_close(U.norm(dim=1), torch.full((3,), 4.0, dtype=torch.float64), rtol=1e-5, atol=0)
    span = torch.linalg.qr(U.T).Q
    assert (case.X @ span).norm(dim=1).min() > 0.8 * 4


def test_fewer_probes_than_dimensions_tell_no_direction(problem, monkeypatch):
    """As at d = 3072: what their linear part leaves is nothing, and a direction made of it would be NaN."""
    monkeypatch.setattr(moment_regression, "_MOST_PROBES", 12)
    case = problem(d=16, n=2, p=400, activation="gelu")
    features = rl.ModuleFeatures(rf_module(case.features), 16, device="cpu")
    moments = MomentRegression(features)
    assert moments.explained <= 0
    U, strength = moments.directions(features.check_theta(case.theta), 2, torch.Generator())
    assert U.shape == (0, 16) and strength.shape == (0,) and U.dtype == torch.float64
    result = rl.reconstruct(case.theta, features, 2, max_seconds=None)
    assert result.converged and rl.match(result.X, case.X).error.max() < 1e-6


def test_the_order_of_the_samples_does_not_matter(problem):
    features, data = features_of("cnn"), rl.data.sphere(2, 8, seed=1)
    one = features.fit(data.X, data.y)
    two = features.fit(data.X.flip(0), data.y.flip(0))
    torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)


# --- reconstruction from bodies that are ill-conditioned ------------------------------------------------------------


def deep(activation):
    layers = [part for a, b in ((12, 40), (40, 40), (40, 480)) for part in (nn.Linear(a, b), activation())]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("name", ["gelu", "silu", "conv"])
def test_deep_biased_bodies_give_their_samples_back(name):
    bodies = {
        "gelu": (lambda: deep(nn.GELU), 12),
        "silu": (lambda: deep(nn.SiLU), 12),
        "conv": (lambda: nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.GELU(), nn.Conv2d(16, 40, 2)), (1, 3, 4)),
    }
    make, shape = bodies[name]
    features = rl.ModuleFeatures(seeded(make), shape, device="cpu")
    n = 3 if name != "conv" else 2
    data = rl.data.sphere(n, 12, seed=2)
    result = rl.reconstruct(features.fit(data.X, data.y), features, n, max_seconds=None)
    assert result.converged, result
    assert rl.match(result.X, data.X).error.max() < 1e-4


@pytest.mark.parametrize("method", ["sgd", "sparse"])
def test_the_other_methods_take_a_module(problem, method):
    case = problem(d=8, n=2, p=300, activation="gelu")
    features = rl.ModuleFeatures(rf_module(case.features), 8, device="cpu")
    n, options = (2, {"max_steps": 5}) if method == "sgd" else (None, {})
    result = rl.reconstruct(case.theta, features, n, method=method, max_seconds=None, **options)
    assert torch.isfinite(result.X).all() and result.loss < 1


def test_float32(problem):
    case = problem(d=8, n=2, p=300, activation="gelu")
    features = rl.ModuleFeatures(rf_module(case.features), 8, dtype=torch.float32, device="cpu")
    assert features(case.X).dtype == torch.float32
    result = rl.reconstruct(case.theta.float(), features, 2, max_seconds=None)
    assert rl.match(result.X, case.X).error.max() < 1e-3


# --- identity ------------------------------------------------------------------------------------------------------


def test_the_fingerprint_is_that_of_the_parameters():
    one, same = features_of("mlp"), features_of("mlp")
    assert repr(one) == repr(same) and one.fingerprint in repr(one)
    module = seeded(mlp)
    module[0].bias.data[3] += 1e-6
    assert rl.ModuleFeatures(module, 8, device="cpu").fingerprint != one.fingerprint
    tanh = seeded(mlp)
    tanh[1] = nn.Tanh()
    assert rl.ModuleFeatures(tanh, 8, device="cpu").fingerprint != one.fingerprint
    buffers = seeded(norms)
    buffers[1].running_mean += 1
    assert rl.ModuleFeatures(buffers, 8, device="cpu").fingerprint != features_of("norms").fingerprint


def test_a_checkpoint_of_another_body_is_refused(tmp_path):
    features, data = features_of("mlp"), rl.data.sphere(1, 8, seed=0)
    theta = features.fit(data.X, data.y)
    rl.reconstruct(theta, features, 1, checkpoint=tmp_path / "run.pt", max_seconds=None)
    again = rl.reconstruct(theta, features_of("mlp"), 1, checkpoint=tmp_path / "run.pt", max_seconds=None)
    assert again.converged
    module = seeded(mlp)
    module[0].bias.data[3] += 1
    with pytest.raises(rl.CheckpointError, match="of another problem"):
        rl.reconstruct(theta, rl.ModuleFeatures(module, 8, device="cpu"), 1, checkpoint=tmp_path / "run.pt")


# --- bad arguments -------------------------------------------------------------------------------------------------


class Body(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.layer, self.f = nn.Linear(8, 20), f

    def forward(self, X):
        return self.f(self.layer, X)


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda layer, X: (layer(X), X), "gives a tuple; wrap it"),
        (lambda layer, X: {"logits": layer(X)}, "gives a dict"),
        (lambda layer, X: layer(X).mean(0), r"makes \(20,\) of 3 samples"),
        (lambda layer, X: layer(X).sum(), r"makes \(\) of 3 samples"),
        (lambda layer, X: layer(X).long(), "gives torch.int64 for torch.float64"),
        (lambda layer, X: layer(X).half(), "gives torch.float16"),
        (lambda layer, X: layer(X) - layer(X).mean(0), "mixes the samples of a batch"),
        (lambda layer, X: layer(X) / 0, "NaN or infinity"),
        (lambda layer, X: layer(X) + torch.rand(1).to(X), "different features for the same input"),
        (lambda layer, X: nn.functional.dropout(layer(X)), "different features for the same input"),
        (lambda layer, X: torch.ones_like(layer(X)), "the same features for every input"),
        (lambda layer, X: layer(X).detach(), "cannot be differentiated"),
        (lambda layer, X: torch.as_tensor(layer(X).detach().numpy()), "cannot be differentiated"),
    ],
)
def test_modules_that_are_no_feature_map(f, message):
    with pytest.raises(ValueError, match=message):
        rl.ModuleFeatures(Body(f), 8, device="cpu")


def test_batch_norm_without_running_statistics_mixes_samples():
    module = nn.Sequential(nn.Linear(8, 30), nn.BatchNorm1d(30, track_running_stats=False)).eval()
    with pytest.raises(ValueError, match="mixes the samples of a batch"):
        rl.ModuleFeatures(module, 8, device="cpu")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"module": torch.relu}, TypeError, "module is a builtin_function_or_method; pass a torch.nn.Module"),
        ({"module": None}, TypeError, "module is a NoneType"),
        ({"input_shape": (9,)}, ValueError, r"fails on an input of shape \(3, 9\).*does input_shape fit"),
        ({"input_shape": (0, 8)}, ValueError, "input_shape=0"),
        ({"input_shape": 8.0}, ValueError, "input_shape=8.0"),
        ({"input_shape": "8"}, ValueError, "input_shape='8'"),
        ({"dtype": torch.float16}, TypeError, "dtype=torch.float16 is not supported"),
        ({"device": "nowhere"}, ValueError, "device='nowhere'"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        rl.ModuleFeatures(**({"module": seeded(mlp), "input_shape": 8, "device": "cpu"} | arguments))


@pytest.mark.parametrize("dense", [True, False])
def test_the_callers_inference_mode_does_not_matter(monkeypatch, dense):
    if not dense:
        monkeypatch.setattr(autograd, "_DENSE_NUMBERS", 1)
    data = rl.data.sphere(2, 8, seed=0)
    with torch.inference_mode():
        for phi in (torch.sigmoid, None):  # an activation that autograd differentiates, and a module
            features = rl.RandomFeatures(8, 150, phi, device="cpu") if phi else features_of("mlp")
            theta = features.fit(data.X, data.y)
            result = rl.reconstruct(theta, features, 2, max_seconds=None)
            assert result.converged and torch.is_inference_mode_enabled()
            assert rl.match(result.X, data.X).recovered_up_to_sign(1e-6).all()
    assert rl.reconstruct(theta, features, 2, max_seconds=None).converged


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_module_is_refused():
    with pytest.raises(TypeError, match="module is scripted.*pass the module that it was made from"):
        rl.ModuleFeatures(torch.jit.trace(nn.Linear(8, 9), torch.zeros(1, 8)), 8)


def test_what_calling_and_fitting_refuse():
    features = features_of("mlp")
    with pytest.raises(ValueError, match=r"X has shape \(2, 7\)"):
        features(normal(2, 7))
    with pytest.raises(TypeError, match="X has dtype torch.int64"):
        features(torch.ones(2, 8, dtype=torch.int64))
    with pytest.raises(ValueError, match="cannot be interpolated by p = 60"):
        features.fit(normal(61, 8), torch.ones(61))
    with pytest.raises(ValueError, match=r"theta has shape \(59,\)"):
        features.check_theta(torch.ones(59))
    with pytest.raises(ValueError, match="derivative must be None"):
        features.lift(normal(2, 8), derivative=torch.relu)
    with pytest.raises(ValueError, match="n=61 exceeds p=60"):
        rl.reconstruct(torch.ones(60), features, 61)


def test_below_the_law_it_says_so():
    features = rl.ModuleFeatures(seeded(lambda: mlp(p=12)), 8, device="cpu")
    data = rl.data.sphere(3, 8, seed=0)
    result = rl.reconstruct(features.fit(data.X, data.y), features, 3, max_seconds=None)
    assert not result.determined and result.message.startswith("not determined")


def test_features_that_depend_on_each_other_are_not_counted_twice():
    """200 outputs of 20 hidden neurons are 20 features: what fits theta is not the data, and it says so."""
    body = lambda: nn.Sequential(nn.Linear(8, 20, bias=False), nn.GELU(), nn.Linear(20, 200, bias=False))  # noqa: E731
    for dtype in (torch.float64, torch.float32):
        features = rl.ModuleFeatures(seeded(body), 8, dtype=dtype, device="cpu")
        assert features.p == 200 and features.rank(24) == 20 and features.rank(20) == 200
    features, data = rl.ModuleFeatures(seeded(body), 8, device="cpu"), rl.data.sphere(3, 8, seed=0)
    result = rl.reconstruct(features.fit(data.X, data.y), features, 3, max_seconds=None)
    assert not result.determined and result.message.startswith("not determined: 20 equations for 24")
    assert all(features_of(name).rank(24) == features_of(name).p for name in ("mlp", "cnn"))


def test_the_rank_is_measured_at_no_more_inputs_than_time_allows(monkeypatch):
    features = features_of("mlp")
    monkeypatch.setattr(autograd, "_RANK_COST", 100 * features.p)  # that of ten inputs
    seen, apply = [], features.apply
    monkeypatch.setattr(features, "apply", lambda X: seen.append(len(X)) or apply(X))
    assert features.rank(50) == features.p and sum(seen) == 11


@pytest.mark.slow(reason="searches through bodies of 1,920 features")
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_digits_from_bodies_of_a_users_own(name):
    bodies = {
        "mlp": lambda: nn.Sequential(
            nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 256), nn.GELU(), nn.Linear(256, 1920), nn.GELU()
        ),
        "cnn": lambda: nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, 32, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(32, 30, 3, padding=1),
            nn.GELU(),
        ),
    }
    features = rl.ModuleFeatures(seeded(bodies[name]), 64, device="cpu")
    data = rl.data.digits(3, seed=0)
    result = rl.reconstruct(features.fit(data.X, data.y), features, 3, max_seconds=None)
    assert rl.match(result.X, data.X).error.max() < 1e-4
