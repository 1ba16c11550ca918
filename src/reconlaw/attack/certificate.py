r"""What was found, asked at the place where it was found: does θ hold each of these samples there?

Counting (:mod:`reconlaw.attack.count`) says what θ could determine. At the samples X̂ that explain it the Jacobian says
more. θ = AᵀΦ(X) moves by Jδ as the samples move within their domain and the coefficients by anything; with the
coefficients eliminated, M = P⊥J, a sample's columns scaled to its own size. Of its singular vectors one asks:

1. *Is a sample loose?* A direction with singular value 0 moves samples and leaves θ as it is. For ReLU the neurons
   that are inactive on all candidates have rows of zeros, and say nothing. Measured: at right answers the smallest
   singular value is 1e-3 or more of the largest, at wrong ones of this kind 1e-14 or less, so that a bound of 1e-9
   accuses no right one and lets no wrong one pass.
2. *Is a sample unchecked?* Row j of the hat matrix M̄M̄⁺ has leverage 1 where number j of θ is met by a direction of its
   own: without it the samples would be loose, and with it they fit whatever it is. Then nothing speaks for the answer
   but that it exists, and rivals are as good: at p equal to the number of unknowns that holds for every answer. Where
   each number can be spared, an answer that meets them all is no accident.
3. *How far could a sample be off?* Noise of variance s² in each number of θ moves sample i by an error of covariance
   s² (MᵀM)⁻¹ restricted to it, and the descent ended (MᵀM)⁻¹Mᵀr short of its goal; s² is that of the residual, or of
   rounding where that is more. Noise need not be even: one output may hold most of it, or all outputs of a neuron the
   same. So off the sphere, and of several outputs, each neuron j is left out in turn as well, which moves the samples
   by (MᵀM)⁻¹M_jᵀ(1 − H_jj)⁻¹r_j, H_jj its block of the hat matrix, and the larger counts: s² (MᵀM)⁻¹, or the sum of
   the squares of these moves (Efron's jackknife).

Where the matrix is too large the same is asked by conjugate gradients on MᵀM: their Lanczos coefficients give its
smallest eigenvalue, solutions for random right-hand sides the traces of the inverse's blocks (Hutchinson). What M
leaves of random numbers g in the place of θ is zero wherever the leverage is 1, for every g, and nowhere else for
several.
"""

from __future__ import annotations

import contextlib
import functools
import math
from dataclasses import dataclass

import torch

from .._random import seeded_generator
from ..features.budget import patiently
from ..features.decompose import eigh, svd, within_reach
from ..features.gram import SpanError, StepError, as_step
from ..inputs import Sphere
from .normal import Normal

_SPHERE = Sphere()
# Singular: below this share of the largest singular value; in float32 its square root.
_SINGULAR = {torch.float64: 1e-9, torch.float32: 3e-5}
# The same for the squares, which a Gram matrix knows to its rounding.
_SINGULAR_GRAM = {torch.float64: 1e-13, torch.float32: 1e-5}
# A sample takes part in a direction, or depends on a number of θ, where its share of it is above this.
_TAKES_PART = 1e-3
# Leverage above which no other number checks this one.
_OWN = 1e-6
# Multiplications that the dense road may cost, and near the count, where leverages are wanted.
_DENSE_COST, _DENSE_COST_NEAR = 1 << 29, 1 << 33
_NEAR = 1.5
# Numbers that the Jacobian may hold.
_DENSE_NUMBERS = 1 << 26
# Right-hand sides of conjugate gradients for traces.
_PROBES = 2
# Least share of a neuron's numbers that others leave to it, where it is left out.
_LEFT = 1e-3
# A direction is seen weakly where its singular value is below this share of the largest.
_WEAK = 1e-2
# Products that estimate the largest eigenvalue, and by how much it is then overestimated; rows of a Gram matrix made at
# a time; vectors of signs that look for numbers that others check.
_POWERS, _SURELY, _GRAM_ROWS, _LOOKS = 8, 1.25, 64, 4


