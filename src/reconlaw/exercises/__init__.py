"""Checkers of the book's exercises: each says "correct", or which mistake an answer looks like."""

from ._diagnose import NotYet
from .adapters import check_decay_factor, check_most_samples
from .defences import check_clipped_sum, check_noise_multiplier, check_success_bound
from .feature_space import check_closest_angle, check_feature_distance, check_off_span
from .hermite_expansions import check_derivative_coefficients, check_flip_cosine, check_hermite_polynomials
from .how_it_was_trained import check_adam_first_step, check_flatness
from .images_from_weights import check_errors_up_to_sign, check_labels_from_weights, check_least_features
from .many_outputs import check_membership, check_what_is_left, check_whiten
from .noise import check_int8_noise, check_noise_bound, check_stopped_coefficients
from .normalisation_and_dropout import check_another_batch, check_dropout_minimiser, check_steps_needed
from .parity_lift import check_damped_step, check_lifted_slopes, check_removal_costs
from .partial_information import check_blurred_relu, check_linear_share, check_partial_count, check_start_noise
from .phase_transition import check_log_likelihood, check_separated, check_wilson_interval
from .projection_loss import check_largest_step, check_projection_gradient, check_projection_value
from .random_features import (
    check_features_needed,
    check_kernel_estimate,
    check_minimum_norm,
    check_step_kernel,
)
from .residual_networks import check_corrected, check_head_width, check_tangents, check_weakest
from .sign_ambiguity import check_flip_change, check_read_signs, check_unnoticed_flips
from .spectral_start import check_apply_moment, check_outlier_ratio, check_third_moment_gradient
from .the_first_layer import check_agreement, check_edges, check_round
from .the_law import check_error_bar, check_jacobian_rank, check_one_sample
from .the_law_proved import check_all_angles, check_unique_from
from .two_layer import check_first_layer_gradient, check_least_width, check_movement_bounds, check_read_n
from .unknown_n import check_certificate, check_duality_gap, check_one_atom, check_shrunk_coefficients
from .what_pictures_look_like import check_family_distance, check_least_parameters, check_to_levels
from .your_own_model import check_head_count, check_standard_errors, check_undo_decay

__all__ = [
    "check_adam_first_step",
    "NotYet",
    "check_agreement",
    "check_all_angles",
    "check_another_batch",
    "check_apply_moment",
    "check_blurred_relu",
    "check_certificate",
    "check_clipped_sum",
    "check_closest_angle",
    "check_corrected",
    "check_damped_step",
    "check_decay_factor",
    "check_derivative_coefficients",
    "check_dropout_minimiser",
    "check_duality_gap",
    "check_edges",
    "check_error_bar",
    "check_errors_up_to_sign",
    "check_feature_distance",
    "check_features_needed",
    "check_first_layer_gradient",
    "check_flatness",
    "check_flip_change",
    "check_flip_cosine",
    "check_head_count",
    "check_head_width",
    "check_hermite_polynomials",
    "check_int8_noise",
    "check_jacobian_rank",
    "check_kernel_estimate",
    "check_family_distance",
    "check_labels_from_weights",
    "check_least_parameters",
    "check_largest_step",
    "check_least_features",
    "check_least_width",
    "check_lifted_slopes",
    "check_linear_share",
    "check_log_likelihood",
    "check_membership",
    "check_minimum_norm",
    "check_movement_bounds",
    "check_most_samples",
    "check_noise_bound",
    "check_noise_multiplier",
    "check_off_span",
    "check_one_atom",
    "check_one_sample",
    "check_outlier_ratio",
    "check_partial_count",
    "check_projection_gradient",
    "check_projection_value",
    "check_read_n",
    "check_read_signs",
    "check_removal_costs",
    "check_round",
    "check_separated",
    "check_shrunk_coefficients",
    "check_standard_errors",
    "check_start_noise",
    "check_step_kernel",
    "check_steps_needed",
    "check_stopped_coefficients",
    "check_success_bound",
    "check_tangents",
    "check_to_levels",
    "check_third_moment_gradient",
    "check_undo_decay",
    "check_unique_from",
    "check_unnoticed_flips",
    "check_weakest",
    "check_what_is_left",
    "check_whiten",
    "check_wilson_interval",
]
