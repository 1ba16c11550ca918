"""Checkers of the chapter *The phase transition*."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ._diagnose import NotYet, checker, diagnose

_Z = 1.959963984540054


def _wilson(k: int, n: int, z: float = _Z, shrink: bool = True, centre: bool = True, inner: float = 1) -> list[float]:
    share = k / n
    middle = share + (z * z / (2 * n) if centre else 0)
    half = z * math.sqrt(share * (1 - share) / n + inner * z * z / (4 * n * n))
    total = 1 + z * z / n if shrink else 1
    return [(middle - half) / total, (middle + half) / total]


@checker
def check_wilson_interval(wilson_interval: Callable) -> None:
    """``wilson_interval(k, n)`` is the pair of shares p at which |k/n − p| = 1.96 √(p(1 − p)/n)."""
    for k, n in ((7, 20), (20, 20), (0, 8)):
        right = _wilson(k, n)
        wald = _wilson(k, n, shrink=False, centre=False, inner=0)
        diagnose(
            wilson_interval(k, n),
            right,
            [
                (wald, "that puts the observed share into √(p(1 − p)/n): at 0 or n successes it has no width at all"),
                (_wilson(k, n, shrink=False), "did you forget to divide by 1 + z²/n?"),
                (_wilson(k, n, centre=False), "did you forget z²/2n in the centre?"),
                (_wilson(k, n, inner=0), "did you forget z²/4n² under the root?"),
                (_wilson(k, n, inner=4), "did you forget the factor ¼? Under the root it is z²/4n²"),
                (_wilson(k, n, z=1.0), "that is one standard deviation; 95 % take z = 1.96"),
                (_wilson(k, n, z=1.6448536269514722), "z = 1.64 is for 90 %, or for one side; 95 % take 1.96"),
                (right[::-1], "the lower end first"),
                ([100 * end for end in right], "as shares between 0 and 1, not in percent"),
                ([end * n for end in right], "divide by n: shares, not counts"),
            ],
            tolerance=2e-4,
        )


@checker
def check_log_likelihood(log_likelihood: Callable) -> None:
    """``log_likelihood(ratios, successes, trials, threshold, slope)`` of the logistic curve in log p/dn, a number."""
    ratios = torch.tensor([1.1, 1.5, 2.0, 5.0], dtype=torch.float64)
    k = torch.tensor([1.0, 4.0, 6.0, 8.0], dtype=torch.float64)
    n = torch.tensor([8.0, 8.0, 7.0, 8.0], dtype=torch.float64)
    threshold, slope = 1.4, 3.0
    log = torch.nn.functional.logsigmoid

    def value(margin, hits=k, misses=n - k):
        return (hits * log(margin) + misses * log(-margin)).sum()

    margin = slope * (ratios / threshold).log()
    right = value(margin)
    given = (ratios.clone(), k.clone(), n.clone())
    diagnose(
        log_likelihood(*given, threshold, slope),
        right,
        [
            (-right, "that is the negative of it"),
            (value(-margin), "success grows with p/dn: the margin is log(p/dn) − log(threshold), not the reverse"),
            (value(slope * (ratios - threshold)), "the curve is logistic in log p/dn: take the logarithm of both"),
            (value(slope * (ratios.log() - threshold)), "take the logarithm of the threshold, too"),
            (value(margin / math.log(10)), "the natural logarithm, not the one to base 10"),
            ((k * log(margin)).sum(), "the failures count too: (trials − successes) times log(1 − probability)"),
            (value(margin, misses=n), "that takes all trials for failures; they are trials − successes"),
            (value(margin, k / n, 1 - k / n), "every set counts: use counts, not shares"),
            (right / n.sum(), "the sum over sets, not the mean"),
            (right.exp(), "the logarithm of the likelihood"),
        ],
    )
    far = log_likelihood(*given, threshold, 1e4)
    if not math.isfinite(float(far)):
        raise NotYet("for a steep curve it is not finite: log(1 − 1) must not occur; use logsigmoid(±margin)")
    diagnose(far, value(1e4 * (ratios / threshold).log()))


# ratios are 1, 2, 3, 4; successes of 5; whether the likelihood has no maximum
_CASES = [
    ([0, 0, 5, 5], True),
    ([0, 2, 5, 5], True),  # only one ratio has both outcomes: still nothing that bounds the slope
    ([0, 2, 3, 5], False),
    ([0, 1, 0, 5], False),  # outcomes overlap, though a share falls
    ([5, 5, 5, 5], True),
    ([0, 0, 0, 0], True),
    ([1, 2, 4, 4], False),
    ([5, 5, 2, 0], True),
]


@checker
def check_separated(separated: Callable) -> None:
    """``separated(ratios, successes, trials)``: does the logistic likelihood lack a maximum? A bool."""
    ratios, trials = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.full((4,), 5)
    answers = []
    for successes, _ in _CASES:
        answer = separated(ratios.clone(), torch.tensor(successes), trials.clone())
        answers.append(bool(answer))
    right = [truth for _, truth in _CASES]
    if answers == right:
        return
    shares = [[k / 5 for k in successes] for successes, _ in _CASES]
    mistakes = [
        ([not truth for truth in right], "the answer is the other way round: True where there is no maximum"),
        (
            [all(s in (0, 1) for s in row) for row in shares],
            "one ratio with both outcomes is not enough: as the slope grows, the threshold tends to that ratio, and "
            "the likelihood keeps growing",
        ),
        (
            [row == sorted(row) for row in shares],
            "that shares grow with the ratio is no separation; ask whether some failure lies above some success",
        ),
        ([len(set(row)) == 1 for row in shares], "separation does not need equal shares; compare where outcomes lie"),
        (right[:4] + [False, False] + right[6:], "with successes only, or failures only, there is no maximum either"),
        (right[:7] + [False], "outcomes may be separated the other way round, too: all successes below all failures"),
    ]
    for wrong, message in mistakes:
        if answers == wrong:
            raise NotYet(message)
    case = next(successes for (successes, truth), answer in zip(_CASES, answers, strict=True) if truth != answer)
    raise NotYet(f"not yet: with {case} successes of 5 at ratios 1, 2, 3, 4 your answer is wrong")
