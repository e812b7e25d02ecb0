"""Measures on a GPU, in a limited time: layers of keras_gated, of Keras, and of torch on cuDNN.

Each part runs in its own process, which is stopped at the end of the part's time; its results until
then count. The page and the JSON file are written again after each result. Keras with JAX or
TensorFlow is needed. Parts whose package is not installed are left out, and the page says so.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.__main__ import make_parser, merge_earlier, run_info, write
from benchmarks.gpu_report import MARK, markdown

NAME = "gpu"  # name of the page and of the JSON file


class Part(NamedTuple):
    """A part of the run. The first of its backends that is installed runs it."""

    name: str
    backends: tuple[str, ...]
    share: float  # of the time, relative to other parts

    @property
    def backend(self) -> str | None:
        """The backend that runs the part; None if none is installed."""
        return next((name for name in self.backends if find_spec(name)), None)


XLA = ("jax", "tensorflow")
PARTS = (
    Part("ceilings", XLA, 35),
    Part("torch", ("torch",), 60),
    Part("jax", ("jax",), 220),
    Part("one step", XLA, 40),
    Part("joined series", ("jax",), 40),
    Part("kernels", ("jax",), 20),
    Part("at once", XLA, 60),
    Part("compilation", XLA, 55),
    Part("tensorflow", ("tensorflow",), 70),
    Part("torch.compile", ("torch",), 60),
)
# With `--plan`: what fits into 13 minutes of a GPU that is lent, JAX first.
PLAN = (
    Part("tests", ("jax",), 140),
    Part("jax", ("jax",), 190),
    Part("one step", XLA, 40),
    Part("joined series", ("jax",), 40),
    Part("kernels", ("jax",), 20),
    Part("at once", XLA, 70),
    Part("tests on tensorflow", ("tensorflow",), 110),
    Part("tensorflow", ("tensorflow",), 170),
)
SECONDS, PLAN_SECONDS = 450.0, 780.0
_NAMES = {part.name for part in PARTS}


def parse_arguments(arguments=None) -> argparse.Namespace:
    """Returns the command line's arguments."""
    parser = make_parser("benchmarks.gpu", __doc__, None, (SECONDS, "the whole run, at most"))
    names = list(dict.fromkeys(part.name for part in (*PARTS, *PLAN)))
    parser.add_argument("--part", action="append", choices=names, help="run only this part")
    text = "the tests of tests/gpu and what is not measured yet, on JAX, then on TensorFlow; "
    text += f"{PLAN_SECONDS:.0f} seconds at most, if --seconds does not say otherwise"
    parser.add_argument("--plan", action="store_true", help=text)
    text = "tiny sizes, on the CPU if there is no GPU: tests the program, the times mean nothing"
    parser.add_argument("--smoke", action="store_true", help=text)
    parser.set_defaults(backend="as the parts say", seconds=None)
    options = parser.parse_args(arguments)
    if options.seconds is None:
        options.seconds = PLAN_SECONDS if options.plan else SECONDS
    return options


def main(arguments=None) -> None:
    """Runs the command."""
    options = parse_arguments(arguments)
    where = run_info(options, module="benchmarks.gpu")
    where["machine"] = "; ".join(filter(None, (describe_gpus(), where["machine"])))
    result = merge_earlier(options, NAME, {"about": where, "smoke": options.smoke})
    result.setdefault("parts", {})

    def put(path: list, value: Any) -> None:
        merge(result, path, value)
        write(options.out, NAME, result, markdown(result))

    end = time.monotonic() + options.seconds
    wanted = wanted_parts(options)
    if not wanted:
        names = ", ".join(part.name for part in PLAN)
        raise SystemExit(f"--plan has the parts {names}. Received: --part {options.part[0]}.")
    for at, part in enumerate(wanted):
        ended = ["parts", part.name, "ended"]
        result["parts"].pop(part.name, None)
        if part.name.startswith("tests"):
            result.get("tests", {}).pop(part.backend, None)
        if part.backend is None:
            put(ended, f"skipped: {' or '.join(part.backends)} is not installed")
            continue
        seconds = seconds_of_first(wanted[at:], end - time.monotonic())
        print(f"{part.name}, on {part.backend}: {seconds:.0f} seconds at most", flush=True)
        outcome = run(part_command(part, options), part.backend, seconds, put)
        if "ended" not in result["parts"].get(part.name, {}):
            put(ended, outcome)
    print(markdown(result))


def wanted_parts(options: argparse.Namespace) -> list[Part]:
    """Returns the parts to run, in order."""
    parts = PLAN if options.plan else (*PARTS, *(p for p in PLAN if p.name not in _NAMES))
    chosen = options.part or [part.name for part in (PLAN if options.plan else PARTS)]
    return [part for part in parts if part.name in chosen]


def seconds_of_first(parts: list[Part], left: float) -> float:
    """Returns how many of the seconds left belong to the first of the parts still to run."""
    whole = sum(part.share for part in parts if part.backend)
    return max(0.0, left) * parts[0].share / whole


def part_command(part: Part, options: argparse.Namespace) -> list[str]:
    """Returns the command line that measures a part."""
    smoke = ["--smoke"] if options.smoke else []
    return [sys.executable, "-m", "benchmarks.gpu_parts", part.name, str(options.seed), *smoke]


def run(program: list[str], backend: str, seconds: float, put: Callable) -> str:
    """Runs a program that prints results as lines, and stops it when its time is over.

    Args:
        program: the command.
        backend: Keras's backend.
        seconds: time after which the program is killed, with all processes that it started.
        put: (path, value) -> None, called with each result. Other lines are printed.

    Returns:
        How the program ended.
    """
    home = str(Path(__file__).parents[1])
    paths = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    environment = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": paths}
    timed_out = threading.Event()
    with subprocess.Popen(
        program,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:

        def stop() -> None:
            timed_out.set()
            os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(seconds, stop)
        timer.start()
        try:
            for line in process.stdout or ():
                if line.startswith(MARK):
                    put(*json.loads(line.removeprefix(MARK)))
                else:
                    print(f"  {line}", end="", flush=True)
            status = process.wait()
        finally:
            timer.cancel()
            if process.poll() is None:  # this process is interrupted, or `put` failed
                stop()
    if timed_out.is_set():
        return f"cut off after {seconds:.0f} seconds"
    return "complete" if status == 0 else f"failed with exit status {status}"


def merge(result: dict, path: list[str], value: Any) -> None:
    """Puts a value into nested dictionaries at a path of keys; dictionaries are merged."""
    for key in path[:-1]:
        result = result.setdefault(key, {})
    if isinstance(value, dict):
        table = result.setdefault(path[-1], {})
        for key, part in value.items():
            merge(table, [key], part)
    else:
        result[path[-1]] = value


def describe_gpus() -> str | None:
    """Returns name, memory and driver of the GPUs from nvidia-smi; None if there is none."""
    if not shutil.which("nvidia-smi"):
        return None
    query = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    done = subprocess.run(["nvidia-smi", *query], capture_output=True, text=True, check=False)
    return "; ".join(done.stdout.splitlines()) if done.returncode == 0 else None


if __name__ == "__main__":
    main()
