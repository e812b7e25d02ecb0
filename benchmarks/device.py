"""Measures what a small device runs: one time step of a stream, many streams, and int8 files.

At batch 1, a step of `StreamingSession` is compared with `predict_on_batch` of the stateful Keras
model, in turns of 20 steps; the int8 file with the float32 file, on one thread. Times are medians,
taken in turns in one process. Of many streams (`streams.py`), a turn is a step of each.
"""

import argparse
import os
import tempfile
from functools import partial

from benchmarks import streams
from benchmarks.__main__ import make_parser, merge_earlier, run_info, set_up, write_and_print

LAYERS, UNITS, INPUTS = 5, 64, 32
CELLS = ("lstm", "gru", "janet")
INT8 = (("lstm", 64), ("lstm", 256), ("gru", 64), ("gru", 256))
PARTS = ("steps", "streams", "int8")
TIME = 100
TURN = 20  # steps of a stream in a turn, so that caches are filled as in a long stream


def parse_arguments(arguments=None) -> argparse.Namespace:
    """Returns the command line's arguments."""
    parser = make_parser("benchmarks.device", __doc__, "shorter turns", (10.0, "each row, about"))
    parser.set_defaults(backend="tensorflow")
    parser.add_argument(
        "--part",
        action="append",
        choices=PARTS,
        help="measure only this part, and put it into the results in the folder",
    )
    return parser.parse_args(arguments)


def main() -> None:
    """Runs the command."""
    options = parse_arguments()
    set_up(options)
    import keras

    seconds = 1.0 if options.quick else options.seconds
    rows: dict = {
        "steps": [partial(measure_step, name, seconds, options.seed) for name in CELLS],
        "streams": [partial(streams.measure_streams, seconds, options.seed)],
        "int8": [partial(measure_int8, *row, seconds, options.seed) for row in INT8],
    }
    rows = {part: rows[part] for part in options.part or PARTS}
    bar = keras.utils.Progbar(sum(map(len, rows.values())), unit_name="row")
    result: dict = {"about": run_info(options, module="benchmarks.device")}
    merge_earlier(options, "device", result)  # refuses before anything is measured
    for part, measures in rows.items():
        result[part] = []
        for measure in measures:
            row = measure()
            result[part] += row if isinstance(row, list) else [row]
            bar.add(1)
    result = merge_earlier(options, "device", result)
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
    from keras_gated.onnx.verify.runners import open_session

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
        f"Times are medians in milliseconds, taken in turns in one process, at {INPUTS} inputs and "
        f"at batch 1, except for the rows of one batch. A turn of one stream is {TURN} steps; a "
        "turn of many streams is a step of each."
    )
    steps = [
        [
            row["preset"],
            f"{row['session']:.3f}",
            f"{row['predict_on_batch']:.2f}",
            f"{row['session'] / row['predict_on_batch']:.3f}",
        ]
        for row in result.get("steps", [])
    ]
    files = [
        [
            f"{row['preset']} {row['units']}",
            f"{row['float32']:.3f}",
            f"{row['int8']:.3f}",
            f"{row['float32'] / row['int8']:.2f}",
            f"{row['int8 bytes'] / row['float32 bytes']:.2f}",
        ]
        for row in result.get("int8", [])
    ]
    heads = ["cell", "StreamingSession.step", "predict_on_batch", "share"]
    int8_heads = ["cell, units", "float32", "int8", "times as fast", "share of the size"]
    parts = {
        "steps": (f"One time step of {LAYERS} layers of {UNITS} units", table(heads, steps)),
        "streams": (streams.TITLE, streams.table_of_streams(result.get("streams", []))),
        "int8": (f"int8, {TIME} time steps of one layer, one thread", table(int8_heads, files)),
    }
    lines = heading("On a device, as measured", result["about"], text)
    for part in [part for part in PARTS if part in result]:
        title, rows = parts[part]
        lines += ["", f"## {title}", "", *rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
