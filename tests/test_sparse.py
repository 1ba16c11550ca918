"""ℓ2–ℓ1 reconstruction with n unknown, and its group lasso."""

import pytest
import torch

import reconlaw as rl
from reconlaw.attack.sparse import group_lasso


def _problem(n, activation="relu", d=30, ratio=8, seed=0, outputs=None):
    data = rl.data.sphere(n, d, seed=seed)
    features = rl.RandomFeatures(d, ratio * d * n, activation, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    y = data.y if outputs is None else torch.randn(n, outputs, generator=generator, dtype=torch.float64)
    return data, features, features.fit(data.X, y)


@pytest.mark.parametrize("activation", ["relu", "relu+tanh", "gelu"])
@pytest.mark.parametrize("n", [1, 3, 6])
def test_finds_n_and_the_samples(n, activation):
    data, features, theta = _problem(n, activation, seed=n)
    result = rl.reconstruct(theta, features, method="sparse", seed=1, max_seconds=None)
    assert len(result.X) == n and result.converged
    assert float(rl.match(result.X, data.X).error.max()) < 1e-6


def test_finds_n_from_several_outputs():
    data, features, theta = _problem(4, outputs=3)
    result = rl.reconstruct(theta, features, method="sparse", seed=1, max_seconds=None)
    assert len(result.X) == 4 and result.coefficients.shape == (4, 3)
    assert float(rl.match(result.X, data.X).error.max()) < 1e-6


def test_keeps_a_sample_that_hardly_spoke():
    data, features, _ = _problem(4)
    a = torch.tensor([1e-5, 1.0, -1.0, 0.7], dtype=torch.float64)  # costs 1e-10 of θ: not nothing
    result = rl.reconstruct(features(data.X).cpu().T @ a, features, method="sparse", seed=1, max_seconds=None)
    assert len(result.X) == 4 and result.converged
    assert float(rl.match(result.X, data.X).error.max()) < 1e-6


@pytest.mark.parametrize("seed", [3, 5])
def test_drops_atoms_that_keep_the_descent_from_converging(seed):
    data, features, theta = _problem(5, "relu+tanh", d=100, ratio=4, seed=seed)  # twins: the support has 7 to 12 atoms
    result = rl.reconstruct(theta, features, method="sparse", seed=seed, max_seconds=None)
    assert len(result.X) == 5 and result.converged
    assert float(rl.match(result.X, data.X).error.max()) < 1e-6


def test_reports_the_path():
    _, features, theta = _problem(4)
    path = rl.reconstruct(theta, features, method="sparse", seed=1, max_seconds=None).path
    assert path and all(set(step) == {"lambda", "support", "loss"} for step in path)
    lambdas = [step["lambda"] for step in path]
    assert lambdas == sorted(lambdas, reverse=True) and path[-1]["support"] >= 4


def test_one_large_l1_keeps_few_atoms():
    _, features, theta = _problem(6)
    coarse = rl.reconstruct(theta, features, method="sparse", seed=1, l1=[0.9], max_seconds=None)
    assert len(coarse.path) == 1 and coarse.path[0]["support"] < 6 and not coarse.converged


@pytest.mark.parametrize("l1", [0, -1.0, [0.5, float("nan")]])
def test_bad_l1_is_named(l1):
    _, features, theta = _problem(2)
    with pytest.raises(ValueError, match="l1"):
        rl.reconstruct(theta, features, method="sparse", l1=l1)


def test_other_methods_need_n():
    _, features, theta = _problem(2)
    with pytest.raises(ValueError, match="sparse"):
        rl.reconstruct(theta, features)


def test_group_lasso_meets_its_optimality_conditions():
    generator = torch.Generator().manual_seed(0)
    B = torch.randn(12, 40, generator=generator, dtype=torch.float64)
    target = torch.randn(2, 40, generator=generator, dtype=torch.float64)
    groups, weight = torch.arange(6).repeat(2), 6.0
    alpha = group_lasso(B @ B.T, B @ target.T, weight, groups, torch.zeros(12, 2, dtype=torch.float64))
    gradient = B @ (target.T - B.T @ alpha)
    active = 0
    for group in range(6):
        a, g = alpha[groups == group], gradient[groups == group]
        if float(a.norm()) > 0:
            active += 1
            assert torch.allclose(g, weight * a / a.norm(), atol=1e-6)
        else:
            assert float(g.norm()) <= weight + 1e-6
    assert 0 < active < 6  # the weight was chosen so that both cases are seen


def _body(d, p, seed):
    """GELU features with biases, and the generator that made them."""
    generator = torch.Generator().manual_seed(seed)
    body = torch.nn.Sequential(torch.nn.Linear(d, p), torch.nn.GELU()).double()
    with torch.no_grad():
        for parameter in body.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return rl.ModuleFeatures(body, (d,)), generator


def _draw(kind, n, d, k, generator):
    """Samples, and the domain that they live in."""
    normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    if kind == "box":
        return torch.rand(n, d, generator=generator, dtype=torch.float64), rl.inputs.Box(0.0, 1.0)
    if kind == "free":
        return normal(n, d), rl.inputs.Free()
    if kind == "affine":
        basis, offset = normal(k, d) / d**0.5, torch.full((d,), 0.3, dtype=torch.float64)
        return offset + normal(n, k) @ basis, rl.inputs.Affine(basis, offset)
    decode = torch.nn.Sequential(torch.nn.Linear(k, d), torch.nn.Tanh()).double()
    with torch.no_grad():
        for parameter in decode.parameters():
            parameter.copy_(normal(*parameter.shape))
        return decode(normal(n, k)), rl.inputs.Decoder(decode, k)


@pytest.mark.parametrize(
    ("kind", "n", "seed"),
    [*(("box", 2 + seed % 2, seed) for seed in range(6)), ("free", 3, 0), ("free", 3, 1), ("affine", 3, 1)]
    + [("decoder", 3, 0), ("decoder", 3, 1)],
)
def test_finds_n_where_the_samples_live(kind, n, seed):
    d, k = (6, 6) if kind in ("box", "free") else (10, 4)
    features, generator = _body(d, 2 * n * (k + 1), seed)
    X, inputs = _draw(kind, n, d, k, generator)
    theta = features(X).cpu().T @ torch.randn(n, generator=generator, dtype=torch.float64)
    found = rl.reconstruct(theta, features, method="sparse", seed=seed + 1, inputs=inputs, max_seconds=None)
    assert len(found.X) == n and found.status is rl.Status.RECOVERED, found.message
    assert float(rl.match(found.X, X).error.max()) < 1e-6
    supports = [step["support"] for step in found.path]
    assert supports == list(range(1, len(supports) + 1)) and supports[-1] >= n and found.path[-1]["loss"] <= 1e-20


def test_a_checkpoint_in_a_box_leads_on(tmp_path):
    features, generator = _body(6, 60, 0)
    X, inputs = _draw("box", 4, 6, 6, generator)
    theta = features(X).cpu().T @ torch.randn(4, generator=generator, dtype=torch.float64)
    options = {"method": "sparse", "seed": 1, "inputs": inputs, "max_seconds": None, "checkpoint": tmp_path / "way"}
    first = rl.reconstruct(theta, features, max_steps=1500, **options)
    found = rl.reconstruct(theta, features, max_steps=40_000, **options)
    assert not first.converged and first.status is rl.Status.BUDGET_SPENT and found.path[0]["support"] > 1
    assert len(found.X) == 4 and float(rl.match(found.X, X).error.max()) < 1e-6, found.message


def test_finds_n_from_several_outputs_in_a_box():
    features, generator = _body(6, 19, 0)
    X, inputs = _draw("box", 4, 6, 6, generator)
    theta = torch.randn(3, 4, generator=generator, dtype=torch.float64) @ features(X).cpu()
    found = rl.reconstruct(theta, features, method="sparse", seed=1, inputs=inputs, max_seconds=None)
    assert len(found.X) == 4 and float(rl.match(found.X, X).error.max()) < 1e-6, found.message


def test_theta_of_no_sample_is_not_explained_off_the_sphere():
    features, generator = _body(6, 40, 0)
    theta = torch.randn(40, generator=generator, dtype=torch.float64)
    found = rl.reconstruct(
        theta, features, method="sparse", seed=1, inputs=rl.inputs.Box(0.0, 1.0), max_seconds=None, max_steps=4000
    )
    assert not found.converged and rl.Flag.RECOVERED not in found.flags
    assert max(step["support"] for step in found.path) * 7 < 40  # a support beyond it could fit any θ


def test_l1_is_refused_off_the_sphere():
    features, _ = _body(6, 40, 0)
    with pytest.raises(ValueError, match="leave l1 out"):
        rl.reconstruct(torch.ones(40).double(), features, method="sparse", inputs=rl.inputs.Free(), l1=0.5)
