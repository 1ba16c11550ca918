import math

import torch
from scipy.optimize import linear_sum_assignment

from reconlaw import exercises


def assigned(cost_of, divide=True, root=True):
    def errors(X_hat, X):
        cost = cost_of(X[:, None], X_hat[None])
        if divide:
            cost = cost / X.norm(dim=1, keepdim=True)
        rows, columns = linear_sum_assignment(cost.numpy())
        return cost[rows, columns] if root else cost[rows, columns] ** 2

    return errors


def either(x, u):
    return torch.minimum((x - u).norm(dim=2), (x + u).norm(dim=2))


def signed_after(X_hat, X):
    rows, columns = linear_sum_assignment(either(X[:, None], X_hat[None]).numpy())
    return (X_hat[columns] - X).norm(dim=1) / X.norm(dim=1)


def nearest(X_hat, X):
    return either(X[:, None], X_hat[None]).min(dim=1).values / X.norm(dim=1)


def row_by_row(X_hat, X):
    return torch.minimum((X_hat - X).norm(dim=1), (X_hat + X).norm(dim=1)) / X.norm(dim=1)


RIGHT = [
    (exercises.check_least_features, lambda n, d, K: math.ceil((n * (d - 1) + n * K) / K)),
    (exercises.check_errors_up_to_sign, assigned(either)),
    (exercises.check_labels_from_weights, lambda X, features, theta: features.predict(X, theta)),
]
WRONG = [
    (exercises.check_least_features, lambda n, d, K: (n * (d - 1) + n * K) / K, "whole number"),
    (exercises.check_least_features, lambda n, d, K: (n * (d - 1) + n * K) // K, "rounded down"),
    (exercises.check_least_features, lambda n, d, K: math.ceil(n * (d - 1) / K), "forget the coefficients"),
    (exercises.check_least_features, lambda n, d, K: math.ceil((n * d + n * K) / K), "forget the sphere"),
    (exercises.check_least_features, lambda n, d, K: n * d, "one output"),
    (exercises.check_least_features, lambda n, d, K: n * (d - 1) + n * K, "K equations"),
    (exercises.check_least_features, lambda n, d, K: math.ceil(n * d / K), "every output"),
    (exercises.check_least_features, lambda n, d, K: 1, "not yet"),
    (exercises.check_errors_up_to_sign, row_by_row, "no order"),
    (exercises.check_errors_up_to_sign, assigned(either, divide=False), "divide"),
    (exercises.check_errors_up_to_sign, assigned(either, root=False), "squared"),
    (exercises.check_errors_up_to_sign, nearest, "share an estimate"),
    (exercises.check_errors_up_to_sign, signed_after, "signed errors"),
    (
        exercises.check_errors_up_to_sign,
        assigned(lambda x, u: torch.minimum((x - u).abs(), (x + u).abs()).norm(dim=2)),
        "one sign a picture",
    ),
    (exercises.check_errors_up_to_sign, assigned(lambda x, u: (x.abs() - u.abs()).norm(dim=2)), "every pixel"),
    (exercises.check_errors_up_to_sign, lambda X_hat, X: None, "None"),
    (
        exercises.check_labels_from_weights,
        lambda X, f, theta: torch.linalg.solve(f(X) @ f(X).T, f(X) @ theta),
        "coefficients",
    ),
    (exercises.check_labels_from_weights, lambda X, f, theta: (f(X) @ theta).sign(), "signs"),
    (exercises.check_labels_from_weights, lambda X, f, theta: f(X) @ theta / f.p, "divided by p"),
    (exercises.check_labels_from_weights, lambda X, f, theta: X @ f.V.T @ theta, "activation"),
    (exercises.check_labels_from_weights, lambda X, f, theta: f(X), "features"),
]