@dataclass(frozen=True)
class Certificate:
    r"""What holds each sample in place.

    Attributes:
        errors: (n,) relative standard errors; infinite where the sample is loose.
        most: (n,) the same where all of the residual lay along the sample's own directions.
        loose: (n,) bool: a direction that θ does not see moves the sample.
        unchecked: (n,) bool: the sample rests on a number of θ that no other number checks.
        costs: (n,) how much the loss would grow without the sample, to first order: ‖P⊥φ_i‖²‖α_i‖²/‖θ‖².
        weights: (n,) norms of the samples' coefficients.
        speaking: numbers of θ that move as samples or coefficients do.
        noise: the loss that rounding and residual leave.
        smallest: smallest over largest singular value, or a bound that it is above.
        weakest: (n, k) how far the residual would carry the samples if all of it lay along the direction that θ sees
            least; None where θ sees all of them well, or that was not computed.
    """

    errors: torch.Tensor
    most: torch.Tensor
    loose: torch.Tensor
    unchecked: torch.Tensor
    costs: torch.Tensor
    weights: torch.Tensor
    speaking: int
    noise: float
    smallest: float
    weakest: torch.Tensor | None = None


def certify(features, theta, X, spare: int, inputs=_SPHERE) -> Certificate:
    r"""The certificate of samples X for θ.

    ``spare`` equations share the residual's variance, and coordinates on a bound of ``inputs`` stay where they are.

    Raises:
        SpanError: nothing can be said here: the features are not finite, say.
        StepError: a step could not be computed, for want of memory say.
    """
    (n, d), R, p = X.shape, len(theta), features.p
    # What rests on a bound does not move, and takes no column of M.
    moving = n * d if isinstance(inputs, Sphere) else int((~inputs.active(X)).sum())
    cost, near = R * p * moving**2, (R * p) <= _NEAR * (R * p - spare)
    numbers = n * features.d * max(R, features.positions) * p
    if not features.divided and numbers <= _DENSE_NUMBERS and cost <= (_DENSE_COST_NEAR if near else _DENSE_COST):
        return _dense(features, theta, X, spare, inputs)
    return _matrix_free(features, theta, X, spare, inputs)


def _sphere(X):
    """Orthonormal bases of the tangent spaces at the rows of X, (n, d, d − 1)."""
    return torch.linalg.qr(within_reach(X[:, :, None]), mode="complete").Q[:, :, 1:].to(X)


def _of_sample(alpha, n):
    """(n,): norms of the coefficients of each sample, of all of its columns."""
    return alpha.norm(dim=1).reshape(-1, n).norm(dim=0)


def _working(theta, X):
    """Both in float64 where the device has it; and the rounding of the dtype that θ came in."""
    eps = torch.finfo(theta.dtype).eps
    try:
        return theta.double(), X.double(), eps
    except TypeError:  # a device without float64
        return theta, X, eps


