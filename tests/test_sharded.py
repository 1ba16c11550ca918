"""Parameters divided among processes: as one process finds them, and an error where it cannot be."""

import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import reconlaw as rl
from reconlaw.attack import varpro
from reconlaw.attack.message_passing import MessagePassing
from reconlaw.attack.search import Search
from reconlaw.features.lift import RandomFeaturesLift

# name → d, the parts' sizes, n and how many are sought, outputs, activation, start
PROBLEMS = {
    "random start and respawn": (12, (50, 110), 5, 5, 1, "relu", "random"),
    "spectral start": (12, (140, 100), 3, 3, 1, "relu+tanh", "spectral"),
    "several outputs, a part of fewer features than columns": (10, (2, 118), 3, 3, 2, "relu", "spectral"),
    "odd features, by the third moment": (8, (61, 260), 2, 2, 1, "tanh", "spectral"),
    "one sample too many": (10, (100, 60), 2, 3, 1, "relu", "random"),
    "near the limit, by message passing": (24, (50, 130), 5, 5, 1, "relu", "spectral"),
}


def problem(name):
    d, sizes, n, sought, outputs, activation, start = PROBLEMS[name]
    data = rl.data.sphere(n=n, d=d, seed=5)
    features = rl.RandomFeatures(d, sum(sizes), activation, seed=6, device="cpu")
    y = torch.randn(n, outputs, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return features, sizes, features.fit(data.X, y), sought, start, data.X


def told(features, theta, n, start, X):
    result = rl.reconstruct(theta, features, n, seed=8, max_seconds=None, max_steps=4_000, start=start)
    Y = (X + 0.1).requires_grad_()
    loss = rl.projection_loss(Y, features, theta)
    return {
        "X": result.X,
        "coefficients": result.coefficients,
        "status": result.status.name,
        "flags": [flag.name for flag in result.flags],
        "errors": result.standard_errors,
        "steps": result.steps,
        "loss at": loss.detach(),
        "gradient": torch.autograd.grad(loss, Y)[0],
        "features": features(X),
    }


def counting(seconds, rank):
    """A clock that the first process alone may ask, and that goes on by so much each time."""
    asked = [0.0]

    def clock():
        assert not rank
        asked[0] += seconds
        return asked[0]

    return clock


def resumed(features, theta, n, start, rank, file):
    """A search that ends by a clock of the first process, and goes on from a file of its to where one call ends."""
    mine = f"{file}-{rank}.checkpoint"
    options = {"seed": 8, "start": start, "max_steps": 4_000}
    first = rl.reconstruct(theta, features, n, **options, max_seconds=100.0, checkpoint=mine, clock=counting(5.0, rank))
    then = rl.reconstruct(theta, features, n, **options, max_seconds=None, checkpoint=mine)
    whole = rl.reconstruct(theta, features, n, **options, max_seconds=None)
    with pytest.raises(rl.CheckpointError, match="another problem"):
        rl.reconstruct(2 * theta + 1, features, n, **options, checkpoint=mine)
    return {
        "file": os.path.exists(mine),
        "first": (first.status.name, first.seconds, first.steps, [entry.loss for entry in first.history]),
        "then": (then.X, then.steps),
        "whole": (whole.X, whole.steps),
    }


def refused(call):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    return str(caught.value)


def full(*arguments, **options):
    raise MemoryError("out of memory")


def work(rank, size, file):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=size)
    made = {}
    for name in PROBLEMS:
        whole, sizes, theta, n, start, X = problem(name)
        rows = torch.arange(whole.p).split(sizes)[rank]
        features = rl.sharded(rl.known(whole, rows))
        assert features.p == whole.p and features.V.shape == (sizes[rank], whole.d)
        with pytest.MonkeyPatch.context() as patched:
            runs, run = [], MessagePassing.run
            patched.setattr(MessagePassing, "run", lambda *a, run=run, runs=runs, **o: runs.append(1) or run(*a, **o))
            made[name] = told(features, theta, n, start, X)
        made[name]["messages"] = len(runs)
        if "respawn" in name:
            made["resumed"] = resumed(features, theta, n, start, rank, file)
    made["refused"] = {
        "sgd": refused(lambda: rl.reconstruct(theta, features, n, "sgd", max_seconds=None)),
        "span": refused(lambda: rl.reconstruct(theta, features, n, "span", max_seconds=None)),
        "box": refused(lambda: rl.reconstruct(theta, features, n, inputs=rl.inputs.Box(0.0, 1.0), max_seconds=None)),
        "apart": refused(lambda: rl.apart(features, theta)),
        "known": refused(lambda: rl.known(features, [0])),
        "perturbation": refused(lambda: rl.Perturbation(features, X, theta)),
        "twice": refused(lambda: rl.sharded(features)),
        "the same": refused(lambda: rl.sharded(whole)),
        "another d": refused(lambda: rl.sharded(rl.RandomFeatures(4 + rank, 9, seed=rank, device="cpu"))),
    }
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(RandomFeaturesLift, "__init__", full)
        with pytest.raises(rl.ShardError, match="cannot hold"):
            rl.reconstruct(theta, features, n, max_seconds=None)
    if rank:  # one process alone refuses a step
        varpro._Step.solve = full
    with pytest.raises(rl.ShardError, match="parted"):
        rl.reconstruct(theta, features, n, max_seconds=None)
    torch.save(made, f"{file}.{rank}")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    file = tmp_path_factory.mktemp("sharded") / "meeting"
    mp.spawn(work, (2, str(file)), nprocs=2)
    return [torch.load(f"{file}.{rank}") for rank in range(2)]


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_process_returns_the_same_and_what_one_process_finds(ranks, name):
    first, second = (made[name] for made in ranks)
    for key, value in first.items():
        same = torch.equal(value, second[key]) if isinstance(value, torch.Tensor) else value == second[key]
        assert same, key
    assert bool(first["messages"]) == ("message passing" in name)
    features, _, theta, n, start, X = problem(name)
    alone = told(features, theta, n, start, X)
    assert first["status"] == alone["status"] and first["flags"] == alone["flags"]
    for key in ("loss at", "gradient", "features"):
        assert torch.allclose(first[key], alone[key], rtol=1e-9, atol=1e-12), key
    for found in (first["X"], alone["X"]):
        report = rl.match(found, X)
        error = report.error if features.parity == "mixed" else report.error_up_to_sign
        assert float(error.max()) < 1e-7
    order = [rl.match(made["X"], X).order for made in (first, alone)]
    a, b = (made["coefficients"][rows] for made, rows in zip((first, alone), order, strict=True))
    assert torch.allclose(a.abs(), b.abs(), atol=1e-7)


