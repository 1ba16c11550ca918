"""Checkers of the book's exercises: each says "correct", or which mistake an answer looks like."""

from .feature_space import check_closest_angle, check_feature_distance, check_off_span
from .hermite_expansions import check_derivative_coefficients, check_flip_cosine, check_hermite_polynomials
from .images_from_weights import check_errors_up_to_sign, check_labels_from_weights, check_least_features
from .parity_lift import check_damped_step, check_lifted_slopes, check_removal_costs
from .phase_transition import check_log_likelihood, check_separated, check_wilson_interval
from .projection_loss import check_largest_step, check_projection_gradient, check_projection_value
from .random_features import (
    check_features_needed,
    check_kernel_estimate,
    check_minimum_norm,
    check_step_kernel,
)
from .sign_ambiguity import check_flip_change, check_read_signs, check_unnoticed_flips
from .spectral_start import check_apply_moment, check_outlier_ratio, check_third_moment_gradient
from .the_law import check_error_bar, check_jacobian_rank, check_one_sample
from .unknown_n import check_certificate, check_duality_gap, check_one_atom, check_shrunk_coefficients
from .your_own_model import check_head_count, check_standard_errors, check_undo_decay

__all__ = [
    "check_apply_moment",
    "check_certificate",
    "check_closest_angle",
    "check_damped_step",
    "check_derivative_coefficients",
    "check_duality_gap",
    "check_error_bar",
    "check_errors_up_to_sign",
    "check_feature_distance",
    "check_features_needed",
    "check_flip_change",
    "check_flip_cosine",
    "check_head_count",
    "check_hermite_polynomials",
    "check_jacobian_rank",
    "check_kernel_estimate",
    "check_labels_from_weights",
    "check_largest_step",
    "check_least_features",
    "check_lifted_slopes",
    "check_log_likelihood",
    "check_minimum_norm",
    "check_off_span",
    "check_one_atom",
    "check_one_sample",
    "check_outlier_ratio",
    "check_projection_gradient",
    "check_projection_value",
    "check_read_signs",
    "check_removal_costs",
    "check_separated",
    "check_shrunk_coefficients",
    "check_standard_errors",
    "check_step_kernel",
    "check_third_moment_gradient",
    "check_undo_decay",
    "check_unnoticed_flips",
    "check_wilson_interval",
]
