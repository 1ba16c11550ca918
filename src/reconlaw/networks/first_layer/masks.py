r"""Which neurons saw which sample: vertices of a parallelepiped, told apart one edge at a time.

The rows of the change are D_j = Σ_i m_ij (V_j·c_i) x_i with m_ij = 1 where sample i passes neuron j, else 0. For
independent x_i there is a_i with a_i·x_k = 1 where k = i, else 0, so that the numbers D_j·a_i = m_ij (V_j·c_i) take the
value zero at about half of the neurons, and a known one at the others. With signs s = 2m − 1, and A an orthonormal
basis of the columns of D and V together,

    s ∘ (V c)  lies in the span of A,        s = the sign of z_j·x, z_j = w_j the neuron's own weights.

A mask is therefore sought by itself, by climbing F(s, b, c) = Σ_j s_j (A b)_j (V c)_j over unit b and c, whose maximum
is 1: (b, c) given s are a singular pair, s given (b, c) is a sign, and F never falls. A share κ of what a half-space
through the origin predicts, C Cᵀs with C an orthonormal basis of the z_j, keeps the climb among half-spaces.
No labels, no loss, no optimisation in the inputs: only products of (p × n) matrices with signs.

For one output F is the ℓ1 norm of A b, and its ±1 vectors are those of independent component analysis of a cube
(FastICA; the same fixed point with a sign in the place of its nonlinearity).
"""

from __future__ import annotations

import torch

# Share of the half-space in the climb: of 0, 0.3, 0.6, 1 and 1.5 the one that found most of 100 faces.
_HALF_SPACE = 0.6
_ITERATIONS = 60


def orthonormal(columns: torch.Tensor, least=1e-10) -> torch.Tensor:
    """An orthonormal basis (p, r) of the span of columns, those below ``least`` of the largest left out."""
    U, s, _ = torch.linalg.svd(columns, full_matrices=False)
    return U[:, s > least * s[0]]


def best_pair(A, V, S):
    """Unit b (a, B) and c (Q, B) that maximise F at signs S (p, B), and F."""
    products = torch.stack([A.T @ (S * column[:, None]) for column in V.T])  # (Q, a, B)
    if len(products) == 1:
        fit = products[0].norm(dim=0).clamp_min(1e-300)
        return products[0] / fit, torch.ones_like(fit)[None], fit
    gram = torch.einsum("qab,rab->bqr", products, products)
    values, vectors = torch.linalg.eigh(gram)
    fit, c = values[:, -1].clamp_min(1e-300).sqrt(), vectors[:, :, -1].T
    return torch.einsum("qab,qb->ab", products, c) / fit, c, fit


def climb(A, V, C, S, share=_HALF_SPACE, iterations=_ITERATIONS, tick=lambda rows: None):
    """Signs (p, B) where the climb from S ends, with c and F there; ``tick(climbs)`` is called each iteration.

    Args:
        A: orthonormal basis of the columns of D and V.
        V: of those of V.
        C: of those of the neurons' weights.
        share: κ.
    """
    p, S = len(A), S.clone()
    going = torch.arange(S.shape[1], device=S.device)
    for _ in range(iterations):
        tick(len(going))
        s = S[:, going]
        b, c, _ = best_pair(A, V, s)
        evidence = p * (A @ b) * (V @ c) + share * (C @ (C.T @ s) if share else 0)
        after = torch.where(evidence >= 0, 1.0, -1.0).to(s)
        S[:, going] = after
        going = going[(after != s).any(0)]
        if not len(going):
            break
    _, c, fit = best_pair(A, V, S)
    return S, c, fit


def oriented(L, V, S, c):
    """S or −S, each with the sign for which m ∘ (V c), m = (1 + s)/2, lies nearer to the columns L of the change."""
    shares = []
    for sign in (1, -1):
        columns = (1 + sign * S) / 2 * (V @ c)
        shares.append((L.T @ columns).square().sum(0) / columns.square().sum(0).clamp_min(1e-300))
    return torch.where(shares[0] >= shares[1], S, -S), torch.maximum(*shares)


def distinct(S, order, known=None, alike=0.9) -> list[int]:
    """Indices of columns of S, in the order given, no two of which agree (or disagree) by ``alike`` or more."""
    picked, taken = [], [] if known is None else list(known.T)
    for k in order:
        if all(abs(float((S[:, k] * other).mean())) < alike for other in taken):
            picked.append(k)
            taken.append(S[:, k])
    return picked
