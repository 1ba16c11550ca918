"""Notebooks open on Colab, Binder, JupyterLab and VS Code with what is there; the workflows that watch over it hold."""

import ast
import importlib.metadata
import itertools
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch
import yaml
from helpers import CONFIG, FIRST_CELL, NOTEBOOKS, ROOT, SLUG, code_cells

import reconlaw as rl

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github" / "workflows").glob("*.yml")}
IMPORTED_AS = {"scikit-learn": "sklearn", "scikit-image": "skimage"}


def names(requirements):
    return {re.match(r"[\w-]+", line)[0].lower() for line in requirements}


def test_readme_has_the_other_launch_buttons():
    readme = (ROOT / "README.md").read_text()
    assert f"(https://mybinder.org/v2/gh/{SLUG}/main?urlpath=lab/tree/book/index.ipynb)" in readme
    assert f"(https://vscode.dev/github/{SLUG})" in readme
    assert CONFIG["launch_buttons"]["notebook_interface"] == "jupyterlab"
    assert {"colab_url", "binderhub_url"} <= set(CONFIG["launch_buttons"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs_where_the_package_does(path):
    """Any kernel called python3 will do, and nothing is imported that the package does not bring along."""
    metadata = nbformat.read(path, as_version=4).metadata
    assert metadata.kernelspec.name == "python3" and metadata.language_info.name == "python"
    ours = {IMPORTED_AS.get(name, name) for name in names(PROJECT["dependencies"])}
    known = ours | {"reconlaw", "IPython", "mynet"} | set(sys.stdlib_module_names)
    for cell in code_cells(path):
        source = re.sub(r"^(\s*)[%!].*$", r"\1pass", cell.source, flags=re.MULTILINE)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= known, cell.source
            elif isinstance(node, ast.ImportFrom):
                assert node.module.split(".")[0] in known, cell.source


def test_first_cell_installs_once_and_can_be_run_again(monkeypatch, capsys):
    from IPython.core.interactiveshell import InteractiveShell

    shell, installed = InteractiveShell(), []

    def pip(line):
        installed.append(line)
        monkeypatch.undo()  # now it is there

    shell.register_magic_function(pip, magic_name="pip")
    monkeypatch.setitem(sys.modules, "reconlaw", None)  # as where it was never installed
    for _ in range(3):
        assert shell.run_cell(FIRST_CELL).success
    assert installed == [f'install -q "reconlaw @ git+https://github.com/{SLUG}"']
    said = capsys.readouterr().out
    assert said.splitlines() == [rl.device_note()] * 3


def test_binder_installs_the_pinned_versions():
    lines = (ROOT / ".binder" / "requirements.txt").read_text().splitlines()
    assert (
        "--constraint ../requirements.txt" in lines
        and "-e .[book]" in lines
        and "book" in PROJECT["optional-dependencies"]
    )
    pinned = names(line for line in (ROOT / "requirements.txt").read_text().splitlines() if re.match(r"[\w-]", line))
    wanted = names(line for line in lines if re.match(r"\w", line))
    assert wanted | names(PROJECT["dependencies"]) | names(PROJECT["optional-dependencies"]["book"]) <= pinned
    python = (ROOT / ".binder" / "runtime.txt").read_text().strip()
    steps = WORKFLOWS["tests"]["jobs"]["tests"]["steps"]
    assert python == f"python-{next(s['with']['python-version'] for s in steps if 'setup-python' in s.get('uses', ''))}"


def test_workflows_do_what_is_there():
    assert set(WORKFLOWS) == {"tests", "publish", "links", "colab", "anywhere"}
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for name, workflow in WORKFLOWS.items():
        assert workflow["permissions"] == {"contents": "read"}, name
        for job in workflow["jobs"].values():
            assert job["timeout-minutes"] <= 120
            for run in filter(None, (step.get("run") for step in job["steps"])):
                assert set(re.findall(r"make ([a-z]+)", run)) <= targets
                assert all((ROOT / script).is_file() for script in re.findall(r"\.ci/\w+", run))
        weekly = [entry["cron"].split() for entry in workflow[True].get("schedule", [])]  # YAML reads `on` as true
        assert bool(weekly) == (name in ("links", "colab", "anywhere")) and all(day != "*" for *_, day in weekly)


def test_the_weekly_run_takes_every_leg_and_the_lowest_versions(tmp_path):
    jobs, makefile = WORKFLOWS["anywhere"]["jobs"], (ROOT / "Makefile").read_text()
    legs = re.search(r"^LEGS := (.+)$", makefile, flags=re.MULTILINE)[1].split()
    assert jobs["notebooks"]["strategy"]["matrix"]["leg"] == legs
    for leg in legs:
        command = re.search(rf"^{leg}: .*\n\t(.+)$", makefile, flags=re.MULTILINE)[1]
        assert command.endswith("$(NBTEST)") and command != "$(NBTEST)"
    write = next(step["run"] for step in jobs["lowest"]["steps"] if "lowest.txt" in step.get("run", ""))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    subprocess.run(["bash", "-c", write], cwd=tmp_path, check=True)
    lowest = [line.replace("==", ">=").removesuffix(".*") for line in (tmp_path / "lowest.txt").read_text().split()]
    assert lowest == PROJECT["dependencies"]
    python = next(s["with"]["python-version"] for s in jobs["lowest"]["steps"] if "setup-python" in s.get("uses", ""))
    assert PROJECT["requires-python"] == f">={python}"


def test_numbers_move_by_a_last_bit_and_few_digits_not_at_all(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests" / "rounding")
    from other_rounding import OtherRounding, moved

    for dtype in (torch.float64, torch.float32):
        x = torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=dtype)
        one, two, unit = moved(x, 1), moved(x, 2), torch.finfo(dtype).eps
        assert torch.equal(one, moved(x, 1)) and torch.equal(-one, moved(-x, 1)) and not torch.equal(one, two)
        assert 0.5 < (one != x).double().mean() < 0.9 and ((one - x).abs() <= unit * x.abs()).all()
        assert abs((one > x).double().mean() - (one < x).double().mean()) < 0.2
        assert torch.equal(moved(x[::2], 1), one[::2])
        few = torch.tensor([0.0, -1.0, 0.5, 3.0, 2.0**100, math.inf, -math.inf, math.nan], dtype=torch.float64).to(
            dtype
        )
        assert torch.equal(moved(few, 1)[:-1], few[:-1]) and moved(few, 1)[-1].isnan()
    whole = torch.arange(4)
    assert moved(whole, 1) is whole
    with OtherRounding(1):
        into = torch.empty_like(x)
        torch.exp(x, out=into)
        assert torch.equal(into, x.exp()) and torch.equal(into, x.clone().exp_())
        assert torch.equal(torch.eye(5) @ torch.ones(5), torch.ones(5))
        torch.testing.assert_close(
            torch.func.vmap(torch.func.grad(torch.tanh))(x), 1 - x.tanh() ** 2, rtol=1e-5, atol=1e-6
        )


def test_last_bits_are_other_in_every_thread_and_process():
    shown = """
import concurrent.futures, torch
A = torch.randn(50, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
parts = lambda: (A @ A[0], A[0].tanh(), torch.linalg.solve(A, A[0] + 1))
found = lambda: [number.hex() for number in torch.cat(parts()).tolist()]
with concurrent.futures.ThreadPoolExecutor(1) as threads:
    print(*found(), *threads.submit(found).result())
"""
    made = []
    for seed in ("", "1", "2"):
        extra = {"PYTHONPATH": str(ROOT / "tests" / "rounding"), "RECONLAW_ROUNDING": seed}
        run = subprocess.run([sys.executable, "-c", shown], env=os.environ | extra, text=True, capture_output=True)
        assert run.returncode == 0, run.stderr
        made.append(torch.tensor([float.fromhex(number) for number in run.stdout.split()], dtype=torch.float64))
    for one, other in itertools.combinations(made, 2):
        assert ((one != other).reshape(6, 50).sum(1) > 10).all()  # three in each of the two threads
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")
def test_a_readers_own_settings_of_figures_are_left_out():
    """Such as ``text.usetex`` in her matplotlibrc; nor does a list of fonts count that another program made."""
    shown = "include Makefile\nshown:\n\t@echo $$MPLCONFIGDIR\n"
    command = ["make", "--silent", "--no-print-directory", "-f", "-", "shown"]
    made = subprocess.run(command, input=shown, cwd=ROOT, text=True, capture_output=True, check=True)
    assert Path(made.stdout.strip()) == ROOT / ".venv" / "matplotlib"


OF_THE_CHECKOUT = [ROOT / "tests", ROOT / "tests" / "rounding", ROOT / "benchmarks", ROOT / "book" / "_ext"]
WHERE_THERE = {"timm"}  # which a test that it is missing for skips


def packages_imported(file, seen):
    """Packages that a file of the checkout imports, or what it imports of the checkout does."""
    if file in seen:
        return set()
    seen.add(file)
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        made = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
        made = [alias.name for alias in node.names] if isinstance(node, ast.Import) else made
        for name in {module.split(".")[0] for module in made} - sys.stdlib_module_names - {"reconlaw"} - WHERE_THERE:
            places = [p for home in OF_THE_CHECKOUT for p in (home / f"{name}.py", home / name / "__init__.py")]
            ours = next((place for place in places if place.is_file()), None)
            found |= packages_imported(ours, seen) if ours else {name}
    return found


def all_they_need(distributions):
    """Names of installed distributions, and of those that they require in turn."""
    found, asked = set(), [name.lower() for name in distributions]
    while asked:
        if (name := asked.pop()) not in found:
            found.add(name)
            try:
                needed = importlib.metadata.requires(name) or []
            except importlib.metadata.PackageNotFoundError:
                continue  # tomli, say, where Python has its own
            asked += names(line for line in needed if "extra ==" not in line)
    return found


def test_the_job_of_the_lowest_versions_installs_what_its_tests_import():
    runs = [step.get("run", "") for step in WORKFLOWS["anywhere"]["jobs"]["lowest"]["steps"]]
    installed = next(run for run in runs if "pip install -r lowest.txt" in run).split("lowest.txt")[1].split()
    there = all_they_need([*names(PROJECT["dependencies"]), *installed])
    ignored = set(re.findall(r"--ignore (tests/\w+\.py)", runs[-1]))
    by_module = importlib.metadata.packages_distributions()
    for file in sorted((ROOT / "tests").glob("test_*.py")):
        if file.relative_to(ROOT).as_posix() not in ignored:
            asked = packages_imported(file, {ROOT / "tests" / "browsing.py"})
            missing = [m for m in asked if not there & {name.lower() for name in by_module.get(m, [m])}]
            assert not missing, f"{file.name} imports {missing}"
    assert all((ROOT / file).is_file() for file in ignored)


def test_colab_run_takes_this_checkout_and_names_what_failed(tmp_path):
    """With a `jupyter` that fails on one notebook and writes down what it was asked."""
    log, tool = tmp_path / "log", tmp_path / "jupyter"
    address = f"https://github.com/{SLUG}"
    tool.write_text(
        f'#!/bin/sh\necho "$(git ls-remote --get-url {address}) $*" >> "{log}"\n'
        'case "$*" in *index.ipynb) exit 1;; esac\n'
    )
    tool.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    ran = subprocess.run(["bash", ROOT / ".ci" / "colab"], env=environment, capture_output=True, text=True)
    assert ran.returncode == 1 and ran.stdout.endswith("failed: book/index.ipynb\n")
    calls = log.read_text().splitlines()
    assert sorted(Path(call.split()[-1]) for call in calls) == [p.relative_to(ROOT) for p in NOTEBOOKS]
    assert all(call.startswith(f"file://{ROOT} nbconvert") and "--execute" in call for call in calls)
