"""Bad arguments: a clear error of our own, at once, wherever they are handed in."""

import copy
import os
import signal
import traceback
import warnings

import numpy as np
import pytest
import torch

import reconlaw as rl

OWN = (ValueError, TypeError, rl.AuditError, rl.CheckpointError, rl.StepError, rl.StoreError, rl.SweepError)
PACKAGE = os.path.dirname(rl.__file__)
N, D, P = 3, 6, 60
FEATURES = rl.RandomFeatures(D, P, seed=0, device="cpu")
DATA = rl.data.sphere(N, D, seed=0)
THETA = FEATURES.fit(DATA.X, DATA.y)
OLD, NEW = (DATA.X.new_ones(P, D),), (DATA.X.new_ones(P, D).cumsum(0),)


class Weird:
    def __repr__(self):
        return 1 / 0


NUMBERS = {
    "nan": float("nan"),
    "inf": float("inf"),
    "-1": -1,
    "None": None,
    "text": "abc",
    "list": [3],
    "array": np.ones(2),
    "tensor": torch.ones(2),
    "complex": 3j,
    "bytes": b"3",
    "dict": {},
    "weird": Weird(),
    "10**30": 10**30,
    "10**5000": 10**5000,
}
TENSORS = {
    "None": None,
    "text": "abc",
    "number": 3,
    "weird": Weird(),
    "ragged": [[1.0], [2.0, 3.0]],
    "objects": np.array([[None] * D] * N),
    "complex": DATA.X.to(torch.complex128),
    "NaN": DATA.X * float("nan"),
    "empty": DATA.X[:0],
    "three axes": DATA.X[None],
    "sparse": DATA.X.to_sparse(),
    "rows of sparse": DATA.X.to_sparse_csr(),
    "meta": DATA.X.to("meta"),
    "quantised": torch.quantize_per_tensor(DATA.X.float(), 0.1, 0, torch.qint8),
    "eight bits": DATA.X.float().to(torch.float8_e4m3fn),
    "other d": torch.ones(N, D + 1),
}
PATHS = {"number": 3, "bytes": b"here", "tensor": torch.tensor(3), "dict": {}, "weird": Weird(), "NUL": "a\0b"}


def unfit(value):
    """The value, or another wrong one where this one is no fault: None means the default, and 10³⁰ is a number."""
    return "none" if value is None or isinstance(value, int) and value == 10**30 else value


OF_A_NUMBER = {
    "RandomFeatures d": lambda v: rl.RandomFeatures(v, 8, device="cpu"),
    "RandomFeatures seed": lambda v: rl.RandomFeatures(4, 8, seed=v, device="cpu"),
    "hermite_polynomials": lambda v: rl.hermite_polynomials(DATA.X, v),
    "hermite_coefficients": lambda v: rl.hermite_coefficients("relu", v),
    "reconstruct n": lambda v: rl.reconstruct(THETA, FEATURES, [] if v is None else v, max_seconds=1),
    "reconstruct tol": lambda v: rl.reconstruct(THETA, FEATURES, N, tol=unfit(v)),
    "ResNet blocks": lambda v: rl.networks.ResNet((6, 6), 2, v),
    "TwoLayer width": lambda v: rl.networks.TwoLayer(4, v),
    "sphere n": lambda v: rl.data.sphere(v, 4),
    "fit ridge": lambda v: FEATURES.fit(DATA.X, DATA.y, ridge=unfit(v)),
    "silent n": lambda v: rl.silent_neurons(OLD, NEW, n=unfit(v)),
    "silent budget": lambda v: rl.silent_neurons(OLD, NEW, max_steps=unfit(v)),
    "silent seconds": lambda v: rl.silent_neurons(OLD, NEW, max_seconds=unfit(v)),
    "first_layer seconds": lambda v: rl.first_layer((*OLD, OLD[0].T), (*NEW, OLD[0].T), max_seconds=unfit(v)),
    "reconstruct seconds": lambda v: rl.reconstruct(THETA, FEATURES, N, max_seconds=unfit(v)),
    "clock": lambda v: rl.reconstruct(THETA, FEATURES, N, clock=unfit(v)),
    "retrace seconds": lambda v: rl.retrace(THETA, lambda X: FEATURES(X).sum(0), DATA.X, max_seconds=unfit(v)),
    "first_layer n": lambda v: rl.first_layer((*OLD, OLD[0].T), (*NEW, OLD[0].T), n=unfit(v)),
    "input_shape": lambda v: rl.ModuleFeatures(torch.nn.Linear(4, 8), [unfit(v)], device="cpu"),
    "input_shape below": lambda v: rl.below(torch.nn.Sequential(torch.nn.Linear(4, 8)), "0", unfit(v)),
    "law_ratio": lambda v: rl.counting.law_ratio(v, 3, 2),
    "replay rounds": lambda v: rl.replay(
        THETA, FEATURES, DATA.X, rl.networks.TwoLayer(D, P), rl.networks.TwoLayer(D, P), rounds=v
    ),
}
OF_A_TENSOR = {
    "features": lambda v: FEATURES(v),
    "fit X": lambda v: FEATURES.fit(v, DATA.y),
    "predict": lambda v: FEATURES.predict(v, THETA),
    "loss X": lambda v: rl.projection_loss(v, FEATURES, THETA),
    "loss theta": lambda v: rl.projection_loss(DATA.X, FEATURES, v),
    "reconstruct": lambda v: rl.reconstruct(v, FEATURES, N, max_seconds=1),
    "match": lambda v: rl.match(v, DATA.X),
    "apart": lambda v: rl.apart(FEATURES, v),
    "silent before": lambda v: rl.silent_neurons((v,), NEW),
    "silent after": lambda v: rl.silent_neurons(OLD, (v,)),
    "hermite_polynomials": lambda v: rl.hermite_polynomials(v, 3),
    "train": lambda v: rl.networks.train(rl.networks.TwoLayer(D, 20), v, DATA.y, max_steps=3),
    "replay X": lambda v: rl.replay(
        THETA, FEATURES, v, rl.networks.TwoLayer(D, P), rl.networks.TwoLayer(D, P), rounds=1
    ),
}


