"""What a layer sees of each input: its change lies in the span of that, at all positions, whatever is trained above."""

import math
import pickle

import pytest
import torch
from helpers import normal, seeded
from torch import nn

import reconlaw as rl
from reconlaw.attack.certificate import certify
from reconlaw.attack.count import count
from reconlaw.attack.projection import Projection
from reconlaw.attack.tools import pair_costs
from reconlaw.features.below import change_of, patches


class Tokens(nn.Module):
    """Sequences of 5 tokens of width 6: a layer between attention and pooling."""

    def __init__(self):
        super().__init__()
        self.into, self.mix = nn.Linear(6, 24), nn.MultiheadAttention(24, 2, batch_first=True)
        self.mid, self.out = nn.Linear(24, 80), nn.Linear(80, 4)

    def forward(self, x):
        h = self.into(x)
        h = h + self.mix(h, h, h)[0]
        return self.out(torch.tanh(self.mid(torch.nn.functional.gelu(h))).mean(1))


def conv(**options):
    return nn.Sequential(
        nn.Conv2d(1, 10, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(10, 20, 3, **{"stride": 2, **options}),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(20, 3),
    )


def line():
    return nn.Sequential(
        nn.Conv1d(2, 9, 3, padding=1),
        nn.SiLU(),
        nn.Conv1d(9, 16, 4, stride=3, padding=2),
        nn.Flatten(),
        nn.LazyLinear(3),
    )


MODELS = {
    "head": (lambda: nn.Sequential(nn.Linear(8, 30), nn.GELU(), nn.Linear(30, 3)), "2", (8,)),
    "middle": (
        lambda: nn.Sequential(nn.Linear(8, 30), nn.GELU(), nn.Linear(30, 7), nn.ReLU(), nn.Linear(7, 2)),
        "2",
        (8,),
    ),
    "tokens": (Tokens, "mid", (5, 6)),
    "conv": (conv, "2", (1, 7, 7)),
    "conv, padding, dilation": (lambda: conv(padding=2, dilation=2), "2", (1, 7, 7)),
    "conv, same": (lambda: conv(stride=1, padding="same", padding_mode="reflect"), "2", (1, 5, 5)),
    "conv, groups": (lambda: conv(groups=5), "2", (1, 7, 7)),
    "line": (line, "2", (2, 9)),
}


def trained(name, n=3, steps=4, above=True):
    """The model, its change of the layer after some steps, and the samples."""
    make, layer, shape = MODELS[name]
    model = seeded(make).double()
    X = normal(n, math.prod(shape), seed=4)
    model(X.reshape(n, *shape))  # lazy layers
    kind = model.get_submodule(layer)
    before = kind.weight.detach().clone()
    later = list(model.parameters()) if above else list(kind.parameters())
    below = [id(p) for p in next(iter(model.children())).parameters()]
    if name == "tokens":
        below += [id(p) for p in model.mix.parameters()]
    optimiser = torch.optim.SGD([p for p in later if id(p) not in below], lr=0.1, momentum=0.9)
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(X.reshape(n, *shape)), torch.arange(n) % 2).backward()
        optimiser.step()
    return model, layer, shape, kind.weight.detach() - before, X


@pytest.fixture(scope="module", params=MODELS)
def case(request):
    return trained(request.param)


def test_the_change_lies_in_the_span_of_what_the_layer_saw(case):
    model, layer, shape, change, X = case
    features = rl.below(model, layer, shape, device="cpu")
    theta = features.check_theta(change)
    assert theta.shape == (len(change), features.p)
    C = features.columns(features(X))
    assert C.shape == (features.positions * len(X), features.p)
    left = theta - (theta @ torch.linalg.pinv(C)) @ C
    assert float(left.norm()) < 1e-10 * float(theta.norm())
    torch.testing.assert_close(features.joined(C), features(X))


def test_columns_multiply_the_weight_as_the_layer_does(case):
    model, layer, shape, _, X = case
    kind = model.get_submodule(layer)
    seen = []
    hook = kind.register_forward_hook(lambda _, given, out: seen.append(out.detach()))
    model(X.reshape(-1, *shape))
    hook.remove()
    out = seen[0] - (
        0
        if kind.bias is None
        else kind.bias.reshape(-1, *[1] * (seen[0].ndim - 2))
        if isinstance(kind, nn.Conv1d | nn.Conv2d)
        else kind.bias
    )
    features = rl.below(model, layer, shape, device="cpu")
    F = features(X).unflatten(1, (features.positions, -1))
    made = F @ features.check_theta(kind.weight.detach()).T  # (n, T, K)
    if isinstance(kind, nn.Linear):
        torch.testing.assert_close(made.reshape(out.shape), out)
        return
    g = kind.groups
    made = made.unflatten(1, (-1, g)).sum(2)  # a group's filters meet the other groups' zeros
    torch.testing.assert_close(made.transpose(1, 2).reshape(out.shape), out)


