import torch

from reconlaw import exercises


def residual(F, theta):
    alpha = torch.linalg.solve(F @ F.T, F @ theta)
    return alpha, theta - alpha @ F


def value(F, theta):
    r = residual(F, theta)[1]
    return r @ r / (theta @ theta)


def gradient(factor=-2.0, slope=lambda F: 1 - F**2, weigh=True, of=None, scaled=True):
    def answer(X, V, theta):
        F = torch.tanh(X @ V.T)
        alpha, r = residual(F, theta)
        weights = alpha[:, None] if weigh else torch.ones_like(alpha)[:, None]
        out = factor * (weights * (theta if of == "theta" else r) * slope(F)) @ V
        return out / (theta @ theta) if scaled else out

    return answer


def raw_fit(F, theta):
    return (theta - (F @ theta) @ F).square().sum() / (theta @ theta)


def subtracted(F, theta):
    return 1 - residual(F, theta)[0] @ (F @ theta) / (theta @ theta)


RIGHT = [
    (exercises.check_projection_value, value),
    (exercises.check_projection_gradient, gradient()),
    (exercises.check_largest_step, lambda values, beta: 2 * (1 + beta) / values.max()),
]
WRONG = [
    (exercises.check_projection_value, lambda F, t: 1 - value(F, t), r"\*in\* the span"),
    (exercises.check_projection_value, lambda F, t: value(F, t) * (t @ t), "divide by"),
    (exercises.check_projection_value, lambda F, t: value(F, t).sqrt(), "square it"),
    (exercises.check_projection_value, lambda F, t: residual(F, t)[1].norm(), "square it, and"),
    (exercises.check_projection_value, lambda F, t: value(F, t) * t.norm(), "by its square"),
    (exercises.check_projection_value, raw_fit, "Gram"),
    (exercises.check_projection_value, lambda F, t: value(F, t) / len(t), "mean"),
    (exercises.check_projection_value, lambda F, t: residual(F, t)[1], "residual"),
    (exercises.check_projection_value, subtracted, "nearly equal"),
    (exercises.check_projection_gradient, gradient(2.0), "sign is wrong"),
    (exercises.check_projection_gradient, gradient(-1.0), "factor 2"),
    (exercises.check_projection_gradient, gradient(1.0), "factor −2"),
    (exercises.check_projection_gradient, gradient(scaled=False), "divide"),
    (exercises.check_projection_gradient, gradient(slope=torch.ones_like), "chain rule"),
    (exercises.check_projection_gradient, gradient(slope=lambda F: F), "where φ' belongs"),
    (exercises.check_projection_gradient, gradient(weigh=False), "coefficients"),
    (exercises.check_projection_gradient, gradient(of="theta"), "residual"),
    (exercises.check_largest_step, lambda values, beta: 2 / values.max(), "without momentum"),
    (exercises.check_largest_step, lambda values, beta: 2 * (1 - beta) / values.max(), "raises"),
    (exercises.check_largest_step, lambda values, beta: 2 / (1 - beta) / values.max(), "not by 1/"),
    (exercises.check_largest_step, lambda values, beta: (1 + beta) / values.max(), "factor 2"),
    (exercises.check_largest_step, lambda values, beta: 2 * (1 + beta) / values.min(), "sharpest"),
    (exercises.check_largest_step, lambda values, beta: 2 * (1 + beta) / values.mean(), "sharpest"),
]
