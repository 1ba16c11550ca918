r"""Adam as a function of single columns: what a head's training by Adam or AdamW does with one feature at a time.

Adam moves every entry by itself. So the column of W (K, p) that belongs to feature j changes by a function of n
numbers, the feature's values φ_j ∈ R^n on the samples,

    ΔW_j = a(φ_j; E),        gradient of step t: E_tᵀ φ_j,

the same function a: R^n → R^K for all j, given the errors E = (E_1, …, E_T), E_t (n, K), of the steps. Where ε is small
beside the gradients, a(c φ) = a(φ) for c > 0: a column tells the direction of φ_j, and nothing of its length.

Source: Kingma and Ba (2015); for decoupled decay, Loshchilov and Hutter (2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..._checks import check_count, check_positive


@dataclass(frozen=True)
class Adam:
    r"""A recipe: full-batch steps of :class:`torch.optim.AdamW` (or Adam, without decay) on the mean cross-entropy.

    Args:
        lr: the rate.
        steps: T.
        betas: of the two running means, as in torch.optim.
        eps: ε, as in torch.optim.
        weight_decay: AdamW's, decoupled. Adam's own ``weight_decay`` enters the gradient and is not this.

    Raises:
        TypeError, ValueError: a number out of range.
    """

    lr: float
    steps: int
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_positive("lr", self.lr)
        check_count("steps", self.steps)
        check_positive("eps", self.eps)
        check_positive("weight_decay", self.weight_decay, allow_zero=True)
        if not (len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas)):
            raise ValueError(f"betas={self.betas!r} must be two numbers in [0, 1)")
        if self.lr * self.weight_decay >= 1:
            raise ValueError(f"lr × weight_decay = {self.lr * self.weight_decay:g} must be below 1")

    @property
    def kept(self) -> float:
        """(1 − lr·λ)^T, what decay leaves of the start."""
        return (1 - self.lr * self.weight_decay) ** self.steps

    def train(self, F: torch.Tensor, Y: torch.Tensor, W: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The head after training on features F (n, p) and one-hot labels Y (n, K) from W (K, p), and E (T, n, K)."""
        errors = []

        def gradient(t, W):
            errors.append(torch.softmax(F @ W.T, 1) - Y)
            return errors[-1].T @ F / len(F)

        W = self._run(gradient, W)
        return W, torch.stack(errors)

    def columns(self, E: torch.Tensor, Phi: torch.Tensor) -> torch.Tensor:
        """a(φ; E) for the rows φ of Phi (m, n), as (m, K)."""
        return self._run(lambda t, _: Phi @ E[t] / E.shape[1], Phi.new_zeros(len(Phi), E.shape[2]))

    def _run(self, gradient, W):
        m = v = torch.zeros_like(W)
        first, second = self.betas
        for t in range(self.steps):
            g = gradient(t, W)
            m, v = first * m + (1 - first) * g, second * v + (1 - second) * g * g
            root = (v / (1 - second ** (t + 1))).clamp_min(torch.finfo(W.dtype).tiny).sqrt()  # finite slope
            W = (1 - self.lr * self.weight_decay) * W - self.lr / (1 - first ** (t + 1)) * m / (root + self.eps)
        return W
