"""The checkers of *The phase transition* pass right answers and name typical mistakes."""

import math

import pytest
import torch
from scipy.stats import binomtest

from reconlaw import exercises
from reconlaw.exercises.phase_transition import _wilson

log_sigmoid = torch.nn.functional.logsigmoid


def wilson(k, n):
    interval = binomtest(k, n).proportion_ci(method="wilson")
    return interval.low, interval.high


def likelihood(ratios, k, n, threshold, slope, margin=None, hits=None, misses=None, combine=torch.sum):
    margin = slope * (ratios / threshold).log() if margin is None else margin
    hits, misses = k if hits is None else hits, n - k if misses is None else misses
    return combine(hits * log_sigmoid(margin) + misses * log_sigmoid(-margin))


def unstable(ratios, k, n, threshold, slope):
    chance = 1 / (1 + (-slope * (ratios / threshold).log()).exp())
    return (k * chance.log() + (n - k) * (1 - chance).log()).sum()


def separated(ratios, k, n):
    hit, miss = ratios[k > 0], ratios[k < n]
    return not len(hit) or not len(miss) or bool(miss.max() <= hit.min()) or bool(hit.max() <= miss.min())


RIGHT = [
    (exercises.check_wilson_interval, wilson),
    (exercises.check_wilson_interval, lambda k, n: torch.tensor(wilson(k, n))),
    (exercises.check_log_likelihood, likelihood),
    (exercises.check_log_likelihood, lambda *a: float(likelihood(*a))),
    (exercises.check_separated, separated),
]
WRONG = [
    (exercises.check_wilson_interval, lambda k, n: _wilson(k, n, shrink=False, centre=False, inner=0), "no width"),
    (exercises.check_wilson_interval, lambda k, n: _wilson(k, n, shrink=False), "divide by 1"),
    (exercises.check_wilson_interval, lambda k, n: _wilson(k, n, centre=False), "in the centre"),
    (exercises.check_wilson_interval, lambda k, n: _wilson(k, n, inner=0), "under the root"),
    (exercises.check_wilson_interval, lambda k, n: _wilson(k, n, inner=4), "factor ¼"),
    (exercises.check_wilson_interval, lambda k, n: _wilson(k, n, z=1.0), "one standard deviation"),
    (exercises.check_wilson_interval, lambda k, n: _wilson(k, n, z=1.64485), "for 90 %"),
    (exercises.check_wilson_interval, lambda k, n: wilson(k, n)[::-1], "lower end first"),
    (exercises.check_wilson_interval, lambda k, n: [100 * e for e in wilson(k, n)], "percent"),
    (exercises.check_wilson_interval, lambda k, n: [n * e for e in wilson(k, n)], "not counts"),
    (exercises.check_wilson_interval, lambda k, n: None, "return statement"),
    (exercises.check_log_likelihood, lambda *a: -likelihood(*a), "the negative"),
    (
        exercises.check_log_likelihood,
        lambda r, k, n, t, s: likelihood(r, k, n, t, s, margin=-s * (r / t).log()),
        "not the reverse",
    ),
    (exercises.check_log_likelihood, lambda r, k, n, t, s: likelihood(r, k, n, t, s, margin=s * (r - t)), "of both"),
    (
        exercises.check_log_likelihood,
        lambda r, k, n, t, s: likelihood(r, k, n, t, s, margin=s * (r.log() - t)),
        "of the threshold, too",
    ),
    (
        exercises.check_log_likelihood,
        lambda r, k, n, t, s: likelihood(r, k, n, t, s, margin=s * (r / t).log10()),
        "base 10",
    ),
    (exercises.check_log_likelihood, lambda r, k, n, t, s: likelihood(r, k, n, t, s, misses=0 * k), "failures count"),
    (exercises.check_log_likelihood, lambda r, k, n, t, s: likelihood(r, k, n, t, s, misses=n), "all trials"),
    (
        exercises.check_log_likelihood,
        lambda r, k, n, t, s: likelihood(r, k, n, t, s, hits=k / n, misses=1 - k / n),
        "not shares",
    ),
    (exercises.check_log_likelihood, lambda r, k, n, *a: likelihood(r, k, n, *a) / n.sum(), "not the mean"),
    (exercises.check_log_likelihood, lambda *a: likelihood(*a).exp(), "logarithm of the likelihood"),
    (exercises.check_log_likelihood, unstable, "use logsigmoid"),
    (exercises.check_separated, lambda *a: not separated(*a), "other way round"),
    (exercises.check_separated, lambda r, k, n: bool(((k == 0) | (k == n)).all()), "one ratio with both"),
    (exercises.check_separated, lambda r, k, n: bool((k[1:] >= k[:-1]).all()), "shares grow"),
    (exercises.check_separated, lambda r, k, n: len(set(k.tolist())) == 1, "equal shares"),
    (exercises.check_separated, lambda r, k, n: k.sum() not in (0, 20) and separated(r, k, n), "successes only"),
    (exercises.check_separated, lambda r, k, n: k[0] < 5 and separated(r, k, n) or k.sum() == 20, "the other way"),
    (exercises.check_separated, lambda *a: True, "not yet"),
    (exercises.check_separated, lambda *a: None, "return statement"),
]


@pytest.mark.parametrize(("successes", "truth"), [([0, 2, 5, 5], True), ([0, 2, 3, 5], False), ([0, 1, 0, 5], False)])
def test_separation_is_a_likelihood_without_a_maximum(successes, truth):
    """By brute force: on ever steeper curves the best likelihood keeps growing exactly where outcomes are separated."""
    k, n = torch.tensor(successes, dtype=torch.float64), torch.full((4,), 5.0, dtype=torch.float64)
    ratios = torch.arange(1.0, 5.0, dtype=torch.float64)
    thresholds = torch.linspace(math.log(0.5), math.log(8), 40_001, dtype=torch.float64)

    def best(slope):
        margin = slope * (ratios.log() - thresholds[:, None])
        return float((k * log_sigmoid(margin) + (n - k) * log_sigmoid(-margin)).sum(1).max())

    values = [best(slope) for slope in torch.logspace(-1, 1.3, 30)]
    assert (values[-1] > max(values[:-1])) == truth
    assert separated(ratios, k, n) == truth
