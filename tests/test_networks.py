"""Two-layer and residual networks, their training, and what can be read back from it."""

import copy
import math

import pytest
import torch
from helpers import normal
from torch import nn

import reconlaw as rl
from reconlaw.networks import LayerFeatures, ResNet, Restricted, TrainingError, TwoLayer, between, input_span, train
from reconlaw.sphere import to_sphere


@pytest.fixture(scope="module")
def lazy():
    """A two-layer network of which all layers were trained on three samples."""
    data = rl.data.sphere(3, 12, seed=1)
    network = TwoLayer(12, 400, outputs=2, seed=0)
    y = normal(3, 2, seed=4)
    return data.X, y, network, train(network, data.X, y, tol=1e-12)


# --- architectures -------------------------------------------------------------------------------------------------


def test_a_two_layer_network_is_its_formula():
    network, X = TwoLayer(6, 50, outputs=3, activation="gelu", bias=True, seed=2), normal(4, 6)
    hidden = nn.functional.gelu(X @ network.body[0].weight.T + network.body[0].bias)
    torch.testing.assert_close(network(X), hidden @ network.head.weight.T, rtol=1e-12, atol=1e-12)
    assert network.p == 50 and network.head.weight.shape == (3, 50)


def test_the_first_layer_is_drawn_as_random_features_are():
    W = TwoLayer(40, 5000, seed=1).body[0].weight.detach()
    assert abs(float(W.var()) * 40 - 1) < 0.02 and abs(float(W.mean())) < 0.005