@pytest.fixture(autouse=True)
def at_once():
    def late(*_):
        raise TimeoutError("no error at once")

    if not hasattr(signal, "SIGALRM"):  # as on Windows
        yield
        return
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(600)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def refused(call, value):
    with warnings.catch_warnings(), pytest.raises(OWN) as caught:
        warnings.simplefilter("ignore")
        call(value)
    where = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert where.filename.startswith(PACKAGE), f"{type(caught.value).__name__} of {where.filename}:{where.lineno}"
    assert str(caught.value).strip() and len(str(caught.value)) < 600


@pytest.mark.parametrize("value", NUMBERS)
@pytest.mark.parametrize("call", OF_A_NUMBER)
def test_numbers_that_are_none(call, value):
    refused(OF_A_NUMBER[call], NUMBERS[value])


@pytest.mark.parametrize("value", PATHS)
def test_paths_that_are_none(value):
    refused(lambda v: rl.published("x", v), PATHS[value])
    refused(lambda v: rl.data.cifar10(root=v, download=False), PATHS[value])


@pytest.mark.parametrize("value", ["meta", "xla", "vulkan", "cuda:99", "gpu", "", 1.5, -1])
def test_devices_that_are_none(value):
    refused(lambda v: rl.RandomFeatures(4, 8, device=v), value)
    refused(lambda v: rl.ModuleFeatures(torch.nn.Tanh(), 4, device=v), value)


@pytest.mark.parametrize("value", [torch.tensor(3.0), torch.tensor(True)])
def test_lists_that_are_none(value):
    network = rl.networks.TwoLayer(D, 5)
    refused(lambda v: rl.grid(a=v), value)
    refused(lambda v: rl.data.digits(classes=v), value)
    refused(lambda v: rl.networks.ResNet(v, 2), value)
    refused(lambda v: rl.networks.between(network, network, [v]), value)
    refused(lambda v: rl.reconstruct(THETA, FEATURES, method="sparse", l1=v), value)
    refused(lambda v: rl.data.sphere(v, 4), value)
    refused(lambda v: rl.plotting.image_rows({"a": np.zeros((1, 3, 3))}, v * 0), value)


@pytest.mark.parametrize("kind", ["raises", "misses", "has another shape"])
def test_activations_that_are_none(kind):
    def activation(z):
        return {"raises": lambda: 1 / 0, "misses": lambda: {}["x"], "has another shape": lambda: z[:1]}[kind]()

    refused(lambda f: rl.RandomFeatures(4, 8, f, device="cpu"), activation)
    refused(lambda f: rl.hermite_coefficients(f, 4), activation)
    refused(lambda f: rl.expected_kernel(f, DATA.X), activation)


