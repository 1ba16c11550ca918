r"""Weight decay in a change: θ = (c − 1)W₀ + AᵀΦ(X), and how c shows.

Where a direction u of the outputs is moved by no sample, uᵀAᵀ = 0, decay alone is left in it: uᵀθ = (c − 1)uᵀW₀,
number for number, so that c is read off and (c − 1)W₀ taken out to rounding. There are such directions after a softmax,
whose gradients sum to zero over the outputs (u = 1), and wherever there are more outputs than samples: the left
eigenvectors of θW₀⁺ whose eigenvalue no sample moves. Otherwise c stays unknown; W₀'s rows are then known columns
beside the samples', at a price of K equations an output, and one number c must explain all that stood beside.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

# Training rounds this many times as much as storing does; a factor must stand this far above what that leaves of it.
_TRAINING, _CLEAR = 20.0, 10.0
# Eigenvectors are asked of layers of at most so many outputs.
_MOST = 2048


@dataclass(frozen=True)
class Decay:
    """What is known of decay: the ``factor`` c by which the old weights shrank, None where it does not show.

    Attributes:
        ruled_out: a direction of the outputs that no sample moves shows that the old weights did not shrink.
        beside: the old rows stand beside the samples' columns, since the caller says that there was decay.
    """

    factor: float | None = None
    ruled_out: bool = False
    beside: bool = False


def find_decay(change, old, rounding: float, wanted: bool | None) -> Decay:
    """Decay in a change (K, p) of weights ``old``.

    Args:
        rounding: ‖rounding of θ‖, as stored.
        wanted: None to look whether it shows; True to take it for granted, False to take none.
    """
    K, p = change.shape
    if wanted is False or not bool(old.any()) or p <= 2 * K or not bool(change.any()):
        return Decay()
    limit = _TRAINING * rounding / K**0.5
    for u in _directions(change, old):
        here, there = u @ change, u @ old
        size = float(there.norm())
        shrunk = float(here @ there) / size**2 if size else 0.0
        if size * _CLEAR < limit or float((here - shrunk * there).norm()) > limit:
            continue
        if abs(shrunk) * size <= _CLEAR * limit:
            if float(change.norm()) > _CLEAR**2 * limit and size > 1e-3 * float(old.norm()):
                return Decay(ruled_out=True, beside=bool(wanted))
        elif -1 < shrunk < 0:
            return Decay(factor=1 + shrunk)
    return Decay(beside=bool(wanted))


def _directions(change, old):
    """Unit vectors of the outputs (K,) in which decay may stand alone."""
    K = len(change)
    if K > 1:
        yield torch.full((K,), K**-0.5, dtype=change.dtype, device=change.device)
    if 1 < K <= _MOST:
        vectors = torch.linalg.eig((change @ torch.linalg.pinv(old)).T).eigenvectors.real
        for u in vectors.T:
            if float(u.norm()) > 1e-6:
                yield u / u.norm()


def factor_and_misfit(pair, result) -> tuple[float, float]:
    """c of old rows that stood beside, and ‖θ − AᵀΦ(X̂) − (c − 1)W₀‖/‖θ‖: how far one number is from explaining them."""
    features = pair.body_features
    columns = features.columns(features(result.X)).cpu()
    alpha = result.coefficients.reshape(len(result.X), features.positions, -1).transpose(0, 1).flatten(0, 1)
    rest = pair.whole - pair.turn.cpu() @ (alpha.cpu().double().T @ columns.double())
    shrunk = float((rest * pair.old).sum() / pair.old.square().sum())
    return 1 + shrunk, float((rest - shrunk * pair.old).norm() / pair.whole.norm())
