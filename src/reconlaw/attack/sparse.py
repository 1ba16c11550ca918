r"""``method="sparse"``: ℓ2–ℓ1 reconstruction when n is unknown, by sliding Frank–Wolfe.

Over atoms u_i on the sphere, each with the two columns of the parity lift,

    min ½‖θ − Σ_i α_i B_i‖² + λ w Σ_i ‖α_i‖,        B_i = [φ(Vu_i); φ(−Vu_i)],  w² = p E φ(z)²,

an off-the-grid group lasso: it wants θ from few atoms. For λ falling along a path: directions of the residual join as
atoms (:mod:`reconlaw.features.spectral`); the lasso over the coefficients drops those it does not need; atoms and
coefficients
slide together (Levenberg–Marquardt with the penalty linear in α, its groups' directions held); atoms that meet are
merged. After each λ an unpenalised descent removes the shrinkage: once it reaches the tolerance the support is found,
atoms whose removal costs nothing are dropped, and its size is the estimate of n.

Off the sphere atoms are added one at a time, without λ (:mod:`reconlaw.attack.growing`).

Sources: Denoyelle, Duval, Peyré and Soubies, *The sliding Frank–Wolfe algorithm* (2019); Beck and Teboulle (2009) for
the lasso's accelerated proximal steps.
"""

from __future__ import annotations

import torch

from .._checks import check_positive, listed
from ..features.budget import look
from ..features.gram import StepError, as_step
from ..features.spectral import distinct
from ..inputs import Sphere
from ..sphere import to_sphere
from . import growing
from .projection import Projection
from .road import along
from .run import Run
from .tools import Tools, room_to_lift, with_fewer
from .varpro import descend

_PATH = tuple(0.5 * 0.6**k for k in range(16))
_JOIN = 3  # directions that may join at a time
_SLIDES = 3  # rounds of join, lasso and slide at each λ
_MEET = 0.98  # atoms within this cosine, up to sign, are one
_TWINS = 0.9  # atoms within this cosine may be one sample's
_NEAR = 1e-6  # below this loss a support is searched for atoms that are not needed


def group_lasso(gram, correlation, weight, groups, alpha, iterations=2000):
    r"""min ½ tr αᵀGα − ⟨b, α⟩ + weight Σ_g ‖α_g‖ by accelerated proximal gradient with restarts.

    Args:
        gram: G, (m, m).
        correlation: b, (m, K).
        weight: of the penalty.
        groups: (m,) index of each column's group.
        alpha: (m, K) to start from.
    """
    step = 1 / float(torch.linalg.eigvalsh(gram)[-1])
    count = int(groups.max()) + 1
    ahead, momentum = alpha, 1.0
    for _ in range(iterations):
        look()
        moved = ahead - step * (gram @ ahead - correlation)
        norms = moved.new_zeros(count).index_add(0, groups, moved.square().sum(1)).sqrt()
        shrunk = moved * (1 - step * weight / norms.clamp_min(step * weight))[groups][:, None]
        change = shrunk - alpha
        if float(((ahead - shrunk) * change).sum()) > 0:
            momentum = 1.0  # the momentum points uphill: start it anew
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead, alpha, momentum = shrunk + (momentum - 1) / following * change, shrunk, following
        if float(change.norm()) <= 1e-10 * float(alpha.norm()) + 1e-300:
            break
    return alpha