def test_products_are_those_of_autograd(case):
    model, layer, shape, _, _ = case
    features = rl.below(model, layer, shape, device="cpu")
    U, K = normal(2, features.d, seed=5), 2
    made = features.lift(U, lifted=False)
    alpha = normal(len(made.columns), K, seed=6)
    made.linearise(alpha)
    delta, R = normal(2, features.d, seed=7), normal(K, features.p, seed=8)

    def fit(U):
        return alpha.T @ features.columns(features.apply(U))

    torch.testing.assert_close(made.jvp(delta), torch.autograd.functional.jvp(fit, U, delta)[1], rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(made.vjp(R), torch.autograd.functional.vjp(fit, U, R)[1], rtol=1e-8, atol=1e-9)
    J = torch.autograd.functional.jacobian(fit, U).reshape(-1, U.numel())
    assert 0.1 < float(made.block_gram().trace()) * features.d / float(J.square().sum()) < 10


@pytest.mark.parametrize("name", ["conv", "tokens"])
def test_the_gradient_and_the_step_are_those_of_the_loss(name):
    from reconlaw.attack.bounded import BoundedStep

    model, layer, shape, change, X = trained(name)
    features = rl.below(model, layer, shape, device="cpu")
    theta = features.check_theta(change)
    U = X + 0.1 * normal(*X.shape, seed=9)
    point = Projection(features, theta, U)
    step = BoundedStep(point, rl.inputs.Free(), fine=True)
    point.lift.linearise(point.alpha)
    columns = []
    for unit in torch.eye(U.numel(), dtype=torch.float64):  # P⊥J, a column at a time
        columns.append(point.project_out(point.lift.jvp(unit.reshape(U.shape))).flatten())
    M = torch.stack(columns, 1)
    torch.testing.assert_close(step.H, M.T @ M, rtol=1e-6, atol=1e-9 * float((M.T @ M).abs().max()))
    V = U.clone().requires_grad_(True)
    C = features.columns(features.apply(V))
    loss = (theta - (theta @ torch.linalg.pinv(C)) @ C).square().sum()
    (gradient,) = torch.autograd.grad(loss, V)
    torch.testing.assert_close(-2 * step.gradient, gradient, rtol=1e-6, atol=1e-9 * float(gradient.abs().max()))


def test_an_atom_costs_what_the_loss_grows_by_without_its_columns():
    model, layer, shape, change, X = trained("conv")
    features = rl.below(model, layer, shape, device="cpu")
    theta = features.check_theta(change)
    costs = pair_costs(Projection(features, theta, X))
    for i in range(len(X)):
        rest = Projection(features, theta, X[[k for k in range(len(X)) if k != i]])
        assert math.isclose(float(costs[i]), rest.loss * rest.scale, rel_tol=1e-6)


def test_the_count_takes_a_coefficient_for_each_column_and_says_where_it_is_empty():
    model, layer, shape, change, _ = trained("conv")
    features = rl.below(model, layer, shape, device="cpu")
    assert (features.p, features.positions) == (90, 9)
    counted = count(features, 2, 20, features.d)
    assert counted.unknowns == 2 * features.d + 18 * 18 and counted.equations == 18 * 90 and counted.enough
    assert not count(features, 10, 20, features.d).enough  # 90 columns fill the space
    with pytest.raises(ValueError, match=r"the count is empty: 10 samples of T = 9 columns each"):
        rl.reconstruct(change, features, 10)


@pytest.mark.parametrize("method", ["span", "varpro"])
def test_pictures_come_back_from_a_convolution_in_the_middle(method):
    """64 filters on 2 × 2 positions: three samples of four columns each, with all that lies above trained as well."""
    model = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.GELU(), nn.Conv2d(16, 64, 3, stride=2), nn.Flatten(), nn.Linear(256, 4)
        )
    ).double()
    X = torch.rand(3, 25, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    before = model[2].weight.detach().clone()
    optimiser = torch.optim.SGD([*model[2].parameters(), *model[4].parameters()], lr=0.05)
    for _ in range(20):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(X.reshape(3, 1, 5, 5)), torch.arange(3)).backward()
        optimiser.step()
    features = rl.below(model, "2", (1, 5, 5), device="cpu")
    found = rl.reconstruct(
        model[2].weight.detach() - before,
        features,
        3,
        method,
        inputs=rl.inputs.Box(0.0, 1.0),
        max_seconds=None,
        max_steps=20_000,
    )
    assert found.status is rl.Status.RECOVERED and found.converged, found.message
    assert float(rl.match(found.X, X).error.max()) < 1e-8
    assert found.coefficients.shape == (3, 4, 64)
    fit = torch.einsum("ntk,ntp->kp", found.coefficients, features(found.X).unflatten(1, (4, -1)))
    torch.testing.assert_close(fit, (model[2].weight.detach() - before).flatten(1), rtol=0, atol=1e-9)
    made = certify(
        features, features.check_theta(model[2].weight.detach() - before), found.X, 1, rl.inputs.Box(0.0, 1.0)
    )
    assert not bool(made.loose.any()) and float(made.errors.max()) < 1e-8