def test_a_residual_network_is_its_formula():
    network, X = ResNet((5, 6), width=3, blocks=1, kernel=3, activation="silu", bias=True, seed=3), normal(2, 30)
    _, stem, _, block, _ = network.body
    conv, phi = nn.functional.conv2d, nn.functional.silu
    h = phi(conv(X.reshape(2, 1, 5, 6), stem.weight, stem.bias, padding=1))
    inner = phi(conv(h, block.first.weight, block.first.bias, padding=1))
    h = phi(h + conv(inner, block.second.weight, block.second.bias, padding=1))
    torch.testing.assert_close(network.body(X), h.flatten(1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(network(X), h.flatten(1) @ network.head.weight.T, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("shape", "kernel"), [((32, 32, 3), 28), ((8, 8), 4), ((25, 25), 21)])
def test_the_stem_leaves_seven_positions_a_side(shape, kernel):
    network = ResNet(shape, width=2, blocks=1, outputs=2)
    assert network.body[1].kernel_size == (kernel, kernel) and network.p == 2 * 49
    assert network(normal(3, math.prod(shape))).shape == (3, 2)


def test_channels_are_read_as_the_data_sets_have_them():
    network = ResNet((4, 5, 3), width=2, blocks=0, kernel=1)
    row = torch.arange(60, dtype=torch.float64)[None]
    picture = network.body[0](row)
    assert picture.shape == (1, 3, 4, 5) and torch.equal(picture[0, :, 2, 3], row.reshape(4, 5, 3)[2, 3])


@pytest.mark.parametrize("blocks", [0, 1, 8])
def test_depth_does_not_blow_the_activations_up(blocks):
    features = ResNet((8, 8), width=16, blocks=blocks, seed=0).body(rl.data.sphere(10, 64, seed=0).X)
    assert 0.1 < float(features.detach().square().mean()) < 30


@pytest.mark.parametrize("make", [lambda seed: TwoLayer(6, 9, seed=seed), lambda seed: ResNet((4, 4), 3, 1, seed=seed)])
def test_a_seed_fixes_the_weights(make):
    one, same, other = (dict(make(s).named_parameters()) for s in (1, 1, 2))
    assert all(torch.equal(one[k], same[k]) and not torch.equal(one[k], other[k]) for k in one)


def test_float32():
    network = ResNet((4, 4), 3, 1, dtype=torch.float32)
    assert network(normal(2, 16).float()).dtype == torch.float32


def test_the_global_generator_and_dtype_are_neither_read_nor_moved():
    def weights():
        networks = TwoLayer(5, 6, bias=True), ResNet((4, 4), 3, 1, bias=True)
        return torch.cat([p.detach().flatten() for network in networks for p in network.parameters()])

    before, first = torch.get_rng_state(), weights()
    assert torch.equal(torch.get_rng_state(), before)
    try:
        torch.set_default_dtype(torch.float64)
        assert torch.equal(weights(), first)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_shape": (8,)}, "is no picture"),
        ({"image_shape": (8, 0)}, "image_shape=0"),
        ({"kernel": 11}, "kernel=11 is larger"),
        ({"width": 0}, "width=0"),
        ({"blocks": -1}, "blocks=-1"),
        ({"outputs": 0}, "outputs=0"),
        ({"activation": "step"}, "unknown activation 'step'"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_bad_architectures(arguments, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**({"image_shape": (8, 8), "width": 2, "blocks": 1} | arguments))


# --- training ------------------------------------------------------------------------------------------------------


def test_a_head_trained_long_enough_is_the_least_squares_one():
    data, network = rl.data.sphere(3, 10, seed=2), ResNet((2, 5), width=8, blocks=1, kernel=1, outputs=2, seed=1)
    y = normal(3, 2, seed=3)
    before = {name: p.clone() for name, p in network.named_parameters()}
    training = train(network, data.X, y, layers="head", tol=1e-20)
    assert training.converged and training.loss <= 1e-20
    features = rl.ModuleFeatures(network.body, 10, device="cpu")
    exact = features.fit(data.X, y, theta0=network.head.weight) - network.head.weight.detach()
    torch.testing.assert_close(training.theta, exact, rtol=1e-7, atol=1e-9)
    assert all(moved == 0 for name, moved in training.moved.items() if name != "head.weight")
    assert all(torch.equal(before[name], p) for name, p in network.named_parameters())  # a copy was trained
    trained = dict(training.network.named_parameters())
    torch.testing.assert_close(training.theta, trained["head.weight"] - before["head.weight"], rtol=0, atol=0)


def test_training_all_layers_moves_them_all_and_the_lazier_the_wider(lazy):
    X, y, network, training = lazy
    assert training.converged and training.losses[-1] < 1e-12 < training.losses[0]
    torch.testing.assert_close(training.network(X), y, rtol=0, atol=1e-5)
    change = (training.network.body[0].weight - network.body[0].weight).detach()
    moved = float(change.norm() / network.body[0].weight.detach().norm())
    assert math.isclose(training.moved["body.0.weight"], moved, rel_tol=1e-9) and moved > 1e-3
    wide = train(TwoLayer(12, 6400, outputs=2, seed=0), X, y, tol=1e-12)
    assert wide.moved["body.0.weight"] < moved / 2


def test_it_is_gradient_descent():
    """Two steps at the rate the docstring gives, by hand."""
    data, network = rl.data.sphere(2, 5, seed=0), TwoLayer(5, 7, seed=0)
    training = train(network, data.X, data.y, tol=1e-30, step=0.1, max_steps=2)
    parameters = [network.body[0].weight, network.head.weight]

    def outputs(W1, W2):
        return (torch.relu(data.X @ W1.T) @ W2.T)[:, 0]

    J = torch.cat([j.reshape(2, -1) for j in torch.autograd.functional.jacobian(outputs, tuple(parameters))], 1)
    rate = 0.1 * 2 / (2 * float(torch.linalg.eigvalsh(J @ J.T)[-1]))
    W = [p.detach().clone() for p in parameters]
    for _ in range(2):
        W = [w.requires_grad_(True) for w in W]
        loss = (outputs(*W) - data.y).square().mean()
        W = [(w - rate * g).detach() for w, g in zip(W, torch.autograd.grad(loss, W), strict=True)]
    torch.testing.assert_close(training.network.body[0].weight.detach(), W[0], rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(training.network.head.weight.detach(), W[1], rtol=1e-7, atol=1e-9)
    assert not training.converged and training.message.startswith("steps spent at loss") and len(training.losses) == 3


def test_training_twice_gives_the_same():
    data, network = rl.data.sphere(2, 5, seed=0), TwoLayer(5, 20, seed=0)
    one, two = (train(network, data.X, data.y, tol=1e-6, momentum=0.5) for _ in range(2))
    assert torch.equal(one.theta, two.theta) and one.losses == two.losses


@pytest.mark.parametrize("layers", ["all", "head"])
def test_the_head_may_lie_in_a_part_of_the_network(layers):
    data = rl.data.sphere(2, 5, seed=0)
    inner = nn.Sequential(nn.Linear(5, 8), nn.GELU(), nn.Linear(8, 1)).double()
    whole = train(nn.Sequential(inner, nn.Identity()), data.X, data.y, layers, tol=1e-3, head="0.2")
    assert torch.equal(whole.theta, train(inner, data.X, data.y, layers, tol=1e-3, head="2").theta)


@pytest.mark.parametrize("layers", ["all", "head"])
def test_a_network_that_drops_the_axis_of_its_output_trains_as_the_one_that_keeps_it(layers):
    data, network = rl.data.sphere(3, 5, seed=0), TwoLayer(5, 20)

    class Flat(TwoLayer):
        def forward(self, X):
            return super().forward(X)[:, 0]

    one, other = (train(f, data.X, data.y, layers, tol=1e-4) for f in (network, Flat(5, 20)))
    assert torch.equal(one.theta, other.theta) and one.converged


def test_a_network_that_goes_on_after_its_head_is_named():
    data, inner = rl.data.sphere(2, 5, seed=0), nn.Linear(5, 2).double()
    with pytest.raises(ValueError, match="does not end with '0'; layers='head'"):
        train(nn.Sequential(inner, nn.Softmax(-1)), data.X, torch.eye(2), "head", head="0")
    with pytest.raises(ValueError, match=r"makes \(2, 1\) of 2 samples; expected \(2, 2\)"):
        train(nn.Sequential(inner, nn.AdaptiveAvgPool1d(1)), data.X, torch.eye(2), head="0")


def test_any_network_with_a_linear_head_can_be_trained():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 6, 3), nn.Linear(24, 2)

        def forward(self, X):
            return self.fc(torch.relu(self.conv(X)).flatten(1))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Net().double()
    X, y = normal(3, 1, 4, 4), normal(3, 2, seed=1)
    for layers in ("head", "all"):
        training = train(network, X, y, layers=layers, tol=1e-8, head="fc")
        assert training.theta.shape == (2, 24) and training.converged
        assert (training.moved["conv.weight"] > 0) == (layers == "all")


def test_divergence_is_an_error_with_the_knob_to_turn():
    data = rl.data.sphere(3, 5, seed=0)
    with pytest.raises(TrainingError, match=r"diverged: loss .* from .*; lower step=30"):
        train(TwoLayer(5, 20), data.X, data.y, step=30)
    network = TwoLayer(5, 20)
    network.body[0].weight.data[0, 0] = torch.nan
    with pytest.raises(TrainingError, match="diverged: loss nan after 0 steps"):
        train(network, data.X, data.y)


def test_ctrl_c_keeps_what_is_there(monkeypatch):
    data, network, calls = rl.data.sphere(2, 5, seed=0), TwoLayer(5, 20), []

    def interrupt(module, arguments):
        calls.append(1)
        if len(calls) == 30:
            raise KeyboardInterrupt

    network.body.register_forward_pre_hook(interrupt)
    training = train(network, data.X, data.y, tol=1e-20)
    assert training.message.startswith("interrupted at loss") and not training.converged and training.interrupted
    assert training.losses[-1] < training.losses[0] and training.theta.norm() > 0


def test_progress_goes_to_stderr_and_only_on_request(capfd):
    data = rl.data.sphere(2, 5, seed=0)
    train(TwoLayer(5, 20), data.X, data.y)
    assert capfd.readouterr() == ("", "")
    train(TwoLayer(5, 20), data.X, data.y, progress=True)
    out, err = capfd.readouterr()
    assert out == "" and "loss" in err


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"layers": "body"}, ValueError, "layers='body' is unknown"),
        ({"head": "fc"}, ValueError, "'fc' is a NoneType; name its last linear layer"),
        ({"head": "body"}, ValueError, "'body' is a Sequential"),
        ({"tol": 0}, ValueError, "tol=0"),
        ({"step": -1}, ValueError, "step=-1"),
        ({"momentum": 1.0}, ValueError, "momentum=1.0"),
        ({"max_steps": 0}, ValueError, "max_steps=0"),
        ({"y": torch.ones(3)}, ValueError, r"y has shape \(3, 1\); expected \(2, 1\)"),
        ({"y": torch.full((2,), torch.nan)}, ValueError, "y holds 2 NaN"),
        ({"X": torch.full((2, 5), torch.nan)}, ValueError, "X holds 10 NaN"),
        ({"X": torch.ones(2, 5).long()}, TypeError, "X has dtype torch.int64"),
        ({"X": [[1.0] * 5] * 2}, TypeError, "X is a list"),
    ],
)
def test_bad_arguments_of_training(arguments, error, message):
    data = rl.data.sphere(2, 5, seed=0)
    with pytest.raises(error, match=message):
        train(**({"network": TwoLayer(5, 20), "X": data.X, "y": data.y} | arguments))


