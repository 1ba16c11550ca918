r"""Reconstruction by the neural tangent kernel: from all weights, before and after training.

Gradient descent on any loss moves the weights by combinations of ∇_w f(x_i). Where the network is so wide that these
gradients hardly change on the way, Δw = Σ_i α_i ∇_w f_{w₀}(x_i); where they do, those at both ends take part,

    minimise  ‖Δw − Σ_i α_i ∇_w f_{w₀}(x̂_i) − Σ_i α'_i ∇_w f_{w*}(x̂_i)‖²  over x̂_i, α_i, α'_i.

Source: Loo, Hasani, Lechner, Amini and Rus, arXiv 2302.01428; own implementation. As there: m = 2n candidates, a
softplus that sharpens, Adam. Otherwise here: rows on the sphere, which the data are known to lie on; the coefficients
are solved for rather than learned, which came nearer in less time; the step falls to zero.
"""

from __future__ import annotations

from collections.abc import Callable

from .._checks import check_count
from ..attack.result import Result
from .models import TwoLayer
from .tangent import Descent, descend, described, layers


@described
def ntk(
    before: TwoLayer,
    after: TwoLayer,
    n: int,
    candidates: int | None = None,
    ends: str = "both",
    seed: int = 0,
    max_seconds: float | None = 60.0,
    max_steps: int = 5000,
    learning_rate: float = 0.02,
    sharpness: tuple[float, float] = (10.0, 200.0),
    progress: bool = False,
    clock: Callable[[], float] | None = None,
    steps: int | None = None,
) -> Result:
    r"""Inputs whose tangent features combine to what training changed in all the weights.

    Args:
        before: two-layer network (:class:`~reconlaw.networks.TwoLayer`) with ReLU and one output, from before the
            training; the attack runs where it is.
        after: the trained one.
        n: number of training samples.
        candidates: m, inputs to look for; 2n where None, the paper's choice: some serve twice.
        ends: where tangent features are taken, "before" or "both".
        DESCENT

    Returns:
        :class:`~reconlaw.attack.result.Result` with m rows; ``loss`` is the share of Δw that is left. Ctrl-C ends the
        run early.

    Raises:
        TypeError, ValueError: what is wrong with an argument.
    """
    (W0, v0), (W1, v1) = layers("before", before), layers("after", after)
    if W0.shape != W1.shape:
        raise ValueError(f"before has a first layer {tuple(W0.shape)}, after {tuple(W1.shape)}; pass one network's two")
    if ends not in ("before", "both"):
        raise ValueError(f"ends={ends!r} is unknown; use 'before' or 'both'")
    W1, v1 = W1.to(W0), v1.to(v0)
    m = check_count("candidates", 2 * check_count("n", n) if candidates is None else candidates)
    at = [(W0, v0), (W1, v1)] if ends == "both" else [(W0, v0)]
    how = Descent(seed, max_seconds, max_steps, learning_rate, sharpness, progress, clock, steps)
    return descend("ntk", at, (W1 - W0, v1 - v0), m, how)
