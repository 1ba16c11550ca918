"""The accelerator's path on any machine: tensors of two devices never meet, and the host seldom waits."""

import ast
import copy
import importlib
import os
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch
from helpers import BOOK, Recurrent, code_cells, exercise_cases
from IPython.core.inputtransformer2 import TransformerManager
from pretend_device import NAME, Pretend, register
from torch import nn

import reconlaw as rl
from reconlaw import _checks, networks
from reconlaw._precision import _newer, _older, full_precision
from reconlaw.attack import search, varpro
from reconlaw.attack.message_passing import MessagePassing
from reconlaw.attack.run import Run
from reconlaw.attack.solutions import all_solutions
from reconlaw.attack.varpro import descend
from reconlaw.features import random_features
from reconlaw.features.passes import Passes, counted
from reconlaw.features.spectral import linear_fit
from reconlaw.networks import LayerFeatures, TwoLayer, between, train
from reconlaw.sphere import to_sphere

F64 = torch.float64
matplotlib.use("Agg")


@pytest.fixture
def device(monkeypatch):
    """A pretended accelerator, which "auto" takes."""
    register()
    monkeypatch.setattr(_checks, "_best_device", lambda dtype: torch.device(NAME))
    with Pretend() as pretended:
        yield pretended


def on_device(*tensors):
    return all(t.device.type == NAME for t in tensors)


def problem(d=10, n=3, p=300, activation="relu", outputs=None, seed=0, **options):
    """θ of random features on the device, "auto", with data on the CPU."""
    data = rl.data.sphere(n, d, seed=seed)
    y = data.y if outputs is None else data.X[:, :outputs] + data.y[:, None]
    features = rl.RandomFeatures(d, p, activation, seed=1, **options)
    theta = features.fit(data.X, y)
    assert on_device(features.V, theta)
    return data, features, theta


def trained(d=8, width=200, n=2, **options):
    net, data = TwoLayer(d, width, activation="gelu", seed=0), rl.data.sphere(n, d, seed=0)
    done = train(net, data.X, data.y, tol=1e-8, momentum=0.9, max_steps=3000, **options)
    return net, done.network, done.theta, data


# --- the device itself: what it must refuse and count -------------------------------------------------------------


def test_the_pretended_device_refuses_what_a_card_refuses(device):
    x = torch.ones(3, device=NAME)
    for refused in (
        lambda: x + torch.ones(3),
        lambda: torch.ones(3) @ x,
        lambda: torch.randn(3, generator=torch.Generator(), device=NAME),
    ):
        with pytest.raises(RuntimeError, match="device"):
            refused()
    with pytest.raises(TypeError, match="to numpy"):
        x.numpy()
    assert (x * torch.tensor(2.0)).cpu().tolist() == [2.0] * 3  # a 0-dimensional one on the CPU is taken


def test_the_pretended_device_counts_each_wait_at_its_line(device):
    x = torch.ones(3, device=NAME, requires_grad=True)
    (y,) = torch.autograd.grad((x * x).sum(), x)
    assert on_device(y) and not device.waits
    float(y.sum())
    bool(y.any()), y.tolist(), y.cpu(), y[y > 1]
    assert f"{y.sum():.2f}" == "6.00" and f"{y}".startswith("DeviceTensor")
    assert sum(device.waits.values()) == 6 and len(device.waits) == 3
    assert all(line.startswith("device_checks.py:") for line in device.waits)


# --- every attack, with everything but the features on the CPU ------------------------------------------------------


@pytest.mark.parametrize("activation", rl.ACTIVATIONS)
def test_features_take_data_of_either_device(device, activation):
    data, features, theta = problem(activation=activation)
    moved = data.X.to(NAME)
    assert on_device(features(data.X), features(moved), features.fit(moved, data.y, ridge=0.1, theta0=theta.cpu()))
    assert torch.allclose(features.predict(moved, theta.cpu().numpy()).cpu(), data.y)
    X = (1.1 * data.X).requires_grad_(True)
    loss = rl.projection_loss(X, features, theta.cpu())
    loss.backward()
    assert on_device(loss) and X.grad.device.type == "cpu"
    rl.expected_kernel(activation, moved, data.X)


