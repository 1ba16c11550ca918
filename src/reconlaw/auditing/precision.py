r"""At which precision did training compute? Estimated from the change itself, with what that leaves unexplained.

The digits of a file tell how it was stored. Under autocast a float32 file was trained on features that the body rounded
to eight or eleven bits, and such a θ = AᵀΦ̃(X) is explained by no inputs down to the digits it is stored in. Two things
tell so, and neither looks at the truth:

1. *A direction of the outputs that no sample moves.* The gradients of cross-entropy after a softmax sum to zero over
   the K outputs, so what uᵀθ holds, u = 1/√K, is rounding. Its share ‖uᵀθ‖/‖θ‖ lies between ε/200 and ε of the type
   that training computed in (measured: ε/60 to ε/22, 100 steps); in float32 it is a few roundings of storage.
2. *The loss that a precision foretells.* On the candidates X̂ the body computes at that precision what it computed in
   training, nearly: with coefficients A it leaves F = ‖P⊥(Φ̃(X̂) − Φ(X̂))ᵀA‖²/‖θ‖², P⊥ off the candidates' features.
   At the right samples the loss of the attack is F to a tenth or two (measured: 0.86 to 0.93 F), so a set that is left
   with much more, or with much less, was not trained on so.

3. *Each sample's own rounding.* Rounding is arithmetic: at the right place the body rounds as it did in training, and
   what is left of θ holds (Φ̃(x̂_i) − Φ(x̂_i))ᵀa_i, number for number. Their correlation times the root of how many
   numbers there are, z_i, was 15 to 25 at samples that were found to 1e-3 (p = 2,048, six outputs) and below 8 a few
   percent beside them, where other digits are rounded and the weights alone are rounded alike.

A file that is stored in few digits was trained in them at every step: then uᵀθ measures what steps smaller than half a
spacing leave, K‖uᵀθ‖² in all (measured: 0.4 to 1.4 times the loss at the samples, in 48 heads whose loss there went
from 3e-6 to 0.8). That is part of F, and drowns each sample's own rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

# Machine epsilons of what training may compute in, the finer first.
_TYPES = (torch.float16, torch.bfloat16)
# Shares of ε that a direction without samples may hold, and what is usual.
_LEAST, _USUAL, _MOST = 1 / 200, 1 / 40, 1.0
# In float32 it holds no more than so many roundings of storage. Of a file of few digits, the share of θ that may be
# lost where samples are recovered, and where candidates are shown.
_ROUNDINGS, _LOST, _MUCH = 48.0, 0.01, 0.1
# A loss is as foretold within these factors, and the attack looks for so many times the error of random features.
_LOW, _HIGH, _SOUGHT, _BEYOND = 0.25, 2.0, 3.0, 5.0
# A rounding shows from this z on.
_SHOWS = 10.0
# What training in few digits leaves, in squares of the rounding of files.
TRAINED, FULL = 4.0, 1e-5


@dataclass(frozen=True, eq=False)
class Training:
    """The precision of training that the candidates agree with.

    Attributes:
        dtype: of its arithmetic.
        foretold: F, the loss that it leaves.
        theta: (R, p), the head that training at this precision would make of the candidates.
        shows: (n,) bool, whether the rounding of each candidate's own features shows in θ; None of files in few digits.
        lost: share of θ that steps in few digits lost, √K‖uᵀθ‖/‖θ‖; 0 where the files have more.
    """

    dtype: torch.dtype
    foretold: float
    theta: torch.Tensor
    shows: torch.Tensor | None = None
    lost: float = 0.0

    @property
    def tolerance(self) -> float:
        """The loss up to which θ counts as explained."""
        return _HIGH * self.foretold

    @property
    def too_much(self) -> bool:
        """Whether so much was lost that no sample counts as recovered."""
        return self.lost > _LOST

    @property
    def name(self) -> str:
        return str(self.dtype).removeprefix("torch.")


def dtype_of(old: torch.Tensor, new: torch.Tensor) -> torch.dtype:
    """The coarser dtype of two weights; of few digits also where the new one's fit it, as when a file was widened.

    The old ones may be wider than they look: what training began from was exact.
    """
    stored = max((old.dtype, new.dtype), key=lambda dtype: torch.finfo(dtype).eps)
    if torch.finfo(stored).eps > FULL or not bool(new.any()):
        return stored
    return next((dtype for dtype in reversed(_TYPES) if torch.equal(new.to(dtype).to(new.dtype), new)), stored)


def still(change: torch.Tensor) -> float:
    """‖uᵀθ‖/‖θ‖ of θ (K, p), u = 1/√K: what a direction holds that no sample moves after a softmax."""
    size = float(change.norm())
    return float(change.sum(0).norm()) / math.sqrt(len(change)) / size if len(change) > 1 and size else math.inf


def types_of(change: torch.Tensor, noise: float, stored: torch.dtype) -> tuple[torch.dtype, ...]:
    """Types of few digits that training may have computed in, by θ (K, p) alone, the likeliest first.

    ``noise`` is ‖rounding of θ‖/‖θ‖ in files of the dtype ``stored``.
    """
    share, K = still(change), len(change)
    if torch.finfo(stored).eps > FULL:
        return (stored,) if math.sqrt(TRAINED) * noise < math.sqrt(K) * share <= _MUCH else ()
    if not math.sqrt(K) * share > _ROUNDINGS * noise:
        return ()
    fitting = [one for one in _TYPES if _LEAST <= share / torch.finfo(one).eps <= _MOST]
    return tuple(sorted(fitting, key=lambda one: abs(math.log(share / torch.finfo(one).eps / _USUAL))))


def computed(body: torch.nn.Module, shape, X: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n, p) features of inputs X (n, d) as a float32 body computes them under autocast to ``dtype``, in float64."""
    with torch.no_grad(), torch.autocast(X.device.type, dtype):
        return body(X.reshape(-1, *shape).float()).flatten(1).double()