class Path:
    """The support as λ falls; ``record`` holds {λ, support, loss} for each λ."""

    def __init__(self, tools: Tools):
        self.tools, self.features, self.theta = tools, tools.features, tools.theta
        self.w = self.features.column_norm(tools.generator)
        d, K = self.features.d, len(self.theta)
        # More atoms than this would fit any θ: keep the unknowns to two thirds of the equations.
        self.most = max(1, int(2 * self.features.p * K / (3 * (d - 1 + 2 * K))))
        self.U = self.theta.new_zeros(0, d)
        self.record: list[dict] = []

    def _point(self, U):
        return Projection(self.features, self.theta, U, self.tools.lifted)

    def _correlations(self, U, residual):
        """‖⟨B_i, r⟩‖/w for every atom: an atom can lower the objective where this exceeds λ."""
        columns = self.features.lift(U, self.tools.lifted, self.theta.dtype).columns
        products = (columns @ residual.T).square().sum(1)
        return products.reshape(-1, len(U)).sum(0).sqrt() / self.w

    def largest_lambda(self):
        directions = self.tools.directions(self.features.without_linear_part(self.theta), 1)
        return float(self._correlations(directions, self.theta)[0])

    def _join(self):
        residual = self._point(self.U).residual if len(self.U) else self.theta
        fresh = self.tools.directions(self.features.without_linear_part(residual), _JOIN)
        return torch.cat([self.U, fresh])[: self.most]

    def _slide(self, U, lam):
        """Lasso over the coefficients, atoms without weight dropped, then atoms and coefficients moved together."""
        weight = lam * self.w
        U = U[distinct(U, _MEET)]
        point = self._point(U)
        groups = torch.arange(len(U), device=U.device).repeat(len(point.alpha) // len(U))
        B = point.lift.columns
        with as_step():
            small = ((B @ B.T).cpu(), (B @ self.theta.T).cpu(), weight, groups.cpu(), point.alpha.cpu())
            alpha = group_lasso(*small).to(B)  # thousands of products so small that a device gains nothing on them
        norms = alpha.new_zeros(len(U)).index_add(0, groups, alpha.square().sum(1)).sqrt()
        live = norms > 1e-6 * norms.max()
        if not bool(live.any()):
            return U[:0]
        keep = live[groups]
        direction = (alpha / norms.clamp_min(1e-300)[groups][:, None])[keep]
        self.tools.run.tick(f"λ {lam:.1e}, {int(live.sum())} atoms")
        return descend(
            self.features,
            self.theta,
            U[live],
            self.tools.lifted,
            max_steps=15,
            patience=(3, 0.98),
            penalty=weight * direction,
            on_step=lambda point: self.tools.run.expired,
        ).point.U

    def follow(self, lambdas):
        """Atoms of the first support on the path that explains θ to the tolerance, or of the path's end."""
        run, tol = self.tools.run, self.tools.tol
        for lam in lambdas:
            for _ in range(_SLIDES):
                before = len(self.U)
                try:
                    joined = self._join()
                    (self.U,) = self.tools.piece(lam * joined, lambda: (self._slide(joined, lam),))  # noqa: B023
                except StepError as error:
                    run.remark("a support could not be moved", error)
                    break
                if len(self.U) == before or run.expired:
                    break
            if not len(self.U):
                self.record.append({"lambda": lam, "support": 0, "loss": 1.0})
                continue
            try:
                free = self.tools.descend(self.U[distinct(self.U, _MEET)], patience=(6, 0.5))
                self.record.append({"lambda": lam, "support": len(self.U), "loss": self._point(self.U).loss})
            except StepError as error:
                run.remark("a support could not be descended from", error)
                if run.expired:
                    break
                continue
            if free.loss <= max(tol, _NEAR):
                free = self._needed(free)
                if free.loss <= tol:
                    return free.U
            if run.expired:
                break
        return run.best

    def _needed(self, point):
        """The point without the atoms it can do without, and with twins made one.

        A cheap atom is dropped for as long as the others, descending without it, make up for it. ReLU is linear
        between kinks: a₁φ(Vu₁) + a₂φ(Vu₂) = φ(V(a₁u₁ + a₂u₂)) where no v_j tells the three apart, so a sample can come
        back as two atoms close to it, at no loss; where few v_j do, the descent crawls until one of them has gone.
        """
        try:
            for fewer in with_fewer(point, self.tools.descend, lambda point: max(self.tools.tol, point.loss)):
                point = fewer
            for merged in self._unions(point):
                trial = self.tools.descend(merged)
                if trial.loss <= self.tools.tol:
                    return self._needed(trial)
        except StepError as error:
            self.tools.run.remark("whether all candidates are needed could not be computed", error)
        return point

    def _unions(self, point):
        """Sets of atoms with one pair of near twins replaced by their weighted sum."""
        U, m = point.U, len(point.U)
        weight = point.alpha.norm(dim=1).reshape(-1, m).amax(0)
        cosines = (U @ U.T / U.shape[1]).triu(1)
        for i, j in torch.nonzero(cosines.abs() > _TWINS).tolist():
            union = weight[i] * U[i] + weight[j] * cosines[i, j].sign() * U[j]
            rest = [k for k in range(m) if k not in (i, j)]
            yield torch.cat([U[rest], to_sphere(union[None])])


def solve(features, theta, n, run: Run, seed, tol, inputs, l1=None):
    """Follow the path within the run's budget; see :func:`reconlaw.reconstruct`.

    Args:
        l1: λ relative to its largest useful value, one number or a falling sequence; 0.5·0.6^k, k = 0 … 15, where None.
    """
    if not isinstance(inputs, Sphere):
        if l1 is not None:
            raise ValueError(f"l1 is the sphere's; in {inputs!r} method='sparse' adds atoms one by one: leave l1 out")
        return growing.solve(features, theta, run, seed, tol, inputs)
    fractions = _PATH if l1 is None else [l1] if isinstance(l1, int | float) else listed("l1", l1)
    fractions = [check_positive("l1", fraction) for fraction in fractions]
    lifted = room_to_lift(features, n or 1, len(theta))
    return along(run, lambda road: _follow(Tools(features, theta, run, seed, tol, lifted, road), fractions))


def _follow(tools: Tools, fractions):
    run, path = tools.run, Path(tools)
    U, interrupted = None, False
    try:
        with as_step():
            largest = path.largest_lambda()
        U = path.follow([fraction * largest for fraction in fractions])
    except KeyboardInterrupt:
        run.settle()
        if run.best is None:
            raise
        interrupted = True
        run.interrupt()
    except StepError as error:
        run.settle()
        run.remark("the path ended because its next step could not be computed", error)
    if run.expired:
        run.settle()
    if U is None:
        U = run.best
    if U is None:
        run.remark("the path ended before its first atom, and the one candidate is a guess; start l1 lower")
        U = tools._random_atoms(1)
    point, sign_identifiable = tools.ended(U)
    return point, sign_identifiable, interrupted, path.record
