"""The attacker sees θ, the feature map and n. What attacks imports neither data nor scores, and is handed no truth."""

import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest
import torch

import reconlaw as rl
from reconlaw.attack.reconstruct import _METHODS

ROOT = Path(__file__).resolve().parents[1]
TRUTH = {"reconlaw.data", "reconlaw.matching", "reconlaw.images"}


def lint_imports(folder):
    """The contract of pyproject.toml, on the package in ``folder``/src."""
    paths = f"import sys; sys.path.insert(0, {str(folder / 'src')!r}); "
    call = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", paths + call, "--config", str(folder / "pyproject.toml"), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_the_import_contract_is_kept():
    ran = lint_imports(ROOT)
    assert ran.returncode == 0 and "2 kept, 0 broken" in ran.stdout, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    "module",
    ["attack/sgd", "attack/search", "attack/varpro", "features/lift", "features/random_features", "networks/ntk"],
)
def test_the_import_contract_is_broken_by_a_look_at_the_data(tmp_path, module):
    """The check itself: one forbidden line, in a copy, must be found."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    file = tmp_path / "src" / "reconlaw" / f"{module}.py"
    file.write_text(file.read_text() + "\nfrom ..data import sphere  # noqa\n")
    ran = lint_imports(tmp_path)
    assert ran.returncode == 1 and "1 kept, 1 broken" in ran.stdout, ran.stdout + ran.stderr


def test_nothing_the_attack_imports_knows_the_truth():
    """By the graph of all imports, however far: no list to keep up to date."""
    graph = grimp.build_graph("reconlaw", cache_dir=None)
    for start in ("reconlaw.attack.reconstruct", "reconlaw.features.random_features"):
        reached = graph.find_upstream_modules(start)
        assert "reconlaw._checks" in reached
        assert not {m for m in reached if any(m == t or m.startswith(t + ".") for t in TRUTH)}
        assert "reconlaw" not in reached  # the package itself imports everything


@pytest.mark.parametrize("function", [rl.reconstruct, *_METHODS.values()], ids=["reconstruct", *_METHODS])
def test_no_way_in_for_the_truth(function):
    names = set(inspect.signature(function).parameters)
    assert names <= {
        *("theta", "features", "n", "method", "seed", "max_seconds", "tol", "progress", "checkpoint", "options"),
        *("run", "start", "inputs", "learning_rate", "leak", "max_steps", "clock", "l1", "jobs"),
    }


def test_the_answer_depends_on_theta_and_features_alone(tmp_path):
    """θ and the recipe of the features, carried to a process that never saw the data, give the same samples."""
    features = rl.RandomFeatures(10, 300, "gelu", seed=3, device="cpu")
    data = rl.data.sphere(3, 10, seed=3)
    theta = features.fit(data.X, data.y)
    torch.save(theta, tmp_path / "theta.pt")
    script = f"""
import torch, reconlaw as rl
torch.set_num_threads({torch.get_num_threads()})
features = rl.{features!r}
torch.save(rl.reconstruct(torch.load("theta.pt"), features, 3).X, "X.pt")
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    X = torch.load(tmp_path / "X.pt")
    torch.testing.assert_close(X, rl.reconstruct(theta, features, 3).X, rtol=0, atol=1e-9)
    assert rl.match(X, data.X).error.max() < 1e-9


def test_data_features_and_attack_draw_from_unrelated_streams():
    from reconlaw._random import seeded_generator

    streams = {
        purpose: torch.randn(2000, generator=seeded_generator(purpose, 1), dtype=torch.float64)
        for purpose in ("data", "features", "attack")
    }
    streams["torch"] = torch.randn(2000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    correlations = torch.corrcoef(torch.stack(list(streams.values()))) - torch.eye(4)
    assert correlations.abs().max() < 0.1
