"""Does an LSTM need its forget gate? Three layers of equal size learn Bach's chorales.

An LSTM, an LSTM without a forget gate and a tanh RNN get the same number of weights and the same
training: each predicts the next step of a piano roll. All three beat what can be said without
memory, and on these short pieces the forget gate is not missed (differences below a tenth of a nat
come and go with the seed). The LSTM without one is then saved, loaded and exported to ONNX.

Writes model.keras, model.onnx and curves.png to --out.

    pip install "keras-gated[examples]"
    python examples/quickstart.py                # two to three minutes on two cores
    python examples/quickstart.py --smoke        # all of it on a few chorales, under a minute
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from chorales import KEYS, floors, read_chorales, split, weighted
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import keras_gated as kg

BUDGET = kg.count_parameters("lstm", input_dim=KEYS, units=36)  # 18,000 weights
STEPS, BATCH, EPOCHS, LEARNING_RATE = 64, 16, 60, 2e-2


def layers():
    """The three layers, each with as many units as the budget allows."""
    specs = "lstm", kg.CellSpec(forget_gate=False), "elman"
    lstm, no_forget, tanh = (kg.units_for_budget(spec, KEYS, BUDGET) for spec in specs)
    return {
        "LSTM": kg.GatedLSTM(lstm, return_sequences=True),
        "no forget gate": kg.GatedLSTM(no_forget, forget_gate=False, return_sequences=True),
        "tanh RNN": kg.GatedRNN(tanh, "elman", return_sequences=True),
    }


def build(layer, updates):
    """Layer and logits. No mask enters: padding comes last, so no step that counts can see it."""
    inputs = keras.Input((None, KEYS))
    model = keras.Model(inputs, keras.layers.Dense(KEYS)(layer(inputs)))
    schedule = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, updates)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(schedule, global_clipnorm=1.0), loss, jit_compile=True)
    model.optimizer.build(model.trainable_variables)  # else the training step is traced twice
    return model


def fit(model, name, train, valid, epochs):
    """Trains, goes back to the weights that were best on `valid`; returns the loss curves."""
    inputs, targets, weights = train
    with Progress() as progress:
        bar = progress.add_task(name, total=epochs)

        def show(epoch, logs):
            text = f"{name:14}  train {logs['loss']:.2f}  valid {logs['val_loss']:.2f}"
            progress.update(bar, completed=epoch + 1, description=text)

        best = keras.callbacks.EarlyStopping(patience=15, restore_best_weights=True)
        callbacks = [best, keras.callbacks.LambdaCallback(on_epoch_end=show)]
        validation = {"validation_data": valid, "validation_batch_size": len(valid[0])}
        options = {"epochs": epochs, "callbacks": callbacks, "verbose": 0, **validation}
        return model.fit(inputs, targets, BATCH, sample_weight=weights, **options).history


def export(model, x, folder):
    """Saves, loads and exports; raises if a file computes other numbers than the model."""
    model.save(folder / "model.keras")
    loaded = keras.saving.load_model(folder / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    print(kg.export_onnx(model, folder / "model.onnx"))
    print(kg.check_onnx(model, folder / "model.onnx", raise_on_failure=True))


def tabulate(rows, bounds):
    """The results, and what models without memory reach on the same sets."""
    table = Table("model", title="Bach's chorales: nats per time step, less is better")
    for head in ("units", "weights", "train", "valid", "test", "seconds"):
        table.add_column(head, justify="right")
    for row in rows:
        table.add_row(*row)
    table.add_section()
    valid, test = bounds
    for name in test:
        table.add_row(f"no memory: {name}", "", "", "", f"{valid[name]:.2f}", f"{test[name]:.2f}")
    return table


def draw(curves, bounds, path):
    """One panel a model: its loss in training and on the validation set, over the floors there."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, len(curves), sharey=True)
    panels[0].set_ylabel("nats per time step")
    lines = ("loss", "train", "top", "0.5"), ("val_loss", "valid", "bottom", "C0")
    for axes, (name, curve) in zip(panels, curves.items(), strict=True):
        axes.set(title=name, xlabel="epoch", ylim=(8, 12.5))
        axes.spines[["top", "right"]].set_visible(False)
        for bound in bounds.values():
            axes.axhline(bound, color="0.8", linewidth=1, zorder=0)
        for key, label, side, color in lines:
            last = len(curve[key])
            axes.plot(range(1, last + 1), curve[key], color=color)
            axes.text(last, curve[key][-1], label, color=color, ha="right", va=side, clip_on=True)
    for name, bound in bounds.items():
        place = {"xy": (1.02, bound), "xycoords": ("axes fraction", "data")}
        axes.annotate(f"no memory:\n{name}", **place, va="center", color="0.4")
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(), help="folder for what is written")
    parser.add_argument("--smoke", action="store_true", help="a few chorales, a few epochs")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the batches")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(options.seed)

    parts = split(read_chorales())
    epochs = EPOCHS
    if options.smoke:
        parts, epochs = [part[:16] for part in parts], 10
    train, valid, test = parts
    longest = max(len(roll) for part in parts for roll in part) - 1
    whole = [weighted(part, longest, rows=len(test)) for part in parts]
    cut = weighted(train, STEPS, rows=BATCH)  # trains three times as fast as whole chorales

    rows, curves, models = [], {}, {}
    for name, layer in layers().items():
        start = time.perf_counter()
        models[name] = model = build(layer, updates=epochs * len(cut[0]) // BATCH)
        curves[name] = fit(model, name, cut, whole[1], epochs)
        seconds = time.perf_counter() - start
        scores = [model.evaluate(x, y, len(test), 0, weights) for x, y, weights in whole]
        size = str(layer.units), f"{layer.count_params():,}"
        rows.append((name, *size, *(f"{score:.2f}" for score in scores), f"{seconds:.0f}"))

    bounds = [floors(train, part) for part in (valid, test)]
    export(models["no forget gate"], whole[2][0], options.out)
    draw(curves, bounds[0], options.out / "curves.png")
    Console().print(tabulate(rows, bounds))


if __name__ == "__main__":
    main()
