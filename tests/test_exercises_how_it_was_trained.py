import torch

from reconlaw import exercises


def step(g, rate, eps):
    return -rate * g / (g.abs() + eps)


def by_torch(g, rate, eps):
    weight = torch.nn.Parameter(torch.zeros_like(g))
    weight.grad = g
    torch.optim.Adam([weight], lr=rate, eps=eps).step()
    return weight.detach()


def flat(theta):
    sizes = theta[:, theta.norm(dim=0) > 0].abs()
    return sizes.mean() / sizes.square().mean().sqrt()


STEP, FLAT = exercises.check_adam_first_step, exercises.check_flatness
RIGHT = [
    (STEP, step),
    (STEP, by_torch),
    (FLAT, flat),
    (FLAT, lambda T: T.abs().sum() / (T.norm() * (T.abs().sum(0) > 0).sum().mul(len(T)).sqrt())),
]
WRONG = [
    (STEP, lambda g, rate, eps: -step(g, rate, eps), "against the gradient"),
    (STEP, lambda g, rate, eps: -rate * g.sign(), "ε is missing"),
    (STEP, lambda g, rate, eps: -rate * g / (g**2 + eps), "by its root"),
    (STEP, lambda g, rate, eps: -rate * g / (g**2 + eps).sqrt(), "beside the root"),
    (STEP, lambda g, rate, eps: -rate * 0.1 * g / ((0.001 * g**2).sqrt() + eps), "began at zero"),
    (STEP, lambda g, rate, eps: -rate * g, "gradient descent"),
    (STEP, lambda g, rate, eps: 2 * step(g, rate, eps), "off by"),
    (FLAT, lambda T: T.abs().mean() / T.square().mean().sqrt(), "leave them out"),
    (FLAT, lambda T: flat(T[T != 0][None]), "whole columns"),
    (FLAT, lambda T: flat(T) ** 2, "square of it"),
    (FLAT, lambda T: 1 / flat(T), "other way round"),
    (FLAT, lambda T: flat(T) / T[:, T.norm(dim=0) > 0].numel() ** 0.5, "a mean is wanted"),
    (FLAT, lambda T: T[:, T.norm(dim=0) > 0].abs().mean() / T[:, T.norm(dim=0) > 0].std(), "takes the mean away"),
    (FLAT, lambda T: T.sum() / T.abs().sum() * flat(T), "without signs"),
]