@as_step()
def _dense(features, theta, X, spare, inputs=_SPHERE):
    theta, X, eps = _working(theta, X)
    n, (R, p) = len(X), theta.shape
    cut = _SINGULAR[X.dtype]
    several = features.positions > 1
    Phi = features.columns(features.apply(X).detach())
    T = features.jacobians(X, dtype=X.dtype)[1].detach()  # (n, k, p)
    if isinstance(inputs, Sphere):
        T = _sphere(X).transpose(1, 2) @ T
        moving = torch.ones(T.shape[:2], dtype=torch.bool, device=X.device)
    else:
        moving = ~inputs.active(X)
        T = T * moving[:, :, None]
    owner = moving.nonzero()[:, 0]  # the sample of each column of M

    def of_samples(squares):
        """Sums over the columns of each sample, (n, …)."""
        return squares.new_zeros(n, *squares.shape[1:]).index_add(0, owner, squares)

    norms = Phi.norm(dim=1).clamp_min(torch.finfo(X.dtype).tiny)
    size = torch.linalg.vector_norm(T, dim=(1, 2))
    if not bool(torch.isfinite(norms).all() and torch.isfinite(size).all()):
        raise SpanError("the features of the candidates, or their derivatives, are not finite")
    left, s, Q = svd(Phi / norms[:, None])
    held = s > cut * s[0]
    # Columns of one sample may depend on one another, as blank patches do, and leave it where it is.
    loose = torch.zeros(n, dtype=torch.bool, device=X.device) if several else left[:, ~held].norm(dim=1) > _TAKES_PART
    left, s, Q = left[:, held], s[held], Q[held]
    alpha = (left / s) @ (Q @ theta.T)
    residual, alpha = theta - (Q.T @ (Q @ theta.T)).T, alpha / norms[:, None]
    silent = ~(Phi != 0).any(0)
    moves = (T.unflatten(2, (features.positions, -1))[:, :, :, silent] != 0).flatten(0, 2).any(0)
    speaking = R * (len(silent) - int(silent.sum()) + int(moves.sum()))
    # Columns of M, of unit size before projection; those of a sample without weight stay zero.
    size = size * _of_sample(alpha, n)
    unit = torch.where(size > 0, 1 / size, torch.zeros_like(size))
    if several:
        a = alpha.unflatten(0, (-1, n)) * unit[:, None]
        M = torch.einsum("tnr,nktp->nkrp", a, T.unflatten(2, (features.positions, -1)))
    else:
        a = (alpha * unit[:, None])[:, None, :, None]
        M = T.unsqueeze(2).mul_(a) if R == 1 else a * T[:, :, None, :]  # (n, k, R, p); T is not needed any more
    M = M.reshape(-1, p)
    M = M.addmm_(M @ Q.T, Q, alpha=-1).reshape(-1, R * p)  # (columns, R p)
    M = M if len(owner) == len(M) else M[moving.flatten()]
    seen = patiently(_seen, M, cut)
    if len(M) > R * p:
        loose[:] = True
    loose |= of_samples(seen.unseen).sqrt() > _TAKES_PART
    moves = of_samples((seen.B @ _own(seen, Q, R)).square()).sqrt()  # of each sample, as such a number moves
    largest = moves.amax(0) if len(moves) else moves.new_zeros(moves.shape[1])
    unchecked = (moves > _TAKES_PART * largest).any(1)
    rounding = eps * float((alpha.abs().T @ Phi.abs()).norm())
    scale = float(theta.square().sum())
    noise = max(float(residual.square().sum()), rounding**2)
    short = of_samples((seen.B @ seen.along(residual.flatten())).square()).sqrt() * unit
    spread = of_samples(seen.B.square().sum(1)) * unit.square() * noise
    uneven = torch.zeros_like(spread)
    if R > 1 or not isinstance(inputs, Sphere):
        moved = seen.B @ _left_out(seen.rows().unflatten(1, (R, p)), Q, residual)
        uneven = of_samples(moved.square().sum(1)) * unit.square()
    errors, most = _errors(spread, uneven, short.square(), loose, spare, X)
    gram_inverse = ((left / s) @ (left / s).T).diagonal().clamp_min(torch.finfo(X.dtype).tiny)
    costs = ((alpha * norms[:, None]).square().sum(1) / gram_inverse / scale).reshape(-1, n).sum(0)
    made = (v.cpu() for v in (errors, most, loose, unchecked, costs, _of_sample(alpha, n)))
    weakest = None
    if seen.weakest is not None:
        way = torch.zeros(moving.shape, dtype=X.dtype, device=X.device)
        way[moving] = seen.weakest * unit[owner] * noise**0.5
        weakest = (_sphere(X) @ way[:, :, None])[:, :, 0] if isinstance(inputs, Sphere) else way
    return Certificate(*made, speaking, noise / scale, seen.smallest, weakest)


@dataclass(frozen=True)
class _Seen:
    """The pseudo-inverse of M, (m, N), as factors.

    Attributes:
        M: the matrix.
        B: (m, k) with BBᵀ = (MMᵀ)⁺: then V = BᵀM has orthonormal rows, and M⁺ᵀ = BV.
        V: (k, N); None where it is made as it is asked for.
        unseen: (m,) squares of each row's part in directions whose singular value counts as zero.
        smallest: least over largest singular value; _WEAK where it is known to be more than that.
        weakest: (m,) the direction of the least singular value that counts, over that value; None where no direction is
            seen weakly.
    """

    M: torch.Tensor
    B: torch.Tensor
    V: torch.Tensor | None
    unseen: torch.Tensor
    smallest: float
    weakest: torch.Tensor | None

    def rows(self, columns=slice(None)) -> torch.Tensor:
        """V, or some columns of it."""
        return self.B.T @ self.M[:, columns] if self.V is None else self.V[:, columns]

    def along(self, r: torch.Tensor) -> torch.Tensor:
        """V r for r (N, …)."""
        return self.B.T @ (self.M @ r) if self.V is None else self.V @ r


def _seen(M, cut) -> _Seen:
    """By a Cholesky factor of MMᵀ where M sees every direction well, else by singular values above ``cut``."""
    m, N = M.shape
    gram = _gram(M) if 0 < m <= N else None
    factor = None if gram is None else _well_seen(gram)
    if factor is not None:
        B = torch.linalg.solve_triangular(factor, torch.eye(m).to(M), upper=False).T
        return _Seen(M, B, None, M.new_zeros(m), _WEAK, None)
    U, S, V = _singular(M, gram)
    top = float(S.amax()) if len(S) else 0.0  # in one dimension a sample has nowhere to go
    held = S > cut * top
    smallest, B = 0.0 if m > N or not top else float(S[-1]) / top, U[:, held] / S[held]
    weakest = B[:, -1] if B.shape[1] and smallest <= _WEAK else None
    return _Seen(M, B, V[held], U[:, ~held].square().sum(1), smallest, weakest)


