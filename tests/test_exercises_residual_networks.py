import math

import torch

from reconlaw import exercises

WIDTH, TANGENTS = exercises.check_head_width, exercises.check_tangents
CORRECTED, WEAKEST = exercises.check_corrected, exercises.check_weakest


def width(ratio, n, shape, kernel, padding=2, d=None, whole=math.ceil):
    positions = math.prod(side + padding + 1 - kernel for side in shape[:2])
    return whole(ratio * (d or math.prod(shape)) * n / positions)


def tangents(body, X, delta):
    X = X.requires_grad_(True)
    Y = body(X)
    c = torch.zeros_like(Y, requires_grad=True)
    (pulled,) = torch.autograd.grad(Y, X, c, create_graph=True)
    return torch.autograd.grad(pulled, c, delta)[0]


def first_pass(body, X):
    X = X.requires_grad_(True)
    return torch.autograd.grad(body(X).sum(), X)[0]


def along_the_inputs(body, X, delta):
    X = X.requires_grad_(True)
    Y = body(X)
    (pulled,) = torch.autograd.grad(Y, X, torch.zeros_like(Y), create_graph=True)
    return torch.autograd.grad(pulled, X, delta)[0]


def differences(body, X, delta, step=1e-6, both=True):
    back = X - step * delta if both else X
    return (body(X + step * delta) - body(back)) / ((1 + both) * step)


def by_jvp(body, X, delta):
    return torch.func.jvp(body, (X,), (delta,))[1]


def by_rows(body, X, delta):
    J = torch.stack([torch.autograd.functional.jacobian(body, x) for x in X])
    return torch.einsum("npd,nd->np", J, delta)


def off(T, Phi):
    return T - torch.linalg.lstsq(Phi.T, T.T).solution.T @ Phi


def corrected(theta, simulated, Phi):
    return theta - off(simulated[None], Phi)[0]


def weakest(J, X, a, Phi, unit=None, radial=False, project=True):
    rows = a[:, None, None] * J
    if not radial:
        rows = torch.cat([torch.linalg.svd(x[None]).Vh[1:] @ r for x, r in zip(X, rows, strict=True)])
    rows = rows.reshape(-1, J.shape[2])
    rows = off(rows, Phi) if project else rows
    unit = math.sqrt(X.shape[1]) / float((a @ Phi).norm()) if unit is None else unit
    return torch.linalg.svdvals(rows)[-1] * unit


def with_radial_columns(J, X, a, Phi):
    normal = torch.nn.functional.normalize(X)
    J = J - normal[:, :, None] * (normal[:, None, :] @ J)
    return weakest(J, X, a, Phi, radial=True)


RIGHT = [(WIDTH, width), (TANGENTS, tangents), (CORRECTED, corrected), (WEAKEST, weakest)]
RIGHT += [(TANGENTS, by_jvp), (TANGENTS, by_rows)]
WRONG = [
    (WIDTH, lambda *case: width(*case, padding=0), "forget the padding"),
    (WIDTH, lambda *case: width(*case, padding=1), "on each of two sides"),
    (WIDTH, lambda r, n, shape, k: width(r, n, shape, k, d=shape[0] * shape[1]), "three colours"),
    (WIDTH, lambda *case: width(*case, whole=math.floor), "round up: with fewer"),
    (WIDTH, lambda *case: width(*case, whole=float), "channels are whole"),
    (WIDTH, lambda r, n, shape, k: width(r, n, shape, k) // n, "off by"),
    (WIDTH, lambda r, n, shape, k: r * math.prod(shape) * n, "that is p"),
    (WIDTH, lambda r, n, shape, k: width(1, n, shape, k), "forget the ratio"),
    (WIDTH, lambda r, n, shape, k: width(r, 1, shape, k), "forget n"),
    (WIDTH, lambda r, n, shape, k: width(r, n, (shape[0], shape[0]), k, d=math.prod(shape)), "need not be square"),
    (TANGENTS, lambda body, X, delta: body(X + delta) - body(X), "differentiate"),
    (TANGENTS, lambda *case: tangents(*case).sum(0), "do not add"),
    (TANGENTS, lambda *case: tangents(*case).mean(0), "do not average"),
    (TANGENTS, lambda *case: tangents(*case).T, "transpose"),
    (TANGENTS, lambda body, X, delta: tangents(body, X, X.clone()), "the direction is δ"),
    (TANGENTS, lambda body, X, delta: tangents(body, X, torch.ones_like(X)), "times ones"),
    (TANGENTS, lambda body, X, delta: tangents(body, X, delta.mean(0).expand_as(X)), "of its own"),
    (TANGENTS, lambda body, X, delta: first_pass(body, X), "first backward pass"),
    (TANGENTS, along_the_inputs, "along c, not along X"),
    (TANGENTS, lambda *case: -tangents(*case), "sign"),
    (TANGENTS, differences, "finite differences"),
    (TANGENTS, lambda *case: differences(*case, step=1e-4), "finite differences"),
    (TANGENTS, lambda *case: differences(*case, step=1e-8, both=False), "finite differences"),
    (TANGENTS, lambda *case: 1.001 * tangents(*case), "off by"),
    (TANGENTS, lambda *case: None, "None"),
    (CORRECTED, lambda t, s, Phi: t - (s - off(s[None], Phi)[0]), r"\*off\* the span"),
    (CORRECTED, lambda t, s, Phi: t - s, "only the part off"),
    (CORRECTED, lambda t, s, Phi: t - off(t[None], Phi)[0], "own residual"),
    (CORRECTED, lambda t, s, Phi: off(t[None], Phi)[0], "P⊥θ;"),
    (CORRECTED, lambda t, s, Phi: off(s[None], Phi)[0], "that is the correction"),
    (CORRECTED, lambda t, s, Phi: t + off(s[None], Phi)[0], "θ holds it, too"),
    (CORRECTED, lambda t, s, Phi: off(s[None], Phi)[0] - t, "sign"),
    (WEAKEST, with_radial_columns, "n columns too many"),
    (WEAKEST, lambda J, X, a, Phi: weakest(J, X, a, Phi) / math.sqrt(X.shape[1]), "units of √d"),
    (WEAKEST, lambda J, X, a, Phi: weakest(J, X, a, Phi) * math.sqrt(X.shape[1]), "not d"),
    (WEAKEST, lambda J, X, a, Phi: weakest(J, X, a, Phi, math.sqrt(X.shape[1])), "forget to divide"),
    (WEAKEST, lambda J, X, a, Phi: weakest(J, X, a, Phi, 1), "and the division"),
    (WEAKEST, lambda J, X, a, Phi: weakest(J, X, a, Phi) ** 2, "square"),
    (
        WEAKEST,
        lambda J, X, a, Phi: weakest(J, X, torch.ones_like(a), Phi, math.sqrt(X.shape[1]) / float((a @ Phi).norm())),
        "forget the coefficients",
    ),
    (WEAKEST, lambda *case: weakest(*case, project=False), "forget P⊥"),
    (WEAKEST, lambda *case: weakest(*case, radial=True), "along their sphere"),
    (WEAKEST, lambda *case: None, "None"),
]
