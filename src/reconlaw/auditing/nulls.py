r"""p-values without the truth: what is found is compared with what is found where there is nothing to find.

Each candidate's *own loss* is the share that is left unexplained of what it has to explain. With R the residual of θ at
all candidates, α_i the coefficients of candidate i and G the Gram matrix of their features, leaving i out and solving
for the others' coefficients anew raises the residual to R + ‖α_i‖²/(G⁻¹)_ii, so that

    ℓ_i = R / (R + ‖α_i‖²/(G⁻¹)_ii),

near 0 where everything that only i can explain is explained, near 1 where i might as well not be there. Where the
candidates have as many free numbers as there are equations, they explain any θ, and ℓ counts as 1.

*Wrong releases* give the distribution of ℓ under chance: the same attack, with the same work, on θ of the same size,
rank and rounding that other inputs made, and on the right θ with its features in another order, as a body of the same
law would have them. No candidate of these was trained on. The p-value of a candidate is the share of theirs that are
no larger, 1 counted on both sides, and Benjamini and Hochberg's rule holds the false discovery rate of one audit.

Candidates of one release depend on one another, and a p-value says that a candidate has to do with θ, not that it is
exact. Measured on heads of one output over 8 numbers (``benchmarks/nulls.py``, 1,008 releases that three samples did
not make, 3,024 candidates): the rule alone passed somebody in 13 % of them, above its level of 5 %, and the whole audit
called none recovered. Of right releases between p/dn = 1.1 and 1.5 most candidates that pass are local minima, near no
sample. So passing is one of several things that an audit asks (:mod:`reconlaw.auditing.judgement`).

Two papers say why an attack needs this. *Training Data Reconstruction: Privacy due to Uncertainty?* (arXiv 2412.08544)
shows reconstructions from random starts that look like training samples and are none; *No Prior, No Leakage* (arXiv
2509.21296) proves that a network's margin conditions have solutions arbitrarily far from the data where nothing is
known of these. Both attack the trained weights alone. Here θ is what training changed and the body is known, so that
equations can be counted, and wrong releases say what the same search makes of nothing.

Source: Benjamini & Hochberg, *Controlling the false discovery rate*, JRSS B 57 (1995), for the rule.
"""

from __future__ import annotations

import math

import torch

from ..attack.result import Result
from ..features.gram import StepError, as_step, factor_gram

# Level of the false discovery rate, and how many nulls it takes at least to fall below it.
FDR = 0.05
LEAST = math.ceil(1 / FDR)


def p_values(values: torch.Tensor, nulls: torch.Tensor) -> torch.Tensor:
    """The share of nulls that are no larger than each of ``values`` (m,), itself counted: (1 + count)/(1 + nulls).

    Example:
        >>> p_values(torch.tensor([0.1, 0.6]), torch.tensor([0.5, 0.7, 0.9])).tolist()
        [0.25, 0.5]
    """
    count = torch.searchsorted(nulls.sort().values, values, right=True)
    return (1 + count).double() / (1 + len(nulls))


def benjamini_hochberg(p_values: torch.Tensor, level: float = FDR) -> torch.Tensor:
    """(m,) bool: the discoveries among p-values at this false discovery rate.

    Example:
        >>> benjamini_hochberg(torch.tensor([0.9, 0.001, 0.02]), 0.05).tolist()
        [False, True, True]
    """
    m = len(p_values)
    ordered, order = p_values.sort()
    below = (ordered <= level * torch.arange(1, m + 1, device=p_values.device) / m).nonzero()
    found = torch.zeros(m, dtype=torch.bool, device=p_values.device)
    if len(below):
        found[order[: int(below[-1]) + 1]] = True
    return found


def own_losses(features, theta: torch.Tensor, result: Result) -> torch.Tensor:
    """(m,) ℓ of each candidate of an attack on θ (K, p), 1 where their features are dependent.

    Of T columns a sample, all are left out at once.
    """
    m = len(result.X)
    Phi = features.columns(features(result.X)).double().cpu()
    T = len(Phi) // m
    left = result.loss * float(theta.double().square().sum())
    alpha = result.coefficients.reshape(m, T, -1).double().cpu()
    try:
        with as_step():
            inverse = torch.cholesky_inverse(factor_gram(Phi @ Phi.T)).reshape(T, m, T, m)
            blocks = inverse.diagonal(dim1=1, dim2=3).permute(2, 0, 1)
            own = (alpha * torch.linalg.solve(blocks, alpha)).sum((1, 2))
    except StepError:
        return torch.ones(m, dtype=torch.float64, device="cpu")
    return left / (left + own).clamp_min(torch.finfo(torch.float64).tiny)
