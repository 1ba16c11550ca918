"""Checkpoints: written whole or not at all, resumed on the same problem only, and worth nothing less for a kill."""

import itertools
import math
import os
import random
import subprocess
import sys
import time

import pytest
import torch

import reconlaw as rl
from reconlaw.attack import sgd
from reconlaw.attack.fingerprint import fingerprint
from reconlaw.attack.run import CLOCK_SPEED, CheckpointError, Run, wall_clock
from reconlaw.attack.search import Search

# A problem without an exact solution, so that a run lasts as long as it is let; a checkpoint after every record.
ENDLESS = """
import sys, torch, reconlaw as rl
from reconlaw.attack import run

def make():
    features = rl.RandomFeatures(20, 1000, "relu", device="cpu")
    data = rl.data.sphere(5, 20)
    noise = torch.randn(1000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    theta = features.fit(data.X, data.y)
    return features, theta + 1e-3 * theta.norm() / noise.norm() * noise

if __name__ == "__main__":
    made = run.Run.__post_init__
    def eager(self):
        made(self)
        self.save_every = 0.0
    run.Run.__post_init__ = eager
    features, theta = make()
    print("ready", flush=True)
    rl.reconstruct(theta, features, 5, method=sys.argv[2], checkpoint=sys.argv[1], max_seconds=None)
"""


def read(path):
    return torch.load(path, weights_only=True)


def wait_for(condition, process, seconds=600):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended by itself"
        assert time.monotonic() < end, "no checkpoint was written"
        time.sleep(0.005)


@pytest.mark.slow(reason="three processes that import torch and work until they are killed")
@pytest.mark.parametrize("method", ["varpro", "sgd"])
def test_kill_at_any_moment_leaves_a_checkpoint_that_resumes(tmp_path, method):
    script, path = tmp_path / "endless.py", tmp_path / "state" / "run.pt"
    script.write_text(ENDLESS)
    saved = {"best_loss": float("inf"), "seconds": 0.0, "history": []}
    when = random.Random(0)
    for _ in range(3):
        before = path.stat().st_mtime_ns if path.exists() else 0
        process = subprocess.Popen([sys.executable, script, path, method], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        wait_for(lambda: path.exists() and path.stat().st_mtime_ns > before, process)  # noqa: B023
        time.sleep(when.uniform(0, 0.4))
        process.kill()
        process.wait()
        process.stdout.close()
        now = read(path)
        assert now["best_loss"] <= saved["best_loss"] and now["seconds"] > saved["seconds"]
        assert now["history"][: len(saved["history"])] == saved["history"]
        saved = now

    variables = {"__name__": "endless"}
    exec(ENDLESS, variables)
    features, theta = variables["make"]()
    before = saved["passes"] / 10  # in steps, of 2n passes
    result = rl.reconstruct(
        theta, features, 5, method=method, checkpoint=path, max_seconds=None, max_steps=math.ceil(before) + 50
    )
    assert result.history[-1].loss <= saved["best_loss"] and result.seconds > saved["seconds"]
    assert result.steps >= before
    assert [list(pair) for pair in result.history[: len(saved["history"])]] == saved["history"]
    assert list(result.history) == sorted(result.history)
    final = read(path)
    assert final["passes"] >= saved["passes"] and final["best_loss"] == result.history[-1].loss


def test_a_finished_checkpoint_returns_at_once(problem, tmp_path, monkeypatch):
    case, path = problem(), tmp_path / "run.pt"
    clock = itertools.count().__next__  # a second passes with every look
    first = rl.reconstruct(case.theta, case.features, 5, checkpoint=path, max_seconds=None, clock=clock)
    for place, name in ((Search, "_random_atoms"), (rl.RandomFeatures, "directions")):
        monkeypatch.setattr(place, name, lambda *_: pytest.fail("searched again"))
    second = rl.reconstruct(case.theta, case.features, 5, checkpoint=path, max_seconds=None, clock=clock)
    assert first.converged and second.converged and second.sign_identifiable is True
    torch.testing.assert_close(second.X, first.X, rtol=0, atol=1e-10)
    assert second.seconds > first.seconds and second.history[: len(first.history)] == first.history


def test_a_finished_sgd_returns_at_once(problem, tmp_path, monkeypatch):
    case, path = problem(d=10, n=2, activation="tanh"), tmp_path / "run.pt"
    first = rl.reconstruct(case.theta, case.features, 2, method="sgd", checkpoint=path)
    assert first.converged
    steps = read(path)["state"]["step"]
    second = rl.reconstruct(case.theta, case.features, 2, method="sgd", checkpoint=path)
    assert second.converged and read(path)["state"]["step"] == steps
    torch.testing.assert_close(second.X, first.X, rtol=0, atol=0)


@pytest.mark.parametrize("stop", [57, 60])
def test_sgd_resumes_the_very_trajectory(problem, tmp_path, stop):
    case = problem(d=20, n=5, activation="gelu")
    parts, whole = tmp_path / "parts.pt", tmp_path / "whole.pt"

    def run(path, steps):
        return rl.reconstruct(case.theta, case.features, 5, method="sgd", checkpoint=path, max_steps=steps, tol=1e-30)

    run(parts, stop)
    assert read(parts)["state"]["step"] == stop
    resumed, uninterrupted = run(parts, 130), run(whole, 130)
    assert read(parts)["state"]["step"] == 130
    for key in ("X", "velocity"):
        assert torch.equal(read(parts)["state"][key], read(whole)["state"][key])
    assert torch.equal(resumed.X, uninterrupted.X) and resumed.loss == uninterrupted.loss


def test_sgd_resumes_after_ctrl_c_between_records(problem, tmp_path, monkeypatch):
    case = problem(d=20, n=5, activation="gelu")
    options = {"method": "sgd", "max_steps": 90, "tol": 1e-30}
    expected = rl.reconstruct(case.theta, case.features, 5, **options)
    made, count = sgd.Projection, []

    def interrupted(*arguments, **named):
        count.append(1)
        if len(count) == 46:
            raise KeyboardInterrupt
        return made(*arguments, **named)

    monkeypatch.setattr(sgd, "Projection", interrupted)
    path = tmp_path / "run.pt"
    first = rl.reconstruct(case.theta, case.features, 5, checkpoint=path, **options)
    assert first.message.startswith("interrupted") and read(path)["state"]["step"] == 40
    monkeypatch.undo()
    assert torch.equal(rl.reconstruct(case.theta, case.features, 5, checkpoint=path, **options).X, expected.X)


# --- what is refused -----------------------------------------------------------------------------------------------


def finished(problem, path, **changed):
    case = problem(**changed)
    rl.reconstruct(case.theta, case.features, case.n, checkpoint=path, max_seconds=None)
    return case


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, -1])
def test_a_truncated_file_is_named(problem, tmp_path, keep):
    path = tmp_path / "run.pt"
    case = finished(problem, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep == 0.5 else keep])
    with pytest.raises(CheckpointError, match=r"run\.pt cannot be read .*; delete it"):
        rl.reconstruct(case.theta, case.features, 5, checkpoint=path)


