"""The package on a pretended accelerator: `device_checks.py`, in a process of its own.

torch sizes its autograd engine for the devices that it knows at the first backward pass, and a registered device stays
registered: other tests must not have run before, nor run after.
"""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def checked(*arguments):
    """Run pytest in a process of its own, in this folder."""
    registration = pytest.importorskip("torch.utils.backend_registration")
    if not hasattr(registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this torch cannot register a device from Python")
    call = [sys.executable, "-m", "pytest", "-q", *"-p no:cacheprovider -p no:xdist -p no:nbval".split(), *arguments]
    ran = subprocess.run(call, cwd=HERE, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]


def test_the_package_on_a_pretended_accelerator():
    checked("device_checks.py")


# Files of tests, and which of their tests where all take minutes there.
EVERYWHERE = {
    "random_features": "",
    "projection": "",
    "lift": "",
    "partial": "",
    "sparse": "1-relu+tanh or one_large or box-2-0 or free-3-1 or affine-3-1 or decoder-3-1",
    "audit_inputs": "directions and 0",
}


@pytest.mark.parametrize(("name", "chosen"), EVERYWHERE.items(), ids=EVERYWHERE)
def test_tests_hold_where_there_is_an_accelerator(name, chosen):
    checked("-p", "pretend_everywhere", f"test_{name}.py", "-k", chosen)
