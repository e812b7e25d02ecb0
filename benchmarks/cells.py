"""Measures every preset: a training step, its ONNX file, and a run of that file in onnxruntime.

Presets are measured in groups, and Keras's LSTM with each group. Times are medians, taken in turns
in one process; onnxruntime runs on one thread of the CPU. What is in the folder already is not
measured again, so the same command continues after an interruption. Presets that are added later
may be measured on another machine: the shares of the time of Keras's LSTM are what is compared.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

from benchmarks.__main__ import is_like, make_parser, run_info, set_up, write, write_and_print
from benchmarks.sizes import Size

TRAIN = Size(32, 100, 64, 64)  # as many inputs as units, which some cells need
RUN = Size(1, 100, 64, 64)
REFERENCE = "keras LSTM"
GROUP = 8  # presets that are measured in turns
NAME = "cells"  # of the files


def parse_arguments(arguments=None) -> argparse.Namespace:
    """Returns the command line's arguments."""
    seconds = 6.0, "the training steps of a group, and half as many for its files, about"
    parser = make_parser("benchmarks.cells", __doc__, None, seconds)
    parser.set_defaults(backend="tensorflow")
    parser.add_argument("--presets", nargs="+", metavar="PRESET", help="measure these, again")
    return parser.parse_args(arguments)


def main() -> None:
    """Runs the command."""
    options = parse_arguments()
    set_up(options)
    import keras

    import keras_gated as kg

    result = read_result(options.out)
    at = find_run(result["runs"], run_info(options, module="benchmarks.cells"))
    cells = result["cells"]
    missing = options.presets or [name for name in kg.presets if not is_current(name, cells)]
    groups = [missing[k : k + GROUP] for k in range(0, len(missing), GROUP)]
    bar = keras.utils.Progbar(len(groups), unit_name="group")
    for group in groups:
        measured = measure_group(group, options.seconds, options.seed)
        cells |= {name: {"run": at, **cell} for name, cell in measured.items()}
        result["cells"] = cells = {name: cells[name] for name in kg.presets if name in cells}
        write(options.out, NAME, result, markdown(result))
        keras.backend.clear_session()
        bar.add(1)
    write_and_print(options.out, NAME, result, markdown(result))


def read_result(folder: Path) -> dict:
    """Returns the results in a folder: runs, and cells by name. Both are empty without a file."""
    file = folder / f"{NAME}.json"
    return json.loads(file.read_text()) if file.exists() else {"runs": [], "cells": {}}


def find_run(runs: list[dict], about: dict) -> int:
    """Returns the place of this run among the runs. One that continues another has its place."""
    for at, run in enumerate(runs):
        if is_like(run, about) and run["command"] == about["command"]:
            return at
    runs.append(about)
    return len(runs) - 1


def is_current(name: str, cells: dict) -> bool:
    """Returns whether a preset was measured and has the same number of weights today."""
    return name in cells and cells[name]["weights"] == count_weights(name)


def count_weights(name: str) -> int:
    """Returns the number of weights of a preset at the size that is measured."""
    import keras_gated as kg

    return kg.count_parameters(name, TRAIN.inputs, TRAIN.units)


def measure_group(names: list[str], seconds: float, seed: int) -> dict[str, dict]:
    """Returns for each preset its times, those of Keras's LSTM, and facts of its ONNX file."""
    import keras
    import numpy as np

    import keras_gated as kg
    from benchmarks.measure import medians
    from keras_gated.speed.adapters import make_contender

    rng, sequences = np.random.default_rng(seed), (TRAIN.batch, TRAIN.time)
    shapes = (*sequences, TRAIN.inputs), (*sequences, TRAIN.units)
    x, weights = [
        keras.ops.convert_to_tensor(rng.standard_normal(shape, dtype="float32")) for shape in shapes
    ]
    layers = {REFERENCE: keras.layers.LSTM(TRAIN.units, return_sequences=True, use_cudnn=False)}
    layers |= {name: kg.GatedRNN(TRAIN.units, name, return_sequences=True) for name in names}
    trains = {}
    for name, layer in layers.items():
        layer.build(x.shape)
        trains[name] = make_contender(layer, x, weights).train
        trains[name]()  # compiles
    train = medians(trains, 400, seconds)
    with tempfile.TemporaryDirectory() as folder:
        runs, facts = {}, {}
        for name, layer in layers.items():
            runs[name], facts[name] = _export(layer, f"{folder}/{name}.onnx", seed)
        run = medians(runs, 4000, seconds / 2)
    return {
        name: {
            "weights": count_weights(name),
            **facts[name],
            **{"train": train[name], f"train of {REFERENCE}": train[REFERENCE]},
            **{"onnx": run[name], f"onnx of {REFERENCE}": run[REFERENCE]},
        }
        for name in names
    }


def _export(layer, path: str, seed: int) -> tuple:
    """Writes the file of a layer; returns a function that runs it, and its bytes and operator."""
    from functools import partial

    import keras
    import numpy as np

    import keras_gated as kg
    from keras_gated.onnx.verify.runners import open_session

    model = keras.Sequential([keras.Input((None, RUN.inputs)), layer])
    report = kg.export_onnx(model, path, expected_batch=RUN.batch, verify=False)
    shape = RUN.batch, RUN.time, RUN.inputs
    x = np.random.default_rng(seed).standard_normal(shape, dtype="float32")
    (exported,), (name,) = report.layers, report.inputs
    run = partial(open_session(path).run, None, {name: x})
    run()
    return run, {"bytes": os.path.getsize(path), "operator": exported.operator}


def share(cell: dict, kind: str) -> float:
    """Returns a time of a cell, "train" or "onnx", as a share of that of Keras's LSTM."""
    return cell[kind] / cell[f"{kind} of {REFERENCE}"]


def markdown(result: dict) -> str:
    """Returns the page."""
    from benchmarks.report import describe_run, table

    text = (
        "Times are medians in milliseconds, taken in turns in one process, with Keras's LSTM in "
        f"each group of {GROUP} presets: a share is of its time in the same turns. A training step "
        f"is at (batch, time, inputs, units) = {TRAIN} under XLA, a run of the ONNX file at {RUN} "
        "in onnxruntime on one thread. Bytes and operator are those of that file, which has one "
        "layer and knows that the batch is 1."
    )
    titles = {"train": "training step", "onnx": "ONNX"}
    several = len(result["runs"]) > 1
    head = ["cell", "weights", "bytes", "operator"]
    head += [cell for title in titles.values() for cell in (title, f"share of {REFERENCE}")]
    rows = []
    for name, cell in result["cells"].items():
        row = [name, f"{cell['weights']:,}", f"{cell['bytes']:,}", cell["operator"]]
        for kind in titles:
            row += [f"{1e3 * cell[kind]:.3g}", f"{share(cell, kind):.2f}"]
        rows.append([*row, *([cell["run"] + 1] if several else [])])
    runs = [describe_run(run) for run in result["runs"]]
    runs = [f"Run {k + 1}: {run}" for k, run in enumerate(runs)] if several else runs
    lines = ["# Every cell, as measured", *runs, text]
    lines.append("\n".join(table([*head, *(["run"] if several else [])], rows)))
    return "\n\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