def test_the_first_process_alone_keeps_time_and_a_checkpoint_for_all(ranks):
    first, second = (made["resumed"] for made in ranks)
    assert (first["file"], second["file"]) == (True, False)
    assert first["first"] == second["first"] and first["first"][0] == "BUDGET_SPENT"
    for X, steps in (first["then"], second["then"], first["whole"]):
        assert torch.equal(X, second["whole"][0]) and steps == second["whole"][1] > first["first"][2]


def test_the_problems_make_samples_respawn(monkeypatch):
    made = []
    respawn = Search.respawn
    monkeypatch.setattr(Search, "respawn", lambda *arguments: made.append(1) or respawn(*arguments))
    features, _, theta, n, start, _ = problem("random start and respawn")
    rl.reconstruct(theta, features, n, seed=8, max_seconds=None, start=start)
    assert made


def test_what_cannot_be_divided_is_refused_with_a_reason(ranks):
    reasons = ranks[0]["refused"]
    assert all("method='varpro' on the sphere" in reasons[name] for name in ("sgd", "span", "box"))
    assert "on one process" in reasons["apart"] and "sharded(known(part" in reasons["known"]
    assert "Sharded" in reasons["perturbation"] and "Sharded" in reasons["twice"]
    assert (
        "the same features" in reasons["the same"] and "d differs between the processes: 4, 5" in reasons["another d"]
    )


def test_without_processes_there_is_nothing_to_divide_among():
    with pytest.raises(ValueError, match="torchrun"):
        rl.sharded(rl.RandomFeatures(3, 5, device="cpu"))
    with pytest.raises(TypeError, match="str"):
        rl.sharded("features")
