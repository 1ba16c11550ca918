r"""Variable projection: Levenberg–Marquardt on L(U) = ‖θ − P_B θ‖² / ‖θ‖² over atoms U on the sphere of radius √d.

For given atoms the coefficients are the least-squares ones, α = (BBᵀ)⁻¹Bθᵀ, so L depends on U alone. With r = θ − αᵀB
and Kaufman's Jacobian δr = −P⊥ Jδ (the term through δα is dropped: it is of second order in r), a step solves

    (Jᵀ P⊥ J + μ (D ⊗ I_d)) δ = Jᵀ r,   δ_i ⊥ u_i,

by conjugate gradients, preconditioned with (K + μD)⁻¹ ⊗ I_d, K = Σ_k S^k S^kᵀ/d, D = diag K, and puts the rows back on
the sphere. K ⊗ I_d is JᵀJ in mean over V on directions orthogonal to the atoms, correlations between samples included
(:meth:`~reconlaw.features.lift.RandomFeaturesLift.block_gram`).

For other feature maps C = E J(u)ᵀJ(u) stands in the place of I_d, and where there is room for the Jacobians of all
columns the matrix JᵀP⊥J itself preconditions (:mod:`reconlaw.features.module_features`).

Sources: Golub and Pereyra (1973); Kaufman (1975); Marquardt (1963).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..features.budget import METRIC, Spent, attempt, look
from ..features.decompose import eigh
from ..features.gram import SpanError, StepError, as_step, factor_gram
from ..features.memory import used_again
from ..features.passes import Passes, count_passes, counted
from ..inputs import Inputs, Sphere
from .bounded import BoundedStep, affordable
from .projection import Projection

# A step is refused unless the loss falls by this fraction of what the linear model promises.
_LEAST_GAIN = 1e-4
# Damping μ to begin with, and at which a descent gives up, in units of the curvature.
_FIRST_DAMPING = 1e-3
_MOST_DAMPING = 1e12
# Conjugate gradients on an accelerator: the fewest iterations between two looks at how far they are.
_AHEAD = 8
# What float32 leaves unknown of a preconditioner, of its scale.
_HALF = 1e-6
# Damping of a descent that begins close to a solution, and the loosest and the tightest tolerance of its solves.
_CLOSE_DAMPING, _CLOSE, _CLOSEST = 1e-6, 1e-2, 1e-4
_SPHERE = Sphere()
# The loss that rounding leaves at a solution, in the arithmetic of θ.
FLOOR = {torch.float64: 1e-29, torch.float32: 1e-12}


def _conjugate_gradients(operator, preconditioner, b, tolerance, limit, ahead):
    """x with operator(x) = b to a relative preconditioned residual ``tolerance``, and operator(x).

    The CPU looks after every iteration whether to stop. An accelerator would have to be waited for: there the first
    look is after ``ahead`` iterations, what is done beyond the end changes nothing, and only what came before it is
    counted as passes.

    Returns:
        x, operator(x), and the number of iterations.
    """
    x, r, z = torch.zeros_like(b), b.clone(), preconditioner(b)
    if b.device.type != "cpu":
        return _unwatched(operator, preconditioner, tolerance, limit, ahead, x, r, z, b)
    q, rz, done = z.clone(), (r * z).sum(), 0
    enough = float(tolerance**2 * rz)
    while done < limit:
        look()
        done += 1
        Aq = operator(q)
        curvature = (q * Aq).sum()
        if not float(curvature) > 0:
            break
        step = rz / curvature
        x += step * q
        r -= step * Aq
        z = preconditioner(r)
        rz, previous = (r * z).sum(), rz
        if float(rz) <= enough:
            break
        q = z + (rz / previous) * q
    return x, b - r, done


def _unwatched(operator, preconditioner, tolerance, limit, ahead, x, r, z, b):
    """The same iterations, frozen from the one at which they would have stopped, and seldom looked at."""
    q, spent, done = z.clone(), Passes(), 0
    rz = first = (r * z).sum()
    going, live = rz == rz, torch.zeros_like(rz)
    while done < limit:
        for _ in range(min(ahead, limit - done)):
            look()
            done += 1
            with counted(spent):
                Aq = operator(q)
            curvature = (q * Aq).sum()
            live = live + going
            going = going & (curvature > 0)
            step = torch.where(going, rz / curvature, 0.0)
            x += step * q
            r -= step * torch.where(going, Aq, 0.0)
            z = preconditioner(r)
            rz, previous = torch.where(going, (r * z).sum(), rz), rz
            going = going & (rz > tolerance**2 * first)
            q = torch.where(going, z + (rz / previous) * q, q)
        still, iterations = torch.stack([going.to(live.dtype), live]).tolist()
        if not still:
            break
    count_passes(round(spent.made / done * iterations))
    return x, b - r, int(iterations)


class _Step:
    """The linear model at a point: gradient, preconditioner block, and the damped Gauss–Newton step."""

    taken = None  # Jacobians, where the step has them
    ahead = _AHEAD

    def __init__(self, point: Projection, inputs: Inputs = _SPHERE):
        self.point, self.inputs = point, inputs
        point.lift.linearise(point.alpha)
        self._take(point.lift.vjp(point.residual))
        self.K = point.lift.block_gram()
        self.D = self.K.diagonal().clone()
        # Atoms without weight have no curvature: a floor keeps the system definite and their step finite.
        self.D.clamp_min_(1e-12 * self.D.max() + torch.finfo(self.D.dtype).tiny)

    def _take(self, gradient):
        """The gradient within the domain; coordinates on a bound that it would push out stay where they are."""
        self.fixed, bounds, U = None, self.inputs.bounds(self.point.U), self.point.U
        if bounds is not None:
            self.fixed = ((bounds[0] >= U) & (gradient <= 0)) | ((bounds[1] <= U) & (gradient >= 0))
        self.gradient = self.within(gradient)

    def within(self, delta):
        """δ without what leaves the domain to first order."""
        delta = self.inputs.tangent(self.point.U, delta)
        return delta if self.fixed is None else delta.masked_fill(self.fixed, 0.0)

    def solve(self, mu, tolerance, limit):
        """δ, and the fall of ‖r‖² that the linear model promises for it, a tensor."""
        point, damping = self.point, (mu * self.D)[:, None]

        def operator(q):
            return self.within(point.lift.vjp(point.project_out(point.lift.jvp(q)))) + damping * q

        preconditioner = self.preconditioner(mu)
        delta, A_delta, done = _conjugate_gradients(
            operator, preconditioner, self.gradient, tolerance, limit, self.ahead
        )
        self.ahead = max(_AHEAD, math.ceil(1.5 * done))
        # ‖r − P⊥Jδ‖² = ‖r‖² − 2⟨δ, g⟩ + ⟨δ, (A − μD)δ⟩
        fall = (2 * delta * self.gradient - delta * A_delta + damping * delta * delta).sum()
        return delta, fall

    def preconditioner(self, mu):
        """g ↦ [(K + μD)⁻¹ ⊗ C⁻¹] g on the tangent space, C = I_d unless the features have a ``metric``."""
        point = self.point
        # K has no more than its rounding where atoms nearly coincide: as a preconditioner it may be off by that.
        rounding = max(1e-10, 10 * len(self.K) * torch.finfo(self.K.dtype).eps)
        damped = self.K + torch.diag(mu * self.D + rounding * self.D.max())
        metric = attempt(METRIC, point.lift.metric)
        if metric is None:
            factor = _cholesky(damped)
            return lambda g: self.within(torch.cholesky_solve(g, factor))
        # (K ⊗ C + μD ⊗ I)⁻¹ in the axes of C and in those of K relative to D.
        root = self.D.sqrt()[:, None]
        omega, W = eigh(damped / (root * root.T) - mu * torch.eye(len(root)).to(root))
        scales, axes = metric
        inverse = 1 / (omega.clamp_min(rounding)[:, None] * scales + mu)
        return lambda g: self.within((W @ (inverse * (W.T @ (g / root) @ axes)) @ axes.T) / root)


class _DenseStep(_Step):
    """The same, preconditioned with H = JᵀP⊥J itself, where the lift can hold the Jacobians of its columns.

    For a deep or biased body K ⊗ I_d stands badly for JᵀJ. H is formed in float32, from Jacobians that may be those of
    atoms nearby: it only preconditions, on exact products.
    """

    def __init__(self, point: Projection, taken, inputs: Inputs = _SPHERE):
        self.point, self.inputs, lift, self.taken = point, inputs, point.lift, taken
        jacobians = taken[1]
        lift.linearise(point.alpha)
        self._take(lift.vjp(point.residual))
        (n, d), B = point.U.shape, lift.columns.to(jacobians)
        scale = point.alpha.abs().max()
        H, D = 0, 0
        for alpha in (point.alpha / scale).to(jacobians).T:
            look()
            A = lift.fold(alpha[:, None, None] * jacobians).reshape(n * d, -1)
            BA = (B @ A.T).to(point.U)
            H = H + (A @ A.T).to(point.U) - BA.T @ torch.cholesky_solve(BA, point.factor)
            D = D + A.square().sum(1).reshape(n, d).mean(1).to(point.U)
        self.N = torch.block_diag(*torch.nn.functional.normalize(point.U)[:, :, None])  # (nd, n), outward
        HN = H @ self.N
        H = H - HN @ self.N.T - self.N @ (HN.T - (self.N.T @ HN) @ self.N.T)
        self.H, self.D = scale**2 * (H + H.T) / 2, scale**2 * D
        self.D.clamp_min_(1e-12 * self.D.max() + torch.finfo(self.D.dtype).tiny)

    def preconditioner(self, mu):
        d = self.point.U.shape[1]
        damped = self.H + torch.diag((mu * self.D).repeat_interleave(d))
        damped.diagonal().add_(_HALF * self.D.max())
        # Where float32 has left H indefinite its diagonal still preconditions.
        diagonal = torch.diag(damped.diagonal().clamp_min(_HALF * self.D.max()).sqrt())
        if damped.device.type == "cpu":
            try:
                factor = factor_gram(damped)
            except SpanError:
                factor = diagonal
        else:  # without a look at how it went, for which the host would wait
            factor, failed = torch.linalg.cholesky_ex(damped)
            factor = torch.where(failed == 0, factor, diagonal)
        return lambda g: self.within(torch.cholesky_solve(g.reshape(-1, 1), factor).reshape(g.shape))


def _cholesky(A):
    """The factor of a positive definite matrix; on an accelerator unasked whether it is one, which would wait.

    The step that a wrong factor gives is refused by what it promises or by the loss.
    """
    return torch.linalg.cholesky(A) if A.device.type == "cpu" else torch.linalg.cholesky_ex(A).L


def _model(point: Projection, last=None, inputs: Inputs = _SPHERE) -> _Step | BoundedStep:
    """The linear model at a point, with the preconditioner that its lift has room for; ``last`` is the one before."""
    try:
        with as_step():
            if not isinstance(inputs, Sphere):
                return BoundedStep(point, inputs) if affordable(point) else _Step(point, inputs)
            taken = point.lift.jacobians(None if last is None else last.taken)
            if taken is not None:
                return _DenseStep(point, taken, inputs)
    except Spent:
        raise
    except StepError:  # the smaller preconditioner may do
        pass
    with as_step():
        return _Step(point, inputs)


def _coarse_model(point: Projection, coarse, last=None) -> tuple[_Step | BoundedStep, torch.Tensor]:
    """The linear model of these atoms in another precision, with the gradient that is known here, made of norm 1.

    Returns:
        The model, and the norm.
    """
    with as_step():
        features, theta = coarse
        model = _model(Projection(features, theta, point.U.to(theta), point.lift.lifted), last)
        point.lift.linearise(point.alpha)
        gradient = _SPHERE.tangent(point.U, point.lift.vjp(point.residual))
        norm = gradient.norm().clamp_min(torch.finfo(gradient.dtype).tiny)
        model.gradient = _SPHERE.tangent(model.point.U, (gradient / norm).to(model.gradient))
    return model, norm


@dataclass
class Descent:
    """Where a descent ended: the point, why ("converged", "stalled", "stopped", "steps", "failed"), and what failed."""

    point: Projection
    reason: str
    failure: Exception | None = None


@used_again()
def descend(
    features,
    theta,
    U,
    lifted=True,
    target=0.0,
    max_steps=200,
    patience=(8, 0.9),
    on_step=None,
    penalty=None,
    inputs=_SPHERE,
    coarse=None,
) -> Descent:
    """Levenberg–Marquardt from ``U``; every accepted step lowers the loss.

    Args:
        features: a feature map with ``lift``.
        theta: (K, p); its dtype is that of the arithmetic.
        U: (n, d) atoms in the domain ``inputs``.
        lifted: two columns an atom, or one.
        target: end once L ≤ target.
        max_steps: end after so many accepted steps.
        patience: (window, factor): end once ``window`` steps have not lowered L below ``factor`` of what it was.
        on_step: called with the point after every accepted step; true ends the descent.
        penalty: linear penalty on the coefficients, see :class:`~reconlaw.attack.projection.Projection`.
        inputs: the domain of the atoms, :mod:`reconlaw.inputs`; the sphere of radius √d where none is given.
        coarse: features and theta in a precision that steps are solved in, close to a solution and on the sphere. What
            each step leaves is known in full, so that the end is as exact (iterative refinement).

    Returns:
        :class:`Descent`, at a point whose loss is at most that of ``U``.

    Raises:
        SpanError: the columns at ``U`` are linearly dependent.
        StepError: they do not fit into memory. A later step that fails is refused, and the descent ends ("failed")
            where none can be computed.
    """
    window, factor = patience
    point = Projection(features, theta, U, lifted, penalty=penalty)
    losses, mu, growth, model = [point.loss], _FIRST_DAMPING if coarse is None else _CLOSE_DAMPING, 2.0, None
    norm = None
    while point.loss > target:
        if len(losses) > max_steps:
            return Descent(point, "steps")
        if len(losses) > window and losses[-1] > factor * losses[-1 - window]:
            return Descent(point, "stalled")
        try:
            ahead = _AHEAD if model is None else model.ahead
            if coarse is None:
                model = _model(point, model, inputs)
            else:
                model, norm = _coarse_model(point, coarse, model)
            model.ahead = ahead
        except Spent:
            return Descent(point, "stopped")
        except StepError as error:
            return Descent(point, "failed", error)
        # Solve loosely far away and tightly where the loss falls fast: near a solution a step of exact solves squares
        # the error, and these keep the convergence superlinear for a few products each.
        rate = max(0.0, losses[-1] / losses[-2]) if len(losses) > 1 else 1.0
        tolerance = min(0.3, max(1e-4, 0.5 * math.sqrt(rate)))
        if coarse is not None:  # no tighter than the target asks for
            tolerance = max(0.1 * math.sqrt(target / point.loss), min(_CLOSE, max(_CLOSEST, rate)))
        while True:
            failure = None
            try:
                with as_step():
                    delta, fall = model.solve(mu, tolerance, limit=100)
                if norm is not None:
                    delta, fall = delta.to(theta) * norm, fall.to(theta) * norm**2
                moved = inputs.retract(U + delta)
                trial = Projection(features, theta, moved, lifted, penalty=penalty, beside=[fall])
                promised = trial.beside[0] / point.scale
                gain = (point.loss - trial.loss) / promised if promised > 0 else -1.0
            except Spent:
                return Descent(point, "stopped")
            except StepError as error:
                gain, failure = -1.0, None if isinstance(error, SpanError) else error
            if gain > _LEAST_GAIN:
                break
            mu, growth = mu * growth, growth * 2
            if not mu < _MOST_DAMPING:
                return Descent(point, "stalled" if failure is None else "failed", failure)
        mu = max(mu * max(0.1, 1 - (2 * gain - 1) ** 3), 1e-12)
        growth = 2.0
        point, U = trial, trial.U
        losses.append(point.loss)
        if on_step is not None and on_step(point):
            return Descent(point, "stopped")
    return Descent(point, "converged")
