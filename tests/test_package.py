"""What is installed and loaded: a wheel holds all that it needs, and an import loads no more than it must."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import reconlaw as rl

ROOT = Path(__file__).resolve().parents[1]
LOADED_WHEN_ASKED = {"IPython", "joblib", "matplotlib", "pandas", "plotly", "pooch", "requests", "skimage", "sklearn"}


def test_results_of_this_checkout_and_of_a_folder(tmp_path):
    assert rl.published("limit")["benchmark"] == "limit" and rl.published("nothing") is None
    (tmp_path / "mine.json").write_text('{"benchmark": "mine"}')
    assert rl.published("mine", tmp_path) == {"benchmark": "mine"} and rl.published("limit", tmp_path) is None


def test_an_import_loads_little_beside_torch():
    """Modules are counted and not seconds, which depend on the machine."""
    script = """
import sys, scipy, torch, tqdm
before = set(sys.modules)
import reconlaw
print(*sorted(set(sys.modules) - before))
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = ran.stdout.split()
    assert "reconlaw.auditing.audit" in loaded
    assert not {name.split(".")[0] for name in loaded} & LOADED_WHEN_ASKED
    assert not [name for name in loaded if name.startswith(("scipy.optimize", "scipy.special", "scipy.sparse"))]
    assert len([name for name in loaded if not name.startswith("reconlaw")]) < 60


def test_pictures_load_without_a_warning_in_a_notebook():
    """tqdm warns in a kernel without ipywidgets; here in one that is made to look so."""
    script = """
import sys, types, warnings
sys.modules["ipykernel.zmqshell"] = types.ModuleType("zmqshell")
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: None)
sys.modules["ipywidgets"] = None
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    import reconlaw as rl
    rl.data.faces(n=1), rl.data.photos(n=1)
assert "tqdm.auto" in sys.modules
print([str(w.message) for w in seen if "IProgress" in str(w.message)])
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built in a copy, without a network, and unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("src", "benchmarks/results"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", ".*"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    build = "import setuptools.build_meta as b; print(b.build_wheel('dist'))"
    ran = subprocess.run([sys.executable, "-W", "error", "-c", build], cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    with zipfile.ZipFile(next((folder / "dist").glob("*.whl"))) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_a_wheel_holds_every_module_the_types_and_the_results(wheel):
    """A new folder of modules has to be named in pyproject.toml."""
    source = {path.relative_to(ROOT / "src") for path in (ROOT / "src" / "reconlaw").rglob("*.py")}
    assert source <= {path.relative_to(wheel) for path in wheel.rglob("*.py")}
    assert (wheel / "reconlaw" / "py.typed").exists()
    committed = {path.name for path in (ROOT / "benchmarks" / "results").glob("*.json")}
    assert {path.name for path in (wheel / "reconlaw" / "results").iterdir()} == committed


def test_a_package_from_a_wheel_finds_its_results(wheel, tmp_path):
    script = f"""
import sys; sys.path.insert(0, {str(wheel)!r})
import reconlaw as rl
assert rl.__file__.startswith({str(wheel)!r})
print(rl.published("limit")["benchmark"], rl.published("nothing"))
"""
    ran = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["limit", "None"]