@pytest.mark.parametrize(
    "method, options",
    [("varpro", {}), ("varpro", {"start": "random"}), ("sgd", {"max_steps": 30}), ("sparse", {"n": None})],
)
def test_attacks_run_where_the_features_are(device, method, options):
    data, features, theta = problem()
    found = rl.reconstruct(theta.cpu(), features, **{"n": 3, **options}, method=method)
    assert on_device(found.X, found.coefficients)
    if method != "sgd":
        assert rl.match(found.X, data.X).recovered_up_to_sign().all()


def test_a_part_of_theta_is_searched_on_the_device(device, monkeypatch):
    parts, easy = [], search.Search._easy

    def watched(self, ratio):
        parts.append(easy(self, ratio))
        return parts[-1]

    monkeypatch.setattr(search, "_WORTH", 0)
    monkeypatch.setattr(search.Search, "_easy", watched)
    data, features, theta = problem()
    found = rl.reconstruct(theta.cpu(), features, 3)
    ((part, held),) = parts
    assert on_device(part.V, held) and held.shape[1] == part.p <= features.p / 2
    assert rl.match(found.X, data.X).recovered_up_to_sign().all()


@pytest.mark.parametrize("outputs, activation", [(2, "relu"), (3, "tanh")])
def test_several_outputs_on_a_device(device, outputs, activation):
    data, features, theta = problem(outputs=outputs, activation=activation)
    assert rl.match(rl.reconstruct(theta, features, 3).X, data.X).recovered_up_to_sign().all()


class Shifted(nn.Module):
    """A body whose mean is a plain attribute."""

    def __init__(self):
        super().__init__()
        self.layer, self.mean = nn.Linear(8, 60), torch.full((8,), 0.1)

    def forward(self, x):
        return torch.tanh(self.layer(x - self.mean))


def seeded(make):
    torch.manual_seed(0)
    return make()


BODIES = {
    "dense": lambda: nn.Sequential(nn.Linear(8, 30), nn.Tanh(), nn.Linear(30, 60), nn.Softplus()),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 2, 4)), nn.Conv2d(1, 12, 2), nn.BatchNorm2d(12), nn.Tanh(), nn.Flatten()
    ).eval(),
    "plain tensor": Shifted,
    "gru": Recurrent,
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_bodies_on_a_device(device, body, dtype):
    features = rl.ModuleFeatures(seeded(BODIES[body]), 8, dtype=dtype)
    data = rl.data.sphere(2, 8, seed=0)
    theta = features.fit(data.X, data.y)
    found = rl.reconstruct(theta, features, 2, seed=1)
    assert on_device(theta, found.X)
    assert rl.match(found.X, data.X).recovered_up_to_sign().all()


def test_a_recurrent_body_has_the_features_and_derivatives_of_the_cpu(device):
    here, there = (rl.ModuleFeatures(seeded(Recurrent), 8, device=where) for where in ("cpu", NAME))
    for of in (lambda f: f(f.probes(3)), lambda f: f.metric()[0], lambda f: f.jacobians(f.probes(3))[1]):
        assert on_device(of(there)) and torch.allclose(of(there).cpu(), of(here), rtol=0, atol=1e-6)


@pytest.mark.parametrize("where", ["cpu", NAME])
def test_replay_takes_networks_of_another_device(device, where):
    before, after, theta, data = trained()
    features = rl.ModuleFeatures(between(before, after).body, 8)
    made = rl.replay(theta, features, data.X, before.to(where), after.to(where), rounds=2, tol=1e-8, momentum=0.9)
    assert on_device(made.X) and made.mismatch[0] < 0.1


