"""A pytest plugin: a pretended accelerator, which "auto" takes, is there all along (:mod:`pretend_device`).

So a file of tests runs as it would where there is a card::

    cd tests && python -m pytest -p pretend_everywhere -p no:xdist test_random_features.py
"""

import pytest
import torch
from pretend_device import NAME, Pretend, register


@pytest.fixture(scope="session", autouse=True)
def pretended():
    from reconlaw import _checks

    register()
    usual, _checks._best_device = _checks._best_device, lambda dtype: torch.device(NAME)
    try:
        with Pretend() as device:
            yield device
    finally:
        _checks._best_device = usual
