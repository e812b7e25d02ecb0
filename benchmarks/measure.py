"""Measures times, with the loop of `keras_gated.speed`, and the peak memory of a layer."""

import subprocess
import sys
from pathlib import Path

from benchmarks.sizes import Size
from keras_gated.speed.timing import interleaved, medians, seconds

__all__ = ["interleaved", "medians", "peak", "peak_memory", "seconds"]


def peak_memory(name: str, size: Size, seed: int) -> int:
    """Returns the peak memory, in bytes, of a new process that does one training step.

    It is the peak of the resident memory minus the peak before the step; compilation counts. Works
    on Linux only.
    """
    command = [sys.executable, "-m", "benchmarks.measure", name, str(seed), *map(str, size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def _peak_of_this_process(name: str, seed: str, *size: str) -> int:
    from benchmarks.contenders import make_contenders

    contender = make_contenders(Size(*map(int, size)), int(seed))[name]
    before = peak()
    contender.train()
    return peak() - before


def peak() -> int:
    """Returns the peak of this process so far, in bytes. In ru_maxrss the parent's would count."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


if __name__ == "__main__":
    print(_peak_of_this_process(*sys.argv[1:]))
