r"""Parameters divided among processes: each holds some of the p features, and sums over parameters are sums over all.

θ = Φ(X)ᵀa is a sum over samples, and what a descent asks of it are sums over parameters: BBᵀ, Bθᵀ, Jᵀr, moments of V.
Each process computes its part from its own rows of V, ``torch.distributed`` adds the parts, and every process goes on
with the same numbers, hence the same way. Nothing of the size of p leaves a process.

Before each sum the processes tell one another its number and size: where they have parted all say so, and none goes on
with a sum of things that do not belong together (backends abort at such a sum, or wait for ever).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from .._random import fingerprint_of
from .gram import want_of_memory
from .lift import RandomFeaturesLift
from .random_features import COARSE_NUMBERS, RandomFeatures

_PROBE = (-1.5, -0.2, 0.7, 2.0)


class ShardError(Exception):
    """Processes that divide the parameters have parted, or one of them cannot go on: no step that could be refused."""


class _Link:
    """The sums of one group of processes, in the order in which they are made."""

    def __init__(self, group):
        self.group, self.made = group, 0
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    def gathered(self, thing) -> list[Any]:
        everyone: list[Any] = [None] * self.size
        dist.all_gather_object(everyone, thing, group=self.group)
        return everyone

    def once(self, make, device) -> Any:
        self.together(0, device)
        value = failed = None
        if self.rank == 0:
            try:
                value = make()
            except Exception as error:
                failed = error
        value, failed = self.gathered((value, failed))[0]
        if failed is not None:
            raise failed
        return value

    def together(self, size, device):
        """ShardError unless all have come to the same place, with something of the same size."""
        self.made += 1
        mine = [self.made, -self.made, size, -size]
        most = torch.tensor(mine, dtype=torch.int64, device=device)
        dist.all_reduce(most, dist.ReduceOp.MAX, group=self.group)
        if most.tolist() != mine:
            raise ShardError(
                "the processes that divide the parameters have parted: one failed, was interrupted, or was called with "
                "other arguments; end them all and start again"
            )

    def summed(self, part: torch.Tensor) -> torch.Tensor:
        self.together(part.numel(), part.device)
        total = part.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=self.group)
        return total


class _ShardedLift(RandomFeaturesLift):
    """Columns of this process's parameters; what is summed over parameters is summed over all."""

    features: Sharded

    def __init__(self, *arguments):
        try:
            super().__init__(*arguments)
        except (RuntimeError, MemoryError) as error:
            if want_of_memory(error):  # a step refused here alone would part the processes
                raise ShardError(f"this process cannot hold its part of the columns ({error})") from error
            raise

    def vjps(self, Rs):
        return self.features.summed(super().vjps(Rs))

    def block_gram(self):
        return self.features.summed(super().block_gram())


