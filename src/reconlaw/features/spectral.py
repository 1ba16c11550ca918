r"""Directions of the samples read off θ by Hermite moments, with no starting point.

By Stein's lemma, for v ~ N(0, I/d) and θ_j = Σ_i a_i φ(v_j·x_i),

    E M = μ₂√2 Σ_i a_i x_i x_iᵀ / d,        M = (1/p) Σ_j θ_j (d v_j v_jᵀ − I),

so the eigenvectors of M whose eigenvalues are the largest, of either sign, span the samples' subspace once they stand
out of the noise, whose eigenvalues reach to about ±2σ√(d/p) with σ² = ‖θ‖²/p. Where μ₂ = 0 (odd φ) the third moment
takes its place,

    E T(u) = μ₃ Σ_i a_i (x_i·u/d)³,         T(u) = (1/p) Σ_j θ_j h₃(v_j·u),  ‖u‖ = √d.

What is constant or linear in v adds nothing to either mean, only noise, and is projected out first.

Source: the phase-retrieval spectral method (Netrapalli, Jain and Sanghavi 2013; Lu and Li 2020; for several samples
Kovačević, Zhang and Mondelli 2025), in the setting of Iurada et al., arXiv 2509.22214.
"""

from __future__ import annotations

import math

import torch

from ..sphere import to_sphere
from .budget import look, over
from .decompose import eigh
from .passes import count_passes
from .threads import each

_EXACT_BELOW = 256
_BLOCK_ROWS = 8192
_MOST_TERMS = 16  # of a sum over blocks
_AHEAD = 10  # iterations of an accelerator between two looks at where they are


def slices(length: int, block: int) -> list[slice]:
    """``length`` rows in blocks."""
    return [slice(start, min(start + block, length)) for start in range(0, length, block)]


