r"""``method="varpro"``: the parity-lifted variable projection, from a start to signed samples.

1. Start from the spectral directions of θ (:mod:`reconlaw.spectral`), or at random.
2. Descend on the lifted loss (:mod:`reconlaw.varpro`): two columns an atom, so no minimum is made by a wrong sign.
3. Where that ends above the tolerance, respawn: add one to three leading directions of the residual, descend with
   n + k atoms, drop the k atoms whose removal costs least, descend again.
4. Where respawn fails too, start from message passing (:mod:`reconlaw.message_passing`), which does not commit to what
   it does not know; after each descent from it, atoms that coincide and the weakest give way to directions of the
   residual, and it runs again. After rounds without progress it begins anew from a random mixture of directions.
5. Read the signs off: at a solution one of each pair's coefficients vanishes. Descend once more, one column an atom.

The attacker's side of the threat model: it sees θ, the feature map, n, and nothing else.
"""

from __future__ import annotations

import math

import torch

from ._random import seeded_generator
from .message_passing import MessagePassing
from .projection import Projection, SpanError
from .random_features import RandomFeatures
from .run import Run
from .spectral import directions, without_linear_part
from .varpro import descend, to_sphere

# Rounds of respawn before message passing, where there is message passing; rounds without progress before a restart.
_RESPAWNS = 2
_FRUITLESS = 4
# Message passing: iterations a run, and the variance (of 1) that a spectral direction is given to begin with.
_ITERATIONS = 40
_UNSURE = 0.9


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
        # Past the tolerance, go on to the floor of the arithmetic: the last steps converge quadratically and cost
        # little.
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
        passing = self._passing()
        rounds = fruitless = 0
        while point.loss > self.tol and not self.run.expired:
            if passing is not None and rounds >= _RESPAWNS:
                self._pass_messages(passing)
                return
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

    def _passing(self):
        """Message passing is for one output of random features with something beyond their linear part."""
        if (
            len(self.theta) > 1
            or not isinstance(self.features, RandomFeatures)
            or self.features.p <= self.features.d + 1
        ):
            return None
        passing = MessagePassing(self.features, self.theta)
        return passing if passing.parts else None

    def _pass_messages(self, passing):
        """Rounds of message passing, descent, and replacement of the weakest atoms."""
        n, lead = (
            self.n,
            self._directions(without_linear_part(self.features, self.theta), min(self.features.d, 2 * self.n)),
        )
        linear = passing.b

        def unsure(U):
            return U * math.sqrt(1 - _UNSURE), torch.full((len(U),), _UNSURE, dtype=U.dtype, device=U.device)

        x, tau = unsure(lead[:n]) if len(lead) >= n else unsure(self._random_atoms(n))
        rounds = fruitless = 0
        least = math.inf
        while not self.run.expired:
            x, tau, weight = passing.run(x, tau, _ITERATIONS, stop=lambda: self.run.tick("messages"))
            try:
                point = self._descend(to_sphere(x), "descent")
            except SpanError:
                fruitless = _FRUITLESS
            else:
                if point.loss <= self.tol:
                    return
                fruitless = 0 if point.loss < 0.9 * least else fruitless + 1
                least = min(least, point.loss)
            rounds += 1
            if fruitless >= _FRUITLESS:
                mixture = torch.randn(n, len(lead), generator=self.generator, dtype=lead.dtype).to(lead.device) @ lead
                x, tau = unsure(to_sphere(mixture))
                passing.b, least, fruitless = linear, math.inf, 0
                continue
            keep = self._worth_keeping(x, weight, drop=min(n - 1, 2 + rounds % 4))
            fresh = self._residual_directions(to_sphere(x[keep]), n - len(keep))
            fresh, fresh_tau = unsure(fresh)
            x, tau = torch.cat([x[keep], fresh]), torch.cat([tau[keep].clamp_min(0.05), fresh_tau])

    def _worth_keeping(self, x, weight, drop):
        """Indices without atoms that point along a heavier one, and without the lightest: at least ``drop`` go."""
        directions = torch.nn.functional.normalize(x)
        alike = (directions @ directions.T).abs() > 0.5
        order = weight.argsort(descending=True).tolist()
        kept: list[int] = []
        for i in order:
            if not any(alike[i, j] for j in kept):
                kept.append(i)
        return sorted(kept[: max(0, len(order) - drop)])

    def _residual_directions(self, U, count):
        residual = Projection(self.features, self.theta, U, self.lifted).residual if len(U) else self.theta
        return self._directions(without_linear_part(self.features, residual), count)

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
