import math

import torch

from reconlaw import exercises


def density(z):
    return torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def slope(z):
    return torch.special.ndtr(z) + z * density(z)


def value(z):
    return z * torch.special.ndtr(z)


def slopes(U, V, plus, minus, f=slope, sign=-1, turn=-1):
    Z = U @ V.T
    return plus[:, None] * f(Z) + sign * minus[:, None] * f(turn * Z)


def tangent(J, U):
    n, d = U.shape
    J = J.view(-1, n, d)
    return (J - (J * U).sum(2, keepdim=True) * U / (U * U).sum(1, keepdim=True)).flatten(1)


def step(PJ, r, U, D, mu, restrict=True, damping=None):
    n, d = U.shape
    J = tangent(PJ, U) if restrict else PJ
    damping = mu * D.repeat_interleave(d) if damping is None else damping
    return torch.linalg.solve(J.T @ J + damping.diag(), J.T @ r).view(n, d)


def projected_afterwards(PJ, r, U, D, mu):
    return tangent(step(PJ, r, U, D, mu, restrict=False).reshape(1, -1), U).view_as(U)


def undamped(PJ, r, U, D, mu):
    return torch.linalg.lstsq(tangent(PJ, U), r[:, None], driver="gelsd").solution.view_as(U)


def costs(G, alpha, pair=lambda i, n: [i, n + i], invert_block=True, inverse=True):
    n, H = len(alpha) // 2, torch.linalg.inv(G) if inverse else G
    out = []
    for i in range(n):
        block = H[pair(i, n)][:, pair(i, n)]
        a = alpha[pair(i, n)]
        out.append(a @ (torch.linalg.inv(block) if invert_block else block) @ a)
    return torch.stack(out)


def single(G, alpha):
    return alpha.square() / torch.linalg.inv(G).diagonal()


RIGHT = [
    (exercises.check_lifted_slopes, slopes),
    (exercises.check_damped_step, step),
    (exercises.check_removal_costs, costs),
]
WRONG = [
    (exercises.check_lifted_slopes, lambda *a: slopes(*a, sign=1), "chain rule"),
    (exercises.check_lifted_slopes, lambda *a: slopes(*a, turn=1), "not at Vu"),
    (exercises.check_lifted_slopes, lambda *a: slopes(*a, sign=1, turn=1), "both signs"),
    (exercises.check_lifted_slopes, lambda *a: slopes(*a, f=value), "those are values"),
    (exercises.check_lifted_slopes, lambda *a: slopes(*a, f=value, sign=1), "the fit itself"),
    (exercises.check_lifted_slopes, lambda *a: slopes(*a, f=torch.special.ndtr), "second term"),
    (exercises.check_lifted_slopes, lambda U, V, a, b: slope(U @ V.T) - slope(-U @ V.T), "coefficients"),
    (exercises.check_lifted_slopes, lambda *a: slopes(*a).T, "transpose"),
    (exercises.check_lifted_slopes, lambda *a: slopes(*a).sum(0), "keep the atoms apart"),
    (exercises.check_lifted_slopes, lambda *a: None, "return statement"),
    (exercises.check_damped_step, lambda *a: -step(*a), "other way round"),
    (exercises.check_damped_step, lambda *a: step(*a, restrict=False), "not tangent"),
    (exercises.check_damped_step, projected_afterwards, "projected afterwards"),
    (exercises.check_damped_step, undamped, "forget the damping"),
    (
        exercises.check_damped_step,
        lambda PJ, r, U, D, mu: step(PJ, r, U, D, mu, damping=mu * torch.ones(U.numel()).double()),
        "not μ alone",
    ),
    (exercises.check_damped_step, lambda PJ, r, U, D, mu: step(PJ, r, U, D, 1.0), "factor μ"),
    (
        exercises.check_damped_step,
        lambda PJ, r, U, D, mu: step(PJ, r, U, D, mu, damping=mu * D.repeat(U.shape[1])),
        "repeat each entry",
    ),
    (
        exercises.check_damped_step,
        lambda PJ, r, U, D, mu: step(PJ, r, U, D, 1.0, damping=(mu * D.repeat_interleave(U.shape[1])).square()),
        "not squared",
    ),
    (exercises.check_damped_step, lambda *a: step(*a).flatten(), "n × d"),
    (exercises.check_removal_costs, lambda G, a: costs(G, a, inverse=False, invert_block=False), "adjust"),
    (exercises.check_removal_costs, lambda G, a: costs(G, a, invert_block=False), "must be inverted"),
    (exercises.check_removal_costs, lambda G, a: single(G, a).view(2, -1).sum(0), "together"),
    (exercises.check_removal_costs, lambda G, a: single(G, a)[: len(a) // 2], "first column alone"),
    (exercises.check_removal_costs, lambda G, a: single(G, a)[len(a) // 2 :], "second column alone"),
    (exercises.check_removal_costs, single, "each column alone"),
    (exercises.check_removal_costs, lambda G, a: costs(G, a, pair=lambda i, n: [2 * i, 2 * i + 1]), "neighbours"),
    (exercises.check_removal_costs, lambda G, a: costs(G, a).sqrt(), "not its root"),
    (exercises.check_removal_costs, lambda G, a: costs(G, a) / 2, "half of it"),
]


def test_removal_costs_are_what_removal_costs():
    """The closed form against the fit without the pair."""
    generator = torch.Generator().manual_seed(0)
    B, theta = (torch.randn(s, 30, generator=generator, dtype=torch.float64) for s in (6, 1))

    def residual(B):
        return (theta - torch.linalg.lstsq(B.T, theta.T).solution.T @ B).square().sum()

    alpha = torch.linalg.lstsq(B.T, theta.T).solution[:, 0]
    grown = [residual(B[[k for k in range(6) if k % 3 != i]]) - residual(B) for i in range(3)]
    torch.testing.assert_close(costs(B @ B.T, alpha), torch.stack(grown))
