"""Rank tests on the scores of several seeds, and ranks of cells."""

from math import comb

import numpy as np
from scipy.stats import mannwhitneyu, rankdata


def rank_test(one: list[float], other: list[float]) -> float:
    """Returns the two-sided p of the Mann-Whitney test that neither group has larger numbers.

    It is exact if no two numbers are equal.
    """
    all_differ = len({*one, *other}) == len(one) + len(other)
    return float(mannwhitneyu(one, other, method="exact" if all_differ else "auto").pvalue)


def least_p(seeds: int, tests: int) -> float:
    """Returns the least p that the corrected rank test can give, however far apart cells are."""
    return min(1.0, tests * 2 / comb(2 * seeds, seeds))


def holm(ps: list[float]) -> list[float]:
    """Returns the p of several tests, corrected for their number (Holm 1979)."""
    order = np.argsort(ps)
    steps = (len(ps) - np.arange(len(ps))) * np.asarray(ps, float)[order]
    corrected = np.empty(len(ps))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return corrected.tolist()


def ranks_of(scores: dict[str, list[float]]) -> dict[str, list[float]]:
    """Returns for each cell its ranks among the cells; rank 1 has the least score.

    Args:
        scores: cell -> scores; score k of all cells is of the same task and seed.
    """
    ranks = rankdata(np.array(list(scores.values())), axis=0)
    return dict(zip(scores, ranks.tolist(), strict=True))
