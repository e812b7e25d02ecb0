"""Measures many streams of one model in one process: time of a step and memory of a stream.

As a command, with a path, a name of `KINDS` and a count, it prints the bytes of a stream. It loads
the session's file alone: in a process with TensorFlow, memory that is free already would be missed.
"""

import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Any

LAYERS, UNITS, INPUTS = 3, 256, 32
TITLE = f"Many streams of {LAYERS} layers of {UNITS} units (GatedGRU) in a process, one thread"
# How streams run, and how many: {name: count}.
KINDS = {"a session each": 100, "session.stream()": 1000, "rows of one batch": 1000}


def measure_streams(seconds: float, seed: int) -> list[dict]:
    """Returns milliseconds of a step, and bytes, of one of many streams, for each of `KINDS`."""
    import keras

    import keras_gated as kg
    from benchmarks.measure import medians

    stack = [kg.GatedGRU(UNITS, return_sequences=True) for _ in range(LAYERS)]
    model = keras.Sequential([keras.Input((None, INPUTS)), *stack])
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/stream.onnx"
        kg.export_streaming(model, path)
        runs = {name: open_streams(path, name, count, seed) for name, count in KINDS.items()}
        found = medians(runs, 2000, seconds)
        return [
            {"streams": name, "count": count, "step": 1e3 * found[name] / count}
            | {"bytes": _memory_in_new_process(path, name, count)}
            for name, count in KINDS.items()
        ]


def open_streams(path: str, name: str, count: int, seed: int = 0) -> Any:
    """Opens streams, on one thread; returns a function that runs a step of each of them."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = _session_class()(path, session_options=options)
    x = np.random.default_rng(seed).normal(size=(count, INPUTS)).astype("float32")
    if name == "rows of one batch":
        return lambda: session.step(x)
    own = name == "a session each"
    streams = [
        type(session)(path, session_options=options) if own else session.stream()
        for _ in range(count)
    ]
    return lambda: [stream.step(row[None]) for stream, row in zip(streams, x, strict=True)]


def _session_class() -> Any:
    """Returns StreamingSession from its file, without the package."""
    file = Path(__file__).parents[1] / "keras_gated/onnx/streaming_session.py"
    spec: Any = importlib.util.spec_from_file_location("streaming_session", file)
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.StreamingSession


def _memory_in_new_process(path: str, name: str, count: int) -> float:
    import subprocess

    command = [sys.executable, "-m", "benchmarks.streams", path, name, str(count)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def print_memory(path: str, name: str, count: str) -> None:
    """Prints the bytes that a stream adds to the memory of this process. Works on Linux only."""
    open_streams(path, "rows of one batch", 1)()  # what the first session alone needs
    before = _resident()
    run = open_streams(path, name, int(count))
    for _ in range(3):
        run()
    print((_resident() - before) / int(count))


def _resident() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) * 1024


def table_of_streams(rows: list[dict]) -> list[str]:
    """Returns the lines of a table."""
    from benchmarks.report import table

    cells = [
        [f"{row['count']}, {row['streams']}", f"{row['step']:.3f}", f"{row['bytes'] / 1024:.0f}"]
        for row in rows
    ]
    return table(["streams", "milliseconds a step of one", "KiB a stream"], cells)


if __name__ == "__main__":
    print_memory(*sys.argv[1:])
