"""Times, by the package's own loop, and peak memory, by a process for each layer."""

import subprocess
import sys
from pathlib import Path

from benchmarks.sizes import Size
from keras_gated.speed.timing import interleaved, medians, seconds

__all__ = ["interleaved", "medians", "peak_memory", "seconds"]


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
