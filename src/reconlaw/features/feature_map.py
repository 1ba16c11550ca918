r"""Feature maps: what each declares, the defaults of what the attack asks of it, and regression on its features.

Source: the setting is that of Iurada et al., arXiv 2509.22214, section 2.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import torch
from numpy.typing import ArrayLike

from .._checks import (
    as_tensor,
    check_count,
    check_finite,
    check_float_dtype,
    check_matrix,
    check_positive,
    check_samples,
    resolve_device,
)
from .._precision import full_precision
from .._random import fingerprint_of, seeded_generator
from ..sphere import draw
from . import autograd
from .activations import Activation
from .budget import RANK, Spent, attempt, give_up
from .gram import SpanError, StepError, factor_gram
from .lift import Lift
from .moment_regression import MomentRegression

_Map = TypeVar("_Map", bound="FeatureMap")


class FeatureMap(ABC):
    r"""A map from samples, (n, d), to features, (n, p): what training regressed on, and what the attacker knows of it.

    A subclass calls ``super().__init__`` and says in :meth:`apply` what its features are; all else has a default that
    autograd and random inputs give, and that a subclass may replace by something faster or better. The how-to has one
    of thirty lines.

    Args:
        d: dimension of a sample, ≥ 1.
        p: number of features, ≥ 1.
        dtype: torch.float64 or torch.float32, that of θ and of the arithmetic.
        device: "auto" (CUDA, else MPS for float32, else CPU) or any torch device.

    Attributes:
        d: dimension of a sample.
        p: number of features.
        positions: T, columns of p features that a sample has: 1, or as many as a layer sees positions of it (tokens,
            patches). The training of the layer leaves θ = Σ_i Σ_t a_it φ_t(x_i)ᵀ, a coefficient for each.
        dtype: of θ and of the arithmetic.
        device: of all tensors.
        activation: φ, where Φ(X) = φ(XVᵀ) and the rows of V are like draws from N(0, I/d); None for other maps.
        V: (p, d) where there is an activation, None for other maps.
        divided: whether processes hold some of the parameters each (:mod:`reconlaw.features.sharded`).
    """

    d: int
    p: int
    positions: int = 1
    dtype: torch.dtype
    device: torch.device
    activation: Activation | None = None
    V: torch.Tensor | None = None
    divided: bool = False

    def __init__(self, d: int, p: int, dtype: torch.dtype = torch.float64, device: str | torch.device = "auto") -> None:
        self.d, self.p = check_count("d", d), check_count("p", p)
        self.dtype, self.device = check_float_dtype(dtype), resolve_device(device, dtype)

    def __repr__(self):
        return f"{type(self).__name__}(d={self.d}, p={self.p}, dtype={self.dtype}, device='{self.device}')"

    @abstractmethod
    def apply(self, X: torch.Tensor) -> torch.Tensor:
        """Φ(X), (n, T·p), of rows that are trusted, (n, d): (n, p) where a sample has one column.

        By operations of torch that autograd differentiates twice, each row by itself, without randomness, and in the
        dtype that X has, which may be float32 where the features' own is float64.
        """

    def __call__(self, X: torch.Tensor) -> torch.Tensor:
        """Features of the rows of X.

        Args:
            X: (n, d), finite.

        Returns:
            (n, p), on the features' device and in their dtype, without a graph; (n, T·p) of T columns a sample.

        Raises:
            TypeError, ValueError: X is no floating (n, d) tensor of finite numbers.
        """
        return autograd.in_batches(self, self._to(check_matrix("X", X, self.d)))

    def _to(self, X: torch.Tensor) -> torch.Tensor:
        return X.to(self.device, self.dtype)

    @property
    def width(self) -> int:
        """How many numbers the columns of a sample hold together, T·p."""
        return self.positions * self.p

    def columns(self, F: torch.Tensor) -> torch.Tensor:
        """Columns (T·n, p) of features (n, T·p): the first column of every sample, then the second of every one."""
        return F if self.positions == 1 else F.reshape(len(F), self.positions, self.p).transpose(0, 1).flatten(0, 1)

    def joined(self, C: torch.Tensor) -> torch.Tensor:
        """The inverse of :meth:`columns`: (n, T·p) of (T·n, p)."""
        return C if self.positions == 1 else C.unflatten(0, (self.positions, -1)).transpose(0, 1).flatten(1)

    def probes(self, count: int, purpose: str = "probes") -> torch.Tensor:
        """Random points of the sphere of radius √d, (count, d): for one purpose the same for all maps of one d."""
        return self._to(draw(count, self.d, seeded_generator(purpose, 0)))

    # Where the parameters are: all in this process, but for those of reconlaw.features.sharded.

    def summed(self, part: torch.Tensor) -> torch.Tensor:
        """A sum over parameters, of which ``part`` is over those held here."""
        return part

    def once(self, make: Callable[[], Any]) -> Any:
        """What ``make()`` gives, or raises, in one process, told to all that divide the parameters."""
        return make()

    def here(self, rows: torch.Tensor) -> torch.Tensor:
        """Of rows (…, p) the coordinates held here."""
        return rows

    def norms(self, rows: torch.Tensor) -> torch.Tensor:
        """Norms (m,) of rows over all parameters; (m, p), or as much of it as is held here."""
        return rows.norm(dim=1)

    def orthonormal(self, rows: torch.Tensor) -> torch.Tensor:
        """As many rows, orthonormal, with the span of ``rows`` (m, p), m ≤ p, or as much of them as is held here."""
        return torch.linalg.qr(rows.T).Q.T

    # What the attack asks.

    def lift(
        self,
        U: torch.Tensor,
        lifted: bool = True,
        dtype: torch.dtype | None = None,
        derivative: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> Lift:
        """Columns of atoms, and products with their Jacobian.

        Args:
            U: (n, d) atoms.
            lifted: two columns an atom (:mod:`reconlaw.features.lift`), or one.
            dtype: of the arithmetic; the features' own where None.
            derivative: stands in for φ' in the Jacobian, where the features have an activation.

        Raises:
            ValueError: a derivative for features without an activation.
        """
        if derivative is not None:
            raise ValueError("these features have no φ whose derivative could be replaced; derivative must be None")
        return autograd.AutogradLift(self, U, lifted, dtype or self.dtype)

    @cached_property
    def parity(self) -> str:
        """As measured at random inputs "even", "odd" or "mixed", where Φ(−x) = Φ(x), Φ(−x) = −Φ(x), or neither.

        Of "even" and "odd" features no method can tell x from −x.
        """
        probes = self.probes(3)
        plus, minus = self(probes), self(-probes)
        rounding = (1e-9 if self.dtype == torch.float64 else 1e-4) * float(plus.norm())
        for name, difference in (("even", plus - minus), ("odd", plus + minus)):
            if float(difference.norm()) <= rounding:
                return name
        return "mixed"

    def rank(self, count: int) -> int:
        """The dimension of the span of all Φ(x) where it is below ``count``, else p: equations that θ holds.

        A body that ends in a linear layer, say, has no more independent features than that layer has inputs, however
        many outputs. Measured as the rank of Φ at ``count`` random inputs, in float64; at fewer of them, √(2³⁵/p),
        where that would take minutes, and a rank above that many goes unseen. p, too, where a run's time or memory
        does not do for it, which then says so (``reconlaw.features.budget.attempt``).

        Raises:
            StepError: outside of a run, where the memory does not do for it.
        """
        inputs = autograd.most_inputs(self, count)
        if inputs not in self._ranks:
            try:
                found = attempt(RANK, lambda: autograd.rank(self, inputs))
            except StepError as error:
                if isinstance(error, Spent) or not give_up(RANK):
                    raise
                found = None
            if found is None:
                return self.p
            self._ranks[inputs] = found
        return self._ranks[inputs]

    def most_samples(self) -> float:
        """The most samples that one output can determine, however many the features: infinity unless proved less."""
        return math.inf

    def directions(self, R: torch.Tensor, k: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Candidate atoms for a residual: at most k rows of norm √d, and how strong they are, by learned moments.

        Args:
            R: (K, p).
            k: how many at most; none are made where a sample has several columns.
            generator: of the random starts that a method may need.

        See :mod:`reconlaw.features.moment_regression`.
        """
        if self.positions > 1:
            return R.new_zeros(0, self.d), R.new_zeros(0)
        return self._moments.directions(R, k, generator)

    def without_linear_part(self, R: torch.Tensor) -> torch.Tensor:
        """R (K, p) without what is constant or linear in the weights, which tells of no single sample; R by default."""
        return R

    def column_norm(self, generator: torch.Generator) -> float:
        """The root mean square of ‖Φ(x)‖, x on the sphere, estimated at draws of ``generator``."""
        return float(self(draw(256, self.d, generator)).square().sum(1).mean()) ** 0.5

    def coarse(self) -> FeatureMap | None:
        """The same features in float32, for the first part of a descent in float64; None where there is no use."""
        return None

    def sample(self, count: int, generator: torch.Generator) -> tuple[FeatureMap, torch.Tensor] | None:
        """So many features at random, and their coordinates; None where they cost as much as all."""
        return None

    def select(self, index: torch.Tensor) -> FeatureMap:
        """The features at coordinates ``index`` (long, none twice): :func:`reconlaw.known`, which checks them."""
        return Selected(self, index)

    # What the descent's preconditioners ask, where the lift is the default one.

    def jacobians(
        self, W: torch.Tensor, taken: Any = None, dtype: torch.dtype | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The derivatives of Φ at the rows of W, (m, d, p); (m, d, T·p) of T columns a sample.

        Args:
            W: (m, d).
            taken: what an earlier call returned. Its derivatives serve for rows within a tenth of the norm of where
                they were taken: a preconditioner need be no better.
            dtype: of the derivatives; float32 where None, if Φ allows it.

        Returns:
            where each was taken, (m, d), and the derivatives.
        """
        return autograd.jacobians(self, W, dtype or self._coarse_dtype, taken)

    def metric(self) -> tuple[torch.Tensor, torch.Tensor]:
        r"""Eigenvalues (d,), of mean 1, and eigenvectors (d, d) of C ∝ E J(u)ᵀJ(u), u uniform on the sphere.

        How much Φ moves along each direction of the input, from Jᵀw with random w at random u; smoothed, since few
        are drawn.
        """
        return self._metric

    @cached_property
    def _ranks(self) -> dict[int, int]:
        return {}

    @cached_property
    def multiplications(self) -> float:
        """How many one row's pass takes, which decides how many threads share it (``reconlaw.features.threads``)."""
        return autograd.multiplications(self)

    @cached_property
    def _moments(self) -> MomentRegression:
        return MomentRegression(self)

    @cached_property
    def _metric(self):
        return autograd.metric(self)

    @cached_property
    def _coarse_dtype(self) -> torch.dtype:
        """float32, unless the map insists on its own."""
        try:
            fits = self.apply(self.probes(1).float()).dtype == torch.float32
        except (RuntimeError, TypeError):
            fits = False
        return torch.float32 if fits else self.dtype

    def _changed(self: _Map, **attributes) -> _Map:
        """A copy with other attributes, which forgets what was measured of this one."""
        other = copy.copy(self)
        for name in ("parity", "_ranks", "_moments", "_metric", "_coarse_dtype"):
            other.__dict__.pop(name, None)
        other.__dict__.update(attributes)
        return other

    # Regression on the features.

    @full_precision()
    def fit(self, X: torch.Tensor, y: ArrayLike, ridge: float = 0.0, theta0: ArrayLike | None = None) -> torch.Tensor:
        r"""Minimum-norm interpolator, or ridge regression, started from θ₀.

        θ* = θ₀ + Φᵀ (ΦΦᵀ + λI)⁻¹ (y − Φθ₀): the limit of gradient descent from θ₀ on ‖Φw − y‖² (λ = 0), or the
        minimiser of ‖Φw − y‖² + λ‖w − θ₀‖². The change θ = θ* − θ₀ is what an attacker is given.

        Args:
            X: (n, d), n ≤ p unless λ > 0; no zero and no equal rows.
            y: (n,) or (n, K), K ≥ 1; whole numbers will do.
            ridge: λ ≥ 0, in the units of ΦΦᵀ (whose entries grow as p).
            theta0: (p,) or (K, p); zero where none is given.

        Returns:
            θ* of shape (p,) for y of shape (n,), (K, p) for (n, K).

        Raises:
            TypeError: X is no floating tensor.
            ValueError: n > p with λ = 0, bad shapes, NaN, λ < 0, or a Gram matrix that is singular to working
                precision.
        """
        X = self._to(check_samples(X, self.d))
        ridge = check_positive("ridge", ridge, allow_zero=True)
        y = as_tensor(y)
        if y.ndim not in (1, 2) or y.shape[0] != X.shape[0] or y.numel() == 0:
            raise ValueError(f"y has shape {tuple(y.shape)}; expected ({X.shape[0]},) or ({X.shape[0]}, K)")
        y = self._to(check_finite("y", y))
        if ridge == 0 and X.shape[0] > self.p:
            raise ValueError(
                f"n = {X.shape[0]} samples cannot be interpolated by p = {self.p} < n features; raise p, or set "
                "ridge > 0"
            )
        if self.positions > 1:
            raise ValueError("each sample has several columns here: a layer is not fitted by regression on them")
        Phi = self(X)
        targets = y.reshape(X.shape[0], -1)
        if theta0 is not None:
            targets = targets - Phi @ self.check_theta(theta0, targets.shape[1]).T
        gram = Phi @ Phi.T
        gram.diagonal().add_(ridge)
        try:
            factor = factor_gram(gram, strict=True)
        except SpanError as error:
            raise ValueError(
                "the Gram matrix ΦΦᵀ is singular to working precision (near-equal samples, or p close to n); "
                "use float64, more features, or ridge > 0"
            ) from error
        a = torch.cholesky_solve(targets, factor)
        theta = (Phi.T @ a).T
        # One refinement, from θ: the Gram matrix squares the condition number of Φ, this takes it back.
        theta = theta + (Phi.T @ torch.cholesky_solve(targets - Phi @ theta.T - ridge * a, factor)).T
        if theta0 is not None:
            theta = theta + self.check_theta(theta0, targets.shape[1])
        return theta[0] if y.ndim == 1 else theta

    def check_theta(self, theta: ArrayLike, outputs: int | None = None) -> torch.Tensor:
        """θ, (p,) or (K, p), as a finite (K, p) tensor on the features' device and in their dtype.

        Raises:
            TypeError: θ is complex.
            ValueError: θ has another shape, or holds NaN or infinity.
        """
        theta = as_tensor(theta)
        if theta.is_complex():
            raise TypeError(f"theta has dtype {theta.dtype}; parameters are real")
        theta = self._to(check_finite("theta", theta))
        rows = theta[None] if theta.ndim == 1 else theta
        if rows.ndim != 2 or rows.shape[1] != self.p or (outputs is not None and rows.shape[0] != outputs):
            wanted = f"({self.p},) or ({outputs or 'K'}, {self.p})"
            raise ValueError(f"theta has shape {tuple(theta.shape)}; expected {wanted}")
        return rows

    @full_precision()
    def predict(self, X: torch.Tensor, theta: ArrayLike) -> torch.Tensor:
        """ŷ = Φ(X) θᵀ: (n,) for θ of shape (p,), (n, K) for (K, p); raises what calling the features on X does."""
        y = self(X) @ self.check_theta(theta).T
        return y[:, 0] if as_tensor(theta).ndim == 1 else y


class Selected(FeatureMap):
    """Some coordinates of the features of another map, which is still evaluated whole."""

    def __init__(self, features: FeatureMap, index: torch.Tensor):
        super().__init__(features.d, len(index), features.dtype, features.device)
        self.features, self.index, self.positions = features, index, features.positions

    def __repr__(self):
        return f"known({self.features!r}, {self.p} coordinates, fingerprint='{fingerprint_of(self.index)}')"

    def apply(self, X: torch.Tensor) -> torch.Tensor:
        F = self.features.apply(X)
        if self.positions == 1:
            return F[:, self.index]
        return F.unflatten(1, (self.positions, -1))[:, :, self.index].flatten(1)
