"""reconlaw: reading training data back out of a model's parameters.

    data → features (V, φ) → fit → θ  |  attacker: (θ, features, n) → start → solve → signs → X̂  |  matching → report

The bars are the threat model: what stands between them imports nothing from ``data``, ``matching`` or ``images``.
"""

from . import counting, data, exercises, networks, plotting, privacy
from ._checks import device_note
from .activations import ACTIVATIONS, Activation, get_activation
from .audit import Audit, AuditError, audit
from .hermite import hermite_coefficients, hermite_polynomials
from .images import psnr, ssim
from .kernel import expected_kernel
from .kkt import kkt
from .matching import MatchReport, match
from .module_features import ModuleFeatures
from .ntk import ntk
from .partial import known
from .perturbation import Perturbation
from .projection import SpanError, projection_loss
from .published import published
from .random_features import RandomFeatures
from .reconstruct import reconstruct
from .replay import Replay, replay
from .run import CheckpointError, Result
from .sweep import SweepError, grid, sweep
from .sweep_store import StoreError

__version__ = "0.1.0"

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Audit",
    "AuditError",
    "CheckpointError",
    "MatchReport",
    "ModuleFeatures",
    "Perturbation",
    "RandomFeatures",
    "Replay",
    "Result",
    "SpanError",
    "StoreError",
    "SweepError",
    "audit",
    "counting",
    "data",
    "device_note",
    "exercises",
    "expected_kernel",
    "get_activation",
    "grid",
    "hermite_coefficients",
    "hermite_polynomials",
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
    "ssim",
    "sweep",
]