def test_tangent_roads_take_networks_of_two_devices(device):
    net, data = TwoLayer(6, 60, seed=0), rl.data.sphere(2, 6, seed=0)
    after = train(net, data.X, data.y, tol=1e-2, momentum=0.9).network
    assert rl.ntk(net, after.to(NAME), 2, max_steps=3).X.device.type == "cpu"
    assert on_device(rl.ntk(net.to(NAME), after, 2, max_steps=3).X, rl.kkt(after, 2, max_steps=3).X)


def test_a_first_layer_is_read_on_its_device(device):
    data, net = rl.data.sphere(3, 8, seed=0), TwoLayer(8, 300, outputs=2, bias=True, seed=0)
    after = train(net, data.X, torch.eye(3, 2, dtype=F64), max_steps=1, tol=1e-9).network
    here, there = rl.first_layer(net, after), rl.first_layer(net.to(NAME), after.to(NAME))
    assert on_device(there.X, there.edges, there.masks, there.certificate.distance) and here.status == there.status
    assert here.status == "recovered" and torch.allclose(here.X, there.X.cpu())
    change = (after.body[0].weight - net.body[0].weight).detach()
    assert on_device(change, rl.networks.read_off(change, n=3).directions)


@pytest.mark.parametrize("by_default", [False, True])
def test_a_training_is_retraced_where_theta_is(device, by_default):
    box, X = rl.inputs.Box(0.0, 1.0), rl.data.digits(2, seed=0).pixels[:, 20:28]
    V = rl.RandomFeatures(8, 60, device="cpu").V

    def train_head(X, y):
        F, W = torch.tanh(X @ V.T.to(X)), torch.zeros(2, 60, dtype=X.dtype, device=X.device)
        for _ in range(6):
            W = W - 0.05 * (W @ F.T - y.to(X)) @ F
        return W

    theta = train_head(X, torch.eye(2, dtype=F64))
    torch.set_default_device(NAME if by_default else None)
    try:
        for where, start in ((NAME, "cpu"), (NAME, NAME), ("cpu", NAME)):
            near = box.retract(X + 0.01).to(start)
            found = rl.retrace(theta.to(where), train_head, near, torch.eye(2, dtype=F64), inputs=box, max_steps=8)
            assert found.X.device.type == where and torch.allclose(found.X.cpu(), X, atol=1e-6)
    finally:
        torch.set_default_device(None)


def test_layers_subspaces_and_parts_on_a_device(device):
    _, _, _, data = trained()
    basis = torch.linalg.qr(data.X.T).Q.T
    features = LayerFeatures(rl.RandomFeatures(8, 200, device="cpu").V, "relu", basis)
    C = features.coordinates(data.X)
    assert torch.allclose(features.inputs(C), data.X) and on_device(features(C), features.inputs(features(C)[:, :2]))
    part = rl.known(features, list(range(0, 200, 2)))
    theta = features.fit(C, data.y)
    assert rl.reconstruct(theta[::2], part, 2).loss < 1e-20
    a = rl.reconstruct(theta, features, 2).coefficients
    rl.Perturbation(features, C, a).displacement(torch.ones(200, dtype=F64))


def test_scores_and_figures_take_tensors_of_a_device(device):
    digits = rl.data.digits(3)
    images = torch.as_tensor(digits.to_images(digits.X))
    assert (rl.ssim(images.to(NAME), images) == 1).all() and (rl.psnr(images.to(NAME), images.numpy()) > 300).all()
    rl.plotting.image_rows({"found": images.to(NAME), "true": images})
    rl.match(digits.X.to(NAME), digits.X.float())


# --- names of devices, and what an activation may hold ------------------------------------------------------------


def test_a_card_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="'cuda:5' is not available: this torch sees 2 CUDA devices"):
        rl.RandomFeatures(3, 9, device="cuda:5")
    assert _checks.resolve_device("cuda:1") == torch.device("cuda:1")


