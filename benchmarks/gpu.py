"""Measures on a GPU, beside Keras's layers and torch's on cuDNN, within the seconds it is given.

Each part runs in a process of its own, which is ended when the part's time is over; what it
measured until then counts. Page and JSON are written anew with each result. Needs Keras and JAX,
or TensorFlow; what is not installed is left out, and the page says so.
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

from benchmarks.__main__ import about, command, saved, with_earlier
from benchmarks.gpu_report import MARK, markdown

NAME = "gpu"  # of the files


class Part(NamedTuple):
    """Of a run; the first of its backends that is installed runs it, for a share of the time."""

    name: str
    backends: tuple[str, ...]
    share: float

    @property
    def backend(self) -> str | None:
        """The one that runs it, None if none is installed."""
        return next((name for name in self.backends if find_spec(name)), None)


XLA = ("jax", "tensorflow")
PARTS = (
    Part("ceilings", XLA, 35),
    Part("torch", ("torch",), 60),
    Part("jax", ("jax",), 220),
    Part("at once", XLA, 60),
    Part("compilation", XLA, 55),
    Part("tensorflow", ("tensorflow",), 70),
    Part("torch.compile", ("torch",), 60),
)


def parsed(arguments=None) -> argparse.Namespace:
    """Returns the command line's arguments."""
    parser = command("benchmarks.gpu", __doc__, None, (450.0, "the whole run, at most"))
    names = [part.name for part in PARTS]
    parser.add_argument("--part", action="append", choices=names, help="run this alone")
    text = "tiny sizes, on the CPU where there is no GPU: tries the program, measures nothing"
    parser.add_argument("--smoke", action="store_true", help=text)
    parser.set_defaults(backend="as the parts say")
    return parser.parse_args(arguments)


def main(arguments=None) -> None:
    """Runs the command."""
    options = parsed(arguments)
    where = about(options, module="benchmarks.gpu")
    where["machine"] = "; ".join(filter(None, (driver(), where["machine"])))
    result = with_earlier(options, NAME, {"about": where, "smoke": options.smoke})
    result.setdefault("parts", {})

    def put(path: list, value: Any) -> None:
        merge(result, path, value)
        saved(options.out, NAME, result, markdown(result))

    end = time.monotonic() + options.seconds
    wanted = [part for part in PARTS if part.name in (options.part or [p.name for p in PARTS])]
    for at, part in enumerate(wanted):
        ended = ["parts", part.name, "ended"]
        result["parts"].pop(part.name, None)
        if part.backend is None:
            put(ended, f"skipped: {' or '.join(part.backends)} is not installed")
            continue
        seconds = share(wanted[at:], end - time.monotonic())
        print(f"{part.name}, on {part.backend}: {seconds:.0f} seconds at most", flush=True)
        outcome = run(program(part, options), part.backend, seconds, put)
        if "ended" not in result["parts"].get(part.name, {}):
            put(ended, outcome)
    print(markdown(result))


def share(parts: list[Part], left: float) -> float:
    """Returns the seconds of the first of the parts that are still to run."""
    whole = sum(part.share for part in parts if part.backend)
    return max(0.0, left) * parts[0].share / whole


def program(part: Part, options: argparse.Namespace) -> list[str]:
    """Returns the command that measures a part."""
    smoke = ["--smoke"] if options.smoke else []
    return [sys.executable, "-m", "benchmarks.gpu_parts", part.name, str(options.seed), *smoke]


def run(program: list[str], backend: str, seconds: float, put: Callable) -> str:
    """Runs a program that prints results, shows what else it prints, and ends it in time.

    Args:
        program: the command.
        backend: Keras's.
        seconds: after which it is ended, with all that it started.
        put: (path, value) -> None, takes each result.

    Returns:
        How it ended.
    """
    home = str(Path(__file__).parents[1])
    paths = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    named = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": paths}
    over = threading.Event()
    with subprocess.Popen(
        program,
        env=os.environ | named,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:

        def stop() -> None:
            over.set()
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
            if process.poll() is None:  # this process is ended, or a result could not be put
                stop()
    if over.is_set():
        return f"cut off after {seconds:.0f} seconds"
    return "complete" if status == 0 else f"failed with exit status {status}"


def merge(result: dict, path: list[str], value: Any) -> None:
    """Puts a value where the path says; tables there are added to."""
    for key in path[:-1]:
        result = result.setdefault(key, {})
    if isinstance(value, dict):
        table = result.setdefault(path[-1], {})
        for key, part in value.items():
            merge(table, [key], part)
    else:
        result[path[-1]] = value


def driver() -> str | None:
    """Returns what the driver's own program says of the GPUs; None where there is none."""
    if not shutil.which("nvidia-smi"):
        return None
    query = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    done = subprocess.run(["nvidia-smi", *query], capture_output=True, text=True, check=False)
    return "; ".join(done.stdout.splitlines()) if done.returncode == 0 else None


if __name__ == "__main__":
    main()
