"""A trained model with Keras's own LSTM: converted, exported as a native node, and timed.

A stock `keras.layers.LSTM` learns to recognise handwritten digits that arrive row by row, in
streams of different lengths, padded and masked. `keras_gated.from_keras` makes the same model with
a gated layer and the same weights. Both are exported to ONNX: Keras's layer as the loop in which
TensorFlow runs it, the gated layer as one LSTM node. The table shows how much the outputs of each
differ from the trained model, in Keras and in onnxruntime, and how long a training step under XLA
and a run in onnxruntime take.

tf2onnx itself makes an LSTM node of Keras's LSTM if there is no mask. A masked LSTM, a GRU and a
SimpleRNN stay a loop.

    pip install ".[examples]"
    python examples/replace_keras_lstm.py
    python examples/replace_keras_lstm.py --smoke      # a short run

Writes keras.keras, gated.keras, loop.onnx and native.onnx to --out.
"""

import argparse
import os
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import extras  # noqa: F401 - names what to install if a package is missing
import keras
import numpy as np
import onnxruntime
from digit_streams import ROWS, streams, train_and_test
from rich.console import Console
from rich.table import Table

import keras_gated as kg

UNITS, DIGITS, BATCH, EPOCHS, TOLERANCE = 64, 8, 32, 30, 1e-5
PADDING = -1.0  # no pixel has it


def stock(compiled):
    """Returns a model of Keras's own layers only."""
    model = keras.Sequential(
        [
            keras.Input((None, ROWS)),
            keras.layers.Masking(PADDING),
            keras.layers.LSTM(UNITS, return_sequences=True),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy", jit_compile=compiled
    )
    return model


def padded(images, labels, count, seed):
    """Returns streams of 1 to DIGITS digits, padded to the longest, and their labels."""
    x, y = streams(images, labels, count, DIGITS, seed)
    lengths = ROWS * np.random.default_rng(seed).integers(1, DIGITS, count, endpoint=True)
    x[np.arange(x.shape[1]) >= lengths[:, None]] = PADDING
    return x, y


def in_turns(runs, repeats):
    """Returns the median milliseconds of each run; in turns, so that all see the same load."""
    times = [[] for _ in runs]
    for _ in range(repeats + 1):
        for run, own in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            own.append(time.perf_counter() - start)
    return [f"{1e3 * np.median(own[1:]):.2f}" for own in times]  # the first time it is compiled


def exported(model, form, folder):
    """Exports a model; returns its recurrent node and a function that runs the file."""
    path, settings = folder / f"{form}.onnx", onnxruntime.SessionOptions()
    report = kg.export_onnx(model, path, lowering=form)
    (node,) = {"LSTM", "Loop"} & set(report.operators)
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    return node, lambda x: session.run(None, {report.inputs[0]: x})[0]


def distance(found, expected):
    """Returns the largest difference; raises if it is more than rounding."""
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)
    return f"{np.abs(found - expected).max():.1e}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path("results/replace_keras_lstm"), help="folder to write to"
    )
    parser.add_argument("--smoke", action="store_true", help="few streams, one epoch, no XLA")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the streams")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(options.seed)

    count, epochs, repeats = (64, 1, 3) if options.smoke else (512, EPOCHS, 30)
    train, test = train_and_test()
    x, y = padded(*train, count, options.seed)
    x_test, y_test = padded(*test, 64, options.seed + 1)
    trained = stock(compiled=not options.smoke)
    trained.fit(x, y, BATCH, epochs, verbose=0)
    expected = trained.predict(x_test, verbose=0)
    right = (expected.argmax(axis=-1) == y_test)[x_test[..., 0] != PADDING]
    print(f"The model is right about the digit in {right.mean():.1%} of all rows.")

    models, forms = {"keras": trained, "gated": kg.from_keras(trained)}, ("loop", "native")
    inside = [distance(model.predict(x_test, verbose=0), expected) for model in models.values()]
    pairs = zip(models.values(), forms, strict=True)
    nodes, files = zip(*(exported(*pair, options.out) for pair in pairs), strict=True)
    outside = [distance(run(x_test), expected) for run in files]
    for name, model in models.items():
        model.save(options.out / f"{name}.keras")
    steps = [partial(m.train_on_batch, x[:BATCH], y[:BATCH]) for m in models.values()]
    steps, runs = in_turns(steps, repeats), in_turns([partial(f, x[:1]) for f in files], repeats)
    heads = "difference", "training step, ms", "in ONNX", "difference there", "one run, ms"
    table = Table("model", *heads, title=f"{UNITS} units, {DIGITS * ROWS} time steps")
    for row in zip(models, inside, steps, nodes, outside, runs, strict=True):
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
