"""A model that runs while its input arrives: handwritten digits, one row of pixels at a time.

A GRU reads digits one below the other and says at every row which digit it is in; nothing marks
where a digit begins. The trained model is exported to an ONNX file whose states are inputs and
outputs. `StreamingSession` runs it row by row, in chunks, all at once, or half in one session and
half in another that takes over the states. The script checks that all of them give the outputs of
Keras for the whole stream. To run the file, onnxruntime and NumPy are enough.

    pip install ".[examples]"
    python examples/streaming_onnx.py
    python examples/streaming_onnx.py --smoke      # a short run

Writes model.keras and stream.onnx to --out.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import extras  # noqa: F401 - names what to install if a package is missing
import keras
import numpy as np
from digit_streams import ROWS, streams, train_and_test
from rich.console import Console
from rich.table import Table

import keras_gated as kg

UNITS, DIGITS, BATCH, EPOCHS, TOLERANCE = 64, 16, 32, 30, 1e-5


def build(compiled):
    inputs = keras.Input((None, ROWS))
    hidden = kg.GatedGRU(UNITS, return_sequences=True, name="gru")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(hidden))
    model.compile(
        keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy", jit_compile=compiled
    )
    return model


def row_by_row(session, x):
    return np.stack([session.step(x[:, t]) for t in range(x.shape[1])], axis=1)


def in_chunks(session, x):
    return np.concatenate([session.chunk(x[:, t : t + 20]) for t in range(0, x.shape[1], 20)], 1)


def all_at_once(session, x):
    return session.chunk(x)


def timed(feed, session, x, repeats):
    """Returns the outputs of a stream and the median of the seconds that it takes."""
    times = []
    for _ in range(repeats):
        session.reset()
        start = time.perf_counter()
        outputs = feed(session, x)
        times.append(time.perf_counter() - start)
    return outputs, np.median(times)


def compare(path, x, expected, repeats):
    """Returns a table of each way to feed a stream; raises if its outputs are not Keras's."""
    table = Table("fed", title=f"a stream of {x.shape[1]} rows through {path.name}")
    table.add_column("largest difference from Keras", justify="right")
    table.add_column("microseconds a row", justify="right")
    for feed in (row_by_row, in_chunks, all_at_once):
        outputs, seconds = timed(feed, kg.StreamingSession(path), x, repeats)
        np.testing.assert_allclose(outputs, expected, rtol=TOLERANCE, atol=TOLERANCE)
        cells = f"{np.abs(outputs - expected).max():.1e}", f"{1e6 * seconds / x.shape[1]:.1f}"
        table.add_row(feed.__name__.replace("_", " "), *cells)
    return table


def hand_over(path, x, expected):
    """Stops in the middle of a stream and continues it in another session, from the states."""
    first, second = kg.StreamingSession(path), kg.StreamingSession(path)
    half = x.shape[1] // 2
    begun = first.chunk(x[:, :half])
    second.state = first.state
    outputs = np.concatenate([begun, second.chunk(x[:, half:])], axis=1)
    np.testing.assert_allclose(outputs, expected, rtol=TOLERANCE, atol=TOLERANCE)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path("results/streaming_onnx"), help="folder to write to"
    )
    parser.add_argument("--smoke", action="store_true", help="few streams, two epochs, no XLA")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the streams")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(options.seed)

    count, epochs, repeats = (64, 2, 3) if options.smoke else (512, EPOCHS, 30)
    train, test = train_and_test()
    model = build(compiled=not options.smoke)
    model.fit(*streams(*train, count, DIGITS, options.seed), BATCH, epochs, verbose=0)
    model.save(options.out / "model.keras")
    path = options.out / "stream.onnx"
    print(kg.export_streaming(model, path))

    x, y = streams(*test, 64, DIGITS, options.seed + 1)
    probabilities = model.predict(x, verbose=0)
    right = (probabilities.argmax(axis=-1) == y).reshape(-1, ROWS).mean(axis=0)
    print("right after so many rows of a digit:")
    print("   ".join(f"{row}: {share:.0%}" for row, share in enumerate(right, 1)))
    Console().print(compare(path, x[:1], probabilities[:1], repeats))
    hand_over(path, x[:1], probabilities[:1])
    print("A second session continued the stream from its middle, with the same outputs.")


if __name__ == "__main__":
    main()