class Sharded(RandomFeatures):
    """Random features of which this process holds some: what :func:`sharded` makes.

    Attributes:
        p: of all processes together.
        V: the rows of this process.
    """

    divided = True
    _lift_type = _ShardedLift

    def __init__(self, part: RandomFeatures, group):
        self._link = link = _Link(group)
        values = part.activation(torch.tensor(_PROBE, device="cpu", dtype=torch.float64)).tolist()
        mine = {"d": part.d, "dtype": str(part.dtype), "activation": (part.activation.name, values)}
        everyone = link.gathered((mine, part.p, fingerprint_of(part.V)))
        for name, value in mine.items():
            found = [told[name] for told, _, _ in everyone]
            if any(other != value for other in found):
                raise ValueError(f"{name} differs between the processes: {', '.join(str(one) for one in found)}")
        if len({name for _, _, name in everyone}) < link.size:
            raise ValueError(
                "two processes hold the same features; pass each its own part, known(features, rows) of rows that no "
                "other has"
            )
        sizes = [size for _, size, _ in everyone]
        self._start, self._largest = sum(sizes[: link.rank]), max(sizes)
        self.d, self.p, self.dtype, self.device = part.d, sum(sizes), part.dtype, part.device
        self.activation, self.V, self.seed = part.activation, part.V, part.seed

    def __repr__(self):
        return f"sharded({len(self.V)} of p={self.p} features, process {self._link.rank} of {self._link.size})"

    @torch.no_grad()
    def __call__(self, X: torch.Tensor) -> torch.Tensor:
        """Features of the rows of X, (n, p), those of the other processes included; without a graph."""
        own = super().__call__(X)
        whole = own.new_zeros(len(own), self.p)
        whole[:, self._start : self._start + own.shape[1]] = own
        return self.summed(whole)

    def summed(self, part: torch.Tensor) -> torch.Tensor:
        return self._link.summed(part)

    def once(self, make: Callable[[], Any]) -> Any:
        return self._link.once(make, self.V.device)

    def here(self, rows: torch.Tensor) -> torch.Tensor:
        return rows[..., self._start : self._start + len(self.V)]

    def norms(self, rows: torch.Tensor) -> torch.Tensor:
        return self.summed(rows.square().sum(1)).sqrt()

    def orthonormal(self, rows: torch.Tensor) -> torch.Tensor:
        """By QR here, and QR of what all processes' leave (as in :mod:`reconlaw.features.decompose`)."""
        Q, R = torch.linalg.qr(rows.T)
        left = R.new_zeros(self._link.size, len(rows), len(rows))
        left[self._link.rank, : len(R)] = R
        turns = torch.linalg.qr(self.summed(left).flatten(0, 1)).Q
        return (Q @ turns.unflatten(0, left.shape[:2])[self._link.rank, : len(R)]).T

    def coarse(self) -> RandomFeatures | None:
        """These in float32, where that of every process takes a gigabyte at most."""
        small = self._largest * self.d <= COARSE_NUMBERS
        return self.to(torch.float32) if self.dtype == torch.float64 and small else None

    def sample(self, count: int, generator: torch.Generator) -> None:
        """None: the processes would have to draw alike."""

    def select(self, index: torch.Tensor) -> RandomFeatures:
        raise ValueError("parameters are selected before they are divided: sharded(known(part, index))")


def sharded(features: RandomFeatures, group: Any = None) -> RandomFeatures:
    r"""Random features divided among processes: ``reconstruct(theta, sharded(part), n)``.

    Every process of the group calls this with its own part, and then :func:`reconlaw.reconstruct` with the same
    arguments; each returns the same result. V, the columns and the residual are held in parts, of any sizes; θ is
    passed whole, its coordinates in the order of the processes' ranks. A sum over parameters is an
    ``all_reduce`` of small tensors, on whatever backend the group has (gloo on CPUs, NCCL on GPUs), after one of four
    numbers for which the process waits.

    Supported: ``method="varpro"`` on the sphere, from either start, message passing included; what is said of each
    sample; :func:`reconlaw.projection_loss`; and ``features(X)`` and ``features.fit``, which make the n × p features in
    every process. All go by the clock of the first process, which ``max_seconds`` asks after each step of the search,
    not within one; and it alone reads and writes the ``checkpoint``. Processes take the same way where they compute
    alike: machines of one kind, the same torch. If one fails or is interrupted, the others raise an error at their next
    sum, or when the group's timeout is over.

    Args:
        features: this process's part, on its own device: ``known(whole, rows)``, say.
        group: of ``torch.distributed``; the default one where None.

    Returns:
        A feature map of p = the sum of the parts' features.

    Raises:
        TypeError: no random features.
        ValueError: ``torch.distributed`` is not initialised; parts of another d, dtype or activation; two equal parts.
        ShardError: later, where the processes have parted.

    Example: "Divide p among several GPUs", in the how-to.
    """
    if not isinstance(features, RandomFeatures) or features.divided:
        raise TypeError(f"features is a {type(features).__name__}; sharded takes this process's part of RandomFeatures")
    if not dist.is_available() or not dist.is_initialized():
        raise ValueError(
            "torch.distributed is not initialised: start the processes by torchrun, and call "
            "torch.distributed.init_process_group first"
        )
    return Sharded(features, group)
