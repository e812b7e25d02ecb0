"""What does each gate do? An LSTM learns to add two marked numbers, and its gates are plotted.

In each sequence two numbers are marked, and the target is their sum (the adding problem of
Hochreiter and Schmidhuber 1997). A trained LSTM should write to its memory at the marks and keep
what it wrote. The figures show the gates of the trained LSTM over one sequence, and how long each
unit keeps its memory. The table shows how both changed during training.

    pip install ".[examples]"
    python examples/inspect_gates.py
    python examples/inspect_gates.py --smoke      # a short run

Writes gates.png, memory.png and model.keras to --out.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import extras  # noqa: F401 - names what to install if a package is missing
import keras
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import keras_gated as kg

STEPS, UNITS, BATCH, EPOCHS = 50, 16, 64, 30


def marked_numbers(rng, count):
    """Returns sequences (count, STEPS, 2) of numbers and marks, and the sums (count, 1)."""
    numbers, marks = rng.uniform(size=(count, STEPS)), np.zeros((count, STEPS))
    for row in marks:
        row[rng.choice(STEPS, 2, replace=False)] = 1.0
    x = np.stack([numbers, marks], axis=-1)
    return x.astype("float32"), (numbers * marks).sum(axis=1, keepdims=True).astype("float32")


def build():
    inputs = keras.Input((STEPS, 2))
    outputs = keras.layers.Dense(1)(kg.GatedLSTM(UNITS, name="lstm")(inputs))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.Adam(1e-2, global_clipnorm=1.0), "mse", jit_compile=True)
    return model


def fit(model, train, test, epochs):
    """Trains a model; returns the history, with the losses and the logs of the monitor."""
    with Progress() as progress:
        bar = progress.add_task("training", total=epochs)
        show = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: progress.update(bar, completed=epoch + 1)
        )
        callbacks = [kg.GateMonitor(test[0][:32]), show]
        options = {"epochs": epochs, "verbose": 0, "callbacks": callbacks}
        return model.fit(*train, BATCH, validation_data=test, **options).history


def tabulate(history):
    names = {
        "squared error": "val_loss",
        "input gate below 0.1": "lstm/input_closed",
        "forget gate above 0.9": "lstm/forget_open",
        "half-life, steps": "lstm/half_life",
    }
    table = Table("epoch", title="always answering 1 has a squared error of 0.167")
    for name in names:
        table.add_column(name, justify="right")
    last = len(history["val_loss"]) - 1
    for epoch in sorted({0, last // 4, last // 2, last}):
        table.add_row(str(epoch + 1), *(f"{history[key][epoch]:.3g}" for key in names.values()))
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path("results/inspect_gates"), help="folder to write to"
    )
    parser.add_argument("--smoke", action="store_true", help="few sequences, two epochs")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the data")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(options.seed)

    rng = np.random.default_rng(options.seed)
    train = marked_numbers(rng, 128 if options.smoke else 5000)
    test = marked_numbers(rng, 64 if options.smoke else 500)
    model = build()
    history = fit(model, train, test, 2 if options.smoke else EPOCHS)
    model.save(options.out / "model.keras")

    trace = kg.trace_gates(keras.saving.load_model(options.out / "model.keras"), test[0][:32])
    kg.plot_gates(trace).savefig(options.out / "gates.png", dpi=120)
    kg.plot_memory(trace).savefig(options.out / "memory.png", dpi=120)
    marked = test[0][:32, :, 1] == 1.0
    written = trace["lstm"]["input"].mean(axis=-1)
    Console().print(tabulate(history))
    at_marks, others = written[marked].mean(), written[~marked].mean()
    print(
        f"The input gate is open by {at_marks:.2f} at the marks and by {others:.2f} at other steps."
    )


if __name__ == "__main__":
    main()
