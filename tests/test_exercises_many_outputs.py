import torch

from reconlaw import exercises


def whiten(theta, rank):
    return torch.linalg.svd(theta, full_matrices=False).Vh[:rank]


def parts(theta, rank):
    _, s, Q = torch.linalg.svd(theta, full_matrices=False)
    return s[:rank, None], Q[:rank]


def membership(F, Q):
    return 1 - (F @ Q.T).square().sum(1) / F.square().sum(1)


def off(F, Q):
    return F - F @ Q.T @ Q


def left(Q, F):
    basis = torch.linalg.qr(F.T).Q
    return whiten(Q - Q @ basis @ basis.T, len(Q) - len(F))


def left_as_it_is(Q, F):
    basis = torch.linalg.qr(F.T).Q
    return (Q - Q @ basis @ basis.T)[: len(Q) - len(F)]


WHITEN, MEMBER, LEFT = exercises.check_whiten, exercises.check_membership, exercises.check_what_is_left

RIGHT = [
    (WHITEN, whiten),
    (WHITEN, lambda theta, rank: -whiten(theta, rank).flip(0)),  # any basis serves
    (MEMBER, membership),
    (MEMBER, lambda F, Q: (off(F, Q).norm(dim=1) / F.norm(dim=1)) ** 2),
    (LEFT, left),
    (LEFT, lambda Q, F: torch.linalg.svd(F @ Q.T).Vh[len(F) :] @ Q),
]
WRONG = [
    (WHITEN, lambda t, r: parts(t, r)[0] * parts(t, r)[1], r"S·Q"),
    (WHITEN, lambda t, r: parts(t, r)[1] / parts(t, r)[0], "Q/S"),
    (WHITEN, lambda t, r: torch.linalg.svd(t, full_matrices=False).Vh[-r:], "hold the noise"),
    (WHITEN, lambda t, r: torch.nn.functional.normalize(t[:r]), "not orthogonal"),
    (WHITEN, lambda t, r: t[:r], "rows of θ itself"),
    (WHITEN, lambda t, r: whiten(t, r).T, "transpose"),
    (WHITEN, lambda t, r: whiten(t, len(t)), "shape"),
    (WHITEN, lambda t, r: 2 * whiten(t, r), "off by"),
    (MEMBER, lambda F, Q: 1 - membership(F, Q), "inside the span"),
    (MEMBER, lambda F, Q: membership(F, Q).sqrt(), "forget to square"),
    (MEMBER, lambda F, Q: off(F, Q).square().sum(1), "dark pictures"),
    (MEMBER, lambda F, Q: off(F, Q).square().sum(1) / F.norm(dim=1), "not by"),
    (MEMBER, lambda F, Q: membership(F, Q).sum(), "each row"),
    (MEMBER, lambda F, Q: membership(F, Q).mean(), "each row"),
    (MEMBER, lambda F, Q: off(F, Q).square().sum() / F.square().sum(), "stands alone"),
    (LEFT, lambda Q, F: Q[len(F) :], "rows of Q"),
    (LEFT, left_as_it_is, "not orthonormal"),
    (LEFT, lambda Q, F: torch.linalg.svd(F).Vh[len(F) :], "shape"),
    (LEFT, lambda Q, F: left(Q, F).T, "transpose"),
    (LEFT, lambda Q, F: 2 * left(Q, F), "off by"),
]
