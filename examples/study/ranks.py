"""Tests over several seeds: rank tests, how many seeds they need, intervals, ranks of cells.

The test is Mann and Whitney's: do the scores of one cell tend to be larger than those of another?
It needs no assumption on how scores are distributed. Holm's correction (1979) makes up for the
number of comparisons.
"""

from functools import cache
from itertools import accumulate, count
from math import comb

import numpy as np
from scipy.stats import mannwhitneyu, rankdata

LEVEL = 0.05  # a p below it is called a difference


def rank_test(one: list[float], other: list[float]) -> float:
    """Returns the two-sided p of the Mann-Whitney test that neither group has larger numbers.

    It is exact if no two numbers are equal.
    """
    all_differ = len({*one, *other}) == len(one) + len(other)
    return float(mannwhitneyu(one, other, method="exact" if all_differ else "auto").pvalue)


def least_p(seeds: int, tests: int) -> float:
    """Returns the least p that the corrected rank test can give, however far apart cells are."""
    return min(1.0, tests * 2 / comb(2 * seeds, seeds))


def enough_seeds(tests: int) -> int:
    """Returns the least number of seeds with which the corrected test can show a difference.

    With fewer, p is not below 0.05 even if every seed of one cell is better than every seed of the
    other. 1 comparison needs 4 seeds, 2 to 6 need 5, 7 to 23 need 6.
    """
    return next(seeds for seeds in count(2) if least_p(seeds, max(1, tests)) < LEVEL)


def holm(ps: list[float]) -> list[float]:
    """Returns the p of several tests, corrected for their number (Holm 1979)."""
    order = np.argsort(ps)
    steps = (len(ps) - np.arange(len(ps))) * np.asarray(ps, float)[order]
    corrected = np.empty(len(ps))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return corrected.tolist()


def shift_interval(one: list[float], other: list[float]) -> tuple[float, float, float]:
    """Returns an interval for how much larger `one` is than `other`, and its confidence.

    It holds the shifts that the Mann-Whitney test does not reject at 0.05 (Hodges and Lehmann
    1963), so 0 is outside if and only if that test, without correction, gives p < 0.05. Few seeds
    allow no such interval: then it is that of all differences, and the confidence is lower.
    """
    shifts = np.sort(np.subtract.outer(np.asarray(one, float), np.asarray(other, float)), axis=None)
    orders = comb(len(one) + len(other), len(one))
    tails = [2 * ways / orders for ways in accumulate(_ways(len(one), len(other)))]
    first = max(1, sum(tail < LEVEL for tail in tails))  # of the sorted differences
    return float(shifts[first - 1]), float(shifts[-first]), max(0.0, 1.0 - tails[first - 1])


@cache
def _ways(one: int, other: int) -> tuple[int, ...]:
    """Returns for u = 0, 1, ... the number of orders in which the Mann-Whitney statistic is u.

    They are the coefficients of the product of (1 - q^(other + k)) / (1 - q^k), k = 1 to `one`.
    """
    ways = [1] + [0] * (one * other)
    for k in range(1, one + 1):
        for u in range(len(ways) - 1, other + k - 1, -1):
            ways[u] -= ways[u - other - k]
        for u in range(k, len(ways)):
            ways[u] += ways[u - k]
    return tuple(ways)


def ranks_of(scores: dict[str, list[float]]) -> dict[str, list[float]]:
    """Returns for each cell its ranks among the cells; rank 1 has the least score.

    Args:
        scores: cell -> scores; score k of all cells is of the same task and seed.
    """
    ranks = rankdata(np.array(list(scores.values())), axis=0)
    return dict(zip(scores, ranks.tolist(), strict=True))
