"""What came of a first layer, in the words of the package."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch

from ..._words import many
from ...attack.examine import RECOVERED, flag_of
from ...attack.result import Flag, Result, Status
from .certificate import Certificate


@dataclass(eq=False, repr=False)
class FirstLayer(Result):
    r"""How a reconstruction from a first layer ended: a :class:`~reconlaw.attack.result.Result`, and its certificate.

    Attributes:
        X: (n, d) samples, or patches of a convolution; of norm √d where the layer has no bias, which tells no norms.
        coefficients: (n, K), what training added along each output of the read-out, c_i; by silent neurons the nearest
            to what it added.
        loss: share of the change that the samples do not explain, over the neurons that none of them crossed.
        edges: (n, m) the edges c_i x_i, the bias last where there is one; their length is that of c_i for a read-out of
            root mean square one.
        masks: (p, n) bool, which neurons saw which sample.
        position: (n,) the position of a patch, 0 where all share one read-out.
        certificate: what stands for each edge (integral, two-valued, a half-space); None where too few were found, or
            where another speaks.
        silent: where X came by silent neurons, their result, and in it what speaks for the samples; None else.
        lazy: whether the change is that of frozen masks and read-out (exact), or of training that moved them.
        rank: dimension of the span of the inputs, read off the change; n where they are independent.
        decay_factor: share of the old weights that weight decay left, 1 where none shows; the change is what was added
            to that.
    """

    edges: torch.Tensor | None = None
    masks: torch.Tensor | None = None
    position: torch.Tensor | None = None
    certificate: Certificate | None = None
    silent: Result | None = None
    lazy: bool | None = None
    rank: int = 0
    decay_factor: float = 1.0

    @property
    def road(self) -> str:
        """How X was found: "masks frozen", "silent neurons" or "read-out trained along"; "" where nothing was."""
        if self.silent is not None:
            return "silent neurons"
        return "" if self.lazy is None else "masks frozen" if self.lazy else "read-out trained along"


def result_of(change, rank, n, outcome, run, decay_factor: float = 1.0) -> FirstLayer:
    """What came of a search, in the words of the package."""
    p, m = change.D.shape
    d = m - change.bias
    basis = outcome.problem.basis if outcome else change.D.new_zeros(0, m)
    X = outcome.X @ basis if outcome else change.D.new_zeros(0, m)
    found = len(X)
    edges: Any = None
    weights: Any = None
    errors: Any = None
    certificate: Any = None
    flags: tuple[Flag, ...] = ()
    settled = outcome is not None and outcome.fit is not None and len(outcome.fit.X) == found
    if settled:
        edges, weights, certificate = outcome.fit.X @ basis, outcome.fit.weights, outcome.certificate
        errors = outcome.errors()
    if change.bias:
        X = X[:, :-1] / X[:, -1:]
        if settled:
            errors = without_bias(errors, X)
    else:
        X = X * d**0.5
    if settled:
        held = certificate.holds & bool(len(X) == rank)
        flags = tuple(flag_of(float(e)) if ok else Flag.UNRESOLVED for e, ok in zip(errors, held.tolist(), strict=True))
    else:
        flags = (Flag.UNRESOLVED,) * found
    coefficients = X.new_zeros(found, change.V.shape[2])
    if settled:
        for i in range(found):
            V = change.V[int(outcome.position[i])]
            c = torch.linalg.lstsq(V, weights[:, i, None]).solution[:, 0]
            whole = edges[i].norm() / (torch.cat([X[i], X.new_ones(1)]) if change.bias else X[i]).norm()
            coefficients[i] = c * whole
    status = status_of(rank, flags, run)
    return FirstLayer(
        X=X,
        coefficients=coefficients,
        loss=outcome.fit.loss if settled else 1.0,
        history=run.history,
        converged=status is Status.RECOVERED,
        determined=False if not rank else True if status is Status.RECOVERED else None,
        sign_identifiable=True if settled else None,
        message=_message(status, change, rank, found, flags, outcome, run),
        seconds=run.seconds,
        steps=run.steps,
        method="first layer",
        status=status,
        flags=flags,
        standard_errors=errors,
        edges=edges,
        masks=None if outcome is None else outcome.signs > 0,
        position=None if outcome is None else outcome.position,
        certificate=certificate,
        lazy=None if outcome is None else outcome.problem.lazy,
        rank=rank,
        decay_factor=decay_factor,
    )


def result_by_silence(change, told) -> FirstLayer:
    """The same of a :class:`~reconlaw.networks.silent.SilentNeurons` with all samples, in terms of edges."""
    masks = ~told.silent
    inputs = torch.cat([told.X, torch.ones_like(told.X[:, :1])], 1) if change.bias else told.X
    coefficients, position, edges = [], [], []
    for i, beta in enumerate(told.coefficients):
        columns = masks[:, i, None] * change.V  # (T, p, Q)
        c = torch.stack([torch.linalg.lstsq(V, beta[:, None]).solution[:, 0] for V in columns])
        fitted = torch.einsum("tpq,tq->tp", change.V, c)
        at = int((masks[:, i] * fitted - beta).norm(dim=1).argmin())
        coefficients.append(c[at])
        position.append(at)
        edges.append(fitted[at].square().mean().sqrt() * inputs[i])
    shared = {one.name: getattr(told, one.name) for one in fields(Result)}
    return FirstLayer(
        **shared | {"coefficients": torch.stack(coefficients)},
        edges=torch.stack(edges),
        masks=masks,
        position=torch.tensor(position, device=masks.device),
        silent=told,
        lazy=False,
        rank=told.rank,
        decay_factor=told.decay_factor,
    )


def without_bias(errors: torch.Tensor, X: torch.Tensor) -> torch.Tensor:
    """(n,) relative errors of samples X (n, d), by those of the rows (X, 1)."""
    length = X.norm(dim=1)
    return errors * (1 + length.square()).sqrt() * (1 + 1 / length)


def status_of(rank: int, flags: tuple[Flag, ...], run) -> Status:
    """How a search ended, by the rank of the change, 0 where it fills its space, and a flag for each sample found."""
    if not rank:
        return Status.NOT_DETERMINED
    if len(flags) == rank and all(flag is Flag.RECOVERED for flag in flags):
        return Status.RECOVERED
    if any(flag in (Flag.RECOVERED, Flag.ROUGH) for flag in flags):
        return Status.IN_PART
    return Status.INTERRUPTED if run.interrupted else Status.BUDGET_SPENT if run.spent else Status.STALLED


def nothing_stands_out(change) -> str:
    """The message of a change that fills its space."""
    return (
        f"not determined: the change of the first layer fills its {min(change.D.shape)} dimensions, so no samples "
        "stand out. Either there are as many inputs (or patches) as dimensions, or something else moved it: Adam, "
        "weight decay where samples fill more than half of the dimensions, noise. Pass n= where noise is small beside "
        "the samples"
    )


def _message(status, change, rank, found, flags, outcome, run) -> str:
    remarks = "".join(f"; {remark}" for remark in run.remarks)
    if not rank:
        return nothing_stands_out(change)
    if outcome is None or not found:
        return f"{status.value}: no mask was found among {len(change.D)} neurons for a change of rank {rank}{remarks}"
    good = sum(flag is Flag.RECOVERED for flag in flags)
    if status is Status.RECOVERED:
        worst = float(outcome.certificate.distance.max())
        how = "masks frozen" if outcome.problem.lazy else "read-out trained along"
        norms = "" if change.bias else "; a layer without bias tells no norms, so rows have norm √d"
        return (
            f"recovered: {many(good, 'sample')}, every coordinate within {worst:.0e} of 0 or 1, every mask a "
            f"half-space of its sample ({how}), after {run.steps:.0f} steps{norms}{remarks}"
        )
    held = int(outcome.certificate.holds.sum()) if outcome.certificate is not None and flags else 0
    shares = (
        f"{found} of {rank} masks found, the certificate holds for {held}, {many(good, 'sample')} told to {RECOVERED}"
    )
    return f"{status.value}: {shares}, after {run.steps:.0f} steps; try another seed or more max_steps{remarks}"