def grouped(rows: list[slice], most: int) -> list[list[slice]]:
    """Blocks in at most so many groups, in their order: the sum over each is a term of the sum over all."""
    return [rows[group] for group in slices(len(rows), -(-len(rows) // most))]


def blocks(features, dtype, chosen=None):
    """Slices of rows of V, all or those chosen, and V there in ``dtype``."""
    for rows in chosen or slices(len(features.V), _BLOCK_ROWS):
        look()
        yield rows, features.V[rows].to(dtype)


def _mean(features, R):
    """Of R (K, p) over parameters, (K, 1)."""
    return features.summed(R.sum(1, keepdim=True)) / features.p


def distinct(U: torch.Tensor, cosine: float) -> list[int]:
    """Indices of the rows of U, in order, that are not within ``cosine`` of an earlier one kept, up to sign."""
    U = torch.nn.functional.normalize(U)
    alike = ((U @ U.T).abs() > cosine).tolist()
    kept: list[int] = []
    for i, row in enumerate(alike):
        if not any(row[j] for j in kept):
            kept.append(i)
    return kept


def linear_fit(features, R: torch.Tensor, iterations: int = 60):
    """Least-squares fit of R (K, p) by the d columns of V: coefficients W (K, d), and what is left without its mean.

    Conjugate gradients on VᵀV, whose condition number is near ((1 + √(d/p))/(1 − √(d/p)))²; V is read in blocks. The
    constant is taken out before and after: V is nearly orthogonal to it. The CPU looks after every iteration whether to
    stop. An accelerator would have to be waited for: what it does beyond the end changes nothing and is not counted.
    """
    W = torch.zeros(len(R), features.d, dtype=R.dtype, device=R.device)
    R = R - _mean(features, R)
    if features.p <= features.d + 1:
        return W, torch.zeros_like(R)

    def normal(W):
        return features.summed(sum((V @ W.T).T @ V for _, V in blocks(features, R.dtype)))

    count_passes(2 * len(R))  # this product, and that of the rest
    r = features.summed(sum(R[:, rows] @ V for rows, V in blocks(features, R.dtype)))
    q = r.clone()
    rr = first = r.square().sum()
    between, made, zero = 1 if R.device.type == "cpu" else _AHEAD, torch.zeros_like(rr), torch.zeros_like(rr)
    for k in range(iterations):
        live = rr > torch.finfo(R.dtype).eps * first
        if k % between == 0 and not live:
            break
        Aq = normal(q)
        step = torch.where(live, rr / (q * Aq).sum(), zero)
        W += step * q
        r -= step * Aq
        made += live
        rr, previous = r.square().sum(), rr
        q = torch.where(live, r + (rr / previous) * q, q)
    count_passes(2 * len(R) * int(made))
    rest = R - torch.cat([(V @ W.T).T for _, V in blocks(features, R.dtype)], 1)
    return W, rest - _mean(features, rest)


def without_linear_part(features, R: torch.Tensor) -> torch.Tensor:
    """R minus its fit by the constant and the columns of V (:func:`linear_fit`)."""
    return linear_fit(features, R)[1]


def _apply_moment(features, R, Q):
    """Σ_k M_k Q for K = 1, Σ_k M_k (M_k Q) for more outputs: (d, m)."""

    groups = grouped(slices(len(features.V), _BLOCK_ROWS), _MOST_TERMS)

    def apply(Q):
        count_passes(2 * len(R) * Q.shape[-1])
        terms = torch.zeros(len(groups), len(R), *Q.shape[-2:], dtype=Q.dtype, device=Q.device)

        def add(term, place):
            for rows, V in blocks(features, Q.dtype, groups[term]):
                for k in range(len(R)):
                    weighted = R[k, rows, None] * (V @ (Q if Q.ndim == 2 else Q[k]))
                    # Vᵀ(…) reads V across its rows, on some machines 30 times as slowly
                    terms[term, k] += (weighted.T @ V).T

        each(add, range(len(groups)), alone=Q.device.type != "cpu")
        return features.summed(terms.sum(0)) * (features.d / features.p) - _mean(features, R)[:, :, None] * Q

    once = apply(Q)
    return once[0] if len(R) == 1 else apply(once).sum(0)


def second_moment_directions(features, R, k, generator, iterations=8):
    r"""The k unit eigenvectors of M(R) of largest |eigenvalue|, by block iteration with V read in blocks.

    Args:
        R: (K, p); for K > 1 outputs the eigenvectors are those of Σ_k M_k².
        k: how many, ≤ d.
        generator: of the random block; for d ≤ 256 the block is the whole space and the answer exact.

    Returns:
        directions (k, d), rows of norm √d, and their eigenvalues (k,).
    """
    d = features.d
    k = min(k, d)
    if d <= _EXACT_BELOW:
        Q, iterations = torch.eye(d, dtype=R.dtype, device=R.device), 0
    else:
        Q = torch.randn(d, min(d, 2 * k + 8), device="cpu", generator=generator, dtype=R.dtype).to(R.device)
    for _ in range(iterations):
        Q = torch.linalg.qr(_apply_moment(features, R, Q)).Q
    small = Q.T @ _apply_moment(features, R, Q)
    values, vectors = eigh((small + small.T) / 2)
    order = values.abs().argsort(descending=True)[:k]
    return (Q @ vectors[:, order]).T * math.sqrt(d), values[order]


def third_moment_directions(features, R, k, generator, iterations=30):
    r"""At most k directions with large |T(u)|, T(u) = (1/p) Σ_j R_j h₃(v_j·u), by power iteration from random starts.

    An iteration moves u to the direction of Σ_k T_k(u) ∇T_k(u), ∇T_k(u) = (√3/p) Σ_j R_kj h₂(v_j·u) v_j, with one k
    for each output. R must be without its linear part, which would add a multiple of u to the mean of that:
    E ∇T(u) = (3 μ₃ Σ_i a_i ρ_i² x_i + √6 μ₁ Σ_i a_i ρ_i u)/d, ρ_i = x_i·u/d.

    Returns the same as :func:`second_moment_directions`, with the norm of T over the outputs in place of eigenvalues;
    no two of the lines through the directions are within 60 degrees. R = 0 has none.
    """
    d, starts = features.d, 4 * k + 8
    if not bool(features.summed(R.any().to(R))):
        return R.new_zeros(0, d), R.new_zeros(0)
    U = torch.randn(starts, d, device="cpu", generator=generator, dtype=R.dtype).to(R.device)
    for _ in range(iterations + 1):
        U = to_sphere(U)
        count_passes(3 * starts)
        ascent, value = torch.zeros_like(U), torch.zeros(starts, len(R), dtype=R.dtype, device=R.device)
        for rows, V in blocks(features, R.dtype):
            Z = U @ V.T
            value += (Z**3 - 3 * Z) @ R[:, rows].T
        value = features.summed(value)
        for rows, V in blocks(features, R.dtype):
            Z = U @ V.T
            ascent += ((Z * Z - 1) * (value @ R[:, rows])) @ V
        final, U = U, features.summed(ascent)
        if over():
            break  # fewer iterations are a start as well
    strength = value.norm(dim=1) / (math.sqrt(6) * features.p)  # h₃(z) = (z³ − 3z)/√6
    order = strength.argsort(descending=True)
    chosen = order[distinct(final[order], 0.5)][:k]
    return final[chosen], strength[chosen]


def directions(features, R, k, generator):
    """Candidate atoms for a residual R (K, p): the lowest moment of φ that carries them, second or third."""
    find = third_moment_directions if features.activation.parity == "odd" else second_moment_directions
    return find(features, R, k, generator)
