r"""The projection loss L(X̂) = ‖P⊥ θ‖² / ‖θ‖², P⊥ projecting orthogonally to the span of the features of X̂.

With Φ̂ = Φ(X̂), G = Φ̂Φ̂ᵀ, α = G⁻¹Φ̂θᵀ and r = θ − αᵀΦ̂ (K outputs: θ and r are K × p, α is n × K, α_k and r_k those
of output k),

    L = ‖r‖²/‖θ‖²,        ∂L/∂X̂ = −2 Σ_k [(α_k r_kᵀ) ∘ φ'(X̂Vᵀ)] V / ‖θ‖².

‖r‖² is taken from r: the form ‖θ‖² − tr αᵀΦ̂θᵀ subtracts near-equal numbers and stalls at the relative precision ε,
where r goes on to ε².

Source: Iurada et al., arXiv 2509.22214, for the loss; Golub and Pereyra (1973) for the gradient.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import torch

from .._checks import check_matrix, check_moved, in_range
from .._precision import full_precision
from ..features.feature_map import FeatureMap
from ..features.gram import SpanError, StepError, as_step, factor_gram


class Projection:
    """θ projected on the columns of atoms U: the coefficients ``alpha`` (m, K), ``residual`` (K, p) and ``loss``.

    Args:
        lifted: two columns an atom (:mod:`reconlaw.features.lift`), so m = 2n; or one, m = n.
        dtype: of the arithmetic.
        derivative: stands in for φ' in the gradient, see :class:`~reconlaw.features.lift.RandomFeaturesLift`.
        strict: take no nearly dependent columns, see :func:`factor_gram`.
        penalty: (m, K) linear penalty c on the coefficients: α minimises ‖θ − αᵀB‖²/2 + ⟨c, α⟩, and the loss is twice
            that over ‖θ‖². A group-ℓ1 norm of α is ⟨c, α⟩ as long as the directions of its groups stay.
        beside: tensors of one number each, read as ``beside`` together with the loss: the host waits for an accelerator
            once, not for each.

    Raises:
        SpanError: the columns are linearly dependent, or not finite.
        StepError: they do not fit into memory.
    """

    @as_step()
    def __init__(
        self, features, theta, U, lifted=False, dtype=None, derivative=None, strict=False, penalty=None, beside=()
    ):
        self.features, self.U = features, U
        self.lift = features.lift(U, lifted, dtype or theta.dtype, derivative)
        B = self.lift.columns
        c = B.new_zeros(len(B), len(theta)) if penalty is None else penalty
        gram = features.summed(B @ B.T)
        if strict:
            self.factor, sound = factor_gram(gram, strict), gram.new_ones(())
        else:  # as if it were sound, which nearly always it is: that is known with the loss
            self.factor, failed = torch.linalg.cholesky_ex(gram)
            sound = (failed == 0) & torch.isfinite(self.factor).all()
        misfit = self._fit(theta, B, c)
        sound, misfit, self.scale, *self.beside = _numbers(
            sound, misfit, features.summed(theta.square().sum()), *beside
        )
        if not sound:
            self.factor = factor_gram(gram)
            (misfit,) = _numbers(self._fit(theta, B, c))
        self.loss = misfit / self.scale
        if not math.isfinite(self.loss):
            raise SpanError("the features of the candidates are too large, or too nearly dependent, to project on")

    def _fit(self, theta, B, c) -> torch.Tensor:
        """Coefficients and residual by the factor, and the loss before it is divided by the scale."""
        summed = self.features.summed
        self.alpha = torch.cholesky_solve(summed(B @ theta.T) - c, self.factor)
        self.residual = theta - self.alpha.T @ B
        # One refinement: the normal equations square the condition number, this takes it back.
        correction = torch.cholesky_solve(summed(B @ self.residual.T) - c, self.factor)
        self.alpha = self.alpha + correction
        self.residual -= correction.T @ B
        return summed(self.residual.square().sum()) + 2 * (c * self.alpha).sum()

    def project_out(self, T: torch.Tensor) -> torch.Tensor:
        """P⊥ T for T of shape (K, p), in place."""
        B = self.lift.columns
        return T.sub_(torch.cholesky_solve(self.features.summed(B @ T.T), self.factor).T @ B)

    def gradient(self) -> torch.Tensor:
        """∂L/∂U, shape (n, d)."""
        self.lift.linearise(self.alpha)
        return self.lift.vjp(self.residual) * (-2 / self.scale)


def _numbers(*values: torch.Tensor) -> list[float]:
    """The numbers that tensors hold, in one transfer."""
    dtype = next(value.dtype for value in values if value.is_floating_point())
    return torch.stack([value.to(dtype) for value in values]).tolist()


def least_squares(features, theta, U):
    """U with the coefficients of least norm among the best, ``alpha``, and their ``loss``: one column an atom.

    By a singular value decomposition outside torch, for atoms on which no :class:`Projection` can be made. Where that
    fails too the coefficients are zero, and the loss is 1.
    """
    if features.divided:
        raise StepError("coefficients of nearly dependent columns are not computed where parameters are divided")
    try:
        with as_step():
            B = features.lift(U, False, theta.dtype).columns
            alpha = np.linalg.lstsq(B.T.cpu().numpy(), theta.T.cpu().numpy(), rcond=None)[0]
            alpha = torch.from_numpy(alpha).to(theta)
            loss = float((theta - alpha.T @ B).square().sum() / theta.square().sum())
            if math.isfinite(loss):
                return SimpleNamespace(U=U, alpha=alpha, loss=loss)
    except (StepError, np.linalg.LinAlgError):
        pass
    return SimpleNamespace(U=U, alpha=theta.new_zeros(len(U), len(theta)), loss=1.0)


class _ProjectionLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, X, features, theta):
        projection = Projection(features, theta, X, strict=True)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(projection.gradient())
        return X.new_tensor(projection.loss)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0], None, None


@full_precision()
def projection_loss(X: torch.Tensor, features: FeatureMap, theta: torch.Tensor) -> torch.Tensor:
    r"""L(X) = ‖P⊥ θ‖² / ‖θ‖², differentiable in X by the analytic gradient.

    Args:
        X: (n, d) candidate samples, n ≤ p; of any norm.
        features: the feature map.
        theta: (p,) or (K, p), not zero; K outputs share one projector. No gradient flows to it.

    Returns:
        A scalar in [0, 1]; 0 where θ lies in the span of the features of X. Differentiable once.

    Raises:
        TypeError: X is no floating tensor, or features is no feature map.
        ValueError: bad shapes, NaN, θ = 0, or more samples than features.
        SpanError: the features of X are linearly dependent to working precision.
    """
    if not isinstance(features, FeatureMap):
        raise TypeError(f"features is a {type(features).__name__}; pass X first, then the feature map, then theta")
    theta, _ = in_range(check_moved(features.check_theta(theta).detach()))
    theta = features.here(theta)
    X = check_matrix("X", X, features.d).to(theta)
    if X.shape[0] > features.p:
        raise ValueError(
            f"X has {X.shape[0]} rows but there are only p = {features.p} features: their span is everything and the "
            "loss 0; use fewer rows or more features"
        )
    return _ProjectionLoss.apply(X, features, theta)