def test_the_note_quotes_no_other_devices_times(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Pretend T4")
    note = rl.device_note()
    assert note.startswith("Device: cuda (Pretend T4)") and "consumer cards" in note and "minute" not in note


def test_an_activation_that_holds_a_tensor_of_another_device_is_named(device):
    scale = torch.tensor([0.3])
    with pytest.raises(ValueError, match=f"fails on {NAME}.*plain numbers"):
        rl.RandomFeatures(3, 9, lambda z: z * torch.sigmoid(scale.to(z.dtype) * z))
    there = torch.tensor([0.3], device=NAME)
    with pytest.raises(ValueError, match=r"fails on the CPU.*plain numbers"):
        rl.RandomFeatures(3, 9, lambda z: z * torch.sigmoid(there.to(z.dtype) * z))
    problem(activation=lambda z: z * torch.sigmoid(torch.tensor(0.3) * z))


def test_a_sweep_opens_one_context_on_a_device(device, tmp_path):
    def process(s):
        return {"process": os.getpid()}

    records = rl.sweep(process, rl.grid(k=range(3)), tmp_path / "cells.sqlite", progress=False)
    assert {record["result"]["process"] for record in records} == {os.getpid()}


BENCHMARKS = {  # one cell of each, as --device gives it; "images" has the same calls, and its data elsewhere
    "partial": [{"case": "blurred"}, {"case": "start"}, {"case": "rows"}],
    "normalisation": [{}, {"case": "dropout"}],
    "depth": [{}],
    "networks": [{"what": "resnet all"}, {"what": "two-layer"}],
    "roads": [{"road": "span, replayed"}, {"road": "NTK"}, {"road": "KKT"}],
    "defences": [{"defence": "ridge and noise"}],
    "hard_cases": [{"case": "float32"}],
    "noise": [{"what": "noise"}, {"what": "int8"}],
    "limit": [{"method": "sgd"}],
    "inputs": [{"what": "heads"}, {"what": "family"}],
    "span": [{}],
    "adapters": [{"what": what} for what in ("decay", "lora", "tabular", "conv", "deletion")],
    "sparse": [{}],
    "first_layer": [{"case": "step"}],
    "nulls": [{}],
    "recipes": [{}],
}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmarks_run_on_a_device(device, monkeypatch, name):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    common, script, made = importlib.import_module("common"), importlib.import_module(name), {}
    monkeypatch.setattr(common, "run", lambda _, args, cells, work, *more: made.update(cells=cells, work=work))
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--tiny", "--jobs", "1", "--threads", "1", "--device", NAME])
    script.main()
    for wanted in BENCHMARKS[name]:
        cell = next(cell for cell in made["cells"] if wanted.items() <= cell.items())
        result = made["work"](cell | {"device": NAME})
        samples = 1 if cell.get("what") == "deletion" else cell.get("n", 10)
        assert result["verdict"] if name == "nulls" else result["samples"] == samples


# --- chapters -------------------------------------------------------------------------------------------------------

_FAULTS = ("same device", "to numpy", "device type for generator")  # what a card says where devices meet
CHAPTERS = {  # sizes in the place of the chapter's own
    "adapters": {},
    "feature-space": {},
    "images-from-weights": {"n": 4},
    "your-own-model": {},
}


class _Unasserted(ast.NodeTransformer):
    """An assertion becomes its condition: a search cut short is wrong, but on the right device."""

    def visit_Assert(self, node):
        return ast.copy_location(ast.Expr(node.test), node)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_cells_of_chapters_run_on_a_device(device, monkeypatch, chapter):
    """Those of chapters that leave features on "auto" and are cheap, each search cut to ten steps."""
    spent = Run.spent.fget
    monkeypatch.setattr(Run, "spent", property(lambda run: "max_steps" if run.steps >= 10 else spent(run)))
    (path,) = BOOK.rglob(f"{chapter}.ipynb")
    monkeypatch.chdir(path.parent)
    names, faults = {"__name__": "__main__", "display": lambda *shown: None}, []
    for k, cell in enumerate(code_cells(path)):
        tree = _Unasserted().visit(ast.parse(TransformerManager().transform_cell(cell.source)))
        try:
            exec(compile(ast.fix_missing_locations(tree), f"cell {k}", "exec"), names)
        except Exception as error:  # other than these only says that a search was cut short
            faults += [f"cell {k}: {error}"] if any(words in str(error) for words in _FAULTS) else []
        names |= CHAPTERS[chapter] if "FULL =" in cell.source else {}
    plt.close("all")
    assert k > 5 and device.launches > 1000 and not faults, faults


# --- one seed, the same numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("d, p", [(7, 33), (16, 64), (5, 101), (100, 40)])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_V_is_the_same_on_every_device_drawn_in_blocks(device, monkeypatch, d, p, dtype):
    monkeypatch.setattr(random_features, "_DRAWN_AT_ONCE", 64)
    here = rl.RandomFeatures(d, p, seed=4, dtype=dtype, device="cpu").V
    assert torch.equal(rl.RandomFeatures(d, p, seed=4, dtype=dtype).V.cpu(), here)


@pytest.fixture
def default_device(device):
    """As after ``torch.set_default_device`` of an accelerator: a CPU generator serves only draws that name the CPU."""
    torch.set_default_device(NAME)
    yield
    torch.set_default_device(None)


def test_draws_name_their_device(default_device):
    data, features, theta = problem()
    assert data.X.device.type == "cpu"
    found = rl.reconstruct(theta, features, 3)
    assert found.status == "recovered"
    rl.match(found.X, data.X)
    assert all_solutions(theta, features, 3, starts=4, max_steps=5) is not None
    rl.data.digits(4)
    body = rl.ModuleFeatures(nn.Sequential(nn.Linear(8, 40), nn.Tanh()), 8)
    body.rank(10), body.metric()
    net = TwoLayer(8, 50, seed=0)
    train(net, rl.data.sphere(2, 8).X, torch.ones(2), tol=1e-2)
    rl.privacy.noise(5)


@pytest.mark.parametrize(("check", "answer"), exercise_cases("RIGHT"))
def test_right_answers_of_exercises_pass(default_device, check, answer):
    check(answer)


@pytest.mark.parametrize("inputs", [rl.inputs.Sphere(), rl.inputs.Box(-4.0, 4.0), rl.inputs.Free()], ids=str)
def test_inputs_name_their_device(default_device, inputs):
    data = rl.data.sphere(3, 8, seed=0)
    features = rl.RandomFeatures(8, 300, "gelu", seed=1)
    theta = features.fit(data.X, torch.cat([data.y[:, None], data.X[:, :3]], 1))
    for method in ("varpro", "span"):
        found = rl.reconstruct(theta, features, 3, method, inputs=inputs, max_seconds=None, max_steps=50_000)
        assert found.status == "recovered" and on_device(found.X)


def test_what_is_said_under_noise_is_said_on_any_default_device(default_device):
    data, features, theta = problem(d=8, p=400, activation="gelu")
    noise = torch.randn(len(theta), generator=torch.Generator().manual_seed(0), dtype=F64, device="cpu").to(theta)
    noisy = theta + 1e-3 * theta.norm() / noise.norm() * noise
    found = rl.reconstruct(noisy, features, 3, tol=1e-6, max_seconds=None, max_steps=4_000)
    assert rl.match(found.X, data.X).recovered(0.1).all()
    found = rl.reconstruct(theta, features, 4, max_seconds=None, max_steps=4_000)  # one sample too many
    assert sum(flag == rl.Flag.RECOVERED for flag in found.flags) == 3


def trained_head(data, model):
    """States of a model before and after its head was trained, by whatever device torch makes tensors on."""
    before = copy.deepcopy(model.state_dict())
    optimiser = torch.optim.SGD(model[2].parameters(), lr=0.05)
    where = model[2].weight.device
    for _ in range(20):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(data.X.to(where)), torch.arange(3, device=where)).backward()
        optimiser.step()
    return before, model.state_dict()


