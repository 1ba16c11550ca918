import math

from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from reconlaw import exercises, privacy


def each(Phi, theta, y):
    return (Phi @ theta - y)[:, None] * Phi


def factors(gradients, clip):
    return (clip / gradients.norm(dim=1, keepdim=True)).clamp(max=1.0)


def clipped(Phi, theta, y, clip):
    gradients = each(Phi, theta, y)
    return (factors(gradients, clip) * gradients).sum(0)


def mu(epsilon, delta):
    return brentq(lambda m: privacy.gaussian_epsilon(m, delta) - epsilon, 1e-3, 100)


def clip_the_sum(Phi, theta, y, clip):
    total = each(Phi, theta, y).sum(0)
    return total * min(1.0, clip / float(total.norm()))


CLIP, NOISE, BOUND = exercises.check_clipped_sum, exercises.check_noise_multiplier, exercises.check_success_bound

RIGHT = [
    (CLIP, clipped),
    (NOISE, lambda e, d, t: 2 * math.sqrt(t) / mu(e, d)),
    (BOUND, lambda k, m: ndtr(ndtri(k) + m)),
]
WRONG = [
    (CLIP, lambda Phi, theta, y, clip: each(Phi, theta, y).sum(0), "nothing was clipped"),
    (CLIP, clip_the_sum, "clips the sum"),
    (
        CLIP,
        lambda Phi, theta, y, clip: (clip * each(Phi, theta, y) / each(Phi, theta, y).norm(dim=1)[:, None]).sum(0),
        "at most 1",
    ),
    (CLIP, lambda Phi, theta, y, clip: each(Phi, theta, y).clamp(-clip, clip).sum(0), "every entry"),
    (CLIP, lambda *given: clipped(*given) / 5, "mean"),
    (CLIP, lambda *given: -clipped(*given), "sign is wrong"),
    (
        CLIP,
        lambda Phi, theta, y, clip: (factors(2 * each(Phi, theta, y), clip) * 2 * each(Phi, theta, y)).sum(0),
        "factor ½",
    ),
    (CLIP, lambda Phi, theta, y, clip: (factors(Phi, clip) * Phi).T @ (Phi @ theta - y), "not the features"),
    (CLIP, lambda *given: None, "None"),
    (NOISE, lambda e, d, t: 2 / mu(e, d), "forget the steps"),
    (NOISE, lambda e, d, t: 2 * t / mu(e, d), "in squares"),
    (NOISE, lambda e, d, t: math.sqrt(t) / mu(e, d), "2C, not C"),
    (NOISE, lambda e, d, t: mu(e, d) / (2 * math.sqrt(t)), "more noise"),
    (NOISE, lambda e, d, t: 2 * math.sqrt(t) / e, "ε is not μ"),
    (NOISE, lambda e, d, t: 2 * math.sqrt(t) * math.sqrt(2 * math.log(1.25 / d)) / e, "classical"),
    (NOISE, lambda e, d, t: mu(e, d), "that is μ"),
    (NOISE, lambda e, d, t: 7.0, "not yet"),
    (BOUND, lambda k, m: ndtr(ndtri(k) - m), "add μ"),
    (BOUND, lambda k, m: ndtr(m), "forget the prior"),
    (BOUND, lambda k, m: ndtri(k) + m, "last step"),
    (BOUND, lambda k, m: min(1.0, k * math.exp(m)), "pure ε-privacy"),
    (BOUND, lambda k, m: min(1.0, k + m), "do not shift"),
    (BOUND, lambda k, m: ndtr(-ndtri(k) + m), "keep its sign"),
]
