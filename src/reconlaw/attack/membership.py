r"""ℓ(x) = ‖P f(x)‖²/‖D f(x)‖² for many x at once: how far features are from a span, and Gauss–Newton on it.

With h = Df/‖Df‖ and g = Pf/‖Df‖, ℓ = ‖g‖², and with J the derivative of f (k × p), u = J g and w = J h,

    grad ℓ/2 = (u − ℓ w)/‖Df‖,        H = (J P Jᵀ − u wᵀ − w uᵀ + ℓ w wᵀ)/‖Df‖².

Of a sample with T columns f(x) are all of them, one after the other, and P and D act on each.
"""

from __future__ import annotations

import torch

from ..features.passes import count_passes
from ..inputs import Inputs, Sphere

# Starts in a block, and numbers that its Jacobians may hold, on a processor and on an accelerator.
_BLOCK, _NUMBERS = 16, 1 << 25
_LARGE_BLOCK, _MANY_NUMBERS = 1024, 1 << 27
# Least starts of a round, and most blocks.
_LEAST_STARTS, _MOST_BLOCKS = 48, 32
_STEPS = 120
_PATIENCE, _FALL = 10, 0.7
_FIRST_DAMPING, _MOST_DAMPING = 1e-2, 1e8
_PASSES = 5
# Above this loss Jacobians in float32 are as good.
_FINE = 1e-6
# A direction is free where it moves the features off the span by this share of the one that moves them most.
_FLAT = 1e-6


