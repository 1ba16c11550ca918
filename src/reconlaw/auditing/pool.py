r"""Which of these candidates were trained on? One projection each, whatever p and d are.

The rows of θ lie in the span of the samples' features, and where θ has as many independent rows as there are samples
they *are* that span. With Q (r × p) an orthonormal basis of it, a sample leaves ℓ(x) = ‖(I − QᵀQ)φ(x)‖²/‖φ(x)‖² = 0,
and any other input leaves what it does not share with the samples. The count for it is p > r: no coordinate of x is
unknown. Where another layer is the first that was trained, φ(x) is what that one sees, with 1 for a bias beside.

How small is small? *Wrong releases* answer it: spans of the same rank made from other members of the pool, with the
same body. What candidates that made no part of such a span leave is what lookalikes leave, and a candidate's p-value is
the share of them that leave no more. The false discovery rate over the pool is held by Benjamini and Hochberg's rule.
A candidate is *named* where it passes that rule and leaves no more than the rounding of θ explains. One that passes the
rule alone is called like a sample: candidates of one release depend on one another, and the rule alone is not enough.
Copies of one input in a pool, blank pictures for example, are one input: no copy of a member is a null.

Measured on GELU features of scikit-learn's digits, six samples, float32, pools of 60 (``benchmarks/nulls.py``): at
p = 8, 12, 16, 24 and 64 all members were named and nothing else, with 20 pools each; in pools without a member the rule
alone passed somebody in about one of twenty, as it should, and none was named. At p = 64, of 60,000 candidates in 1,000
pools without a member none was named.

The rule and its p-values are those of :mod:`reconlaw.auditing.nulls`, which says what they answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .._random import seeded_generator
from ..attack.subspace import subspace
from ..features.decompose import svd
from .checks import Check, as_power
from .errors import AuditError
from .nulls import FDR, LEAST, benjamini_hochberg, p_values

# Nulls for each candidate, so that one true one can pass the rule; fewest releases.
_NULLS, _LEAST = 2 * LEAST, 20
# A sample leaves this much, or so many squares of the noise in the weakest direction of the span.
_EXACT, _NOISES = 1e-4, 100.0
# And it leaves less than this share of what one in a thousand lookalikes leaves.
_BELOW, _RAREST = 0.01, 1e-3
# Candidates that differ by no more than this share of their length are copies of one another.
_COPY = 1e-6
_BATCH = 256
_HEADS = "span of the head's change"
# What is asked where the first layer is.
SEEN = "Which of the candidates did the first layer see?"


@dataclass(frozen=True, eq=False)
class Identified:
    r"""What became of a pool of m candidates.

    Attributes:
        residuals: (m,) ℓ of each candidate.
        p_values: (m,) share of candidates in wrong releases that leave no more, (1 + count)/(1 + nulls).
        named: (m,) bool, trained on: the false discovery rate is held, and nothing but rounding is left.
        alike: (m,) bool, like a sample: the rate is held, and more than rounding is left.
        names: of the candidates.
        nulls: how many nulls the p-values rest on.
        rank: r, of the span.
        layer: the first trained layer, whose change spans it; φ(x) is then what that sees of x, and 1 for a bias. None
            where it is the head's.
        lengths: False where multiples of a sample lie in the span as well, for lack of a bias that was trained.
        samples: how many inputs a wrong release was made of; more than r where n is.
        rounding: the residual that rounding explains; a named candidate that leaves more may be near a sample.
    """

    residuals: torch.Tensor
    p_values: torch.Tensor
    named: torch.Tensor
    alike: torch.Tensor
    names: tuple[str, ...]
    nulls: int
    rank: int
    layer: str | None = None
    lengths: bool = True
    samples: int = 0
    rounding: float = 1.0

    @property
    def span(self) -> str:
        """What it is that members lie in, in words."""
        return f"span of the change of {self.layer!r}, the first trained layer," if self.layer else _HEADS

    @property
    def whose(self) -> str:
        """What of an input is asked for, in words."""
        return "numbers" if self.layer else "features"


def _residuals(F, Q):
    """(m,): share of the rows of F (m, p) outside the span of Q (r, p)."""
    rest, size = (F - (F @ Q.T) @ Q).square().sum(1), F.square().sum(1)
    return torch.where(size > 0, rest / size.clamp_min(torch.finfo(F.dtype).tiny), 1.0)  # nothing is no sample


def identify(pair, X: torch.Tensor, names, n: int | None, seed: int) -> Identified:
    r"""Which rows of X were trained on.

    Args:
        pair: the :class:`~reconlaw.auditing.change.HeadChange`, or what of another layer has its ``change``,
            ``features``, ``scale`` and ``moved``.
        X: (m, d) candidates as the model sees them.
        names: of the rows.
        n: number of samples; the rank of θ where None.
        seed: of the wrong releases.

    Raises:
        AuditError: fewer candidates than wrong releases need; or a span that holds every feature vector.
    """
    space = subspace(pair.change, n, 0.0)
    r = max(1, space.rank)
    samples, m = max(r, n or 0), len(X)
    if m < 2 * samples:
        raise AuditError(
            f"candidates holds {m}, and p-values need wrong releases of {samples} others: pass {2 * samples} or more, "
            "by adding inputs of the same kind that were surely not trained on"
        )
    if pair.features.positions > 1:
        raise AuditError("candidates are asked of layers that see one column a sample; this one sees several positions")
    if pair.features.p <= r:
        raise AuditError(f"the layer's change has rank {r}, and its input p = {pair.features.p}: it spans everything")
    F = torch.cat([pair.features(part / pair.scale) for part in X.split(_BATCH)]).cpu().double()
    residuals = _residuals(F, space.Q[:r].to(F))
    generator = seeded_generator("wrong releases", seed)
    nulls: list[torch.Tensor] = []
    X, longest = X.cpu().double(), _COPY * X.cpu().double().norm(dim=1, keepdim=True)
    while len(nulls) < _LEAST or sum(len(one) for one in nulls) < _NULLS * m:
        members = torch.randperm(m, generator=generator, device="cpu")[:samples]
        mix = torch.randn(r, samples, generator=generator, dtype=torch.float64, device="cpu")
        wrong = svd(F[members] if r == samples else mix @ F[members])[2][:r]
        others = (torch.cdist(X, X[members]) > longest).all(1)  # a copy of a member is no lookalike
        others[members] = False
        if not bool(others.any()):
            raise AuditError("candidates holds copies of a few inputs; p-values need others of the same kind")
        nulls.append(_residuals(F[others], wrong))
    null = torch.cat(nulls)
    chances = p_values(residuals, null)
    found = benjamini_hochberg(chances)
    noise = (space.floor / float(space.s[r - 1])) ** 2
    rounding = _NOISES * noise
    exact = residuals <= max(_EXACT, rounding, pair.moved**2)
    # Where p is hardly above r, lookalikes too may leave next to nothing: a sample leaves far less than they do.
    exact &= residuals < _BELOW * float(null.quantile(_RAREST))
    named, alike = found & exact, found & ~exact
    made = (residuals, chances, named, alike, tuple(names), len(null), r)
    return Identified(*made, samples=samples, rounding=rounding)


def pool_check(found: Identified) -> Check:
    """The outcome as a line of the audit."""
    many = int(found.named.sum())
    rest = found.residuals[~found.named]
    text = f"{many} of {len(found.residuals):,}" if many else f"None of {len(found.residuals):,} can be named"
    if many:
        within = "θ" if found.layer is None else f"the change of {found.layer!r}"
        text += f", whose {found.whose} lie in the span of {within} to "
        text += as_power(float(found.residuals[found.named].max()))
    text += f"; the next leaves {as_power(float(rest.min()))}." if len(rest) else "."
    text += _alike(found)
    if not found.lengths:
        text += " No bias tells lengths, so that a multiple of a sample is named as well."
    return Check(
        "Which of the candidates were trained on?" if found.layer is None else SEEN,
        f"{text} p-values from {found.nulls:,} nulls in wrong releases; false discovery rate aimed at {FDR:g}.",
        "open" if many else "note",
    )


def _alike(found: Identified) -> str:
    which = ", ".join(name for name, like in zip(found.names, found.alike.tolist(), strict=True) if like)
    return f" Like a sample, but not one to rounding: {which}." if which else ""


def pool_summary(found: Identified) -> str:
    """The verdict in words, where some are named."""
    which = [name for name, named in zip(found.names, found.named.tolist(), strict=True) if named]
    were, whose, largest = ("were", "Their", "The largest p-value among them")
    if len(which) == 1:
        were, whose, largest = "was", "Its", "Its p-value"
    rest = found.residuals[~found.named]
    near = bool((found.residuals[found.named] > found.rounding).any())
    doubt = f", or inputs whose {found.whose} are as near to theirs as is said here" if near else ""
    return (
        f"{len(which)} of the {len(found.residuals):,} candidates {were} trained on{doubt}: {', '.join(which)}. "
        f"{whose} {found.whose} lie in the {found.span} to {as_power(float(found.residuals[found.named].max()))}"
        + (f"; the next candidate leaves {as_power(float(rest.min()))}" if len(rest) else "")
        + f". {largest} is {as_power(float(found.p_values[found.named].max()))}, by spans of the "
        f"same rank made from other candidates, and the rule aims at a false discovery rate of {FDR:g}."
    )


def nobody_named(found: Identified) -> str:
    """What is said before the verdict where none is named."""
    if found.samples > found.rank:
        why = (
            f"That span has {found.rank} dimensions, and {found.samples} samples that need more do not lie in it, so "
            "that this does not say that none was trained on."
        )
    else:
        why = (
            f"Pass them as the model sees them, because in another range or normalisation a sample's {found.whose} lie "
            "outside, too."
        )
    return (
        f"None of the {len(found.residuals):,} candidates given can be named: the nearest leaves "
        f"{as_power(float(found.residuals.min()))} of its {found.whose} outside the {found.span.rstrip(',')}."
        f"{_alike(found)} {why}"
    )