@pytest.mark.parametrize("by_default", [False, True])
def test_a_model_on_a_device_is_audited_and_read_below_a_layer(device, by_default):
    data = rl.data.sphere(3, 8, seed=0)
    model = seeded(lambda: nn.Sequential(nn.Linear(8, 200), nn.GELU(), nn.Linear(200, 4)).double()).to(NAME)
    before, after = trained_head(data, model)
    torch.set_default_device(NAME if by_default else None)
    try:
        pool = torch.cat([rl.data.sphere(9, 8, seed=1).X, data.X])
        given = {"module": model, "input_shape": 8, "n": 3, "report": None, "references": 1}
        found = rl.audit(before, after, max_seconds=None, max_steps=3_000, **given)
        assert found.verdict == "recovered" and found.held.all()
        named = rl.audit(before, after, candidates=pool, max_seconds=None, max_steps=3_000, **given)
        assert named.pool.named.tolist() == [False] * 9 + [True] * 3
        below = rl.below(model, "2", 8)
        whole = rl.inputs.Affine(torch.eye(8, dtype=torch.float64, device="cpu"))
        rl.audit(before, after, inputs=whole, max_seconds=None, max_steps=200, **given)
    finally:
        torch.set_default_device(None)
    change = after["2.weight"] - before["2.weight"]
    assert rl.projection_loss(data.X, below, change) < 1e-20