def sought(pair) -> float:
    """The loss to look for where :attr:`~reconlaw.auditing.change.HeadChange.coarse` names a type, on random inputs."""
    K, share = len(pair.change), still(pair.change)
    lost = _HIGH * K * share**2 if torch.finfo(pair.dtype).eps > FULL else 0.0
    return min(1.0, lost + (_SOUGHT * pair.computing_error[pair.coarse[0]]) ** 2)


def training_of(pair, result) -> Training | None:
    """The type of the pair's by which the loss of ``result`` is as foretold and most roundings show; None where none.

    Of files in few digits their loss is enough; where more than a percent of θ was lost nothing is recovered, and where
    a tenth was nothing is claimed.
    """
    few, found = torch.finfo(pair.dtype).eps > FULL, []
    X, alpha = result.X.double(), result.coefficients.double()
    if alpha.shape != (len(X), len(pair.theta)):
        return None
    Phi = pair.features(X).double()
    alpha, theta = alpha.to(Phi), pair.theta.to(Phi)
    Q = torch.linalg.qr(Phi.T).Q
    left = theta - (theta @ Q) @ Q.T
    for dtype in pair.coarse:
        rough = pair.computed(X, dtype)
        z, off = _seen(alpha, rough - Phi, Q, left)
        foretold = float(off.square().sum()) / pair.size**2
        if not foretold <= (_BEYOND * pair.computing_error[dtype]) ** 2:
            continue
        if few:
            lost = math.sqrt(len(pair.change)) * still(pair.change)
            foretold += lost**2
            if result.loss <= _HIGH * foretold:
                return Training(dtype, foretold, alpha.T @ rough, lost=lost)
        elif _LOW * foretold <= result.loss <= _HIGH * foretold:
            found.append(Training(dtype, foretold, alpha.T @ rough, (z >= _SHOWS).cpu()))
    return max(found, key=lambda one: 0 if one.shows is None else int(one.shows.sum()), default=None)


def _seen(alpha, off, Q, left):
    """z_i of each candidate's own part of AᵀN in what is left of θ, (n,), and P⊥NᵀA itself, (R, p)."""
    off = off - (off @ Q) @ Q.T
    size = alpha.norm(dim=1) * off.norm(dim=1) * left.norm()
    own = (alpha * (off @ left.T)).sum(1) / size.clamp_min(torch.finfo(size.dtype).tiny)
    return own * math.sqrt(left.numel()), alpha.T @ off
