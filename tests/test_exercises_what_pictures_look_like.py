import torch

from reconlaw import exercises


def least(n, k, K=1):
    return n * (k + K) // K + 1


def levels(X, low, high, levels):
    gap = (high - low) / (levels - 1)
    return (low + ((X - low) / gap).round() * gap).clamp(low, high)


def by_gap(rule=torch.round, gap=lambda low, high, levels: (high - low) / (levels - 1), clamp=True):
    def answer(X, low, high, levels):
        step = gap(low, high, levels)
        placed = low + rule((X - low) / step) * step
        return placed.clamp(low, high) if clamp else placed

    return answer


def distance(X, basis, m):
    Q = torch.linalg.qr(basis.T).Q
    return ((X - m) - (X - m) @ Q @ Q.T).norm(dim=1) / X.norm(dim=1)


LEAST, LEVELS, DISTANCE = exercises.check_least_parameters, exercises.check_to_levels, exercises.check_family_distance
RIGHT = [
    (LEAST, least),
    (LEVELS, levels),
    (DISTANCE, distance),
    (DISTANCE, lambda X, B, m: (X - m - (X - m) @ torch.linalg.pinv(B) @ B).norm(dim=1) / X.norm(dim=1)),
]
WRONG = [
    (LEAST, lambda n, k, K: -(-n * (k + K) // K), "one more is wanted"),
    (LEAST, lambda n, k, K: n * (k + K) / K + 1, "whole"),
    (LEAST, lambda n, k, K: n * (k + 1) // K + 1, "K of them"),
    (LEAST, lambda n, k, K: n * (k + 1) + 1, "K equations a neuron"),
    (LEAST, lambda n, k, K: n * k // K + 1, "coefficients are unknown"),
    (LEAST, lambda n, k, K: 2 * least(n, k, K), "off by"),
    (LEVELS, lambda X, a, b, L: a + ((X - a) / ((b - a) / (L - 1))).round() * ((b - a) / (L - 1)), "on its ends"),
    (LEVELS, by_gap(gap=lambda a, b, L: (b - a) / L), "one gap less between them$"),
    (LEVELS, by_gap(gap=lambda a, b, L: (b - a) / L, clamp=False), "one gap less between them; and entries outside"),
    (LEVELS, by_gap(torch.floor), "rounds down; the nearest level is wanted$"),
    (LEVELS, by_gap(torch.floor, clamp=False), "rounds down; the nearest level is wanted; and entries outside"),
    (LEVELS, by_gap(torch.trunc, clamp=False), "cuts the fraction off"),
    (LEVELS, by_gap(torch.ceil), "rounds up"),
    (LEVELS, by_gap(gap=lambda a, b, L: 1.0), "forget the scale"),
    (LEVELS, lambda X, a, b, L: X.round(), "forget the scale.*; and entries outside"),
    (LEVELS, lambda X, a, b, L: X.round().clamp(a, b), "forget the scale.*afterwards$"),
    (LEVELS, lambda X, a, b, L: ((X - a) / (b - a) * (L - 1)).round(), "numbers of the levels"),
    (LEVELS, lambda X, a, b, L: ((X - a) / (b - a) * (L - 1)).round().clamp(0, L - 1), "numbers of the levels"),
    (LEVELS, lambda X, a, b, L: levels(X, a, b, L) - a, "add low again"),
    (LEVELS, lambda X, a, b, L: (X / (b - a) * (L - 1)).round() * (b - a) / (L - 1), "from low, not from 0"),
    (LEVELS, lambda X, a, b, L: X, "off by"),
    (DISTANCE, lambda X, B, m: distance(X, B, m) * X.norm(dim=1), "a share of the norm"),
    (DISTANCE, lambda X, B, m: distance(X, B, m) * X.norm(dim=1) / (X - m).norm(dim=1), "not by that of X − m"),
    (DISTANCE, lambda X, B, m: distance(X, B, 0 * m), "subtract it first"),
    (DISTANCE, lambda X, B, m: ((X - m) - (X - m) @ B.T @ B).norm(dim=1) / X.norm(dim=1), "not orthonormal"),
    (DISTANCE, lambda X, B, m: distance(X, B, m) ** 2, "squared"),
]