# --- checkpoints ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first, second", [(NAME, "cpu"), ("cpu", NAME), (NAME, f"{NAME}:0")])
@pytest.mark.parametrize("method, options", [("varpro", {}), ("sgd", {"max_steps": 40})])
def test_a_checkpoint_goes_on_on_another_device(device, tmp_path, first, second, method, options):
    data = rl.data.sphere(3, 10, seed=0)

    def attack(where):
        features = rl.RandomFeatures(10, 300, seed=1, device=where)
        theta = features.fit(data.X, data.y)  # anew, with the rounding of that device
        return rl.reconstruct(theta, features, 3, method, checkpoint=tmp_path / "run.pt", **options)

    before, after = attack(first), attack(second)
    assert len(before.history) and list(after.history)[: len(before.history)] == list(before.history)
    assert after.steps >= before.steps and after.X.device.type == torch.device(second).type


def test_a_body_on_another_device_is_the_same_problem(device, tmp_path):
    data = rl.data.sphere(2, 8, seed=0)
    for where in (NAME, "cpu"):
        features = rl.ModuleFeatures(seeded(BODIES["dense"]), 8, device=where)
        rl.reconstruct(features.fit(data.X, data.y), features, 2, checkpoint=tmp_path / "run.pt")


# --- kernels and precision ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cells", ["LSTM", "GRU"])
def test_recurrent_layers_run_without_cudnn_whose_backward_is_for_training_alone(monkeypatch, cells):
    seen, plain = [], getattr(torch._VF, cells.lower())

    def watched(*arguments):
        seen.append(torch.backends.cudnn.enabled)
        return plain(*arguments)

    monkeypatch.setattr(torch._VF, cells.lower(), watched)
    features = rl.ModuleFeatures(seeded(lambda: Recurrent(getattr(nn, cells))), 8, device="cpu")
    features(rl.data.sphere(2, 8).X)
    assert seen and not any(seen) and torch.backends.cudnn.enabled
    kept = []
    body = nn.Sequential(nn.Linear(8, 9), nn.Tanh())
    body.register_forward_hook(lambda *_: kept.append(torch.backends.cudnn.enabled))
    rl.ModuleFeatures(body, 8, device="cpu")
    assert kept and all(kept)  # convolutions keep it


