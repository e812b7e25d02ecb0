"""Can one gate of an LSTM do the work of two? Three layers of equal size learn Bach's chorales.

The layers are an LSTM, an LSTM with coupled gates (its input gate is 1 minus its forget gate) and a
tanh RNN. None of them has peepholes. Each has about 18,000 weights and predicts the next step of a
piano roll; each is trained with three seeds. Models without memory are there to compare with. The
LSTM with coupled gates is then saved, loaded and exported to ONNX.

Writes model.keras, model.onnx and curves.png to --out.

    pip install ".[examples]"
    python examples/quickstart.py                # one to two minutes on two idle cores
    python examples/quickstart.py --smoke        # all of it on a few chorales, one seed
"""

import argparse
import os
import time
from pathlib import Path
from statistics import median

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import extras  # noqa: F401 - names what to install if a package is missing
import keras
import numpy as np
from chorales import KEYS, floors, frame_pairs, log_odds, read_chorales, split, weighted
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import keras_gated as kg

BUDGET = kg.count_parameters("lstm", input_dim=KEYS, units=36)  # 18,000 weights
SEEDS, STEPS, BATCH, EPOCHS = 3, 64, 16, 60
COUPLED = "coupled gates"
# Each cell has a learning rate of its own. `ablation_study.py --search` found these on the same
# data, on the validation set, for cells of 10,000 weights; the LSTMs there have peepholes.
RATES = {"LSTM": 0.02, COUPLED: 0.0141, "tanh RNN": 0.0055}


def new_layer(name):
    """Returns one of the three layers, with as many units as the budget allows."""
    if name == "tanh RNN":
        units = kg.units_for_budget("elman", KEYS, BUDGET)
        return kg.GatedRNN(units, "elman", return_sequences=True, name="recurrent")
    tied = kg.Tied("forget", complement=True)  # the input gate is 1 minus the forget gate
    gates = {"input_gate": tied} if name == COUPLED else {}
    units = kg.units_for_budget(kg.CellSpec(**gates), KEYS, BUDGET)
    return kg.GatedLSTM(units, **gates, return_sequences=True, name="recurrent")


def build(name, bias, updates):
    """Returns a compiled model: the layer, and a dense layer that gives the logits of 88 keys.

    It needs no mask: padding comes last, so no step that counts can see it.

    Args:
        name: of the layer.
        bias: (88,), what the dense layer's bias starts with.
        updates: number of updates in which the learning rate falls to 0.
    """
    inputs = keras.Input((None, KEYS), name="keys")
    begin = keras.initializers.Constant(bias)
    logits = keras.layers.Dense(KEYS, bias_initializer=begin, name="logits")
    model = keras.Model(inputs, logits(new_layer(name)(inputs)))
    schedule = keras.optimizers.schedules.CosineDecay(RATES[name], updates)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(schedule, global_clipnorm=1.0), loss, jit_compile=True)
    model.optimizer.build(model.trainable_variables)  # else the training step is traced twice
    return model


def fit(model, label, train, valid, epochs):
    """Trains a model, keeps the weights that were best on `valid`, and returns the loss curves."""
    inputs, targets, weights = train
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task(label, total=epochs)

        def show(epoch, logs):
            text = f"{label:21}  train {logs['loss']:.2f}  valid {logs['val_loss']:.2f}"
            progress.update(bar, completed=epoch + 1, description=text)

        best = keras.callbacks.EarlyStopping(patience=15, restore_best_weights=True)
        callbacks = [best, keras.callbacks.LambdaCallback(on_epoch_end=show)]
        validation = {"validation_data": valid, "validation_batch_size": len(valid[0])}
        options = {"epochs": epochs, "callbacks": callbacks, "verbose": 0, **validation}
        return model.fit(inputs, targets, BATCH, sample_weight=weights, **options).history


