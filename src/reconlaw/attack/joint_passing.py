r"""Message passing with the joint posterior of the n samples, and the state evolution that predicts it.

For n fixed, d → ∞ and p/d = c the squared errors of message passing on θ_j = Σ a_i φ(v_j·x_i) follow a recursion of one
n × n matrix, the overlap Q = E x̂ᵀx/d (Aubin et al., *The committee machine*, 2018):

    z = ω + ζ,  ω ~ N(0, Q),  ζ ~ N(0, C),  C = I − Q
    g = C⁻¹(E[z | Σ a_i φ(z_i), ω] − ω),    G = c E[g gᵀ],    Q ← G (I + G)⁻¹.

:func:`pass_messages` is the algorithm, for *known* a; it is told more than an attacker knows, and says what
message passing could do, each step damped by half. :mod:`.message_passing` is the one that attacks use.
"""

from __future__ import annotations

import math

import torch

from .joint_posterior import JointPosterior

_FOUND = 1e-4  # variance below which a run has arrived
_LEAST = 1e-9


def state_evolution(posterior: JointPosterior, c, rounds=300, start=1e-3, neurons=2048, seed=0, tol=1e-6):
    """The overlap Q (n, n) that message passing reaches in the limit d → ∞ at p/d = c.

    Args:
        posterior: of a neuron, with φ and a.
        c: p/d.
        rounds: iterations at most.
        start: Q = start · I at first: 1e-3 for an attacker who knows nothing, near 1 for one who starts at the truth.
        neurons: over which the mean is taken, a scrambled Sobol sequence, the same in every round.
        seed: of its scrambling.
        tol: ends where Q moves by less.
    """
    n = len(posterior.a)
    draws = torch.quasirandom.SobolEngine(3 * n, scramble=True, seed=seed).draw(neurons, dtype=torch.float64)
    normal = math.sqrt(2) * torch.erfinv(2 * draws[:, : 2 * n].clamp(1e-9, 1 - 1e-9) - 1)
    eye = torch.eye(n, dtype=torch.float64, device="cpu")
    Q = start * eye
    for _ in range(rounds):
        C = eye - Q
        omega = normal[:, :n] @ torch.linalg.cholesky(Q + 1e-12 * eye).T
        z = omega + normal[:, n:] @ torch.linalg.cholesky(C).T
        mean, _ = posterior(posterior.h(z), omega, C, draws[:, 2 * n :])
        g = torch.linalg.solve(C, (mean - omega).T)
        G = c * g @ g.T / neurons
        new = torch.linalg.solve(eye + G, G)
        moved, Q = float((new - Q).abs().max()), (new + new.T) / 2
        if moved < tol or float((1 - Q.diagonal()).max()) < _FOUND:
            break
    return Q


def pass_messages(theta, features, posterior: JointPosterior, iterations, seed=0):
    """Means x̂ (n, d) and covariance C (n, n) of the samples, from θ (p,).

    Args:
        theta: (p,), θ.
        features: random features (Gaussian V).
        posterior: of a neuron, with φ and a.
        iterations: at most.
        seed: of the random start, independent normal numbers of variance 0.01, and of the grids' shifts.
    """
    V, c, n = features.V, features.p / features.d, len(posterior.a)
    theta = theta.to(V)
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(n, features.d, device="cpu", generator=generator, dtype=torch.float64)
    x = (0.1 * draw).to(V)
    eye = torch.eye(n).to(V)
    C = eye - x @ x.T / features.d
    g = V.new_zeros(features.p, n)
    for _ in range(iterations):
        shift = torch.rand(features.p, n, device="cpu", generator=generator, dtype=torch.float64).to(V)
        omega = V @ x.T - g @ C
        mean, spread = posterior(theta, omega, C, shift)
        new_g = torch.linalg.solve(C, (mean - omega).T).T
        inner = torch.linalg.solve(C, torch.linalg.solve(C, spread).T)
        values, U = torch.linalg.eigh(c * (torch.linalg.inv(C) - (inner + inner.T) / 2))
        A = U @ torch.diag(values.clamp_min(1e-3)) @ U.T  # the precision that the neurons add
        new = torch.linalg.solve(eye + A, A @ x + (V.T @ new_g).T)
        x, g = (new + x) / 2, (new_g + g) / 2
        C = (torch.linalg.inv(eye + A) + C) / 2
        if float(C.diagonal().max()) < _FOUND:
            break
    return x, C