@pytest.fixture
def tf32():
    """TF32 wherever torch can take it."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


def seen_precisions(run):
    """The settings in force while ``run`` calls an activation."""
    seen = []

    class Looks(nn.Module):
        def forward(self, z):
            seen.append((_older(), tuple(_newer())))
            return torch.tanh(z)

    run(Looks())
    return set(seen)


def _of_a_module(phi):
    features = rl.ModuleFeatures(nn.Sequential(nn.Linear(4, 9), phi), 4, dtype=torch.float32, device="cpu")
    theta = features.fit(rl.data.sphere(1, 4).X, torch.ones(1))
    rl.reconstruct(theta, features, 1)


def _of_training(phi):
    net = networks.TwoLayer(4, 9, dtype=torch.float32)
    net.body.append(phi)
    train(net, torch.eye(4)[:2], torch.ones(2), tol=0.1, max_steps=3)


@pytest.mark.parametrize("run", [_of_a_module, _of_training])
def test_float32_products_are_never_rounded_to_tf32(tf32, run):
    before = _older(), _newer()
    assert seen_precisions(run) == {(("highest", False), ("ieee",) * len(_newer()))}
    assert (_older(), _newer()) == before and before[0] == ("high", True)


@pytest.mark.skipif(not _newer(), reason="this torch has the older settings alone")
def test_precision_set_by_the_newer_settings_is_put_back_though_the_older_cannot_be_read(tf32):
    torch._C._set_fp32_precision_setter("cuda", "conv", "ieee")
    before = _newer()
    with pytest.raises(RuntimeError):
        _ = torch.backends.cudnn.allow_tf32
    with full_precision(), full_precision():
        assert set(_newer()) == {"ieee"}
    assert _newer() == before


def test_the_guard_falls_back_to_the_older_settings(tf32, monkeypatch):
    monkeypatch.delattr(torch._C, "_get_fp32_precision_getter")
    with full_precision():
        assert _older() == ("highest", False)
    assert _older() == ("high", True)


# --- what the host waits for ----------------------------------------------------------------------------------------


def descent(features, waits, lifted=True):
    """Where a descent from near the data ends, how many passes it made, how often the host waited, and how many steps
    were tried."""
    d = features.d
    data = rl.data.sphere(4, d, seed=0)
    theta = features.check_theta(features.fit(data.X, data.y))
    noise = torch.randn(4, d, generator=torch.Generator().manual_seed(0), dtype=F64)
    U, tried = to_sphere(data.X + 0.5 * noise).to(theta), []
    with counted(Passes()) as passes, pytest.MonkeyPatch.context() as patch:
        solve = varpro._Step.solve
        patch.setattr(varpro._Step, "solve", lambda *a, **o: tried.append(1) or solve(*a, **o))
        waits.clear()
        end = descend(features, theta, U, lifted, 1e-29)
    assert end.reason == "converged"
    return end.point.U.cpu(), passes.made, sum(waits.values()), len(tried)


@pytest.mark.parametrize("activation, lifted", [("relu", True), ("gelu", True), ("tanh", False)])
def test_a_step_waits_twice_and_goes_where_the_cpu_goes(device, activation, lifted):
    cpu, there = (rl.RandomFeatures(20, 800, activation, seed=1, device=where) for where in ("cpu", NAME))
    X, passes, _, tried = descent(cpu, device.waits, lifted)
    found, passes_there, waits, tried_there = descent(there, device.waits, lifted)
    assert torch.allclose(found, X, atol=1e-9) and (passes_there, tried_there) == (passes, tried)
    # The first point waits, then a step once for its solve and once for its loss; a solve of half as many iterations
    # again as the last one waits once more.
    assert waits <= 1 + 2.2 * tried, device.waits


def test_a_step_on_a_bodys_features_waits_thrice(device):
    features = rl.ModuleFeatures(seeded(BODIES["dense"]), 8)
    features.metric()
    _, _, waits, tried = descent(features, device.waits)
    assert waits <= 2 + 3.2 * tried, device.waits


def test_message_passing_launches_little_and_waits_once_an_iteration(device):
    data, features, theta = problem(d=40, n=10, p=20_000, dtype=torch.float32)
    passing = MessagePassing(features, features.check_theta(theta))
    x, tau = 0.3 * data.X.to(theta), torch.full((10,), 0.9).to(theta)
    device.waits.clear()
    before = device.launches
    x, _, _ = passing.run(x, tau, 4)
    assert sum(device.waits.values()) <= 4, device.waits
    assert (device.launches - before) / 4 < 150
    cpu = rl.RandomFeatures(40, 20_000, seed=1, dtype=torch.float32, device="cpu")
    same, _, _ = MessagePassing(cpu, theta.cpu()[None]).run(0.3 * data.X.float(), torch.full((10,), 0.9), 4)
    assert torch.allclose(x.cpu(), same, atol=1e-3)


def test_the_linear_part_is_fitted_with_few_waits_and_the_same_passes(device):
    _, features, theta = problem(d=30, p=150)
    cpu = rl.RandomFeatures(30, 150, seed=1, device="cpu")
    device.waits.clear()
    fits, passes = [], []
    for map, R in ((features, theta[None]), (cpu, theta.cpu()[None])):
        with counted(Passes()) as made:
            fits.append([part.cpu() for part in linear_fit(map, R)])
        passes.append(made.made)
    assert all(torch.allclose(there, here, atol=1e-12) for there, here in zip(*fits, strict=True))
    assert passes[0] == passes[1] > 2 * 10  # of more than ten iterations, to which the host looks every ten
    assert sum(count for line, count in device.waits.items() if line.startswith("features/spectral")) <= 4, device.waits


def test_a_lasso_waits_for_its_start_alone(device):
    data, features, theta = problem()
    found = rl.reconstruct(theta, features, method="sparse")
    assert rl.match(found.X, data.X).recovered_up_to_sign().all()
    assert max(count for line, count in device.waits.items() if line.startswith("attack/sparse")) <= 100, device.waits


# --- a device with less than a card has, such as Apple's ------------------------------------------------------------

MISSING = ("_linalg_eigh", "_linalg_svd", "linalg_lstsq")


@pytest.mark.parametrize("activation, body", [("relu", False), ("tanh", False), ("relu", True)])
def test_float32_alone_and_without_eigenvalues(monkeypatch, activation, body):
    register()
    monkeypatch.setattr(_checks, "_best_device", lambda dtype: torch.device(NAME if dtype == torch.float32 else "cpu"))
    with Pretend(lacks=MISSING, dtypes=(torch.float32,)):
        data = rl.data.sphere(3, 8, seed=0)
        if body:
            features = rl.ModuleFeatures(seeded(BODIES["dense"]), 8, dtype=torch.float32)
        else:
            features = rl.RandomFeatures(8, 300, activation, seed=1, dtype=torch.float32)
        theta = features.fit(data.X, data.y)
        found = rl.reconstruct(theta, features, 3)
        assert on_device(theta, found.X) and found.converged
        assert rl.match(found.X, data.X).recovered_up_to_sign().all()
        rl.expected_kernel("relu", data.X.float().to(NAME))
        if not body and activation == "relu":  # what noise does is asked in float64, which is on the CPU alone
            noise = rl.Perturbation(features, data.X, found.coefficients).expected(1e-3)
            cpu = rl.RandomFeatures(8, 300, activation, seed=1, dtype=torch.float32, device="cpu")
            assert torch.equal(noise, rl.Perturbation(cpu, data.X, found.coefficients.cpu()).expected(1e-3))
        assert rl.RandomFeatures(8, 30).device.type == "cpu"
