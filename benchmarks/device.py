"""Measures what a small device runs, at batch 1: one time step of a stream, and int8 files.

A step of `StreamingSession` is compared with `predict_on_batch` of the stateful Keras model, in
turns of 20 steps; the int8 file with the float32 file, on one thread. Times are medians, taken in
turns in one process.
"""

import argparse
import os
import tempfile

from benchmarks.__main__ import make_parser, run_info, set_up, write_and_print

LAYERS, UNITS, INPUTS = 5, 64, 32
CELLS = ("lstm", "gru", "janet")
INT8 = (("lstm", 64), ("lstm", 256), ("gru", 64), ("gru", 256))
TIME = 100
TURN = 20  # steps of a stream in a turn, so that caches are filled as in a long stream


def parse_arguments(arguments=None) -> argparse.Namespace:
    """Returns the command line's arguments."""
    parser = make_parser("benchmarks.device", __doc__, "shorter turns", (10.0, "each row, about"))
    parser.set_defaults(backend="tensorflow")
    return parser.parse_args(arguments)


def main() -> None:
    """Runs the command."""
    options = parse_arguments()
    set_up(options)
    import keras

    seconds = 1.0 if options.quick else options.seconds
    bar = keras.utils.Progbar(len(CELLS) + len(INT8), unit_name="row")
    result: dict = {"about": run_info(options, module="benchmarks.device"), "steps": [], "int8": []}
    for name in CELLS:
        result["steps"].append(measure_step(name, seconds, options.seed))
        bar.add(1)
    for name, units in INT8:
        result["int8"].append(measure_int8(name, units, seconds, options.seed))
        bar.add(1)
    write_and_print(options.out, "device", result, markdown(result))


def measure_step(name: str, seconds: float, seed: int) -> dict:
    """Returns milliseconds of a time step of five layers, in a session and in Keras."""
    import keras
    import numpy as np

    import keras_gated as kg
    from benchmarks.measure import medians

    stack = [kg.GatedRNN(UNITS, name, return_sequences=True, stateful=True) for _ in range(LAYERS)]
    model = keras.Sequential([keras.Input((None, INPUTS), batch_size=1), *stack])
    x = np.random.default_rng(seed).normal(size=(1, 1, INPUTS)).astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/stream.onnx"
        kg.export_streaming(model, path)
        session = kg.StreamingSession(path)
        runs = {
            "session": lambda: [session.step(x[:, 0]) for _ in range(TURN)],
            "predict_on_batch": lambda: [model.predict_on_batch(x) for _ in range(TURN)],
        }
        found = medians(runs, 2000, seconds)
    return {"preset": name, **{k: 1e3 * v / TURN for k, v in found.items()}}


def measure_int8(name: str, units: int, seconds: float, seed: int) -> dict:
    """Returns milliseconds and bytes of the float32 file and of the int8 file of a layer."""
    import keras
    import numpy as np

    import keras_gated as kg
    from benchmarks.measure import medians
    from keras_gated.onnx.verify.check import open_session

    layer = kg.GatedRNN(units, name, return_sequences=True)
    model = keras.Sequential([keras.Input((None, INPUTS)), layer])
    x = np.random.default_rng(seed).normal(size=(1, TIME, INPUTS)).astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        paths = {kind: f"{folder}/{kind}.onnx" for kind in ("float32", "int8")}
        kg.export_onnx(model, paths["float32"])
        kg.quantize_onnx(model, paths["int8"])
        sessions = {kind: open_session(path) for kind, path in paths.items()}
        runs = {k: lambda s=s: s.run(None, {"input": x}) for k, s in sessions.items()}
        found = medians(runs, 2000, seconds)
        sizes = {f"{kind} bytes": os.path.getsize(path) for kind, path in paths.items()}
    return {"preset": name, "units": units, **{k: 1e3 * v for k, v in found.items()}, **sizes}


def markdown(result: dict) -> str:
    """Returns the page."""
    from benchmarks.report import heading, table

    text = (
        "Times are medians in milliseconds at batch 1, taken in turns in one process; of a stream, "
        f"in turns of {TURN} steps."
    )
    steps = [
        [
            row["preset"],
            f"{row['session']:.3f}",
            f"{row['predict_on_batch']:.2f}",
            f"{row['session'] / row['predict_on_batch']:.3f}",
        ]
        for row in result["steps"]
    ]
    files = [
        [
            f"{row['preset']} {row['units']}",
            f"{row['float32']:.3f}",
            f"{row['int8']:.3f}",
            f"{row['float32'] / row['int8']:.2f}",
            f"{row['int8 bytes'] / row['float32 bytes']:.2f}",
        ]
        for row in result["int8"]
    ]
    lines = [
        *heading("On a device, as measured", result["about"], text),
        *("", f"## One time step of {LAYERS} layers of {UNITS} units, {INPUTS} inputs", ""),
        *table(["cell", "StreamingSession.step", "predict_on_batch", "share"], steps),
        *("", f"## int8, {TIME} time steps of one layer, {INPUTS} inputs, one thread", ""),
        *table(["cell, units", "float32", "int8", "times as fast", "share of the size"], files),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