def _gram(M):
    """MMᵀ, of whose halves one is computed."""
    G = M.new_empty(len(M), len(M))
    for start in range(0, len(M), _GRAM_ROWS):
        rows, made = slice(start, start + _GRAM_ROWS), M[start:] @ M[start : start + _GRAM_ROWS].T
        G[start:, rows], G[rows, start:] = made, made.T
    return G


def _well_seen(G):
    """The Cholesky factor of G where its least eigenvalue is more than _WEAK² of its largest, else None.

    Two more factors prove it (Sylvester's law of inertia): of t − G, that t is above all eigenvalues, and of
    G − _WEAK² t. A few products with G find t.
    """
    x = torch.randn(len(G), 2, generator=seeded_generator("power", 0), device="cpu").to(G)
    for _ in range(_POWERS):
        x = G @ (x / x.norm(dim=0))
    t = _SURELY * float(x.norm(dim=0).amax())
    for sign, by in ((-1, t), (1, -t * _WEAK**2), (1, 0.0)):
        A = sign * G
        A.diagonal().add_(by)
        factor, failed = torch.linalg.cholesky_ex(A)
        if failed:
            return None
    return factor


def _own(seen, Q, R):
    """V at the numbers of θ that no other checks, (k, …): of leverage above 1 − _OWN.

    (I − H)g of signs g is at most (1 − H_jj)^{1/2} ‖g‖ in number j: where it is more than _OWN allows, j is checked by
    others. What is left to ask is few, where many are checked.
    """
    asked = torch.ones(seen.M.shape[1], dtype=torch.bool, device=seen.M.device)
    held = Q.square().sum(0).repeat(R)
    if seen.V is None:
        shape, generator = (_LOOKS, R, Q.shape[1]), seeded_generator("own", 0)
        g = torch.randint(0, 2, shape, generator=generator, device="cpu").to(Q) * 2 - 1
        g = (g - (g @ Q.T) @ Q).flatten(1).T
        left = g - seen.M.T @ (seen.B @ seen.along(g))
        asked = left.abs().amax(1) <= 2 * (_OWN * len(left)) ** 0.5
    V = seen.rows(asked)
    return V[:, V.square().sum(0) + held[asked] > 1 - _OWN]


def _singular(M, gram=None):
    """U, S and V of M = U diag(S) V: by the eigenvalues of MMᵀ where these know the least one well, else by an SVD.

    Theirs is a relative error of (number of rows) · ε / (least over largest), and they take a third of the time.
    """
    if 0 < len(M) <= M.shape[1]:
        values, U = eigh(_gram(M) if gram is None else gram)
        if float(values[0]) > torch.finfo(M.dtype).eps ** 0.5 * float(values[-1]):
            S, U = values.flip(0).sqrt(), U.flip(1)
            return U, S, (U.T @ M) / S[:, None]
    return svd(M)


def _left_out(V, Q, residual):
    """V_j(1 − H_jj)⁻¹r_j of every neuron j, (m, p), of orthonormal rows V (m, R, p) and Q of M and of the features."""
    H = torch.einsum("mrp,msp->prs", V, V)
    H.diagonal(dim1=1, dim2=2).add_(Q.square().sum(0)[:, None])
    values, vectors = torch.linalg.eigh(torch.eye(H.shape[1]).to(H) - H)
    r = (vectors.mT @ residual.T[:, :, None]) / values.clamp_min(_LEFT)[:, :, None]
    return torch.einsum("mrp,pr->mp", V, (vectors @ r)[:, :, 0])


def _errors(spread, uneven, short, loose, spare, X):
    """Relative errors from their squares: of the residual as noise, even or not, and of all of it."""
    parts = torch.maximum(spread / max(1, spare), uneven), spread
    return (torch.where(loose, math.inf, (part + short).sqrt() / X.norm(dim=1)) for part in parts)