@pytest.mark.parametrize("jobs", [0, True, 1.5, "3", [3], None, 3j, float("nan")])
def test_sweeps_that_are_none(jobs):
    refused(lambda v: rl.sweep(dict, [{"n": 1}], name="w", jobs=v, progress=False), jobs)


@pytest.mark.parametrize("kind", ["large", "meta", "deep"])
def test_cells_that_no_file_keeps(kind):
    deep = 1
    for _ in range(3000):
        deep = [deep]
    cell = {"large": 10**5000, "meta": torch.ones(2, device="meta"), "deep": deep}[kind]
    refused(lambda v: rl.sweep(dict, [{"n": v}], name="w", jobs=1, progress=False), cell)


@pytest.mark.parametrize("name", ["name", "version", "code"])
def test_names_of_sweeps_are_text(name):
    refused(lambda v: rl.sweep(dict, [{"n": 1}], jobs=1, progress=False, **{"name": "w", name: v}), 10**30)


@pytest.mark.parametrize("rows", [None, [1], {}, {"a": np.zeros(3)}, {"a": np.zeros((0, 2, 2))}])
def test_pictures_that_are_none(rows):
    refused(rl.plotting.image_rows, rows)
    refused(rl.plotting.plotly_json, None if rows is None else {"data": []})


@pytest.mark.parametrize("module", [None, torch.tanh, torch.nn.LazyLinear(8), torch.nn.Linear(4, 8, device="meta")])
def test_modules_that_are_none(module):
    refused(lambda m: rl.ModuleFeatures(m, 4, device="cpu"), module)
    refused(lambda m: rl.networks.between(m, m), module)
    refused(lambda shape: rl.ModuleFeatures(torch.nn.Tanh(), shape, device="cpu"), (10**8, 10**8))
    refused(lambda a: rl.counting.trained_parameters(a, "head", 3), {})


@pytest.mark.parametrize("value", [None, 3, "x", [], DATA.X, torch.nn.Linear(D, P), torch.tanh])
def test_feature_maps_and_layers_that_are_none(value):
    refused(lambda v: rl.projection_loss(DATA.X, v, THETA), value)
    refused(lambda v: rl.reconstruct(THETA, v, N), value)
    refused(lambda v: rl.known(v, [0]), value)
    refused(lambda v: rl.apart(v, THETA), value)
    refused(lambda v: rl.below(torch.nn.Linear(D, P), v, D), value)


def test_what_no_memory_holds():
    refused(lambda p: rl.RandomFeatures(p, p, device="cpu"), 10**8)


def test_unusual_tensors_that_hold_numbers_serve():
    """A view with a pending sign, and what an inference made."""
    negative = torch.complex(DATA.X, -DATA.X).conj().imag
    assert negative.is_neg() and torch.equal(negative, DATA.X)
    assert float(rl.projection_loss(negative, FEATURES, THETA)) == float(rl.projection_loss(DATA.X, FEATURES, THETA))
    pictures = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert rl.psnr(torch.complex(pictures, -pictures).conj().imag, pictures).tolist() == [float("inf")] * 2
    with torch.inference_mode():
        made = DATA.X * 1.0
    assert rl.networks.train(rl.networks.TwoLayer(D, 20), made, DATA.y, max_steps=3).losses


@pytest.mark.parametrize("value", TENSORS)
@pytest.mark.parametrize("call", OF_A_TENSOR)
def test_tensors_that_are_none(call, value):
    if (call, value) == ("match", "NaN"):
        return  # a candidate that has diverged matches nothing
    if call == "hermite_polynomials" and value in ("number", "NaN", "empty", "three axes", "other d"):
        return  # of any shape, entry by entry
    refused(OF_A_TENSOR[call], TENSORS[value])


@pytest.mark.parametrize("report", [3, True, b"a.html", 1.5, ["a"]])
def test_reports_that_are_no_files(report):
    model = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Linear(D, P), torch.nn.GELU()), torch.nn.Linear(P, 1))
    after = copy.deepcopy(model)
    after[1].weight.data += 0.1
    refused(lambda v: rl.audit(model, after, "1", D, 2, max_seconds=1, report=v), report)
    refused(lambda v: rl.audit(model, after, "1", D, 2, max_seconds=1, image_shape=v), 6)