def train_one(name, seed, bias, train, valid, test, epochs):
    """Trains one layer with one seed; returns its model, loss curves, scores and seconds."""
    start = time.perf_counter()
    keras.utils.set_random_seed(seed)
    model = build(name, bias, updates=epochs * len(train[0]) // BATCH)
    curve = fit(model, f"{name}, seed {seed}", train, valid, epochs)
    seconds = time.perf_counter() - start
    scores = [model.evaluate(x, y, len(x), 0, weights) for x, y, weights in (valid, test)]
    return {"model": model, "curve": curve, "scores": scores, "seconds": seconds}


def bias_of_keys(train):
    """Returns the log odds (88,) of each key in the training set.

    A model that starts there need not learn first how rare each key is.
    """
    frames = frame_pairs(train)[1]
    return log_odds(frames.sum(axis=0), len(frames))


def export(model, x, folder):
    """Saves, loads and exports a model; raises if a file gives other numbers than the model."""
    model.save(folder / "model.keras")
    loaded = keras.saving.load_model(folder / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    print(kg.export_onnx(model, folder / "model.onnx"))
    print(kg.check_onnx(model, folder / "model.onnx", raise_on_failure=True))


def tabulate(runs, bounds):
    """Returns a table of the scores of all layers and of the models without memory."""
    seeds = len(runs[COUPLED])
    scores = f"median of {seeds} seeds" if seeds > 1 else "one seed"
    table = Table("model", title=f"Bach's chorales: nats per time step, less is better; {scores}")
    for head in ("units", "weights", "valid", "test", "range", "seconds"):
        table.add_column(head, justify="right")
    for name, of_name in runs.items():
        table.add_row(name, *row(of_name))
    table.add_section()
    valid, test = bounds
    for name in test:
        table.add_row(f"no memory: {name}", "", "", f"{valid[name]:.2f}", f"{test[name]:.2f}")
    return table


def row(runs):
    """Returns a row of the table: size, median scores, range on the test set, seconds of a run."""
    layer = runs[0]["model"].get_layer("recurrent")
    valid, test = zip(*(run["scores"] for run in runs), strict=True)
    spread = f"{min(test):.2f}-{max(test):.2f}" if len(runs) > 1 else ""
    scores = f"{median(valid):.2f}", f"{median(test):.2f}", spread
    seconds = median(run["seconds"] for run in runs)
    return str(layer.units), f"{layer.count_params():,}", *scores, f"{seconds:.0f}"


def draw(runs, bounds, path):
    """Draws one panel for each layer: the losses of all seeds, over the models without memory."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, len(runs), sharey=True)
    panels[0].set_ylabel("nats per time step")
    lines = ("loss", "train", "top", "0.5"), ("val_loss", "valid", "bottom", "C0")
    for axes, (name, of_name) in zip(panels, runs.items(), strict=True):
        axes.set(title=name, xlabel="epoch", ylim=(7, 12))
        axes.spines[["top", "right"]].set_visible(False)
        for bound in bounds.values():
            axes.axhline(bound, color="0.8", linewidth=1, zorder=0)
        for key, label, side, color in lines:
            curves = [run["curve"][key] for run in of_name]
            for curve in curves:
                axes.plot(range(1, len(curve) + 1), curve, color=color, linewidth=1)
            longest = max(curves, key=len)
            place = {"color": color, "ha": "right", "va": side, "clip_on": True}
            axes.text(len(longest), longest[-1], label, **place)
    for name, bound in bounds.items():
        place = {"xy": (1.02, bound), "xycoords": ("axes fraction", "data")}
        axes.annotate(f"no memory:\n{name}", **place, va="center", color="0.4")
    figure.savefig(path, dpi=100)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(), help="folder for what is written")
    parser.add_argument("--smoke", action="store_true", help="a few chorales and epochs, one seed")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="runs of each layer")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    parts = split(read_chorales())
    seeds, epochs = options.seeds, EPOCHS
    if options.smoke:
        parts, seeds, epochs = [part[:16] for part in parts], 1, 10
    train, valid, test = parts
    longest = max(len(roll) for part in parts for roll in part) - 1
    whole = [weighted(part, longest, rows=len(part)) for part in (valid, test)]
    cut = weighted(train, STEPS, rows=BATCH)  # trains three times as fast as whole chorales

    sets = bias_of_keys(train), cut, *whole
    runs = {name: [train_one(name, seed, *sets, epochs) for seed in range(seeds)] for name in RATES}
    bounds = [floors(train, part) for part in (valid, test)]
    export(runs[COUPLED][0]["model"], whole[1][0], options.out)
    draw(runs, bounds[0], options.out / "curves.png")
    Console().print(tabulate(runs, bounds))


if __name__ == "__main__":
    main()
