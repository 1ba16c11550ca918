r"""What stands between a model's inputs and its first trained layer, and how to undo it.

The neurons of a layer are silent to what the *layer* is given, h = T(x). Where T, which was not trained, only turns
pictures into rows, that is x. Where T is affine, h = Ax + c, and A has full column rank, as in a normalisation, an
enlargement or grey pictures in three channels, it is undone: x = A⁺(h − c), and an error of h comes back up to ‖A⁺‖
times as large. Any other T is said to be in the way.

Whether T is affine is asked of its values: T((x + y)/2) = (T(x) + T(y))/2 at random points of several sizes and at 0.
Where each number of h comes of one number of x, A is read off two points, since the ratio of a number at both tells
which of x it comes of; other matrices are read off the unit vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..features.module_features import copied

# Sizes at which T is asked whether it is affine, and how far off rounding may leave it, relative.
_SIZES, _AFFINE = (1e-2, 1.0, 300.0), 1e-9
# Smallest singular value of A that can be undone, relative to the largest; inputs whose unit vectors are asked.
_RANK, _MOST = 1e-4, 1024
_PROBES = 4


@dataclass(frozen=True, eq=False)
class Transform:
    """T: what the layer is given of the model's inputs.

    Attributes:
        width: how many numbers the layer is given.
        why: why T is not undone, in words; "" where it is.
        columns: (m,) which number of x each of h comes of, where each comes of one.
        sizes: (m,) by which factor.
        pinv: (d, m) A⁺, where A has not that form.
        shift: (m,) c.
        amplifies: ‖A⁺‖.
    """

    width: int
    why: str = ""
    columns: torch.Tensor | None = None
    sizes: torch.Tensor | None = None
    pinv: torch.Tensor | None = None
    shift: torch.Tensor | None = None
    amplifies: float = 1.0

    @property
    def nothing(self) -> bool:
        """Whether the layer is given the inputs as they are."""
        return not self.why and self.shift is None

    @property
    def linear(self) -> bool:
        """Whether T(0) = 0, so that h without its length tells x without its length."""
        return self.shift is None or not bool(self.shift.any())

    @property
    def words(self) -> str:
        """What T does, where it is affine."""
        each = self.columns is not None and torch.equal(self.columns, torch.arange(len(self.columns)).to(self.columns))
        return "each number scaled and shifted, as by a normalisation" if each else "by a fixed affine map"

    def back(self, H: torch.Tensor) -> torch.Tensor:
        """(k, d) inputs of what the layer is given, H (k, m)."""
        if self.shift is None:
            return H
        rest = H - self.shift.to(H)
        if self.pinv is not None:
            return rest @ self.pinv.to(H).T
        assert self.columns is not None and self.sizes is not None
        s, at = self.sizes.to(H), self.columns.to(H.device)
        X, weight = H.new_zeros(len(H), int(at.max()) + 1), H.new_zeros(int(at.max()) + 1)
        return X.index_add_(1, at, s * rest) / weight.index_add_(0, at, s.square())


def given_to(body, names: list[str], X: torch.Tensor, shape) -> dict[str, torch.Tensor]:
    """(n, m) what the linear layers of those names are given of X (n, d), of those that are given one row for each."""
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in names}

    def kept(name):
        return lambda _, given: seen[name].append(given[0].clone())

    hooks = [body.get_submodule(f"model.{name}").register_forward_pre_hook(kept(name)) for name in names]
    try:
        with torch.no_grad():
            body.to(X.device)(X.reshape(len(X), *shape).clone())
    finally:
        for hook in hooks:
            hook.remove()
    return {name: h[0].to(X) for name, h in seen.items() if len(h) == 1 and h[0].ndim == 2 and len(h[0]) == len(X)}


def as_in_training(pair, name: str) -> bool:
    """Whether the layer is given the same in training mode, as it is not below dropout or batch norm."""
    X = pair.features.probes(_PROBES, "first layer")
    plain, training = (given_to(body, [name], X, pair.shape) for body in (pair.body, copied(pair.body).train()))
    return name in plain and name in training and torch.allclose(plain[name], training[name])


def find_transforms(pair, states, names: list[str]) -> dict[str, Transform]:
    """What layers are given of inputs, of those below which nothing was trained."""
    X = pair.features.probes(_PROBES, "first layer")
    body: Any = copied(pair.body)
    body.load(states[1])
    new = given_to(body, names, X, pair.shape)
    body.load(states[0])
    old = given_to(body, names, X, pair.shape)
    same = [name for name in old if name in new and torch.equal(old[name], new[name])]
    return {name: _transform(body, name, X, pair) for name in same}


def _transform(body, name: str, X, pair) -> Transform:
    def T(X):
        return given_to(body, [name], X / pair.scale, pair.shape)[name]

    h, zero = T(X), T(torch.zeros_like(X[:1]))
    if h.shape == X.shape and all(torch.allclose(T(size * X), size * X) for size in _SIZES):
        return Transform(h.shape[1])
    if not all(_affine(T, size * X, zero) for size in _SIZES):
        return Transform(h.shape[1], "what stands before it is no affine map of them")
    return _one_by_one(T, X, zero[0]) or _by_unit_vectors(T, X, zero[0])


def _affine(T, X, zero) -> bool:
    x, y = X[:-1], X[1:]
    hx, hy = T(x), T(y)
    off = torch.stack([2 * T((x + y) / 2) - hx - hy, T(x) + T(-x) - 2 * zero])
    return bool(off.abs().max() <= _AFFINE * max(float(hx.abs().max()), float(zero.abs().max())))


def _one_by_one(T, X, shift) -> Transform | None:
    """T where each number that it gives comes of one number of x."""
    h = T(X) - shift
    dead = (h.abs() <= _AFFINE * h.abs().max()).all(0)  # padding comes of nothing
    ratios, order = (X[0] / X[1]).sort()
    wanted = torch.where(dead, 0.0, h[0] / torch.where(dead, 1.0, h[1]))
    at = torch.searchsorted(ratios, wanted).clamp(1, len(ratios) - 1)
    at = at - (wanted - ratios[at - 1] < ratios[at] - wanted).long()
    columns = order[at]
    sizes = torch.where(dead, 0.0, h[0] / X[0, columns])
    if float((sizes * X[:, columns] - h).abs().max()) > _AFFINE * float(h.abs().max()):
        return None
    weight = torch.zeros_like(X[0]).index_add_(0, columns, sizes.square())
    least, most = float(weight.min()) ** 0.5, float(weight.max()) ** 0.5
    if least <= _RANK * most:
        return Transform(len(shift), "what stands before it leaves numbers of them out")
    return Transform(len(shift), columns=columns, sizes=sizes, shift=shift, amplifies=1 / least)


def _by_unit_vectors(T, X, shift) -> Transform:
    """The same for any matrix that is not too large."""
    d = X.shape[1]
    if d > len(shift):
        return Transform(len(shift), f"what stands before it maps {d:,} numbers to {len(shift):,}")
    if d > _MOST:
        return Transform(len(shift), f"the affine map before it was not undone, of {d:,} numbers")
    A = T(torch.eye(d).to(X)) - shift  # (d, m): a row is a column of A
    U, s, Vh = torch.linalg.svd(A, full_matrices=False)
    if float(s[-1]) <= _RANK * float(s[0]):
        return Transform(len(shift), "the affine map before it loses a part of them")
    return Transform(len(shift), pinv=U / s @ Vh, shift=shift, amplifies=1 / float(s[-1]))
