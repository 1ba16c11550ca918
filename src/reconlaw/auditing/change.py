r"""What a checkpoint pair holds for the attack: θ, its rank and rounding, how the rest moved, and the feature map."""

from __future__ import annotations

import math

import torch

from .._checks import check_input_shape, check_positive
from .._random import seeded_generator
from ..attack.coordinates import decoded, homogeneous, through
from ..attack.count import Count, count, independent_rows
from ..features.apart import Rows, apart
from ..features.below import change_of, groups_of
from ..features.module_features import ModuleFeatures, unlike_in_training
from ..inputs import Free, Sphere
from .decay import find_decay
from .errors import AuditError
from .head import HeadInput, changed_tensors, chosen_layer
from .precision import FULL, TRAINED, computed, dtype_of, sought, still, types_of

# A body that moved by more than this, in features, leaves no θ that the attack could read.
MOST_MOVED = 0.1
# What batch norm counts in training mode, and the share of the movement by which its last state may differ from what
# training normalised by.
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_SETTLED = 0.01
# Random inputs on which the error of computing in few digits is measured.
_PROBES = 16
# A direction counts for the rank from this share of ten times on what one without samples holds.
_STILL = 3.0


class HeadChange:
    """What is read off the checkpoints: θ, its rank and rounding, how the rest moved, and the feature map.

    The features are those of the body, midway between both checkpoints where it moved; ``ends`` are then those before
    and after. Where nothing moved but the running statistics of batch norm, which ran in training mode then, they are
    those of the body after: where all samples were one batch, its statistics are what training normalised by, nearly.
    """

    def __init__(
        self, before, after, module, head, input_shape, norm, device, inputs=None, weight_decay=None, factor=None
    ):
        self.head, key, layer = head, f"{head}.weight", chosen_layer(module, head)
        self.factor, stored_pair = factor, (before[key], after[key]) if factor is None else factor
        W0, W1 = (change_of(one.double(), groups_of(layer)) for one in stored_pair)
        self.whole = self.change = W1 - W0
        self.dtype = dtype_of(*stored_pair)
        eps = torch.finfo(self.dtype).eps
        # A stored number is off by a uniform error of width eps·|w|, each file by its own eps.
        stored = ((W0, torch.finfo(stored_pair[0].dtype).eps), (W1, torch.finfo(dtype_of(*2 * (stored_pair[1],))).eps))
        self.rounding = math.sqrt(sum(e**2 * float(W.square().sum()) for W, e in stored) / 12)
        self.decay, self.old, off = find_decay(self.change, W0, self.rounding, weight_decay), W0, None
        if self.decay.factor is not None:
            self.change = self.change - (self.decay.factor - 1) * W0
        elif self.decay.beside:
            off = Rows(W0)
            self.change = off.off(self.change)
        self.size = float(self.change.norm())
        self.noise = self.rounding / self.size if self.size else math.inf
        self.tolerance = min(1e-6, max(1e-20, 1e3 * self.noise**2, (10 * eps) ** 2))
        self.tolerance = max(self.tolerance, min(1.0, self.noise**2))  # no samples explain the rounding of bfloat16
        if eps > FULL:  # training in few digits rounds at every step, not only at the end
            self.tolerance = min(1.0, max(self.tolerance, TRAINED * self.noise**2))
        bias = f"{head}.bias"
        self.bias_change = self.old_bias = None
        if bias in before and factor is None:
            self.old_bias = before[bias].double()
            self.bias_change = after[bias].double() - self.old_bias
        self.changed = [name for name in changed_tensors(before, after) if not name.startswith(f"{head}.")]
        shape = check_input_shape(input_shape)
        d = math.prod(shape)
        if isinstance(inputs, Sphere) and inputs.radius is not None:
            inputs, norm = Sphere(), inputs.radius  # the body is scaled instead
        if inputs is not None and norm is not None and not isinstance(inputs, Sphere):
            raise AuditError(f"norm={norm} is of a sphere, and inputs={inputs!r} is none; pass one of the two")
        self.scale = 1.0 if norm is None else check_positive("norm", norm) / math.sqrt(d)
        scale, self.domain, self.shape = self.scale, Sphere(), shape

        def body_of(state, dtype=torch.float64):
            body = HeadInput(module, head, scale).to(dtype)
            body.load(state)
            return body

        def features(state):
            self.body = body = body_of(state)
            return ModuleFeatures(body, shape, device=device, several=body.probe(shape).ndim == 3)

        self.features, self.moved = features(before), 0.0
        self.ends: tuple[ModuleFeatures, ...] = ()
        if self.changed:
            Z = self.features.probes(16, "moved")
            Phi = self.features(Z)
            self.moved = float((features(after)(Z) - Phi).norm() / Phi.norm())
        # What changed above the layer did not move what the layer saw.
        self.above = [] if self.moved else self.changed
        self.changed = self.changed if self.moved else []
        self.statistics = bool(self.changed) and all(name.endswith(_STATISTICS) for name in self.changed)
        if self.statistics:
            self.features = features(after)
            self.ends = (self.features, self.features)
            self.tolerance = max(self.tolerance, (_SETTLED * min(self.moved, 1.0)) ** 2)
        elif self.changed:
            self.ends = (self.features, features(after))
            middle = {
                name: (value.double() + after[name].double()) / 2 if value.is_floating_point() else value
                for name, value in before.items()
            }
            self.features = features(middle)
            self.tolerance = max(self.tolerance, min(self.moved, MOST_MOVED) ** 2)
        if self.change.shape[1] != self.features.p:
            raise AuditError(f"{key!r} has {self.change.shape[1]} columns; its input has {self.features.p} numbers")
        self.input_shape, self.body_features = self.features.input_shape, self.features
        if off is not None:
            self.features = apart(self.features, W0)
        self.random_layers = sorted({type(part).__name__ for _, part in unlike_in_training(module)})
        self.homogeneous = homogeneous(self.features, self.features.probes(4, "length"))
        if inputs is not None:
            inputs.check(d)
            self.domain = inputs
        elif norm is None and not self.homogeneous:
            self.domain = Free()
        self.coarse: tuple[torch.dtype, ...] = ()
        self.stored_tolerance = self.tolerance
        if not self.changed and factor is None and off is None and self.features.positions == 1:
            self._find_precision(body_of, before)
        self._compress()

    def _find_precision(self, body_of, before):
        """The types of few digits that training may have computed in, ``coarse``, and the loss to look for then."""
        fitting = types_of(self.change, self.noise, self.dtype)
        if not fitting:
            return
        self._single = body_of(before, torch.float32).to(self.features.device)
        Z = self.draws(_PROBES, seeded_generator("computed", 0))
        Phi, self.computing_error = self.features(Z).double(), {}
        for dtype in fitting:
            try:
                off = float((self.computed(Z, dtype) - Phi).norm() / Phi.norm())
            except RuntimeError:  # a body or a device that has no such arithmetic
                continue
            if math.isfinite(off):
                self.computing_error[dtype] = off
        self.coarse = tuple(self.computing_error)
        if self.coarse:
            self.tolerance = max(self.tolerance, sought(self))

    def computed(self, X, dtype):
        """(n, p) features of X (n, d) as the body computes them in training at ``dtype``, in float64."""
        return computed(self._single, self.shape, self.features._to(X), dtype)

    def _compress(self):
        """θ in as many rows as its rank: the others hold rounding, of training where that shows."""
        lost = math.sqrt(len(self.change)) * still(self.change) * self.size / _STILL if self.coarse else 0.0
        self.theta, self.turn = independent_rows(self.change, max(self.rounding, lost))
        self.rank = len(self.theta)

    def draws(self, count, generator):
        """(count, d) inputs as they are drawn to start from, as :attr:`features` take them."""
        over = through(self.features, self.domain)
        return decoded(over, self.domain.starts(count, over.d, generator).to(self.features.device, self.features.dtype))

    def count(self, n):
        """Equations and unknowns, by :func:`~reconlaw.attack.count.count`."""
        d = self.features.d
        return count(self.features, n, self.rank, d - 1 if self.homogeneous else self.domain.unknowns(d))

    def count_at(self, features, U, domain):
        """The same at samples U (n, k): a coordinate on its bound is no unknown there."""
        n = len(U)
        if domain.bounds(U) is None:
            return self.count(n)
        counted = count(features, n, self.rank, U.shape[1])
        free, columns = int((~domain.active(U)).sum()), n * features.positions
        return Count(counted.equations, free + columns * max(1, min(columns, self.rank)), counted.shared)

    @property
    def too_far(self):
        """Whether the body moved by more than the attack can bear."""
        return self.moved > MOST_MOVED and not self.statistics

    @property
    def bounded(self):
        """Whether bounds may hold coordinates, so that the samples can be known although the count is against it."""
        like = torch.zeros(1, self.domain.coordinates(self.features.d), dtype=torch.float64, device="cpu")
        return self.domain.bounds(like) is not None

    @property
    def where(self):
        """Where inputs are looked for, in words."""
        if isinstance(self.domain, Sphere):
            norm = self.scale * math.sqrt(self.features.d)
            return "directions" if self.homogeneous else f"the sphere of radius {norm:.4g}"
        return "all of space" if isinstance(self.domain, Free) else repr(self.domain)
