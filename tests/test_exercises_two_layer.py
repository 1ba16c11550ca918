import math

import torch

from reconlaw import exercises


def gradient(W1, W2, X, E):
    return ((E @ W2) * (X @ W1.T > 0)).T @ X


def width(d, n, K, spanned, rank=min, sphere=1, coefficients=1, rounded=math.ceil):
    r = rank(n, K)
    return rounded(n * ((n if spanned else d) - sphere + coefficients * r) / r)


def bounds(X, e, gamma, head, slope, norm=2, error=None):
    error = e.norm() if error is None else error
    return slope * head * torch.linalg.matrix_norm(X, norm) * error / gamma, error / gamma**0.5


def count(before, after, eps, factor=1.0, least=None):
    entry = eps * torch.sqrt((before**2 + after**2).mean() / 12)
    s = torch.linalg.svdvals(after - before)
    threshold = factor * entry * sum(math.sqrt(side) for side in before.shape)
    return int((s > (threshold if least is None else least * s[0])).sum())


GRADIENT, WIDTH = exercises.check_first_layer_gradient, exercises.check_least_width
BOUNDS, READ = exercises.check_movement_bounds, exercises.check_read_n

RIGHT = [
    (GRADIENT, gradient),
    (WIDTH, width),
    (BOUNDS, bounds),
    (BOUNDS, lambda *arguments: torch.stack(bounds(*arguments))),
    (READ, count),
    (READ, lambda *arguments: count(*arguments, factor=3)),
]
WRONG = [
    (GRADIENT, lambda *arguments: gradient(*arguments).T, "transpose"),
    (GRADIENT, lambda *arguments: -gradient(*arguments), "direction of the step"),
    (GRADIENT, lambda W1, W2, X, E: gradient(W1, W2, X, E) / len(X), "not a mean"),
    (GRADIENT, lambda *arguments: 2 * gradient(*arguments), "½"),
    (GRADIENT, lambda W1, W2, X, E: (E @ W2).T @ X, "forget φ'"),
    (GRADIENT, lambda W1, W2, X, E: ((E @ W2) * (X @ W1.T).relu()).T @ X, r"took φ\(z\)"),
    (GRADIENT, lambda W1, W2, X, E: ((E @ W2) * (X @ W1.T)).T @ X, "pre-activation"),
    (GRADIENT, lambda W1, W2, X, E: ((E @ W2) * (X @ W1.T < 0)).T @ X, "where z > 0"),
    (GRADIENT, lambda W1, W2, X, E: (E.sum(1, keepdim=True) * (X @ W1.T > 0)).T @ X, "forget W₂"),
    (GRADIENT, lambda *arguments: None, "None"),
    (WIDTH, lambda *case: width(*case, rank=lambda n, K: K), "beyond n outputs"),
    (WIDTH, lambda *case: width(*case, coefficients=0), "forget the coefficients"),
    (WIDTH, lambda *case: width(*case, sphere=0), "sphere"),
    (WIDTH, lambda *case: width(*case, rounded=math.floor), "round up"),
    (WIDTH, lambda d, n, K, spanned: width(d, n, K, False), "not d"),
    (WIDTH, lambda d, n, K, spanned: min(n, K) * width(d, n, K, spanned), "that is p"),
    (WIDTH, lambda d, n, K, spanned: width(d, n, 1, spanned), "one output"),
    (WIDTH, lambda d, n, K, spanned: math.ceil((n if spanned else d) * n / K), "rule of thumb"),
    (WIDTH, lambda d, n, K, spanned: 7, "off by"),
    (BOUNDS, lambda *arguments: bounds(*arguments, norm="fro"), "largest singular value"),
    (BOUNDS, lambda X, e, *rest: bounds(X, e, *rest, error=torch.linalg.matrix_norm(e, 2)), "Frobenius norm here"),
    (BOUNDS, lambda X, e, gamma, head, slope: bounds(X, e, gamma, 1, slope), "down through the head"),
    (BOUNDS, lambda X, e, gamma, head, slope: bounds(X, e, gamma, head, 1), "largest slope"),
    (BOUNDS, lambda X, e, gamma, *rest: (bounds(X, e, gamma, *rest)[0], e.norm() / gamma), "for the head, √γ"),
    (
        BOUNDS,
        lambda X, e, gamma, *rest: (bounds(X, e, gamma**0.5, *rest)[0], bounds(X, e, gamma, *rest)[1]),
        "for the first layer",
    ),
    (BOUNDS, lambda X, e, gamma, *rest: (bounds(X, e, gamma, *rest)[0], e.norm()), "√γ in the second"),
    (BOUNDS, lambda X, e, gamma, *rest: (bounds(X, e, 1, *rest)[0], e.norm() / gamma**0.5), "γ in the first"),
    (BOUNDS, lambda *arguments: [value**2 for value in bounds(*arguments)], "squares"),
    (BOUNDS, lambda *arguments: bounds(*arguments)[::-1], "ΔW₁ first"),
    (READ, lambda *arguments: None, "None"),
    (READ, lambda before, after, eps: int(torch.linalg.matrix_rank(after - before)), "which is d"),
    (READ, lambda *arguments: count(*arguments, least=0.5), "too high"),
    (READ, lambda *arguments: count(*arguments, factor=0.9), "too low|which is d"),
    (READ, lambda before, after, eps: count(before, after, eps) + 1, "too low"),
]
