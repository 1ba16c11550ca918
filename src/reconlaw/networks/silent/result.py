r"""What came of a search for hyperplanes: samples, how well they are known, and what speaks for them.

Three things are asked of a sample x̂_i read from the normals, none of which needs the truth:

- *one-sided*: the neurons whose rows lie in its hyperplane are turned away from x̂_i, w_j·x̂_i + b_j ≤ 0, before and
  after training. Some may wake between batches, or at the very end, but hardly any faces it at both ends. By chance so
  many signs are a half-space's for a share 2^−bits of their values
  (:class:`reconlaw.networks.first_layer.certificate.Certificate`);
- *complete*: most of the neurons that are turned away from x̂_i at both ends have rows in its hyperplane. Of samples
  that depend on others the hyperplanes hold fewer;
- *all of them*: a sample is where all the other hyperplanes meet, so one that is wrong moves others. All are called
  recovered or none.

The normal t_i of a hyperplane is known from its rows up to δt_i, of covariance C_i = σ² Σ_k v_k v_kᵀ/s_k² over their
other singular directions, σ the noise of the change. The samples X = T⁻¹, T the normals as columns, move by −X δT X, so
sample k by a standard error of (Σ_i x_kᵀ C_i x_k ‖x_i‖²)^½ within the span of the inputs. The span itself is known from
the change's singular values s_j, its direction j up to an error of σ(m − r)^½/s_j out of it, so that a unit vector of
coordinates e_j is off by (m − r)^½ σ (Σ_j e_j²/s_j²)^½ beside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..._words import many
from ...attack.examine import flag_of
from ...attack.result import Flag, Result, Status
from ..first_layer.certificate import half_space_bits
from ..first_layer.change import Change
from ..first_layer.fit import unit
from ..first_layer.result import nothing_stands_out, status_of, without_bias
from .faces import Search

_BITS = 32.0  # a sample's neurons must speak so much for it
_ONE_SIDED = 0.9  # of its neurons are turned away; some that wake do so between its batches, or at the very end
_AWAKE = 0.01  # of them face it at both ends: those would have been moved by it
_COMPLETE = 0.5
_LENGTHS = 256  # that are tried where the bias does not tell them
_SINGULAR = 1e10  # condition of normals that do not give samples
_SAFE = 4.0  # errors stated are so many standard errors
# Other lengths that are tried where the bias tells them, and how many neurons more have to speak for these.
_FACTORS, _MORE = (0.5, 0.8, 0.9, 1.1, 1.25, 2.0), 8
_ASSUMED = "; too few neurons tell other lengths from these, which take biases to be trained at the rate of the weights"


@dataclass(eq=False, repr=False)
class SilentNeurons(Result):
    r"""How a reconstruction from silent neurons ended: a :class:`~reconlaw.attack.result.Result`, and its evidence.

    Attributes:
        X: (n, d) samples, or patches of a convolution; of norm √d where ``lengths`` are not known.
            Where hyperplanes are missing, one rough row for each that was found: the half-space its neurons lie in.
        coefficients: (n, p), β with Δw_j = Σ_i β_ij x_i.
        loss: share of the change that is not so.
        silent: (p, n) bool, the neurons whose change holds nothing of a sample.
        one_sided: (n,) share of the neurons in a sample's hyperplane that are turned away from it at both ends.
        complete: (n,) share of the neurons turned away at both ends that are in its hyperplane.
        bits: (n,) −log₂ of the chance that so many neurons lie on one side of a half-space.
        rank: dimension of the span of the inputs, read off the change; n where they are independent.
        lengths: whether those of X are the samples'. A layer without bias does not tell them, nor does a bias that
            was not trained, that weight decay spared, or whose change does not fit that of the weights, as where it had
            a learning rate of its own.
        assumed: whether ``lengths`` rest on biases that were trained at the rate of the weights, since neurons turn
            away from longer or shorter samples about as well. So it is where biases began at zero.
        decay_factor: share κ of the old weights that weight decay left, 1 where none shows. With decay Δw_j is what
            was added to κ times the old weights.
    """

    silent: torch.Tensor | None = None
    one_sided: torch.Tensor | None = None
    complete: torch.Tensor | None = None
    bits: torch.Tensor | None = None
    rank: int = 0
    lengths: bool = True
    assumed: bool = False
    decay_factor: float = 1.0


def result_of(
    change: Change, rank: int, n: int | None, search: Search | None, run, decay_factor: float = 1.0
) -> SilentNeurons:
    """What came of a search, in the words of the package."""
    p, m = change.D.shape
    d = m - change.bias
    empty = change.D.new_zeros(0, m)
    found = 0 if search is None else len(search.normals)
    whole = search is not None and found == rank and float(torch.linalg.cond(search.normals)) < _SINGULAR
    evidence: dict = {}
    errors, holds = empty[:, 0], empty[:, 0] > 0
    if search is None or not found:
        U = empty
    else:
        rows, held = search.rows, search.held
        T = search.normals.T
        E = torch.linalg.inv(T) if whole else -(held.to(T) - held.to(T).mean(0)).T @ rows.before
        silent = rows.silent(held)
        side = torch.where((silent * (rows.weights[0] @ E.T)).sum(0) <= 0, 1.0, -1.0).to(E)
        E, asked = unit(E * side[:, None]), (rows.moved | rows.still)[:, None]
        before, after = _values(rows, E, silent, asked)
        away = (before <= 0) & (after <= 0) & asked
        count = silent.sum(0)
        one_sided = (silent & away).sum(0) / count.clamp_min(1)  # a sample that all neurons passed is silent to none
        complete = (silent & away).sum(0) / away.sum(0).clamp_min(1)
        evidence = {
            "silent": silent,
            "one_sided": one_sided,
            "complete": complete,
            "bits": torch.tensor(
                [_bits(int(c), round(int(c) * float(s)), rank) for c, s in zip(count, one_sided, strict=True)]
            ).to(E)
            - (0.0 if rows.offsets is None else math.log2(_LENGTHS)),
        }
        U = E @ rows.basis
        if whole:
            errors = _SAFE * _errors(search, E)
            awake = (silent & (before > 0) & (after > 0)).sum(0) / count.clamp_min(1)
            holds = (
                (one_sided >= _ONE_SIDED) & (complete >= _COMPLETE) & (evidence["bits"] >= _BITS) & (awake <= _AWAKE)
            )
        else:
            errors, holds = torch.full_like(E[:, 0], math.inf), torch.zeros(found, dtype=torch.bool, device=E.device)
    if change.bias:
        last = U[:, -1:]
        holds = holds & (last[:, 0] > 0)
        X = U[:, :-1] / torch.where(last == 0, math.nan, last)
        errors = without_bias(errors, X)
    else:
        X = U * d**0.5
    if whole and n is not None and n != rank:
        holds = torch.zeros_like(holds)
    every = bool(holds.all()) and whole
    flags = tuple(flag_of(float(e)) if every else Flag.UNRESOLVED for e in errors)
    status = status_of(rank, flags, run)
    assumed = every and change.bias and not _tell_lengths(change, U, silent, asked)
    V = torch.cat([X, torch.ones_like(X[:, :1])], 1) if change.bias else X
    beta = torch.linalg.lstsq(V.T, change.D.T).solution if found and bool(V.isfinite().all()) else V.new_zeros(found, p)
    rest = change.D - beta.T @ V if found else change.D
    decayed = decay_factor != 1.0
    return SilentNeurons(
        X=X,
        coefficients=beta,
        loss=float(rest.square().sum() / change.D.square().sum()),
        history=run.history,
        converged=status is Status.RECOVERED,
        determined=False if not rank else True if status is Status.RECOVERED else None,
        sign_identifiable=True if found else None,
        message=_message(status, change, rank, n, found, every, evidence, run, decayed) + _ASSUMED * assumed,
        seconds=run.seconds,
        steps=run.steps,
        method="silent neurons",
        status=status,
        flags=flags,
        standard_errors=errors if found else None,
        rank=rank,
        lengths=change.bias,
        assumed=assumed,
        decay_factor=decay_factor,
        **evidence,
    )


def _values(rows, E, silent, asked):
    """Two (p, n), what neurons give for samples of directions E before and after, each of the length that fits best.

    A bias that is no coordinate leaves lengths unknown: of some, that one is taken at which most neurons that are
    silent are turned away, and most others are not, at one end at least.
    """
    turned = [W @ E.T for W in rows.weights]
    if rows.offsets is None:
        return turned
    crossed = (-rows.offsets[0][:, None] / turned[0]).flatten()
    crossed = crossed[(crossed > 0) & crossed.isfinite()]
    if not len(crossed):
        return turned
    at = torch.linspace(0, len(crossed) - 1, _LENGTHS, device="cpu").long().to(crossed.device)
    best, made = torch.full_like(E[:, 0], -1), [torch.empty_like(W) for W in turned]
    for length in crossed.sort().values[at]:
        values = [length * W + b[:, None] for W, b in zip(turned, rows.offsets, strict=True)]
        away = (values[0] <= 0) & (values[1] <= 0)
        fits = ((silent == away) & asked).sum(0).to(best)
        better = fits > best
        best = torch.where(better, fits, best)
        made = [torch.where(better, value, old) for value, old in zip(values, made, strict=True)]
    return made


def _tell_lengths(change: Change, U, silent, asked) -> bool:
    """Whether more neurons are turned away from those samples, and no others, than if all were longer or shorter."""

    def fits(factor):
        longer = torch.cat([U[:, :-1] * factor, U[:, -1:]], 1)
        away = (change.before @ longer.T <= 0) & (change.after @ longer.T <= 0)
        return int(((silent == away) & asked).sum())

    return fits(1.0) >= max(map(fits, _FACTORS)) + _MORE


def _errors(search: Search, E):
    """(r,) standard errors of unit rows E, in units of their length."""
    rows, total = search.rows, torch.zeros_like(E[:, 0])
    lengths = torch.linalg.inv(search.normals.T).norm(dim=1)  # of T⁻¹, whose rows E are but for length
    for i in range(len(E)):
        _, s, Vh = torch.linalg.svd(rows.Y[search.held[:, i]], full_matrices=False)
        along = (E @ Vh[:-1].T) / s[:-1]
        total += (rows.noise * lengths[i]) ** 2 * along.square().sum(1)
    values, (r, m) = rows.scales * len(rows.moved) ** 0.5, rows.basis.shape  # singular values of the change
    total += (m - r) * rows.noise**2 * (E / values).square().sum(1)
    return total.sqrt() + torch.finfo(E.dtype).eps * torch.linalg.cond(search.normals)


def _bits(neurons: int, turned_away: int, r: int) -> float:
    """half_space_bits, less what the choice of the few on the other side allows."""
    wrong = neurons - turned_away
    choices = math.lgamma(neurons + 1) - math.lgamma(wrong + 1) - math.lgamma(turned_away + 1)
    return half_space_bits(neurons, r) - choices / math.log(2)


def _without_norms(change: Change, decayed: bool) -> str:
    if change.offsets is None:
        return "a layer without bias"
    if torch.equal(*change.offsets):
        return "a bias that was not trained"
    return "a bias " + ("that weight decay spared" if decayed else "whose change does not fit that of the weights")


def _message(status, change, rank, n, found, every, evidence, run, decayed) -> str:
    remarks = "".join(f"; {remark}" for remark in run.remarks)
    if not rank:
        return nothing_stands_out(change)
    if found < rank:
        return (
            f"{status.value}: {found} of {many(rank, 'hyperplane')} found, after {run.steps:.0f} steps; a sample is "
            f"read where all the others meet, so none is known yet. Try another seed or more max_steps{remarks}"
        )
    if not every:
        why = "" if n is None or n == rank else f"; n={n} samples of {rank} dimensions depend on each other"
        return (
            f"{status.value}: {many(rank, 'hyperplane')} found, but their samples are not silent where they should be "
            f"(one-sided {float(evidence['one_sided'].min()):.2f}, complete {float(evidence['complete'].min()):.2f}, "
            f"{float(evidence['bits'].min()):.0f} bits){why}{remarks}"
        )
    least = int(evidence["silent"].sum(0).min())
    norms = "" if change.bias else f"; {_without_norms(change, decayed)} tells no norms, so rows have norm √d"
    return (
        f"{status.value}: {many(rank, 'sample')}, each silent to {least} neurons or more and turned away from all but "
        f"{1 - float(evidence['one_sided'].min()):.1%} of them, after {run.steps:.0f} steps{norms}{remarks}"
    )
