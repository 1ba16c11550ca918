r"""``method="varpro"``: the parity-lifted variable projection, from a start to signed samples.

1. Start from the spectral directions of θ (:mod:`reconlaw.spectral`), or at random.
2. Descend on the lifted loss (:mod:`reconlaw.varpro`): two columns an atom, so no minimum is made by a wrong sign.
3. While the descent ends above the tolerance, respawn: add one to three leading directions of the residual, descend
   with n + k atoms, drop the k pairs whose removal costs least, descend again. After fruitless rounds, restart at random.
4. Read the signs off: at a solution one of each pair's coefficients vanishes. Descend once more with one column an atom.

The attacker's side of the threat model: it sees θ, the feature map, n, and nothing else.
"""

from __future__ import annotations

import torch

from ._random import seeded_generator
from .projection import Projection, SpanError
from .run import Run
from .spectral import directions, without_linear_part
from .varpro import descend, to_sphere

# Rounds of respawn without progress before a random restart.
_FRUITLESS = 6


def pair_costs(point: Projection) -> torch.Tensor:
    """How much ‖r‖² grows when an atom's columns are dropped: tr α_iᵀ [(G⁻¹)_ii]⁻¹ α_i, (n,), in closed form."""
    n = point.U.shape[0]
    G_inverse = torch.cholesky_inverse(point.factor)
    columns = torch.arange(len(point.alpha), device=point.U.device).reshape(-1, n).T  # (n, 1 or 2)
    blocks = G_inverse[columns[:, :, None], columns[:, None, :]]
    alpha = point.alpha[columns]
    return (alpha * torch.linalg.solve(blocks, alpha)).sum((1, 2))


def read_signs(point: Projection) -> torch.Tensor:
    """+1 where φ(Vu) carries the atom, −1 where φ(−Vu) does, (n,)."""
    n = point.U.shape[0]
    weight = point.alpha.norm(dim=1) * point.lift.columns.norm(dim=1)
    return torch.where(weight[:n] >= weight[n:], 1.0, -1.0).to(point.U)


class Search:
    """The search for atoms under one budget; ``run`` keeps the best."""

    def __init__(self, features, theta, n, run: Run, seed: int, start: str, tol: float):
        self.features, self.theta, self.n, self.run, self.tol = features, theta, n, run, tol
        self.generator = seeded_generator("attack", seed)
        self.start = start
        # Two columns an atom need room: 2n columns and n(d − 1) directions against pK numbers.
        room = features.p > 2 * n and features.p * len(theta) >= n * (features.d - 1) + 2 * n * len(theta)
        self.lifted = features.activation.parity == "mixed" and room
        # Past the tolerance, go on to the floor of the arithmetic: the last steps converge quadratically and cost little.
        self.target = (1e-29 if theta.dtype == torch.float64 else 1e-14) if tol > 0 else 0.0

    def _random_atoms(self, count):
        draw = torch.randn(count, self.features.d, generator=self.generator, dtype=self.theta.dtype)
        return to_sphere(draw.to(self.theta.device))

    def _directions(self, residual, count):
        found, _ = directions(self.features, residual, count, self.generator)
        if len(found) < count:
            found = torch.cat([found, self._random_atoms(count - len(found))])
        return found

    def _descend(self, U, note="", record=True, **options):
        run = self.run

        def on_step(point):
            if record:
                return run.record(point.U, point.loss, note)
            return run.expired

        point = descend(self.features, self.theta, U, self.lifted, self.target, on_step=on_step, **options).point
        if record:  # a descent that takes no step, because U is a solution already, counts too
            run.record(point.U, point.loss, note)
        return point

    def first_atoms(self):
        if self.run.best is not None:
            return self.run.best.to(self.theta)
        if self.start == "random" or self.features.p <= self.features.d + 1:
            return self._random_atoms(self.n)
        return self._directions(without_linear_part(self.features, self.theta), self.n)

    def respawn(self, point, extra):
        """Add ``extra`` directions of the residual, descend, drop the cheapest pairs, descend."""
        fresh = self._directions(point.residual, extra)
        wide = self._descend(torch.cat([point.U, fresh]), record=False, patience=(6, 0.7))
        keep = pair_costs(wide).argsort(descending=True)[: self.n].sort().values
        return self._descend(wide.U[keep], "respawn")

    def atoms(self):
        """Search until the loss is at most ``tol`` or the time is spent."""
        point = self._descend(self.first_atoms(), "descent")
        rounds = fruitless = 0
        while point.loss > self.tol and not self.run.expired:
            if fruitless == _FRUITLESS:
                point, fruitless = self._descend(self._random_atoms(self.n), "restart"), 0
                continue
            extra = min(1 + rounds % 3, max(1, (self.features.p - 2 * self.n) // 2))
            rounds += 1
            try:
                trial = self.respawn(point, extra)
            except SpanError:
                fruitless += 1
                continue
            fruitless = 0 if trial.loss < 0.999 * point.loss else fruitless + 1
            if trial.loss < point.loss:
                point = trial

    def signed(self, U):
        """Atoms with their signs read off and one column each, polished; and whether the signs are identifiable."""
        parity = self.features.activation.parity
        if not self.lifted:
            known = False if parity != "mixed" else None
            return Projection(self.features, self.theta, U), known
        point = Projection(self.features, self.theta, U, lifted=True)
        U = U * read_signs(point)[:, None]
        point = descend(self.features, self.theta, U, False, self.target, patience=(4, 0.5)).point
        return point, True if point.loss <= self.tol else None


def solve(features, theta, n, run, seed, tol, start="spectral"):
    """Search within the run's budget; see :func:`reconlaw.reconstruct`."""
    if start not in ("spectral", "random"):
        raise ValueError(f"start={start!r} is unknown; use 'spectral' or 'random'")
    search = Search(features, theta, n, run, seed, start, tol)
    interrupted = False
    try:
        search.atoms()
    except KeyboardInterrupt:
        if run.best is None:
            raise
        interrupted = True
    point, sign_identifiable = search.signed(run.best.to(theta))
    return point, sign_identifiable, interrupted
