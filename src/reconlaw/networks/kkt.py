r"""Reconstruction by the KKT conditions: from the trained weights alone, without those before training.

A homogeneous network trained on labels ±1 by the logistic loss tends, where the loss tends to zero, to a direction that
is a KKT point of the largest margin (Lyu and Li; Ji and Telgarsky): for all weights w, up to scale

    w = Σ_i λ_i y_i ∇_w f_w(x_i),   λ_i ≥ 0,   λ_i = 0 unless sample i has the smallest margin.

    minimise  ‖w − Σ_i λ_i y_i ∇_w f_w(x̂_i)‖²  over x̂_i and λ_i ≥ 0.

The start of training must have been forgotten: small weights before it, and a small loss after it. Samples off the
margin are in no weight, and cannot be found. On a kink φ'(0) is any number in [0, 1], another for each neuron; where
most neurons end on kinks of samples, as they do in ``benchmarks/roads.py``, the conditions hold only roughly at the
true samples, and other inputs may meet them as well.

Source: Haim, Vardi, Yehudai, Shamir and Irani, arXiv 2206.07758; own implementation. As there: m = 2n candidates, half
of either label, a smoothed slope for the ReLU. Otherwise here: rows on the sphere in place of pixels in a range; λ is
solved for at every step by non-negative least squares, where the paper learns it with a hinge penalty that keeps it
above a small positive bound; Adam in place of momentum.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from .._checks import check_count
from ..attack.result import Result
from .models import TwoLayer
from .tangent import Descent, descend, described, layers


@described
def kkt(
    network: TwoLayer,
    n: int,
    candidates: int | None = None,
    seed: int = 0,
    max_seconds: float | None = 60.0,
    max_steps: int = 5000,
    learning_rate: float = 0.02,
    sharpness: tuple[float, float] = (10.0, 200.0),
    progress: bool = False,
    clock: Callable[[], float] | None = None,
    steps: int | None = None,
) -> Result:
    r"""Inputs whose tangent features, with labels and λ ≥ 0, combine to the trained weights.

    Args:
        network: trained two-layer network (:class:`~reconlaw.networks.TwoLayer`) with ReLU and one output.
        n: number of training samples.
        candidates: m, inputs to look for, the first half with label −1; 2n where None, the paper's choice.
        DESCENT

    Returns:
        :class:`~reconlaw.attack.result.Result` with m rows; ``loss`` is the share of θ that is left. Ctrl-C ends the
        run early.

    Raises:
        TypeError, ValueError: what is wrong with an argument.
    """
    W, v = layers("network", network)
    m = check_count("candidates", 2 * check_count("n", n) if candidates is None else candidates, minimum=2)
    signs = torch.ones(m, dtype=W.dtype, device=W.device)
    signs[: m // 2] = -1
    how = Descent(seed, max_seconds, max_steps, learning_rate, sharpness, progress, clock, steps)
    return descend("kkt", [(W, v)], (W, v), m, how, signs, True)