# --- what is left in the weights ------------------------------------------------------------------------------------


def off_span(theta, Phi):
    Q = torch.linalg.qr(Phi.T).Q
    return float((theta - (theta @ Q) @ Q.T).square().sum() / theta.square().sum())


def test_midpoint_features_are_nearer_to_theta_than_either_end(lazy):
    X, _, network, training = lazy
    losses = [off_span(training.theta, between(network, training.network, t).body(X).detach()) for t in (0, 0.5, 1)]
    assert losses[1] < losses[0] / 3 and losses[1] < losses[2] / 3


def test_between_has_the_ends_at_its_ends(lazy):
    _, _, network, training = lazy
    for t, end in ((0, network), (1, training.network)):
        for a, b in zip(between(network, training.network, t).parameters(), end.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_the_first_layers_change_spans_the_samples(lazy):
    X, _, network, training = lazy
    Q, s = input_span((training.network.body[0].weight - network.body[0].weight).detach())
    assert Q.shape == (3, 12) and s[2] / s[3] > 1e8
    torch.testing.assert_close(Q @ Q.T, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-12)
    assert (X - X @ Q.T @ Q).norm() < 1e-10 * X.norm()


def test_a_span_without_a_gap_is_everything():
    Q, _ = input_span(normal(30, 5))
    assert Q.shape == (5, 5)
    assert input_span(normal(30, 5), n=2)[0].shape == (2, 5)
    for change, n, message in (
        (normal(30, 5), 0, "n=0"),
        (normal(30, 5), 6, "n=6 exceeds"),
        (normal(3, 5) * 0, 1, "zero"),
    ):
        with pytest.raises(ValueError, match=message):
            input_span(change, n=n)


def test_networks_and_bases_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="other parameters"):
        between(TwoLayer(6, 8), TwoLayer(6, 9))
    with pytest.raises(ValueError, match=r"basis has shape \(2, 5\); expected"):
        LayerFeatures(normal(8, 6), basis=normal(2, 5))