@as_step()
def _matrix_free(features, theta, X, spare, inputs=_SPHERE):
    coarse = features if theta.dtype == torch.float32 else features.coarse()
    theta, X, eps = _working(theta, X)
    n = len(X)
    exact = Normal(features, theta, X, inputs)
    point = exact.point
    alpha, Phi, scale = point.alpha, point.lift.columns, point.scale
    rounding = eps * float(features.norms(alpha.abs().T @ Phi.abs()).norm())
    noise = max(point.loss * scale, rounding**2)
    uneven = noise > rounding**2 and (len(theta) > 1 or not isinstance(inputs, Sphere))
    normal, generator, probe, (short, traces, z, moved) = _asked(exact, coarse, theta, X, inputs, uneven)
    lowest, highest, told = normal.lowest, normal.highest, normal.told
    checked = normal.checked(generator, probe) if normal.well else torch.zeros_like(point.residual, dtype=torch.bool)
    smallest = math.sqrt(max(0.0, lowest) / highest) if highest > 0 else 0.0
    B = Phi / features.norms(Phi)[:, None]
    values, vectors = eigh(features.summed(B @ B.T))
    cut = _SINGULAR_GRAM[X.dtype]
    loose = vectors[:, values <= cut * values[-1]].norm(dim=1) > _TAKES_PART
    if features.positions > 1:  # as in the dense road
        loose = torch.zeros(n, dtype=torch.bool, device=X.device)
    if lowest <= cut * highest:  # then the last solution is the direction that θ does not see, and little else
        loose |= z.norm(dim=1) > _TAKES_PART * z.norm()
    # Where conjugate gradients have not told, nothing is claimed.
    unchecked = torch.full_like(loose, not told or exact.any_unchecked(generator, checked))
    uneven = moved * (len(theta) * features.p / max(1, spare))
    errors, most = _errors(traces.clamp_min(0) * noise, uneven, short.square().sum(1), loose, spare, X)
    inverse = torch.cholesky_inverse(point.factor).diagonal()
    costs = (alpha.square().sum(1) / inverse.clamp_min(torch.finfo(X.dtype).tiny) / scale).reshape(-1, n).sum(0)
    made = (v.cpu() for v in (errors, most, loose, unchecked, costs, _of_sample(alpha, n)))
    return Certificate(*made, len(theta) * features.p, noise / scale, smallest)


def _asked(exact, coarse, theta, X, inputs, uneven):
    """Who tells how the samples move, its generator, and :func:`_moves`: float32 where M is not nearly singular.

    It knows as much there, at half the cost; at a fifth of it where V is in float32 and each product would cast it.
    ``coarse`` are the features in float32, if they can.
    """
    if coarse is not None and X.dtype == torch.float64:
        with contextlib.suppress(StepError):
            generator, normal = seeded_generator("certificate", 0), Normal(coarse, theta.float(), X.float(), inputs)
            probe, made = _moves(normal, exact, generator, uneven)
            if normal.well:
                return normal, generator, probe, made
    generator = seeded_generator("certificate", 0)
    return exact, generator, *_moves(exact, exact, generator, uneven)


def _moves(normal, exact, generator, uneven):
    """How the samples move, by solutions of ``normal``.

    Returns:
        a probe of which numbers of θ are checked, solved beside the others; and how the samples move
        to the end of the descent, (n, d); the traces of the blocks of (MᵀM)⁻¹, (n,); the last solution for them,
        (n, d); and where ``uneven``, by neurons left out, (n,) squares.
    """
    features, step = exact.point.features, exact.step
    root, asked = step.D.sqrt()[:, None], [step.gradient]
    for _ in range(_PROBES):
        signs = torch.randint(0, 2, step.gradient.shape, device="cpu", generator=generator).to(step.gradient) * 2 - 1
        asked.append(step.within(signs) * root)
    for _ in range(_PROBES if uneven else 0):  # neurons with random signs stand for neurons left out, one by one
        signs = torch.randint(0, 2, (1, features.p), device="cpu", generator=generator) * 2 - 1
        asked.append(exact.back(features.here(signs).to(step.gradient) * exact.point.residual))
    probe = normal.probe(generator)
    short, *told = normal.solve_each(asked, [probe])
    probes, left_out = told[:_PROBES], told[_PROBES:]
    traces = sum((g * z).sum(1) for g, z in zip(asked[1 : 1 + _PROBES], probes, strict=True)) / step.D / _PROBES
    moved = functools.reduce(torch.maximum, (z.square().sum(1) for z in left_out), torch.zeros_like(traces))
    z = probes[-1]
    return probe, (short, traces, z * root, moved)
