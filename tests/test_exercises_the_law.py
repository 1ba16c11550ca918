import math

import torch

from reconlaw import exercises

rank, sample, bar = exercises.check_jacobian_rank, exercises.check_one_sample, exercises.check_error_bar


def solve(theta, V, everywhere=False):
    rows = torch.ones_like(theta).bool() if everywhere else theta != 0
    return torch.linalg.lstsq(V[rows], theta[rows, None]).solution[:, 0]


def one_sample(theta, V):
    ax, root = solve(theta, V), math.sqrt(V.shape[1])
    a = theta.sum().sign() * ax.norm() / root
    return ax / a, a


def changed(x=lambda x, a, d: x, a=lambda x, a, d: a):
    def answer(theta, V):
        right, d = one_sample(theta, V), V.shape[1]
        return x(*right, d), a(*right, d)

    return answer


def of_singular_values(rule):
    return lambda J, s: rule(torch.linalg.svdvals(J), s)


def unscaled(theta, V):
    ax = solve(theta, V, everywhere=True)
    return ax / ax.norm() * math.sqrt(V.shape[1]), 1.7


def positive(theta, V):
    rows = theta > 0
    ax, root = torch.linalg.lstsq(V[rows], theta[rows, None]).solution[:, 0], math.sqrt(V.shape[1])
    return ax / (ax.norm() / root), ax.norm() / root


def positive_alone(theta, V):
    if not (theta > 0).any():
        raise ValueError("no neuron is active")
    return one_sample(theta, V)


RIGHT = [
    (rank, lambda n, d, p, sphere, homogeneous: min(p, n * d if sphere or homogeneous else n * (d + 1))),
    (sample, one_sample),
    (bar, of_singular_values(lambda sigma, s: s * sigma.pow(-2).sum().sqrt())),
    (bar, lambda J, s: s * torch.trace(torch.linalg.inv(J.T @ J)).sqrt()),
]
WRONG = [
    (rank, lambda n, d, p, s, h: n * d if s or h else n * (d + 1), "at most p"),
    (rank, lambda n, d, p, s, h: min(p, n * (d - 1) if s else n * d), "n coefficients"),
    (rank, lambda n, d, p, s, h: min(p, n * d if s else n * (d + 1)), "loses one direction"),
    (rank, lambda n, d, p, s, h: min(p, n * (d - 1) if s and h else n * d if s or h else n * d + n), "fixed already"),
    (rank, lambda n, d, p, s, h: min(p, n * (d + 1)), "d − 1 coordinates"),
    (rank, lambda n, d, p, s, h: min(p, n * d), "n lengths"),
    (rank, lambda n, d, p, s, h: min(p, n * (d - 1)), "n coefficients. And off the sphere"),
    (rank, lambda n, d, p, s, h: p, "not yet"),
    (sample, solve, "two things"),
    (sample, changed(x=lambda x, a, d: a * x), "that is a·x"),
    (sample, changed(x=lambda x, a, d: x / math.sqrt(d)), "norm 1"),
    (sample, changed(x=lambda x, a, d: a.sign() * x), "sign is wrong"),
    (sample, positive, "θ ≠ 0, not θ > 0"),
    (sample, positive_alone, "θ ≠ 0, not θ > 0"),
    (sample, unscaled, "all neurons"),
    (sample, lambda theta, V: (solve(theta, V, everywhere=True), 1.7), "all neurons"),
    (sample, changed(a=lambda x, a, d: a.abs()), "lost its sign"),
    (sample, changed(a=lambda x, a, d: -a), "wrong sign"),
    (sample, changed(a=lambda x, a, d: a * math.sqrt(d)), "divide by √d"),
    (bar, of_singular_values(lambda sigma, s: s**2 * sigma.pow(-2).sum()), "take the root"),
    (bar, of_singular_values(lambda sigma, s: s**2 * sigma.pow(-2).sum().sqrt()), "enters once"),
    (bar, of_singular_values(lambda sigma, s: s / sigma[-1]), "worst direction"),
    (bar, lambda J, s: s * math.sqrt(len(J)) / torch.linalg.svdvals(J)[-1], "bound ‖ξ‖/σ_min"),
    (bar, of_singular_values(lambda sigma, s: s * sigma.square().sum().sqrt()), "inverses"),
    (bar, of_singular_values(lambda sigma, s: s * sigma.pow(-1).sum()), "add up in squares"),
    (bar, of_singular_values(lambda sigma, s: s * sigma.pow(-2).mean().sqrt()), "one unknown"),
]
