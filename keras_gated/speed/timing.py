"""Medians over repeated runs, interleaved in one process, so that a busy machine hits all alike."""

import statistics
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, TypeVar

Name = TypeVar("Name", bound=Hashable)


def seconds(run: Callable[[], Any]) -> float:
    """Returns the time of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def interleaved(
    runs: Mapping[Name, Callable[[], Any]], repeats: int, budget: float, least: int = 3
) -> Iterator[dict[Name, float]]:
    """Runs all in turns; yields the medians in seconds after each turn.

    Args:
        runs: {name: function}.
        repeats: number of turns at most.
        budget: seconds after which no further turn begins.
        least: number of turns that are taken even so.
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
    """Returns the medians in seconds after the last turn of `interleaved`."""
    return deque(interleaved(runs, repeats, budget, least), maxlen=1).pop()
