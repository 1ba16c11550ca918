"""reconlaw: reading training data back out of a model's parameters.

    data → features (V, φ) → fit → θ  |  attacker: (θ, features, n) → start → solve → signs → X̂  |  matching → report

The bars are the threat model: what stands between them imports nothing from ``data``, ``matching`` or ``images``.
"""

from . import data, exercises, plotting
from .activations import ACTIVATIONS, Activation, get_activation
from .hermite import hermite_coefficients, hermite_polynomials
from .images import psnr, ssim
from .kernel import expected_kernel
from .matching import MatchReport, match
from .projection import SpanError, projection_loss
from .random_features import RandomFeatures
from .reconstruct import reconstruct
from .run import CheckpointError, Result

__version__ = "0.1.0"

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "CheckpointError",
    "MatchReport",
    "RandomFeatures",
    "Result",
    "SpanError",
    "data",
    "exercises",
    "expected_kernel",
    "get_activation",
    "hermite_coefficients",
    "hermite_polynomials",
    "match",
    "plotting",
    "projection_loss",
    "psnr",
    "reconstruct",
    "ssim",
]
