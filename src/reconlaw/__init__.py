"""reconlaw: reading training data back out of a model's parameters.

    data → features (V, φ) → fit → θ  |  attacker: (θ, features, n) → start → solve → signs → X̂  |  matching → report

The bars are the threat model: what stands between them imports nothing from ``data``, ``matching`` or ``images``.
"""

import importlib as _importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING

from . import counting, data, inputs, networks, plotting, privacy
from ._checks import device_note
from ._published import published
from ._version import __version__
from .attack.projection import projection_loss
from .attack.reconstruct import reconstruct
from .attack.result import Flag, Result, Status
from .attack.run import CheckpointError
from .auditing.audit import AuditError, audit
from .auditing.outcome import Audit
from .auditing.several import audits
from .features.activations import ACTIVATIONS, Activation, get_activation
from .features.apart import apart
from .features.below import LayerError, below
from .features.feature_map import FeatureMap
from .features.gram import SpanError, StepError
from .features.hermite import hermite_coefficients, hermite_polynomials
from .features.kernel import expected_kernel
from .features.lift import Lift
from .features.module_features import ModuleFeatures
from .features.random_features import RandomFeatures
from .features.select import known
from .features.sharded import ShardError, sharded
from .images import psnr, ssim
from .matching import MatchReport, match
from .networks.first_layer import FirstLayer, first_layer
from .networks.kkt import kkt
from .networks.ntk import ntk
from .networks.replay import Replay, replay
from .networks.retrace import Retrace, retrace, retrace_adam
from .networks.silent import SilentNeurons, silent_neurons
from .perturbation import Perturbation
from .sweeps.store import StoreError
from .sweeps.sweep import SweepError, grid, sweep

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Audit",
    "AuditError",
    "CheckpointError",
    "FeatureMap",
    "FirstLayer",
    "Flag",
    "LayerError",
    "Lift",
    "MatchReport",
    "ModuleFeatures",
    "Perturbation",
    "RandomFeatures",
    "Replay",
    "Result",
    "Retrace",
    "ShardError",
    "SilentNeurons",
    "SpanError",
    "Status",
    "StepError",
    "StoreError",
    "SweepError",
    "__version__",
    "apart",
    "audit",
    "audits",
    "below",
    "counting",
    "data",
    "device_note",
    "exercises",
    "expected_kernel",
    "first_layer",
    "get_activation",
    "grid",
    "hermite_coefficients",
    "hermite_polynomials",
    "inputs",
    "kkt",
    "known",
    "match",
    "networks",
    "ntk",
    "plotting",
    "privacy",
    "projection_loss",
    "psnr",
    "published",
    "reconstruct",
    "replay",
    "retrace",
    "retrace_adam",
    "sharded",
    "silent_neurons",
    "ssim",
    "sweep",
]

if _TYPE_CHECKING:
    from . import exercises as exercises


def __getattr__(name: str):
    if name == "exercises":  # twenty modules that only readers of the book want
        return _importlib.import_module(".exercises", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
