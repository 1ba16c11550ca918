r"""The parity lift: two columns an atom, φ(Vu) and φ(−Vu), and products with their Jacobian.

With B = [Φ(U); Φ(−U)] ∈ R^{2n×p} and coefficients α = [α⁺; α⁻] ∈ R^{2n×K}, the model is αᵀB. Its derivative along
δ ∈ R^{n×d}, at fixed α, is

    J δ = Σ_i α⁺_i (φ'(Vu_i) ∘ Vδ_i) − α⁻_i (φ'(−Vu_i) ∘ Vδ_i)  ∈ R^{K×p}.

The span of B does not depend on the signs of the atoms, so the descent on it has no sign minima; at a solution one of
α⁺_i, α⁻_i vanishes, and that reads the sign off. An activation of pure parity has Φ(−U) = ±Φ(U): one column is kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F

from .built_in import relu_and_tanh
from .memory import empty
from .passes import count_passes
from .spectral import grouped, slices
from .threads import WORTH, each, places

# Numbers in a block: of an n × rows slice, or of the rows of V where these must be cast. An accelerator takes larger
# ones, since each costs it the start of a few kernels.
_BLOCK_NUMBERS, _LARGE_BLOCK_NUMBERS = 1 << 20, 1 << 24
# Where a CPU's threads take the blocks: numbers of n × rows, and of rows of V, in one.
_SHARED_NUMBERS, _SHARED_V = 1 << 16, 1 << 22
# Sums over blocks have at most so many terms.
_MOST_TERMS = 256
# From this d on, a CPU multiplies with V the faster a few rows at a time, here of float64 and twice as many of float32:
# they stay in a cache while they are packed.
_LONG_ROWS, _LONG_BLOCK = 1024, 256


class Lift(ABC):
    """Columns of atoms under a feature map, and products with the Jacobian of αᵀB: all that a descent asks for.

    Attributes:
        U: (n, d) atoms.
        lifted: two columns an atom, f(U) above f(−U), or one.
        dtype: of the arithmetic.
        columns: B, (2n, p) lifted, (n, p) not.
        alpha: (2n or n, K), the coefficients that :meth:`linearise` fixed.
    """

    U: torch.Tensor
    lifted: bool
    dtype: torch.dtype
    columns: torch.Tensor
    alpha: torch.Tensor

    @cached_property
    def n(self) -> int:
        """The number of atoms."""
        return len(self.U)

    @abstractmethod
    def linearise(self, alpha: torch.Tensor) -> None:
        """Fix the coefficients α (2n or n, K) at which :meth:`jvp`, :meth:`vjp` and :meth:`block_gram` are taken."""

    @abstractmethod
    def jvp(self, delta: torch.Tensor) -> torch.Tensor:
        """Jδ, shape (K, p), for δ of shape (n, d)."""

    @abstractmethod
    def vjp(self, R: torch.Tensor) -> torch.Tensor:
        """Jᵀ R, shape (n, d), for R of shape (K, p)."""

    def jvps(self, deltas: torch.Tensor) -> torch.Tensor:
        """:meth:`jvp` of each of several δ, (m, n, d) → (m, K, p)."""
        return torch.stack([self.jvp(delta) for delta in deltas])

    def vjps(self, Rs: torch.Tensor) -> torch.Tensor:
        """:meth:`vjp` of each of several R, (m, K, p) → (m, n, d)."""
        return torch.stack([self.vjp(R) for R in Rs])

    @abstractmethod
    def block_gram(self) -> torch.Tensor:
        """K, (n, n), with JᵀJ ≈ K ⊗ C, C the :meth:`metric`: it preconditions the descent, and need not be exact."""

    def metric(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Eigenvalues (d,), of mean 1, and eigenvectors (d, d) of C; None where C = I_d."""
        return None

    def jacobians(self, taken: Any = None) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Where the derivatives of the columns were taken, (2n or n, d), and these, (2n or n, d, p), in any dtype.

        None where they would be too large, or none are to be had: then K ⊗ C preconditions in the place of JᵀJ.

        Args:
            taken: what the lift before this one returned; its derivatives may serve for atoms that hardly moved.
        """
        return None

    def fold(self, G: torch.Tensor) -> torch.Tensor:
        """G⁺ − G⁻ of a (2n, …) that belongs to the columns, since f(−u) moves against u; G itself where not lifted."""
        return G[: self.n] - G[self.n :] if self.lifted else G


class RandomFeaturesLift(Lift):
    """Lifted columns of atoms ``U`` under :class:`~reconlaw.features.random_features.RandomFeatures`.

    Holds B (2n × p) and one n × p array (K = 1: S_i = α⁺_i φ'(Vu_i) − α⁻_i φ'(−Vu_i); else the pre-activations, unless
    φ is one whose B tells φ'), a block to write to, and never a p × d array beside V; V is read in blocks, cast to
    ``dtype`` as it is read.

    ``derivative`` stands in for φ' in the Jacobian (the paper's leaky backward slope); φ' itself where None.
    """

    def __init__(self, features, U, lifted: bool, dtype: torch.dtype, derivative=None):
        self.features, self.U, self.lifted, self.dtype = features, U, lifted, dtype
        self._derivative = derivative or features.activation.derivative
        self.p = len(features.V)  # those held here
        self._rows = slices(self.p, self._block())
        self.columns = empty((2 if lifted else 1) * self.n, self.p, dtype, U.device)
        phi = features.activation
        # Whether the columns tell φ': then z need not be kept.
        self._tell = lifted and phi.tell and self._derivative is phi.derivative
        self._Z = None if self._tell or lifted and phi.f is F.relu else self._empty(self.p)
        self._S: torch.Tensor | None = None
        self._scratch: dict[tuple[int, int], torch.Tensor] = {}
        count_passes(self.n)

        def write(rows, place):
            minus = self.columns[self.n :, rows] if lifted else None
            Z = self._times_V(U, rows, out=minus if self._Z is None else self._Z[:, rows])
            scratch = self._block_of(rows, place) if phi.f is relu_and_tanh else None
            phi.write(Z, self.columns[: self.n, rows], minus, scratch)

        self._each(write, scratch=int(phi.f is relu_and_tanh))

    def _block(self):
        """How many parameters are in a block: by sizes alone, so that the order of sums is."""
        (n, d), features, cpu = self.U.shape, self.features, self.U.device.type == "cpu"
        cast = self.dtype != features.V.dtype
        rows = (_BLOCK_NUMBERS if cpu else _LARGE_BLOCK_NUMBERS) // max(n, d if cast else 16)
        if cpu and n * d * self.p >= WORTH:
            rows = min(rows, _SHARED_NUMBERS // max(n, 16), _SHARED_V // d)
        count = -(-self.p // max(512, rows))
        return -(-self.p // count)

    def _each(self, work, parts=None, scratch=1):
        """:func:`each` of the blocks, of ``scratch`` to write to each; one's own function stays on one thread."""
        parts = self._rows if parts is None else parts
        alone = not self.features.activation.built_in or self.U.device.type != "cpu"
        for place in range(0 if alone or not scratch else min(places(), len(parts))):  # by this thread: it keeps memory
            self._block_of(self._rows[0], place, scratch)
        each(work, parts, alone)

    def _empty(self, width):
        return empty(self.n, width, self.dtype, self.U.device)

    def _V(self, rows):
        V = self.features.V if len(self._rows) == 1 else self.features.V[rows]
        return V if V.dtype == self.dtype else V.to(self.dtype)

    def _times_V(self, A, rows, out=None):
        """A Vᵀ on a block, written to ``out`` where given."""
        V = self._V(rows)
        out = self._empty(len(V)) if out is None else out
        for part in self._few_rows(V):
            torch.mm(A, V[part].T, out=out[:, part])
        return out

    def _few_rows(self, V):
        """The rows of a block of V that are multiplied at a time: all, or a few where they are long and on a CPU."""
        long = V.shape[1] >= _LONG_ROWS and V.device.type == "cpu"
        return slices(len(V), _LONG_BLOCK * 8 // V.element_size() if long else len(V))

    def linearise(self, alpha):
        self.alpha = alpha
        if alpha.shape[1] == 1:
            # S takes the place of the pre-activations, which only another call would need: it makes them again.
            again = self._S is not None and self._Z is not None
            if self._S is None:
                self._S = self._empty(self.p) if self._Z is None else self._Z
            count_passes(self.n if again else 0)

            def write(rows, place):
                if self._tell:
                    n, made, scratch = self.n, self.columns[:, rows], self._block_of(rows, place)
                    write_slopes = self.features.activation.write_slopes
                    write_slopes(made[:n], made[n:], alpha[:n], alpha[n:], self._S[:, rows], scratch)
                else:
                    Z = self._times_V(self.U, rows) if again else self._pre_activations(rows)
                    self._S[:, rows] = self._combined(self._slopes(Z), alpha)

            self._each(write, scratch=int(self._tell))

    def _pre_activations(self, rows):
        if self._Z is None:  # of lifted ReLU, z = max(z, 0) − max(−z, 0), exactly
            return self.columns[: self.n, rows] - self.columns[self.n :, rows]
        return self._Z[:, rows]

    def _block_of(self, rows, place, m=1):
        """An m n × rows array to write to, of each thread: the same each time, since new memory costs page faults."""
        if (place, m) not in self._scratch:
            self._scratch[place, m] = empty(m * self.n, self._rows[0].stop, self.dtype, self.U.device)
        return self._scratch[place, m][:, : rows.stop - rows.start]

    def _slopes(self, Z):
        """φ'(Z), and φ'(−Z) where lifted."""
        return (self._derivative(Z), self._derivative(-Z)) if self.lifted else (self._derivative(Z),)

    def _slopes_of(self, rows):
        """:meth:`_slopes` on a block."""
        if self._tell:
            return self.features.activation.told(self.columns[: self.n, rows], self.columns[self.n :, rows])
        return self._slopes(self._pre_activations(rows))

    def _combined(self, slopes, weights):
        """weights⁺ φ'(Z) − weights⁻ φ'(−Z): S for weights = α (2n, 1), Σ_k S^k ∘ R_k for weights = αR (2n, block)."""
        out = weights[: self.n] * slopes[0]
        if self.lifted:
            out -= weights[self.n :] * slopes[1]
        return out

    def _cotangents(self, rows, Rs, place):
        """Σ_k S^k ∘ R_k on a block, of each R below the others: what :meth:`vjps` multiplies V with."""
        if self._S is not None:
            out = self._block_of(rows, place, len(Rs))
            torch.mul(self._S[:, rows], Rs, out=out.unflatten(0, (len(Rs), self.n)))
            return out
        slopes = self._slopes_of(rows)
        return torch.cat([self._combined(slopes, self.alpha @ R) for R in Rs])

    def jvp(self, delta):
        return self.jvps(delta[None])[0]

    def jvps(self, deltas):
        m, n = deltas.shape[:2]
        count_passes(m * n)
        out = torch.empty(m, self.alpha.shape[1], self.p, dtype=self.dtype, device=deltas.device)
        each = deltas.flatten(0, 1)

        def write(rows, place):
            T = self._times_V(each, rows, out=self._block_of(rows, place, m)).unflatten(0, (m, n))
            if self._S is not None:
                torch.sum(T.mul_(self._S[:, rows]), 1, out=out[:, 0, rows])
                return
            slopes = self._slopes_of(rows)
            for moved, made in zip(T, out, strict=True):
                made[:, rows] = self.alpha[:n].T @ (slopes[0] * moved)
                if self.lifted:
                    made[:, rows] -= self.alpha[n:].T @ (slopes[1] * moved)

        self._each(write, scratch=m)
        return out

    def vjp(self, R):
        return self.vjps(R[None])[0]

    def vjps(self, Rs):
        m, groups = len(Rs), grouped(self._rows, _MOST_TERMS)
        count_passes(m * self.n)
        terms = torch.empty(len(groups), m * self.n, self.features.d, dtype=self.dtype, device=Rs.device)

        def write(k, place):
            for rows in groups[k]:
                S, V = self._cotangents(rows, Rs[..., rows], place), self._V(rows)
                for part in self._few_rows(V):
                    first = rows is groups[k][0] and not part.start  # NaN in new memory is left out
                    terms[k].addmm_(S[:, part], V[part], beta=0 if first else 1)

        self._each(write, range(len(groups)), scratch=m)
        return (terms[0] if len(groups) == 1 else terms.sum(0)).unflatten(0, (m, self.n))

    def block_gram(self) -> torch.Tensor:
        r"""K with JᵀJ ≈ K ⊗ I_d: K = Σ_k S^k S^kᵀ / d, (n, n).

        For V independent of atoms and coefficients this is the mean of JᵀJ over V along directions orthogonal to all
        atoms, where S knows nothing of Vδ; within their span the two differ.
        """
        if self._S is not None:
            return self._S @ self._S.T / self.features.d
        total = self.alpha.new_zeros(())
        for rows in self._rows:
            slopes = self._slopes_of(rows)
            D = torch.cat([slopes[0], -slopes[1]]) if self.lifted else slopes[0]
            weighted = D @ D.T * (self.alpha @ self.alpha.T)
            total = total + weighted
        if self.lifted:
            n = self.n
            total = total[:n, :n] + total[:n, n:] + total[n:, :n] + total[n:, n:]
        return total / self.features.d