@pytest.mark.parametrize(
    "content",
    [{}, {"fingerprint": "right"}, [1, 2], torch.ones(3), {"fingerprint": "right", "best": None}],
    ids=["empty", "fingerprint only", "list", "tensor", "no history"],
)
def test_another_programs_file_is_named(problem, tmp_path, content):
    case, path = problem(), tmp_path / "other.pt"
    if isinstance(content, dict) and "fingerprint" in content:
        theta = case.features.check_theta(case.theta)
        content = content | {"fingerprint": fingerprint(theta, case.features, 5, "varpro", 0)}
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"other\.pt"):
        rl.reconstruct(case.theta, case.features, 5, checkpoint=path)


def test_a_file_that_would_run_code_is_not_loaded(problem, tmp_path):
    class Payload:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    case, path = problem(), tmp_path / "run.pt"
    torch.save({"fingerprint": Payload()}, path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        rl.reconstruct(case.theta, case.features, 5, checkpoint=path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("what", ["theta", "features", "V", "activation", "n", "method", "seed"])
def test_another_problem_is_refused(problem, tmp_path, what):
    path = tmp_path / "run.pt"
    case = finished(problem, path)
    before = path.read_bytes()
    arguments = {"theta": case.theta, "features": case.features, "n": 5}
    arguments |= {
        "theta": {"theta": case.theta * (1 + 1e-5)},
        "features": {"features": rl.RandomFeatures(20, 1000, seed=1, device="cpu")},
        # These two are called what the right ones are called.
        "V": {"features": rl.RandomFeatures(20, 1000, dtype=torch.float32, device="cpu").to(torch.float64)},
        "activation": {"features": rl.RandomFeatures(20, 1000, rl.Activation("relu", torch.tanh, torch.cos))},
        "n": {"n": 4},
        "method": {"method": "sgd"},
        "seed": {"seed": 1},
    }[what]
    with pytest.raises(CheckpointError, match=r"run\.pt is of another problem"):
        rl.reconstruct(**arguments, checkpoint=path)
    assert path.read_bytes() == before


def test_the_last_bits_of_theta_do_not_make_another_problem(problem, tmp_path):
    path = tmp_path / "run.pt"
    case = finished(problem, path)
    noise = torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    refitted = case.theta + 1e-12 * case.theta.norm() * noise / noise.norm()
    assert rl.reconstruct(refitted, case.features, 5, checkpoint=path).converged


def test_a_place_that_cannot_be_written_is_refused_before_the_work(problem, tmp_path, monkeypatch):
    case, blocker = problem(), tmp_path / "file"
    blocker.write_text("")
    monkeypatch.setattr(Search, "atoms", lambda self: pytest.fail("worked"))
    with pytest.raises(CheckpointError, match="cannot be written"):
        rl.reconstruct(case.theta, case.features, 5, checkpoint=blocker / "run.pt")
    with pytest.raises(CheckpointError, match="is a folder"):
        rl.reconstruct(case.theta, case.features, 5, checkpoint=tmp_path)


# --- writing -------------------------------------------------------------------------------------------------------


class Clock:
    """Seconds that pass when told to."""

    now = 0.0

    def __call__(self):
        return self.now


def started(path, loss=0.5, clock=wall_clock):
    run = Run(60, clock=clock, checkpoint=path, fingerprint="it")
    run.record(torch.ones(2, 3), loss)
    return run


@pytest.mark.parametrize("where", ["save", "fsync", "replace"])
def test_a_failed_write_leaves_the_old_checkpoint_and_no_debris(tmp_path, monkeypatch, where):
    path = tmp_path / "run.pt"
    run = started(path)
    run.save()
    before = path.read_bytes()
    run.record(torch.zeros(2, 3), 0.25)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(torch if where == "save" else os, where, fail)
    with pytest.raises(OSError, match="disk full"):
        run.save()
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    run.save()
    assert read(path)["best_loss"] == 0.25


def test_a_full_disk_does_not_cost_the_result(problem, tmp_path, monkeypatch):
    case = problem()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.warns(RuntimeWarning, match=r"run\.pt was not written: disk full"):
        result = rl.reconstruct(case.theta, case.features, 5, checkpoint=tmp_path / "run.pt")
    assert result.converged and list(tmp_path.iterdir()) == []


def test_folders_are_made_and_strings_are_paths(problem, tmp_path):
    case, path = problem(), tmp_path / "a" / "b" / "run.pt"
    rl.reconstruct(case.theta, case.features, 5, checkpoint=str(path))
    assert path.exists() and list(path.parent.iterdir()) == [path]


def test_nothing_is_written_where_nothing_is_found_or_asked(problem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    case = problem()
    rl.reconstruct(case.theta, case.features, 5)
    with pytest.raises(ValueError):
        rl.reconstruct(case.theta, case.features, 5, start="nowhere", checkpoint=tmp_path / "run.pt")
    assert list(tmp_path.iterdir()) == []


def test_record_keeps_the_best_and_copies_it():
    run, U = Run(60), torch.ones(2, 3)
    for loss in (0.5, 0.7, 0.3, 0.3):
        assert run.record(U, loss) is False
        U += 1
    assert run.best_loss == 0.3 and torch.equal(run.best, torch.full((2, 3), 3.0))
    assert [entry.loss for entry in run.history] == [0.5, 0.3]


def test_saves_are_spaced_and_the_budget_ends_it(tmp_path):
    clock = Clock()
    run = started(tmp_path / "run.pt", clock=clock)
    clock.now = run.save_every
    run.record(torch.ones(2, 3), 0.45)
    assert not (tmp_path / "run.pt").exists()
    clock.now += 0.1
    assert run.record(torch.ones(2, 3), 0.4) is False
    assert read(tmp_path / "run.pt")["best_loss"] == 0.4
    clock.now = 60.0
    assert run.expired and run.record(torch.ones(2, 3), 0.5) is True and run.spent == "max_seconds"
    assert [entry.seconds for entry in run.history] == [0.0, 5.0, 5.1]


def test_the_clock_of_the_environment(monkeypatch):
    """The default one, which no other can stand for."""
    monkeypatch.setenv(CLOCK_SPEED, "5")
    assert 5 * time.monotonic() <= wall_clock() <= 5 * time.monotonic()
    monkeypatch.delenv(CLOCK_SPEED)
    assert time.monotonic() <= wall_clock() <= time.monotonic()
    for speed in ("fast", "0", "-1", "nan"):
        monkeypatch.setenv(CLOCK_SPEED, speed)
        with pytest.raises(ValueError, match=f"{CLOCK_SPEED}='{speed}' is no number above 0"):
            wall_clock()