def test_features_of_a_layer_are_those_of_the_network(lazy):
    X, _, network, training = lazy
    W = network.body[0].weight
    features = LayerFeatures(W, "relu", device="cpu")
    torch.testing.assert_close(features(X), network.body(X).detach(), rtol=1e-12, atol=1e-12)
    assert repr(features) != repr(LayerFeatures(W + 1e-9, "relu", device="cpu"))
    Q, _ = input_span((training.network.body[0].weight - W).detach())
    for made in (
        LayerFeatures(W, "relu", Q, device="cpu"),
        rl.ModuleFeatures(Restricted(network.body, Q), 3, device="cpu"),
    ):
        maps = made if isinstance(made, LayerFeatures) else Restricted(network.body, Q)
        C = maps.coordinates(X)
        torch.testing.assert_close(C.norm(dim=1), torch.full((3,), math.sqrt(3), dtype=torch.float64))
        torch.testing.assert_close(maps.inputs(C), X, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(made(C), network.body(X).detach(), rtol=1e-8, atol=1e-8)


def test_all_layers_trained_replay_finds_the_samples(lazy):
    X, _, network, training = lazy
    change = (training.network.body[0].weight - network.body[0].weight).detach()
    Q, _ = input_span(change)
    middle = between(network, training.network)
    features = LayerFeatures(middle.body[0].weight, "relu", Q, device="cpu")
    result = rl.reconstruct(training.theta, features, len(Q), tol=1e-5, max_seconds=None)
    first = rl.match(features.inputs(result.X), X).error.max()
    assert 1e-5 < first < 0.1
    after = rl.replay(training.theta, features, result.X, network, training.network, inputs=features.inputs, tol=1e-12)
    assert rl.match(features.inputs(after.X), X).error.max() < first / 30
    assert after.mismatch[-1] < after.mismatch[0] / 10 and len(after.floor) >= 2


def test_replay_of_a_module_and_of_a_bad_start():
    data, network = rl.data.sphere(2, 9, seed=3), ResNet((3, 3), width=20, blocks=1, kernel=1, seed=1)
    training = train(network, data.X, data.y, tol=1e-10)
    features = rl.ModuleFeatures(between(network, training.network).body, 9, device="cpu")
    near = to_sphere(data.X + 0.05 * normal(2, 9))
    options = {"before": network, "after": training.network, "rounds": 4, "tol": 1e-10}
    after = rl.replay(training.theta, features, near, **options)
    assert rl.match(after.X, data.X).error.max() < 5e-3
    assert after.message.startswith("rounds spent after 4 rounds")
    for steps, rounds in ((1, 0), (after.steps / 2, 1)):
        again, cut = (rl.replay(training.theta, features, near, **options, max_steps=int(steps)) for _ in range(2))
        assert rounds <= len(cut.mismatch) < 4 and cut.mismatch == after.mismatch[: len(cut.mismatch)]
        assert steps <= cut.steps < steps + 100 and cut.steps == again.steps and torch.equal(cut.X, again.X)
        assert cut.message.startswith("max_steps spent")
    assert torch.equal(rl.replay(training.theta, features, near, **options, max_steps=int(after.steps) + 9).X, after.X)
    single = {"before": copy.deepcopy(network).float(), "after": copy.deepcopy(training.network).float()}
    rough = rl.replay(training.theta, features, near, **options | single | {"tol": 1e-6})
    assert rl.match(rough.X, data.X).error.max() < 2e-2
    lost = rl.replay(training.theta, features, to_sphere(normal(2, 9, seed=9)), **options)
    assert torch.isfinite(lost.X).all() and min(lost.mismatch) > 3 * min(after.mismatch)
    for wrong, message in (
        ({"rounds": 0}, "rounds=0"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"theta": 0 * training.theta}, "theta is zero"),
        ({"X": near[:, :8]}, r"X has shape \(2, 8\)"),
    ):
        with pytest.raises(ValueError, match=message):
            rl.replay(**({"theta": training.theta, "features": features, "X": near} | options | wrong))


def test_a_head_over_a_residual_body_gives_its_samples_back():
    data, network = rl.data.sphere(2, 16, seed=0), ResNet((4, 4), width=30, blocks=1, kernel=2, seed=0)
    features = rl.ModuleFeatures(network.body, 16, device="cpu")
    training = train(network, data.X, data.y, layers="head", tol=1e-26)
    result = rl.reconstruct(training.theta, features, 2, max_seconds=None)
    assert result.converged and rl.match(result.X, data.X).error.max() < 1e-6
