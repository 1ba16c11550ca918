r"""What weight decay took of a first layer, read off its change: the factor by which the old weights shrank.

Steps of SGD with decay, by momentum and any schedule too, leave W_T = κW₀ + Σ_i β_i x_iᵀ, one κ for all weights. On the
directions orthogonal to all r inputs W_T = κW₀, so that κ is an eigenvalue of W₀⁺W_T, as often as there are such
directions: the median of all of them while 2r is less than their number. No other change of full rank loses half of
its directions by a multiple of W₀.

A recipe may spare the biases. Then they keep early steps whole that the weights forget in part, Δb_j = Σ_i β'_ji beside
Δw_j = Σ_i β_ji x_i, and are no coordinate of the inputs. But both sums leave out the inputs that neuron j was silent
to, so that the hyperplanes stand in the weights' change alone; what is lost is the inputs' lengths.
"""

from __future__ import annotations

import dataclasses

import torch

from ..first_layer.change import Change

_COLUMNS = 512  # that are asked: the eigenvalues of a large matrix cost more than all the rest
_STILL = 8.0  # a neuron that moved by less than so many times the rounding of training did not move
_TELL = 5  # so many of them tell whether biases decayed


def without_decay(change: Change) -> tuple[Change, float]:
    """The change of W₀ shrunk by κ, and κ; the change as it is, and 1, where no decay shows.

    Biases that decay spared are set aside, as :attr:`~reconlaw.networks.first_layer.change.Change.offsets`.
    """
    W0, W = change.before, change.after
    p, m = W0.shape
    d = m - change.bias
    some = min(d, _COLUMNS)
    if p < 2 * m or some < 3 or change.spectrum[2] < m:
        return change, 1.0
    old, new = W0[:, :some], W[:, :some]
    kappa = float(torch.linalg.eigvals(torch.linalg.lstsq(old, new).solution.cpu()).real.median())
    for _ in range(2):  # by least squares on the directions that hold the least of other things
        away = torch.linalg.svd(new - kappa * old, full_matrices=False)[2][-(some // 2) :].T
        kappa = float((old @ away * (new @ away)).sum() / (old @ away).square().sum())
    if not kappa > 0:
        return change, 1.0
    made = dataclasses.replace(change, before=kappa * W0)
    if change.bias:
        made = _without_spared_bias(made, W0[:, -1])
    return (made, kappa) if made.spectrum[2] <= some // 2 else (change, 1.0)


def bias_aside(made: Change) -> Change:
    """The change of the weights alone, its biases as :attr:`~reconlaw.networks.first_layer.change.Change.offsets`."""
    return dataclasses.replace(
        made,
        before=made.before[:, :-1],
        after=made.after[:, :-1],
        bias=False,
        offsets=(made.before[:, -1], made.after[:, -1]),
    )


def remark_decay(run, factor: float) -> None:
    """Add to the run's message what weight decay left of the old weights, where it took some."""
    if factor != 1.0:
        run.remark(f"weight decay left {factor:.6g} of the old weights")


def _without_spared_bias(made: Change, bias: torch.Tensor) -> Change:
    """The change as it is where its biases decayed along, and else that of the weights alone; ``bias`` before."""
    weights = bias_aside(made)
    if weights.spectrum[2] == made.spectrum[2]:  # b holds no more than the inputs: it shrank along
        return made
    # One direction more is a spared bias, or that of inputs which depend on each other. Neurons at rest tell.
    limit = _STILL * made.rounding
    still = weights.D.abs().amax(1) < limit
    if int(still.sum()) < _TELL:
        return weights
    spared = (made.after[still, -1] - bias[still]).abs().median() < limit
    return weights if bool(spared) else made
