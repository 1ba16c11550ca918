"""Checkers of the chapter *The parity lift*."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ._diagnose import checker, diagnose


def _normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, device="cpu", generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _sphere(n: int, d: int, seed: int) -> torch.Tensor:
    draw = _normal(n, d, seed=seed)
    return math.sqrt(d) * draw / draw.norm(dim=1, keepdim=True)


@checker
def check_lifted_slopes(lifted_slopes: Callable) -> None:
    """``lifted_slopes(U, V, plus, minus)`` is S_i = α⁺_i φ'(Vu_i) − α⁻_i φ'(−Vu_i), (n, p), for GELU."""
    U, V = _sphere(3, 5, seed=1), _normal(11, 5, seed=2) / math.sqrt(5)
    plus, minus = _normal(3, seed=3), _normal(3, seed=4)
    Z = U @ V.T

    def slope(z):
        return torch.special.ndtr(z) + z * torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    def phi(z):
        return z * torch.special.ndtr(z)

    a, b = plus[:, None], minus[:, None]
    right = a * slope(Z) - b * slope(-Z)
    diagnose(
        lifted_slopes(U, V, plus, minus),
        right,
        [
            (a * slope(Z) + b * slope(-Z), "the second column is φ(−Vu): the chain rule gives its slope a minus sign"),
            (a * slope(Z) - b * slope(Z), "the second slope is taken at −Vu, not at Vu"),
            (a * slope(Z) + b * slope(Z), "the second slope is −φ'(−Vu), with both signs"),
            (a * phi(Z) - b * phi(-Z), "those are values; use the derivative φ'"),
            (a * phi(Z) + b * phi(-Z), "that is the fit itself, atom by atom; use the derivative φ'"),
            (a * torch.special.ndtr(Z) - b * torch.special.ndtr(-Z), "φ' has a second term, z g(z)"),
            (slope(Z) - slope(-Z), "did you forget the coefficients?"),
            (right.T, "transpose it: one row for each atom"),
            (right.sum(0), "keep the atoms apart: one row for each"),
        ],
    )


@checker
def check_damped_step(damped_step: Callable) -> None:
    """``damped_step(PJ, r, U, D, mu)`` solves (A + μ D ⊗ I_d) δ = g in the tangent space, (n, d)."""
    n, d, p, mu = 3, 4, 40, 0.3
    U, PJ, r = _sphere(n, d, seed=5), _normal(p, n * d, seed=6), _normal(p, seed=7)
    D = torch.tensor([1.0, 20.0, 150.0], dtype=torch.float64)

    def tangent(J):
        J = J.reshape(-1, n, d)
        return (J - (J * U).sum(2, keepdim=True) * U / d).reshape(-1, n * d)

    def solve(J, damping):
        return torch.linalg.solve(J.T @ J + torch.diag(damping), J.T @ r).reshape(n, d)

    J, damping = tangent(PJ), mu * D.repeat_interleave(d)
    right = solve(J, damping)
    free = solve(PJ, damping)
    undamped = (torch.linalg.pinv(J) @ r).reshape(n, d)
    diagnose(
        damped_step(PJ.clone(), r.clone(), U.clone(), D.clone(), mu),
        right,
        [
            (-right, "the sign is the other way round: the residual after the step is r − P⊥Jδ"),
            (free, "the step is not tangent: take the part along u_i out of each block of columns"),
            (
                tangent(free.reshape(1, -1)).reshape(n, d),
                "you solved first and projected afterwards; restrict the columns of PJ to tangent directions first",
            ),
            (undamped, "did you forget the damping μD?"),
            (solve(J, mu * torch.ones(n * d, dtype=torch.float64)), "the damping is μ D_ii for atom i, not μ alone"),
            (solve(J, D.repeat_interleave(d)), "did you forget the factor μ?"),
            (solve(J, mu * D.repeat(d)), "D_ii belongs to the d coordinates of atom i: repeat each entry d times"),
            (solve(J, damping.square()), "the damping enters as μD, not squared"),
            (right.flatten(), "give it as an n × d matrix"),
        ],
    )


@checker
def check_removal_costs(removal_costs: Callable) -> None:
    """``removal_costs(G, alpha)`` is the growth of ‖r‖² when both columns of atom i go, (n,)."""
    n, p = 4, 30
    B, theta = _normal(2 * n, p, seed=8), _normal(p, seed=9)
    B[:n] += 0.5 * B[n:]
    G = B @ B.T
    inverse = torch.linalg.inv(G)
    alpha = inverse @ B @ theta
    pairs = [[i, n + i] for i in range(n)]
    blocks = torch.stack([inverse[pair][:, pair] for pair in pairs])
    gram = torch.stack([G[pair][:, pair] for pair in pairs])
    entries = torch.stack([alpha[pair] for pair in pairs])
    neighbours = [[2 * i, 2 * i + 1] for i in range(n)]

    def form(matrices, vectors):
        return torch.einsum("ni,nij,nj->n", vectors, matrices, vectors)

    right = form(torch.linalg.inv(blocks), entries)
    single = alpha.square() / inverse.diagonal()
    wrong_pairs = form(
        torch.linalg.inv(torch.stack([inverse[pair][:, pair] for pair in neighbours])),
        torch.stack([alpha[pair] for pair in neighbours]),
    )
    diagnose(
        removal_costs(G.clone(), alpha.clone()),
        right,
        [
            (form(gram, entries), "the other coefficients adjust when two go: use the inverse of a block of G⁻¹"),
            (form(blocks, entries), "the block of G⁻¹ must be inverted"),
            (single[:n] + single[n:], "the two columns go together: take the 2 × 2 block, not two single removals"),
            (single[:n], "that removes the first column alone; both go"),
            (single[n:], "that removes the second column alone; both go"),
            (single, "that is the cost of each column alone; return one number for each atom"),
            (wrong_pairs, "atom i has the columns i and n + i, not neighbours"),
            (right.sqrt(), "return the growth of the square ‖r‖², not its root"),
            (right / 2, "half of it: there is no factor ½ in ‖r‖²"),
        ],
    )
