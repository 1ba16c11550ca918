import torch

from reconlaw import exercises


def soft(product, lam):
    return product.sign() * (product.abs() - lam).clamp_min(0)


def one_atom(column, theta, lam):
    return soft(column @ theta, lam) / (column @ column)


def certificate(columns, fitted, alpha, theta, lam):
    return columns @ (theta - alpha @ fitted) / lam


def shrunk(Phi_hat, theta, signs, lam):
    return torch.linalg.solve(Phi_hat @ Phi_hat.T, Phi_hat @ theta - lam * signs)


def free(Phi_hat, theta):
    return torch.linalg.solve(Phi_hat @ Phi_hat.T, Phi_hat @ theta)


def gap(r, theta, alpha, lam, largest):
    q = r / max(1.0, largest)
    return r @ r / 2 + lam * alpha.abs().sum() - (theta @ theta - (theta - q) @ (theta - q)) / 2


CHECK_ATOM, CHECK_CERTIFICATE = exercises.check_one_atom, exercises.check_certificate
CHECK_SHRUNK, CHECK_GAP = exercises.check_shrunk_coefficients, exercises.check_duality_gap

RIGHT = [(CHECK_ATOM, one_atom), (CHECK_CERTIFICATE, certificate), (CHECK_SHRUNK, shrunk), (CHECK_GAP, gap)]
WRONG = [
    (CHECK_ATOM, lambda c, t, lam: soft(c @ t, lam), "divide by the squared length"),
    (CHECK_ATOM, lambda c, t, lam: soft(c @ t, lam) / c.norm(), "not by its length"),
    (CHECK_ATOM, lambda c, t, lam: (c @ t) / (c @ c), "penalty is missing"),
    (CHECK_ATOM, lambda c, t, lam: (c @ t) / (c @ c + lam), "ridge"),
    (CHECK_ATOM, lambda c, t, lam: (c @ t) / (c @ c) * ((c @ t).abs() > lam), "did not shrink"),
    (CHECK_ATOM, lambda c, t, lam: soft(c @ t, lam).abs() / (c @ c), "forget the sign"),
    (CHECK_ATOM, lambda c, t, lam: (c @ t - lam * (c @ t).sign()) / (c @ c), "minimum is at"),
    (CHECK_ATOM, lambda c, t, lam: soft(c @ t, lam / 2) / (c @ c), "shrank by"),
    (CHECK_CERTIFICATE, lambda c, f, a, t, lam: c @ (t - a @ f), "divide by λ"),
    (CHECK_CERTIFICATE, lambda c, f, a, t, lam: c @ (a @ f - t) / lam, "sign is wrong"),
    (CHECK_CERTIFICATE, lambda c, f, a, t, lam: (c @ (t - a @ f) / lam).abs(), "keep the sign"),
    (CHECK_CERTIFICATE, lambda c, f, a, t, lam: c @ t / lam, "forget the fit"),
    (CHECK_CERTIFICATE, lambda c, f, a, t, lam: c @ (t - a @ f) / lam / c.norm(dim=1), "not normalised"),
    (CHECK_CERTIFICATE, lambda c, f, a, t, lam: c @ (t - a @ f) * lam, "divide by it"),
    (CHECK_CERTIFICATE, lambda c, f, a, t, lam: f @ (t - a @ f) / lam, "at the atoms"),
    (CHECK_CERTIFICATE, lambda c, f, a, t, lam: None, "None"),
    (CHECK_SHRUNK, lambda P, t, s, lam: free(P, t), "without the penalty"),
    (CHECK_SHRUNK, lambda P, t, s, lam: shrunk(P, t, -s, lam), "toward zero"),
    (CHECK_SHRUNK, lambda P, t, s, lam: free(P, t) - lam * s, "forget G"),
    (CHECK_SHRUNK, lambda P, t, s, lam: shrunk(P, t, s.abs(), lam), "forget the signs"),
    (CHECK_SHRUNK, lambda P, t, s, lam: shrunk(P, t, s, lam / 2), "by half"),
    (CHECK_SHRUNK, lambda P, t, s, lam: shrunk(P, t, s, 2 * lam), "twice as much"),
    (CHECK_SHRUNK, lambda P, t, s, lam: P @ t - lam * s, "Gram matrix"),
    (
        CHECK_SHRUNK,
        lambda P, t, s, lam: torch.linalg.solve(P @ P.T + lam * torch.eye(4, dtype=P.dtype), P @ t),
        "ridge",
    ),
    (CHECK_GAP, lambda *a: 2 * gap(*a) - a[3] * a[2].abs().sum(), "factor ½"),
    (CHECK_GAP, lambda r, t, a, lam, top: gap(r, t, a, lam, 1.0), "feasible"),
    (
        CHECK_GAP,
        lambda r, t, a, lam, top: gap(r, t, a, lam, 1.0) + (t @ r - r @ r / 2) - (t @ r / top - r @ r / top**2 / 2),
        "feasible as it is",
    ),
    (CHECK_GAP, lambda r, t, a, lam, top: gap(r, t, 0 * a, lam, top), "forget the penalty"),
    (CHECK_GAP, lambda r, t, a, lam, top: gap(r, t, a, 1.0, top), "forget λ"),
    (CHECK_GAP, lambda *a: -gap(*a), "other way round"),
]
