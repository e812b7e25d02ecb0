"""Which gate can go? A trained `keras.layers.LSTM` is made smaller and exported to ONNX.

A stock Keras LSTM learns Bach's chorales, or, without music21, the level of a tank (see
`tank_levels`). `keras_gated.gate_report` says what the loss would be without each gate, or with a
smaller one. `keras_gated.slim` takes away what the model does not need, and trains in between. The
table compares the model given, the same model trained as long (the control), and the smaller one,
on test data that neither has seen, with the sizes of their ONNX files. Each file is compared with
its model before it is written.

    pip install ".[examples]"
    python examples/slim_model.py
    python examples/slim_model.py --smoke      # a short run

The search is recorded in --out: the same command goes on where it was stopped. Writes given.keras,
given.onnx, slim.keras, model.onnx, model-int8.onnx, stream.onnx, report.png and path.png to --out.
"""

import argparse
import os
import time
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import extras  # noqa: F401 - names what to install if a package is missing
import keras
import numpy as np
import onnxruntime
from chorales import KEYS, read_chorales, split, weighted
from rich.console import Console
from rich.table import Table

import keras_gated as kg

UNITS, BATCH, STEPS, EPOCHS = 64, 16, 64, 30


def slimmed(model, train, validation, folder, **options):
    """Returns what `slim` finds. A stock Keras model goes in, checked ONNX files come out."""
    result = kg.slim(model, train, validation, folder=folder / "search", **options)
    print(result)
    result.plot().savefig(folder / "path.png", dpi=120)
    result.model.save(folder / "slim.keras")
    result.export(folder)
    return result


# The data: (inputs, targets, weights) to train, to validate and to test


def bach(smoke):
    """Returns piano rolls and the frames that follow; the loss is in nats per time step."""
    parts = [part[:24] if smoke else part for part in split(read_chorales())]
    return [weighted(part, STEPS, rows=BATCH) for part in parts]


def tank_levels(smoke):
    """Returns what flows in and whether the valve is open, and the level, with noise.

    The tank loses a tenth of its content in each time step. So an LSTM needs its input gate, which
    sees the valve, but its forget gate can be a constant.
    """
    rng, counts = np.random.default_rng(0), (64, 32, 32) if smoke else (1024, 256, 256)
    return [_levels(rng, count) for count in counts]


def _levels(rng, count):
    flow, valve = rng.normal(size=(count, STEPS)), rng.uniform(size=(count, STEPS)) < 0.5
    level, levels = np.zeros(count), []
    for t in range(STEPS):
        level = 0.9 * level + valve[:, t] * flow[:, t]
        levels.append(level + 0.5 * rng.normal(size=count))
    x, y = np.stack([flow, valve], axis=-1), np.stack(levels, axis=1)[..., None]
    return x.astype("float32"), y.astype("float32"), np.ones((count, STEPS), "float32")


# The model


def stock(features, outputs, loss, smoke):
    """Returns a model of Keras's own layers only."""
    inputs = keras.Input((None, features), name="inputs")
    h = keras.layers.LSTM(2 if smoke else UNITS, return_sequences=True, name="lstm")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(outputs, name="outputs")(h))
    optimizer = keras.optimizers.Adam(5e-3, global_clipnorm=1.0)
    model.compile(optimizer, loss, jit_compile=not smoke)
    return model


def fit(model, train, validation, epochs):
    """Trains a model and keeps the weights that were best on the validation data."""
    x, y, weights = train
    best = keras.callbacks.EarlyStopping(patience=10, restore_best_weights=True)
    options = {"validation_data": validation, "callbacks": [best], "verbose": 0}
    model.fit(x, y, BATCH, epochs, sample_weight=weights, **options)


def microseconds(path, features):
    """Returns the median time of a run of a file with one time step, on one thread."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    feed, times = {"inputs": np.zeros((1, 1, features), "float32")}, []
    for _ in range(2000):
        start = time.perf_counter()
        session.run(None, feed)
        times.append(time.perf_counter() - start)
    return 1e6 * np.median(times)


def tabulate(models, files, test):
    """Returns a table of models: weights, loss on the test data, and what their files need."""
    table = Table("model", title="Loss on test data; less is better")
    for head in ("weights", "test", "ONNX, bytes", "a time step, µs"):
        table.add_column(head, justify="right")
    x, y, weights = test
    for name, model in models.items():
        loss = model.evaluate(x, y, sample_weight=weights, verbose=0)
        sizes = ["", ""]
        if path := files.get(name):
            sizes = [f"{path.stat().st_size:,}", f"{microseconds(path, x.shape[-1]):.0f}"]
        table.add_row(name, f"{model.count_params():,}", f"{loss:.4f}", *sizes)
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path("results/slim_model"), help="folder to write to"
    )
    parser.add_argument("--smoke", action="store_true", help="little data, few units and epochs")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    parser.add_argument("--tolerance", type=float, default=0.01, help="share of the loss")
    tasks = {"chorales": bach, "tank": tank_levels}
    usual = "chorales" if find_spec("music21") else "tank"
    parser.add_argument("--task", choices=tasks, default=usual, help=f"data (default: {usual})")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(options.seed)

    train, validation, test = tasks[options.task](options.smoke)
    nats = keras.losses.BinaryCrossentropy(from_logits=True)
    features, outputs, loss = (KEYS, KEYS, nats) if options.task == "chorales" else (2, 1, "mse")
    file = options.out / "given.keras"
    if not file.exists():
        trained = stock(features, outputs, loss, options.smoke)
        fit(trained, train, validation, 2 if options.smoke else EPOCHS)
        trained.save(file)
    model = keras.saving.load_model(file)

    x, y, weights = validation
    report = kg.gate_report(model, x, y, sample_weight=weights)
    print(report)
    report.plot().savefig(options.out / "report.png", dpi=120)
    settings = {"epochs": 1 if options.smoke else 10, "tolerance": options.tolerance}
    result = slimmed(model, train, validation, options.out, **settings)
    kg.export_onnx(model, options.out / "given.onnx")
    models = {"given": model, "control": result.control.model, "smaller": result.model}
    files = {"given": options.out / "given.onnx", "smaller": options.out / "model.onnx"}
    Console().print(tabulate(models, files, test))


if __name__ == "__main__":
    main()
