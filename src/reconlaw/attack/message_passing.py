r"""Approximate message passing: a start for the descent where the spectral one is too poor, down to p/dn near 1.

Read θ_j = Σ_i h_i(z_ji), z_ji = v_j·x_i, as an estimation problem with a Gaussian prior on x_i and i.i.d. Gaussian V.
The descent commits to signs and sizes of z_ji that it does not know yet; message passing keeps, for every atom, how
sure it is: x_i = x̂_i + noise of variance τ_i, hence z_ji ~ N(ω_ji, τ_i), and averages over what is unsure. One
iteration:

    ω = x̂ Vᵀ − e                                    (e: Onsager's correction, so that ω is not fitted to θ_j)
    m_ji, s_ji: mean and variance of h_i(z), z ~ N(ω_ji, τ_i), by quadrature; least squares of θ on m gives h_i's
        coefficients
    g_ji = (E[z | θ_j] − ω_ji)/τ_i, given θ_j − Σ_{k≠i} m_jk = h_i(z) + N(0, Σ_{k≠i} s_jk)
    R_i = x̂_i + S_i Vᵀg_i,  1/S_i = (p/d) mean_j (−∂g_ji/∂ω_ji);  noise of R_i: N_i = S_i² (p/d) mean_j g_ji²
    x̂_i = R_i ρ_i/q_i,  q_i = ‖R_i‖²/d,  ρ_i² = q_i − N_i,  τ_i = N_i/q_i,  e_i = (S_i ρ_i/q_i) g_i

The shrinkage is calibrated on ‖R_i‖ and the measured noise, not on the model, which overstates how sure it is. h_i
holds the even part of φ and its odd part beyond the linear one; what is constant or linear in v_j is fitted beside (b),
because it couples the atoms and says nothing of them singly. But b = Σ_i γ_i x_i with γ_i = ±μ_1 a_i (μ_1: φ's
linear Hermite coefficient), and those are d equations for the dn unknowns. So the last line is the posterior mean given
the fitted b too, jointly over the atoms, and the neurons are told the posterior mean of b and not the fit
(``MessagePassing._posterior``). All is damped, e like x̂, so that it stays the right correction.

Sources: Rangan, *Generalized approximate message passing* (2011), for the scheme; the sum over atoms is taken as
Gaussian, each atom's posterior in one dimension, and the calibration is ours.
"""

from __future__ import annotations

import math

import torch

from ..features.hermite import hermite_coefficients
from ..features.passes import count_passes
from ..features.spectral import blocks, linear_fit, slices

_NODES = 17  # equally spaced on ±3.5 standard deviations: exact enough, and safe for kinks
_REACH = 3.5
_BLOCK_NUMBERS = 1 << 18
_ACCELERATOR_NUMBERS = 1 << 24
_DAMPING = 0.7
_LEAST_TAU, _MOST_TAU = 1e-4, 0.99
# A share of an atom's own variance added to its noise: the quadrature cannot resolve a narrower likelihood.
_OWN_SHARE = 0.02


