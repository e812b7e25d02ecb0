"""Medians over repeated runs, interleaved in one process, so that a busy machine hits all alike."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.sizes import Size


def seconds(run: Callable) -> float:
    """Returns the time of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def interleaved(runs: dict, repeats: int, budget: float) -> Iterator[dict]:
    """Runs all in turns; yields the medians in seconds after each turn.

    Args:
        runs: {name: function}.
        repeats: number of turns at most.
        budget: seconds after which no further turn begins, from the third on.
    """
    times: dict = {name: [] for name in runs}
    start = time.perf_counter()
    for turn in range(repeats):
        if turn >= 3 and time.perf_counter() - start > budget:
            return
        for name, run in runs.items():
            times[name].append(seconds(run))
        yield {name: statistics.median(values) for name, values in times.items()}


def peak_memory(name: str, size: Size, seed: int) -> int:
    """Returns the resident peak in bytes of a process that does one training step only.

    The peak of the same process before its first step is taken off. Compilation counts. Linux.
    """
    command = [sys.executable, "-m", "benchmarks.measure", name, str(seed), *map(str, size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def _peak_of_this_process(name: str, seed: str, *size: str) -> int:
    from benchmarks.contenders import contenders

    contender = contenders(Size(*map(int, size)), int(seed))[name]
    before = _peak()
    contender.train()
    return _peak() - before


def _peak() -> int:
    """The peak so far. Not ru_maxrss: a new process starts with its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


if __name__ == "__main__":
    print(_peak_of_this_process(*sys.argv[1:]))
