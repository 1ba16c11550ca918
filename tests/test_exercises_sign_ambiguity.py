import math

import torch

from reconlaw import exercises


def flip_change(V, X, a, F):
    return V @ (a[F] @ X[F])


def rest(a, F):
    return [i for i in range(len(a)) if i not in F]


def unnoticed(X, a, weigh=True, least=1, tolerance=1e-9):
    n, d = X.shape
    weights = a if weigh else torch.ones_like(a)
    sets = [tuple(i for i in range(n) if code >> i & 1) for code in range(least, 2**n)]
    return {F for F in sets if (weights[list(F)] @ X[list(F)]).norm() <= tolerance * a.norm() * math.sqrt(d)}


def coefficients(theta, V, U):
    Z = U @ V.T
    fit = torch.linalg.lstsq((torch.cat([Z.abs(), Z]) / 2).T, theta[:, None]).solution[:, 0]
    return fit.split(len(U))


def read_signs(theta, V, U):
    even, odd = coefficients(theta, V, U)
    return torch.sign(even * odd)[:, None] * U


def each_column_alone(theta, V, U):
    fits = [torch.linalg.lstsq(Z.T, theta[:, None]).solution for Z in ((U @ V.T).abs(), U @ V.T)]
    return (fits[0] * fits[1]).sign() * U


def linear_part_alone(theta, V, U):
    odd = torch.linalg.lstsq(V, theta[:, None]).solution
    return torch.linalg.lstsq(U.T, odd).solution.sign() * U


RIGHT = [
    (exercises.check_flip_change, flip_change),
    (exercises.check_unnoticed_flips, unnoticed),
    (exercises.check_read_signs, read_signs),
]
WRONG = [
    (exercises.check_flip_change, lambda V, X, a, F: -flip_change(V, X, a, F), "other way round"),
    (exercises.check_flip_change, lambda V, X, a, F: 2 * flip_change(V, X, a, F), "factor 2"),
    (exercises.check_flip_change, lambda V, X, a, F: flip_change(V, X, a, F) / 2, "half of it"),
    (exercises.check_flip_change, lambda V, X, a, F: V @ X[F].sum(0), "coefficients"),
    (exercises.check_flip_change, lambda V, X, a, F: V @ (a @ X), "all samples"),
    (exercises.check_flip_change, lambda V, X, a, F: flip_change(V, X, a, rest(a, F)), "not"),
    (exercises.check_flip_change, lambda V, X, a, F: a[F] @ X[F], "multiply by V"),
    (exercises.check_flip_change, lambda V, X, a, F: a[F] @ (X[F] @ V.T).relu(), "removes the samples"),
    (exercises.check_flip_change, lambda V, X, a, F: a[F] @ (X[F] @ V.T).abs(), "even part"),
    (exercises.check_unnoticed_flips, lambda X, a: unnoticed(X, a, least=0), "empty set"),
    (exercises.check_unnoticed_flips, lambda X, a: unnoticed(X, a, tolerance=-1), "no set where there is one"),
    (exercises.check_unnoticed_flips, lambda X, a: unnoticed(X, a, weigh=False) - {(1,)}, "missed"),
    (exercises.check_unnoticed_flips, lambda X, a: {F[::-1] for F in unnoticed(X, a)}, "sorted"),
    (exercises.check_unnoticed_flips, lambda X, a: unnoticed(X, a, tolerance=10), "do not vanish"),
    (exercises.check_unnoticed_flips, lambda X, a: None, "return statement"),
    (exercises.check_read_signs, lambda theta, V, U: -read_signs(theta, V, U), "every sign"),
    (exercises.check_read_signs, lambda theta, V, U: U, "as it was given"),
    (
        exercises.check_read_signs,
        lambda theta, V, U: coefficients(theta, V, U)[1].sign()[:, None] * U,
        "one coefficient",
    ),
    (exercises.check_read_signs, lambda theta, V, U: coefficients(theta, V, U)[0].sign()[:, None] * U, "sign of a_i"),
    (
        exercises.check_read_signs,
        lambda theta, V, U: torch.sign(torch.mul(*coefficients(theta, V, U))),
        "not the signs",
    ),
    (exercises.check_read_signs, linear_part_alone, "together"),
    (exercises.check_read_signs, each_column_alone, "together"),
]
