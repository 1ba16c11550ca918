"""Checkers of the book's exercises: each says "correct", or which mistake an answer looks like."""

from .random_features import (
    check_features_needed,
    check_kernel_estimate,
    check_minimum_norm,
    check_step_kernel,
)

__all__ = [
    "check_features_needed",
    "check_kernel_estimate",
    "check_minimum_norm",
    "check_step_kernel",
]
