from reconlaw import exercises


def factor(theta, W0):
    total, old = theta.sum(0), W0.sum(0)
    return 1 + total @ old / (old @ old)


def most(p, T, d):
    return max(0, (T * p - d) // T**2)


DECAY, MOST = exercises.check_decay_factor, exercises.check_most_samples

RIGHT = [(DECAY, factor), (DECAY, lambda t, W: float(factor(t, W))), (MOST, most)]
WRONG = [
    (DECAY, lambda t, W: factor(t, W) - 1, "c − 1"),
    (DECAY, lambda t, W: 1 - factor(t, W), "1 − c"),
    (DECAY, lambda t, W: 1 + (t * W).sum() / W.square().sum(), "sum the rows first"),
    (DECAY, lambda t, W: factor(t[:1], W[:1]), "one row holds"),
    (DECAY, lambda t, W: 2 * factor(t, W), "off by"),
    (MOST, lambda p, T, d: p // T, "fill the space"),
    (MOST, lambda p, T, d: max(0, p - d), "each position gives"),
    (MOST, lambda p, T, d: (T * p - d) / T**2, "whole"),
    (MOST, lambda p, T, d: most(p, T, d) + 1, "off by"),
]
