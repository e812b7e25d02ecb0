"""Random models through all that a user does with one: build, train, save, load, export, stream.

    python -m tests.soak --count 300                  the first 300 of 10,000
    python -m tests.soak --first 300 --count 100      others
    python -m tests.soak --count 2000 --out soak      goes on where an earlier run stopped

A case is a number. It draws layers of this package with layers of Keras before, between and behind
them, options, masks and shapes. `OUT.jsonl` has a line for each case that was run. TensorFlow keeps
what it compiled until a process ends, so a process runs a few cases.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

CASES, EACH = 10_000, 10
F, LONGEST, CLASSES = 3, 7, 4


# A model ----------------------------------------------------------------------------------------


def draw_model(rng):
    """A random model over sequences (B, T, F), or over ids (B, T)."""
    import keras

    x = keras.Input((None,), dtype="int32", name="x") if rng.random() < 0.25 else None
    if x is not None:
        y = keras.layers.Embedding(11, F, mask_zero=bool(rng.integers(2)))(x)
    else:
        x = y = keras.Input((None, F), name="x")
        y = before(rng, y)
    for _ in range(rng.integers(1, 3)):
        y = recurrent(rng, y, sequences=True)
        y = between(rng, y)
    if rng.integers(2):
        y = recurrent(rng, y, sequences=False)
    return keras.Model(x, behind(rng, y))


def before(rng, y):
    """What stands in front of a recurrent layer of a model on sequences."""
    import keras

    layers = keras.layers
    choices = {
        "nothing": lambda y: y,
        "mask": layers.Masking(mask_value=0.5),
        "normal": layers.Normalization(mean=0.1, variance=2.0),
        "conv": layers.Conv1D(F, 3, padding="causal", activation="relu"),
        "dense": layers.Dense(F, activation="gelu"),
        "norm": layers.LayerNormalization(),
        "dropout": layers.Dropout(0.2),
    }
    return choices[_one_of(rng, choices)](y)


def between(rng, y):
    """What stands between two recurrent layers, or behind the last one, on sequences."""
    import keras

    layers, units = keras.layers, y.shape[-1]
    choices = {
        "nothing": lambda y: y,
        "skip": lambda y: layers.Add()([y, layers.Dense(units)(y)]),
        "join": lambda y: layers.Concatenate()([y, layers.Activation("tanh")(y)]),
        "norm": layers.LayerNormalization(),
        "batch norm": layers.BatchNormalization(),
        "dense": layers.Dense(5, activation="relu"),
        "in time": layers.TimeDistributed(layers.Dense(3)),
    }
    return choices[_one_of(rng, choices)](y)


def behind(rng, y):
    """The head."""
    import keras

    layers = keras.layers
    if len(y.shape) == 3 and rng.integers(2):
        y = layers.GlobalAveragePooling1D()(y)
    return layers.Dense(CLASSES, activation=_one_of(rng, (None, "softmax", "sigmoid")))(y)


def recurrent(rng, y, sequences: bool):
    """A gated layer, perhaps in a Bidirectional; a layer of Keras; or a stack of cells."""
    import keras

    import keras_gated as kg
    from tests.random_cells import accepted_options, specification

    kind, units = rng.random(), int(rng.integers(1, 7))
    if kind < 0.1:
        layer = _one_of(rng, (keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN))
        return layer(units, return_sequences=sequences)(y)
    if kind < 0.2:
        first = kg.GatedCell(units, _one_of(rng, kg.presets))
        if first.form.square or first.form.window > 1:
            first = keras.layers.LSTMCell(units)
        cells = [first, keras.layers.GRUCell(units)]  # Keras fails with a mask and only one cell
        return keras.layers.RNN(cells, return_sequences=sequences)(y)
    preset = rng.random() < 0.4
    options: dict = {"units": units, "spec": specification(rng, units, y.shape[-1])}
    if preset:
        options["spec"] = _one_of(rng, kg.presets)
    options |= accepted_options(rng, options)
    layer = kg.GatedRNN(
        **options,
        return_sequences=sequences,
        dropout=_one_of(rng, (0.0, 0.0, 0.3)),
        recurrent_dropout=_one_of(rng, (0.0, 0.0, 0.3)),
        zero_output_for_mask=bool(rng.integers(2)),
        seed=1,
    )
    if layer.cell.form.square and layer.cell.form.window * y.shape[-1] != layer.units:
        size, window = layer.cell.form.unit_groups, layer.cell.form.window
        y = keras.layers.Dense(size)(y)  # a diagonal kernel has as many inputs as units
        layer = kg.GatedRNN(**options | {"units": size * window, "projection_units": None})
        layer.return_sequences = sequences
    at_once = layer.cell.parallel_in_time or layer.cell.newton_in_time
    layer.time_parallel = at_once and rng.random() < 0.5
    if rng.random() < 0.25:
        merge = _one_of(rng, ("concat", "sum", "mul", "ave"))
        return keras.layers.Bidirectional(layer, merge_mode=merge)(y)
    return layer(y)


def _one_of(rng, choices):
    choices = list(choices)
    return choices[rng.integers(len(choices))]


# What is done with it ---------------------------------------------------------------------------


def run_case(seed: int) -> dict:
    """Runs one case; returns what it was, or raises what was wrong."""
    import keras
    import numpy as np

    from tests.onnx.helpers import randomized

    rng = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    model = randomized(draw_model(rng), seed, scale=0.4)
    x = draw_inputs(rng, model)
    steps = {"layers": [type(layer).__name__ for layer in model.layers]}
    train(model, x)
    expected = keras.ops.convert_to_numpy(model(x))
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        loaded = keras.models.load_model(f"{folder}/model.keras")
        np.testing.assert_allclose(loaded(x), expected, rtol=1e-5, atol=1e-6, err_msg="loaded")
        return steps | export(loaded, x, expected, folder)


def draw_inputs(rng, model):
    """Numbers, some of them the value that Masking masks; or ids, 0 among them."""
    import numpy as np

    batch, time = int(rng.integers(1, 5)), int(rng.integers(1, LONGEST + 1))
    # Keras's mean over time divides by the number of valid time steps: one must be valid there.
    means = any(type(layer).__name__ == "GlobalAveragePooling1D" for layer in model.layers)
    if len(model.inputs[0].shape) == 2:
        x = rng.integers(0, 11, (batch, time)).astype("int32")
        x[:, 0] = np.maximum(x[:, 0], int(means))
        return x
    x = rng.standard_normal((batch, time, F)).astype("float32")
    masked = rng.random((batch, time)) < 0.3
    masked[:, 0] &= not means
    x[masked] = 0.5
    return x


def train(model, x) -> None:
    """One step under XLA; every number of it is finite."""
    import numpy as np

    model.compile("sgd", "mse", jit_compile=True)
    y = np.zeros((len(x), *model.compute_output_shape(x.shape)[1:]), "float32")
    model.optimizer.learning_rate = 1e-3
    loss = model.train_on_batch(x, y)
    assert np.isfinite(loss), f"loss {loss}"
    assert all(np.isfinite(w).all() for w in model.get_weights()), "a weight is not finite"


def export(model, x, expected, folder: str) -> dict:
    """Exports the model whole, and as a stream where it can be one; both are compared with it."""
    import numpy as np

    import keras_gated as kg
    from tests.onnx.helpers import run

    report = kg.export_onnx(model, f"{folder}/model.onnx")
    np.testing.assert_allclose(run(f"{folder}/model.onnx", x)[0], expected, rtol=1e-4, atol=1e-5)
    done = {"operators": [layer.operator for layer in report.layers], "stream": "exported"}
    try:
        kg.export_streaming(model, f"{folder}/stream.onnx")
    except kg.ExportError as error:
        if not needs_the_whole_sequence(model) and "must not mask a layer" not in str(error):
            raise
        done["stream"] = "refused"
    return done


def needs_the_whole_sequence(model) -> bool:
    """Whether a layer needs the end of the sequence, so that no stream can have it."""
    whole = {"Bidirectional", "GlobalAveragePooling1D"}
    return not whole.isdisjoint(type(layer).__name__ for layer in model.layers)


# The command ------------------------------------------------------------------------------------


def run_here(first: int, count: int) -> None:
    """Runs cases in this process and prints a line of JSON for each."""
    for seed in range(first, first + count):
        try:
            found = {"case": seed, "passed": True, **run_case(seed)}
        except Exception as error:  # noqa: BLE001 - whatever is wrong is what is looked for
            text = "".join(traceback.format_exception(error)[-4:])
            found = {"case": seed, "passed": False, "error": f"{error}"[:2000], "trace": text}
        print("soak " + json.dumps(found), flush=True)


def run_in_process(first: int, count: int, results: Path) -> int:
    """Runs cases in a process of their own and appends their lines; returns how many failed."""
    command = [sys.executable, "-m", "tests.soak", "--here", "--first", str(first)]
    command += ["--count", str(count)]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    output = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    lines = [line[5:] for line in output.stdout.splitlines() if line.startswith("soak ")]
    if len(lines) < count:  # the process died at a case
        text = output.stderr[-2000:]
        lines.append(json.dumps({"case": first + len(lines), "passed": False, "error": text}))
    with results.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)
    return sum(not json.loads(line)["passed"] for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--first", type=int, default=0, help="the first case")
    parser.add_argument("--count", type=int, default=100, help=f"how many of {CASES:,}")
    parser.add_argument("--out", default="soak", help="results go to OUT.jsonl")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        run_here(options.first, options.count)
        return 0
    from rich.progress import track

    results = Path(f"{options.out}.jsonl")
    results.touch()
    done = {json.loads(line)["case"] for line in results.read_text().splitlines()}
    wanted = range(options.first, min(CASES, options.first + options.count))
    left = [case for case in wanted if case not in done]
    for part in track([left[k : k + EACH] for k in range(0, len(left), EACH)], "soak"):
        for first, count in consecutive(part):
            run_in_process(first, count, results)
    return report([json.loads(line) for line in results.read_text().splitlines()], wanted)


def consecutive(cases: list[int]):
    """Yields (first, count) of each run of consecutive cases."""
    start = 0
    for k in range(1, len(cases) + 1):
        if k == len(cases) or cases[k] != cases[k - 1] + 1:
            yield cases[start], k - start
            start = k


def report(rows: list[dict], wanted: range) -> int:
    """Prints how many passed and what failed; returns 1 if any did."""
    rows = [row for row in rows if row["case"] in wanted]
    failed = [row for row in rows if not row["passed"]]
    kinds = Counter(name for row in rows for name in row.get("operators", ()))
    streams = Counter(row["stream"] for row in rows if "stream" in row)
    print(f"{len(rows)} cases: {len(rows) - len(failed)} passed; {dict(kinds)}; {dict(streams)}")
    for row in failed:
        print(f"case {row['case']}: {row['error'][:300]}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