class MessagePassing:
    """Message passing for one output θ of random features; holds a few n × p arrays in float32.

    Args:
        features: random features (Gaussian V).
        theta: (1, p).
    """

    def __init__(self, features, theta):
        self.features, self.held = features, len(features.V)
        self.scale = self._mean(theta.square())[0, 0].sqrt()
        self.y = (theta[0] / self.scale).float()
        phi = features.activation
        self.mu1 = float(hermite_coefficients(phi.f, 1)[1])
        probe = torch.linspace(-3, 3, 13, dtype=torch.float64, device="cpu")
        self.parts = [part for part in (phi.even, self._odd) if float(part(probe).std()) > 1e-9]
        self.odd = phi.parity == "odd"
        grid = torch.linspace(-_REACH, _REACH, _NODES, device=self.y.device)
        self.grid, self.weights = grid, torch.softmax(-0.5 * grid**2, 0)
        self.step = features.d / features.p / (1 + math.sqrt(features.d / features.p)) ** 2
        self._b_first = linear_fit(features, self.y[None])[0][0]
        self.reset()

    def reset(self):
        """Forget earlier runs: the linear part b is what θ alone tells of it."""
        self.b = self._b_first

    def _mean(self, A):
        """Of rows (m, p) over parameters, (m, 1), held here or elsewhere."""
        return self.features.summed(A.sum(1, keepdim=True)) / self.features.p

    def _odd(self, z):
        return self.features.activation.odd(z).sub_(z, alpha=self.mu1)

    def _multiply(self, A):
        """A Vᵀ, (m, p)."""
        count_passes(len(A))
        out = torch.empty(len(A), self.held, device=A.device)
        for rows, V in blocks(self.features, A.dtype):
            out[:, rows] = (V @ A.T).T
        return out

    def _multiply_transposed(self, A):
        """A V, (m, d)."""
        count_passes(len(A))
        return self.features.summed(sum(A[:, rows] @ V for rows, V in blocks(self.features, A.dtype)))

    def _values(self, omega, tau):
        """The parts of h at the nodes: a list of (nodes, n, block), whose sums over nodes then run along memory."""
        z = omega + (self.grid[:, None] * tau.sqrt())[:, :, None]
        return [part(z) for part in self.parts]

    def _sums(self, weights, values):
        """Σ over the nodes of weights (m, nodes) times values (nodes, n, block): (m, n, block)."""
        return (weights @ values.flatten(1)).unflatten(1, values.shape[1:])

    def _posterior(self, R, b, noise, c, spread):
        r"""What R and the fitted b together tell of the atoms and of the linear part, coordinate by coordinate.

        R_i = ρ_i x_i + N(0, N_i) and b = Σ_i γ_i x_i + N(0, ν), ν = σ² d/(p − d) for a residual of variance σ². With
        γ_i of mean m_i and variance v_i, and the prior N(0, 1), the atoms have

            precision  P = I + diag(ρ²/N) + m mᵀ/(ν + Σ v),    mean  x̂ = P⁻¹(ρR/N + m b/(ν + Σ v)),

        and Σ_i γ_i x_i has the mean  m·x̂ + (b − m·x̂) Σ v/(ν + Σ v).

        γ_i = s_i μ_1 c_i with a sign s_i that c_i, of the even part of φ, does not tell: least squares of b on
        R_i ρ_i/q_i has the mean γ_i and a variance w_i, so E s_i = tanh(μ_1 c_i γ̂_i/w_i).

        Args:
            R: (n d,).
            b: (d,), as fitted.
            noise: (n,), N_i.
            c: (n,) coefficients of the first of φ's parts.
            spread: mean square of the residual of the fit.

        Returns:
            Means (n + 1, d), the last of the linear part; the atoms' variances (n,); the means' derivatives by R
            (n + 1, n) and by b (n + 1,).
        """
        n, d, p = len(c), len(b), self.features.p
        R = R.view(n, d)
        q = R.square().mean(1)
        gain = (q - noise).clamp_min(1e-2 * q)
        noise, rho = (q - gain).clamp_min(1e-6 * q), gain.sqrt()
        m, unsure, told = torch.zeros_like(q), spread.new_ones(()), spread.new_ones(())
        if n < d and abs(self.mu1) > 1e-9:
            single = (rho / q)[:, None] * R
            gram = single @ single.T / d
            gram.diagonal().add_(1e-6)
            inverse = torch.linalg.inv_ex(gram).inverse
            gamma = inverse @ (single @ b) / d
            variance = (b - gamma @ single).square().sum() / (d - n) / d * inverse.diagonal()
            size = self.mu1 * c
            m = size if self.odd else size * torch.tanh(size * gamma / variance)
            unsure = (size.square() - m.square()).sum()
            told = (unsure + spread * p * d / (p - d) ** 2).clamp_min(1e-9)  # the residual of the fit has (1 − d/p) σ²
        pull = m / told
        covariance = torch.linalg.inv_ex(torch.diag(1 + gain / noise) + torch.outer(pull, m)).inverse
        to_R, to_b = covariance * (rho / noise), covariance @ pull
        share = unsure / told
        to_R = torch.cat([to_R, ((1 - share) * m @ to_R)[None]])
        to_b = torch.cat([to_b, ((1 - share) * m @ to_b + share)[None]])
        means = to_R @ R + torch.outer(to_b, b)
        return means, covariance.diagonal(), to_R, to_b

    def run(self, x, tau, iterations, stop=None):
        """Iterate from x (n, d), E x_i of squared norm (1 − τ_i) d, and τ (n,).

        Args:
            stop: called after each iteration; true ends the run.

        Returns:
            x, τ, and the weight of each atom in θ, Σ over the parts of |coefficient| (n,).
        """
        dtype, (n, d), p, summed = x.dtype, x.shape, self.features.p, self.features.summed
        x, tau = x.float(), tau.float()
        on_cpu = x.device.type == "cpu"
        wide = torch.float32 if x.device.type == "mps" else torch.float64
        # Rows of a (nodes, n, rows) block: that stays in cache, or that an accelerator is not launched for in vain.
        nodes = max(64, (_BLOCK_NUMBERS if on_cpu else _ACCELERATOR_NUMBERS) // (n * _NODES))
        rows = torch.cat([x, self.b[None]])  # the last: the linear part as it is believed
        onsager = torch.zeros(n + 1, self.held, device=x.device)
        mean = torch.empty(len(self.parts) * n, self.held, device=x.device)
        g, curvature = torch.empty_like(onsager[:n]), torch.empty_like(onsager[:n])
        excess = 1.0
        weights, log_weights = self.weights[None], self.weights.log()[:, None, None]
        moments = torch.stack([self.grid, self.grid.square()])
        for _ in range(iterations):
            product = self._multiply(torch.cat([rows, self.b[None]]))
            omega, believed, linear = product[:n] - onsager[:n], product[n] - onsager[n], product[n + 1]
            for held in slices(self.held, nodes):
                values = self._values(omega[:, held], tau)
                mean[:, held] = torch.cat([self._sums(weights, v)[0] for v in values])
            centred = mean - self._mean(mean)
            gram = summed(centred @ centred.T)
            gram.diagonal().add_(1e-4 * gram.diagonal().mean())
            target = self.y - linear
            right = summed(centred @ (target - self._mean(target[None])[0]))
            # Whether it is singular an accelerator would have to be asked; what comes of one is no descent's start.
            c = torch.linalg.solve(gram, right) if on_cpu else torch.linalg.solve_ex(gram, right).result
            residual = target - c @ mean
            residual -= self._mean(residual[None])[0]
            left = residual + linear - believed
            left -= self._mean(left[None])[0]
            coefficients = c.reshape(-1, n, 1)
            promised = torch.zeros((), dtype=wide, device=x.device)
            for held in slices(self.held, nodes):
                values = self._values(omega[:, held], tau)
                h = values[0].mul_(coefficients[0])
                for k, v in zip(coefficients[1:], values[1:], strict=True):
                    h.addcmul_(v, k)
                h -= self._sums(weights, h)
                own = self._sums(weights, h.square())[0]
                total = own.sum(0)
                promised += total.sum()
                noise = (total - own) * excess + _OWN_SHARE * own + 1e-9
                log_likelihood = torch.sub(left[held], h, out=h).square_().mul_(-0.5 / noise)
                posterior = torch.softmax(log_likelihood.add_(log_weights), 0)
                shift, second = self._sums(moments, posterior)
                g[:, held] = shift
                curvature[:, held] = 1 - (second - shift.square())
            # Where the residual exceeds what the variances promise, they are too small: scale them up the next time.
            promised = summed(promised)
            ratio = summed(left.square().sum()).to(wide) / promised
            excess = torch.where(promised > 0, ratio.clamp_min(1.0), torch.ones_like(ratio))
            g /= tau.sqrt()[:, None]
            S = 1 / (self._mean(curvature)[:, 0] / tau * (p / d)).clamp_min(1e-9)
            product = self._multiply_transposed(torch.cat([g, residual[None]]))
            self.b = self.b + self.step * product[n]
            R = rows[:n] + S[:, None] * product[:n]
            noise = S.square() * (p / d) * self._mean(g.square())[:, 0]
            # From an accelerator in one piece, the one wait in an iteration, and back in another: this is small.
            parts = [R.flatten(), self.b, noise, c[:n], tau, self._mean(residual[None].square())[0]]
            *told, before, spread = torch.cat(parts).cpu().double().split([part.numel() for part in parts])
            means, variances, to_R, to_b = self._posterior(*told, spread[0])
            left_over = _DAMPING * variances.clamp(_LEAST_TAU, _MOST_TAU) + (1 - _DAMPING) * before
            parts = [means.flatten(), to_R.flatten(), to_b, left_over]
            sent = torch.cat(parts).float().to(x.device, non_blocking=True).split([part.numel() for part in parts])
            means, to_R, to_b, tau = sent[0].view_as(means), sent[1].view_as(to_R), sent[2], sent[3]
            # What a neuron said to the fit of b comes back to it with its leverage, d/p on average.
            own = to_b[:, None] * (d / (p - d) * residual)
            onsager = _DAMPING * ((to_R * S) @ g + own) + (1 - _DAMPING) * onsager
            rows = _DAMPING * means + (1 - _DAMPING) * rows
            if float(left_over.mean()) < 2 * _LEAST_TAU or (stop is not None and stop()):
                break
        weight = c.reshape(-1, n).abs().sum(0)
        return rows[:n].to(dtype), tau.to(dtype), weight.to(dtype)