def block_size(features, device) -> int:
    """How many starts to take at once, within memory."""
    most, numbers = (_BLOCK, _NUMBERS) if device.type == "cpu" else (_LARGE_BLOCK, _MANY_NUMBERS)
    return max(1, min(most, numbers // (features.d * max(features.width, 4 * features.d))))


def batch_size(features, wanted: int, device) -> int:
    """How many starts make a round: twice what is wanted, within limits."""
    return min(max(_LEAST_STARTS, 2 * wanted), _MOST_BLOCKS * block_size(features, device))


class Membership:
    """ℓ and its linear model.

    Args:
        Q: (r, p), orthonormal rows: the span.
        found: (m, p), orthonormal rows within that span, which D leaves out; none where None.
    """

    def __init__(self, features, Q, found=None):
        self.features, self.Q = features, Q
        self.found = found if found is not None and len(found) else None

    def _off(self, F, Q):
        """Rows F (S, T·p) without the parts of their columns in the span of Q."""
        C = F.unflatten(1, (self.features.positions, -1))
        return (C - (C @ Q.T) @ Q).flatten(1)

    def values(self, X):
        """ℓ, g (S, T·p), h (S, T·p) and ‖Df‖ at the rows of X (S, k)."""
        count_passes(len(X))
        F = self.features(X).to(self.Q)
        G = self._off(F, self.Q)
        D = F if self.found is None else self._off(F, self.found)
        size = D.norm(dim=1, keepdim=True).clamp_min(torch.finfo(F.dtype).tiny)
        G, h = G / size, D / size
        return G.square().sum(1), G, h, size

    def model(self, X, G, h, size, loss):
        """H (S, k, k) and minus the gradient (S, k) at rows where :meth:`values` are known."""
        fine = bool((loss <= _FINE).any())
        J = self.features.jacobians(X, dtype=self.Q.dtype if fine else None)[1]
        JQ = (J.unflatten(2, (self.features.positions, -1)) @ self.Q.T.to(J)).flatten(2).to(self.Q)
        gram = (J @ J.transpose(1, 2)).to(self.Q) - JQ @ JQ.transpose(1, 2)
        u, w = (torch.einsum("skp,sp->sk", J, v.to(J)).to(self.Q) for v in (G, h))
        cross = u[:, :, None] * w[:, None, :]
        H = gram - cross - cross.transpose(1, 2) + loss[:, None, None] * w[:, :, None] * w[:, None, :]
        return H / size[:, :, None] ** 2, (loss[:, None] * w - u) / size

    def segments(self, X, inputs: Inputs, tol):
        """Index → (2, k): the ends of the segment of zeros through a row of X, where there is one."""
        found = {}
        for i, x in enumerate(X):
            loss, G, h, size = self.values(x[None])
            H, _ = self.model(x[None], G, h, size, loss.clamp_max(0))
            free = ~inputs.active(x[None])[0]
            if isinstance(inputs, Sphere) or not bool(free.any()):
                continue
            values, axes = torch.linalg.eigh(H[0][free][:, free])
            # The direction along the features themselves is no freedom: f(x + tv) ∝ f(x) where norms do not count.
            flat = axes[:, values <= _FLAT**2 * values[-1].clamp_min(0)]
            if flat.shape[1] == 0:
                continue
            v = torch.zeros_like(x)
            v[free] = flat[:, 0]
            ends = torch.stack([self._end(x, sign * v, inputs, tol) for sign in (-1, 1)])
            if float((ends[1] - ends[0]).norm()) > 1e-3 * float(x.norm()):
                found[i] = ends
        return found

    def _end(self, x, v, inputs, tol):
        """The last point from x along v whose features lie in the span."""
        low, high = 0.0, 4 * float(x.norm())
        for _ in range(40):
            middle = (low + high) / 2
            y = x + middle * v
            inside = torch.allclose(inputs.retract(y[None]), y[None])
            low, high = (middle, high) if inside and float(self.values(y[None])[0]) <= 10 * tol else (low, middle)
        return x + low * v


def _bounded(H, g, low, high):
    """δ (S, k) near the minimum of ½δᵀHδ − gᵀδ within bounds, by passes of an active set; NaN where H is singular."""
    fixed = ((low >= 0) & (g <= 0)) | ((high <= 0) & (g >= 0))
    delta = torch.zeros_like(g)
    for _ in range(_PASSES):
        held = torch.where(fixed, delta, 0.0)
        right = torch.where(fixed, 0.0, g - (H @ held[:, :, None])[:, :, 0])
        mask = (~fixed).to(H)
        A = H * mask[:, :, None] * mask[:, None, :] + torch.diag_embed(1 - mask)
        factor, info = torch.linalg.cholesky_ex(A)
        step = torch.cholesky_solve(right[:, :, None], factor)[:, :, 0]
        step[info > 0] = torch.nan
        step = torch.where(fixed, held, step)
        delta = torch.minimum(torch.maximum(step, low), high)
        out = ((step < low) | (step > high)) & ~fixed
        if not bool(out.any()):
            break
        fixed = fixed | out
    return delta


def descend_each(membership: Membership, X, inputs: Inputs, target, tick):
    """Levenberg–Marquardt on ℓ from every row of X (S, k) by itself: where each ended, and its loss (S,).

    Args:
        target: a row is done once ℓ ≤ target.
        tick: called after every step; true ends the descent.
    """
    X, count = X.clone(), len(X)
    loss, G, h, size = membership.values(X)
    mu = torch.full_like(loss, _FIRST_DAMPING)
    growth = torch.full_like(loss, 2.0)
    k = X.shape[1]
    H, g = X.new_zeros(count, k, k), torch.zeros_like(X)
    fresh = torch.ones(count, dtype=torch.bool, device=X.device)
    live = loss > target
    past = [loss.clone()]
    for _ in range(_STEPS):
        need = torch.nonzero(live & fresh)[:, 0]
        if len(need):
            for part in (need[loss[need] > _FINE], need[loss[need] <= _FINE]):
                if len(part):
                    H[part], g[part] = membership.model(X[part], G[part], h[part], size[part], loss[part])
            fresh[need] = False
        rows = torch.nonzero(live)[:, 0]
        if not len(rows):
            break
        scale = H[rows].diagonal(dim1=1, dim2=2).mean(1).clamp_min(torch.finfo(X.dtype).tiny)
        A, b, U = H[rows].clone(), inputs.tangent(X[rows], g[rows]), X[rows]
        if isinstance(inputs, Sphere):  # steps stay in the tangent space
            N = torch.nn.functional.normalize(U)
            HN = (A @ N[:, :, None])[:, :, 0]
            A = A - HN[:, :, None] * N[:, None, :] - N[:, :, None] * HN[:, None, :]
            A = A + ((N * HN).sum(1) + scale)[:, None, None] * N[:, :, None] * N[:, None, :]
        A.diagonal(dim1=1, dim2=2).add_((mu[rows] * scale)[:, None])
        bounds = inputs.bounds(U)
        if bounds is None:
            factor, info = torch.linalg.cholesky_ex(A)
            delta = torch.cholesky_solve(b[:, :, None], factor)[:, :, 0]
            delta[info > 0] = torch.nan
        else:
            delta = _bounded(A, b, (bounds[0] - U).clamp(max=0), (bounds[1] - U).clamp(min=0))
        promised = 2 * (delta * b).sum(1) - (delta * (H[rows] @ delta[:, :, None])[:, :, 0]).sum(1)
        usable = torch.isfinite(delta).all(1)
        trial = torch.where(usable[:, None], inputs.retract(torch.nan_to_num(U + delta)), U)
        new, G1, h1, size1 = membership.values(trial)
        gain = torch.where(usable & (promised > 0), (loss[rows] - new) / promised, -1.0)
        good = gain > 1e-4
        up, down = rows[good], rows[~good]
        X[up], loss[up], G[up], h[up], size[up] = trial[good], new[good], G1[good], h1[good], size1[good]
        fresh[up] = True
        mu[up] = (mu[up] * (1 - (2 * gain[good] - 1) ** 3).clamp_min(0.1)).clamp_min(1e-12)
        growth[up] = 2.0
        mu[down] *= growth[down]
        growth[down] *= 2
        past.append(loss.clone())
        live = live & (loss > target) & (mu < _MOST_DAMPING)
        if len(past) > _PATIENCE:
            live = live & (loss < _FALL * past[-1 - _PATIENCE])
        if tick():
            break
    return X, loss
