import torch

from reconlaw import exercises


def count(p, d, n, rank):
    return rank * p, n * d + n * rank


def undo(before, after, rate, decay, steps):
    return after - (1 - rate * decay) ** steps * before


def errors(J, r, n, spare=None, inverse=None):
    d = J.shape[1] // n + 1
    spare = len(r) - n * d if spare is None else spare
    inverse = torch.linalg.inv(J.T @ J).diagonal().reshape(n, -1).sum(1) if inverse is None else inverse
    return (r @ r / spare * inverse).sqrt()


def blocks(J, n):
    return [part.T @ part for part in J.split(J.shape[1] // n, 1)]


COUNT, UNDO, ERRORS = exercises.check_head_count, exercises.check_undo_decay, exercises.check_standard_errors

RIGHT = [(COUNT, count), (UNDO, undo), (ERRORS, errors)]
WRONG = [
    (COUNT, lambda p, d, n, r: (p, n * d + n * r), "rank's rows"),
    (COUNT, lambda p, d, n, r: (r * p, n * (d - 1) + n * r), "sphere"),
    (COUNT, lambda p, d, n, r: (r * p, n * d), "forget the coefficients"),
    (COUNT, lambda p, d, n, r: (r * p, n * d + n), "for each row"),
    (COUNT, lambda p, d, n, r: count(p, d, n, r)[::-1], "equations first"),
    (COUNT, lambda p, d, n, r: (n * p, n * d + n * r), "not np"),
    (COUNT, lambda p, d, n, r: (r * p + 1, n), "off by"),
    (UNDO, lambda b, a, rate, decay, steps: a - b, "plain difference"),
    (UNDO, lambda b, a, rate, decay, steps: a - (1 - decay) ** steps * b, "1 − rate·decay"),
    (UNDO, lambda b, a, rate, decay, steps: a - (1 - rate * decay) * b, "one step"),
    (UNDO, lambda b, a, rate, decay, steps: a - (1 - rate * decay * steps) * b, "a power"),
    (UNDO, lambda b, a, rate, decay, steps: a / (1 - rate * decay) ** steps - b, "left over"),
    (UNDO, lambda b, a, rate, decay, steps: (1 - rate * decay) ** steps * a - b, "not the new one"),
    (UNDO, lambda b, a, *rest: -undo(b, a, *rest), "sign is wrong"),
    (UNDO, lambda *arguments: None, "None"),
    (ERRORS, lambda J, r, n: errors(J, r, n) ** 2, "square root"),
    (ERRORS, lambda J, r, n: errors(J, r, n, len(r)), "spare equations"),
    (ERRORS, lambda J, r, n: errors(J, r, n, len(r) - J.shape[1]), "fitted too"),
    (ERRORS, lambda J, r, n: errors(J, r, n, 1), "how many are spare"),
    (
        ERRORS,
        lambda J, r, n: errors(J, r, n, None, torch.stack([torch.linalg.inv(b).trace() for b in blocks(J, n)])),
        "whole matrix",
    ),
    (
        ERRORS,
        lambda J, r, n: errors(J, r, n, None, 1 / torch.stack([b.trace() for b in blocks(J, n)])),
        "inverse of a trace",
    ),
    (ERRORS, lambda J, r, n: errors(J, r, n) / (J.shape[1] / n) ** 0.5, "do not average"),
    (
        ERRORS,
        lambda J, r, n: errors(J, r, n, None, torch.linalg.inv(J.T @ J).diagonal().reshape(n, -1)),
        "one number for each",
    ),
]
