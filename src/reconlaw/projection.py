r"""The projection loss L(X̂) = ‖P⊥ θ‖² / ‖θ‖², P⊥ projecting orthogonally to the span of the features of X̂.

With Φ̂ = Φ(X̂), G = Φ̂Φ̂ᵀ, α = G⁻¹Φ̂θᵀ and r = θ − αᵀΦ̂: L = ‖r‖²/‖θ‖² and ∂L/∂X̂ = −2 Σ_k [(α_k r_k) ∘ φ'(X̂Vᵀ)] V / ‖θ‖².
‖r‖² is taken from r: the form ‖θ‖² − (Φ̂θᵀ)ᵀα subtracts near-equal numbers and stalls near the square root of the precision.

Source: Iurada et al., arXiv 2509.22214, equation of the reconstruction loss; the gradient is that of Golub and Pereyra (1973).
"""

from __future__ import annotations

import torch

from ._checks import check_matrix


class SpanError(RuntimeError):
    """The features of the atoms are linearly dependent (atoms that coincide, or more columns than p)."""


def factor_gram(gram: torch.Tensor) -> torch.Tensor:
    """Cholesky factor of a Gram matrix; where it must, relative jitter grows from 1e-14 to 1e-6, then SpanError."""
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device) * gram.diagonal().mean()
    for jitter in (0.0, 1e-14, 1e-12, 1e-10, 1e-8, 1e-6):
        factor, info = torch.linalg.cholesky_ex(gram + jitter * eye)
        if int(info) == 0 and bool(torch.isfinite(factor).all()):
            return factor
    raise SpanError(
        f"the {len(gram)} feature columns are linearly dependent even with a relative jitter of 1e-6: two atoms "
        "coincide, or there are more columns than features; start elsewhere, or use more features"
    )


class Projection:
    """θ projected on the columns of atoms U: the coefficients ``alpha`` (m, K), ``residual`` (K, p) and ``loss``.

    Args:
        features: a feature map with a ``lift`` method.
        theta: (K, p).
        U: (n, d) atoms.
        lifted: two columns an atom (:mod:`reconlaw.lift`), so m = 2n; or one, m = n.
        dtype: of the arithmetic.
    """

    def __init__(self, features, theta, U, lifted=False, dtype=None, derivative=None):
        self.U = U
        self.scale = float(theta.square().sum())
        self.lift = features.lift(U, lifted, dtype or theta.dtype, derivative)
        B = self.lift.columns
        self.factor = factor_gram(B @ B.T)
        self.alpha = torch.cholesky_solve(B @ theta.T, self.factor)
        self.residual = theta - self.alpha.T @ B
        # One refinement: the normal equations square the condition number, this takes it back.
        correction = torch.cholesky_solve(B @ self.residual.T, self.factor)
        self.alpha = self.alpha + correction
        self.residual -= correction.T @ B
        self.loss = float(self.residual.square().sum()) / self.scale

    def project_out(self, T: torch.Tensor) -> torch.Tensor:
        """P⊥ T for T of shape (K, p), in place."""
        B = self.lift.columns
        return T.sub_(torch.cholesky_solve(B @ T.T, self.factor).T @ B)

    def gradient(self) -> torch.Tensor:
        """∂L/∂U, shape (n, d)."""
        self.lift.linearise(self.alpha)
        return self.lift.vjp(self.residual) * (-2 / self.scale)


class _ProjectionLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, X, features, theta):
        projection = Projection(features, theta, X)
        ctx.save_for_backward(projection.gradient())
        return X.new_tensor(projection.loss)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0], None, None


def projection_loss(X: torch.Tensor, features, theta: torch.Tensor) -> torch.Tensor:
    r"""L(X) = ‖P⊥ θ‖² / ‖θ‖², differentiable in X by the analytic gradient.

    Args:
        X: (n, d) candidate samples, n ≤ p.
        features: the feature map.
        theta: (p,) or (K, p), not zero; K outputs share one projector.

    Returns:
        A scalar in [0, 1]; 0 where θ lies in the span of the features of X.

    Raises:
        ValueError: bad shapes, NaN, θ = 0, or more samples than features.
        SpanError: the features of X are linearly dependent.
    """
    theta = features.check_theta(theta)
    X = check_matrix("X", X, features.d).to(theta)
    if X.shape[0] > features.p:
        raise ValueError(
            f"X has {X.shape[0]} rows but there are only p = {features.p} features; their span is everything"
        )
    return _ProjectionLoss.apply(X, features, theta)
