import torch

from reconlaw import exercises


def least(n, k, K=1):
    return n * (k + K) // K + 1


def levels(X, low, high, levels):
    gap = (high - low) / (levels - 1)
    return (low + ((X - low) / gap).round() * gap).clamp(low, high)


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
    (LEVELS, lambda X, a, b, L: levels(X, a, b, L + 1), "one gap less"),
    (LEVELS, lambda X, a, b, L: levels(X - (b - a) / (L - 1) / 2, a, b, L), "rounds down"),
    (LEVELS, lambda X, a, b, L: X, "off by"),
    (DISTANCE, lambda X, B, m: distance(X, B, m) * X.norm(dim=1), "a share of the norm"),
    (DISTANCE, lambda X, B, m: distance(X, B, m) * X.norm(dim=1) / (X - m).norm(dim=1), "not by that of X − m"),
    (DISTANCE, lambda X, B, m: distance(X, B, 0 * m), "subtract it first"),
    (DISTANCE, lambda X, B, m: ((X - m) - (X - m) @ B.T @ B).norm(dim=1) / X.norm(dim=1), "not orthonormal"),
    (DISTANCE, lambda X, B, m: distance(X, B, m) ** 2, "squared"),
]
