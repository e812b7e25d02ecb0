"""What the numbers of several seeds say."""

import numpy as np


def rank_test(one: list[float], other: list[float]) -> float:
    """Two-sided p of the Mann-Whitney test that neither tends to be the larger.

    Exact where no two numbers are equal. With five seeds each no p is below 2 / 252 = 0.008, with
    three seeds each none below 0.1.
    """
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(one, other).pvalue)


def holm(ps: list[float]) -> list[float]:
    """The p of several tests, corrected for their number (Holm 1979)."""
    order = np.argsort(ps)
    steps = (len(ps) - np.arange(len(ps))) * np.asarray(ps, float)[order]
    corrected = np.empty(len(ps))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return corrected.tolist()


def ranks_of(scores: dict[str, list[float]]) -> dict[str, list[float]]:
    """For each cell its rank among the cells, 1 is the least score, one rank for each column.

    Args:
        scores: cell -> scores; column k of all cells belongs together (one task, one seed).
    """
    from scipy.stats import rankdata

    ranks = rankdata(np.array(list(scores.values())), axis=0)
    return dict(zip(scores, ranks.tolist(), strict=True))