def test_a_budget_that_is_spent_before_the_first_descent_still_gives_an_answer():
    model, layer, shape, change, _ = trained("conv, groups", n=1)
    features = rl.below(model, layer, shape, device="cpu")
    found = rl.reconstruct(change, features, 1, inputs=rl.inputs.Free(), max_seconds=None, max_steps=1)
    assert found.status is not rl.Status.RECOVERED and found.X.shape == (1, 49)


def test_a_middle_layer_whose_upper_part_trained_too_gives_records_back():
    model = seeded(lambda: nn.Sequential(nn.Linear(6, 90), nn.GELU(), nn.Linear(90, 12), nn.Tanh(), nn.Linear(12, 3)))
    model = model.double()
    X = normal(4, 6, seed=2)
    before = model[2].weight.detach().clone()
    optimiser = torch.optim.SGD([*model[2].parameters(), *model[4].parameters()], lr=0.05)
    for _ in range(30):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(X), torch.arange(4) % 3).backward()
        optimiser.step()
    found = rl.reconstruct(
        model[2].weight.detach() - before,
        rl.below(model, "2", 6, device="cpu"),
        4,
        inputs=rl.inputs.Free(),
        max_seconds=None,
        max_steps=20_000,
    )
    assert found.status is rl.Status.RECOVERED
    assert float(rl.match(found.X, X).error.max()) < 1e-8


def test_what_does_not_serve_is_said():
    model = conv()
    with pytest.raises(rl.LayerError, match="has no layer 'nowhere'; its linear and convolutional layers are: 0, 2, 6"):
        rl.below(model, "nowhere", (1, 7, 7))
    with pytest.raises(rl.LayerError, match="'1' is a GELU"):
        rl.below(model, "1", (1, 7, 7))
    with pytest.raises(rl.LayerError, match="does input_shape fit"):
        rl.below(model, "2", (3, 7, 7))
    with pytest.raises(TypeError, match="pass the model"):
        rl.below("model", "2", (1, 7, 7))
    shared = nn.Linear(4, 4)
    with pytest.raises(rl.LayerError, match="called 2 times"):
        rl.below(nn.Sequential(shared, shared), "0", (4,))
    features = rl.below(model, "2", (1, 7, 7), device="cpu")
    with pytest.raises(ValueError, match="one column a sample"):
        rl.reconstruct(normal(20, features.p), features, method="sparse")
    with pytest.raises(ValueError, match="several columns"):
        features.fit(normal(2, 49), torch.ones(2))
    with pytest.raises(ValueError, match=r"must give \(n, T, p\)"):
        rl.ModuleFeatures(nn.Linear(4, 9), 4, several=True)


def test_it_travels_and_selects(case):
    model, layer, shape, _, X = case
    features = rl.below(model, layer, shape, device="cpu")
    again = pickle.loads(pickle.dumps(features))
    torch.testing.assert_close(again(X), features(X), rtol=0, atol=0)
    assert f"{again!r}" == f"{features!r}" and f"p={features.p}" in f"{features!r}"
    part = rl.known(features, [3, 0])
    torch.testing.assert_close(part.columns(part(X)), features.columns(features(X))[:, [3, 0]])


def test_patches_of_a_convolution_without_padding_are_cut_out_of_it():
    layer = nn.Conv2d(2, 3, (2, 3), stride=(1, 2))
    h = normal(1, 2 * 4 * 7, seed=1).reshape(1, 2, 4, 7).float()
    cut = patches(layer, h)
    assert cut.shape == (1, 9, 12)
    torch.testing.assert_close(cut[0, 4], h[0, :, 1:3, 2:5].reshape(-1))
    assert change_of(layer.weight, layer.groups).shape == (3, 12)
