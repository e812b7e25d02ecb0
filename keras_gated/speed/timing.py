"""Times functions in turns: a, b, c, a, b, c, ... and returns medians.

If the machine is busy for a while, all functions are slow for that while, and their ratios stay
right.
"""

import statistics
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, TypeVar

Name = TypeVar("Name", bound=Hashable)


def seconds(run: Callable[[], Any]) -> float:
    """Returns how long one call takes, in seconds."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def interleaved(
    runs: Mapping[Name, Callable[[], Any]], repeats: int, budget: float, least: int = 3
) -> Iterator[dict[Name, float]]:
    """Times all functions in turns; yields the medians so far, in seconds, after each turn.

    Args:
        runs: {name: function}.
        repeats: int, the largest number of turns.
        budget: float, seconds after which no further turn begins.
        least: int, the smallest number of turns, whatever the budget.
    """
    times: dict[Name, list[float]] = {name: [] for name in runs}
    start = time.perf_counter()
    for turn in range(repeats):
        if turn >= least and time.perf_counter() - start > budget:
            return
        for name, run in runs.items():
            times[name].append(seconds(run))
        yield {name: statistics.median(values) for name, values in times.items()}


def medians(
    runs: Mapping[Name, Callable[[], Any]], repeats: int, budget: float, least: int = 3
) -> dict[Name, float]:
    """Returns the medians in seconds after the last turn; arguments as in `interleaved`."""
    return deque(interleaved(runs, repeats, budget, least), maxlen=1).pop()
