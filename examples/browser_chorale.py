"""A chorale in the browser, written step by step by an LSTM without an input gate.

The model learns from Bach's chorales which keys sound in the next quarter. It is exported to an
ONNX file whose states are inputs and outputs. A static page runs the file in onnxruntime-web: each
step draws keys from the probabilities and gives them to the model as the next input. WebAudio plays
them.

    pip install ".[examples]"
    python examples/browser_chorale.py

`python -m http.server --directory build/browser_chorale` serves the page at http://localhost:8000.
npm fetches onnxruntime-web, unless Node.js finds it from here (`npm install onnxruntime-web`). If
the folder is there when the site is built, the page is part of it.

    python examples/browser_chorale.py --smoke      # a short run

The model, trained on scores that come with music21, is not part of the repository: some encodings
of scores may be restricted to uses that are not commercial.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import chorales
import extras  # noqa: F401 - names what to install if a package is missing
import keras
import numpy as np

import keras_gated as kg

PAGE = Path(__file__).parent / "browser"
UNITS, BATCH, EPOCHS, LENGTH = 48, 16, 100, 64
START = (48, 55, 64, 72)  # MIDI numbers of C, G, E and C, the first chord of each chorale
FIRST_STEPS = 8  # of which expected.json has the probabilities, to compare a browser's with
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def build(keys):
    """The model: (B, T, keys) of 0 and 1 -> probabilities that the keys sound next."""
    inputs = keras.Input((None, keys), name="keys")
    hidden = kg.GatedLSTM(UNITS, input_gate=False, return_sequences=True, name="lstm")(inputs)
    return keras.Model(inputs, keras.layers.Dense(keys, "sigmoid", name="sounds")(hidden))


def read_data():
    """Returns train and valid, piano rolls of the keys that sound, and the lowest of these."""
    train, valid, _ = chorales.split(chorales.read_chorales())
    used = np.flatnonzero(np.concatenate(train + valid).any(axis=0))
    columns = slice(used[0], used[-1] + 1)
    cut = [[roll[:, columns] for roll in rolls] for rolls in (train, valid)]
    return *cut, chorales.LOWEST_NOTE + int(used[0])


def pieces(rolls):
    """Inputs and targets (N, LENGTH, keys), and weights (N, LENGTH) that leave out the padding."""
    rows = []
    for roll in rolls:
        for start in range(0, len(roll) - 1, LENGTH):
            piece = roll[start : start + LENGTH + 1]
            padding = LENGTH + 1 - len(piece)
            counts = np.arange(LENGTH) < len(piece) - 1
            rows.append((np.pad(piece, ((0, padding), (0, 0))), counts))
    frames, counts = (np.stack(column) for column in zip(*rows, strict=True))
    return frames[:, :-1], frames[:, 1:], (counts / counts.mean()).astype("float32")


def train(model, rolls, valid, epochs):
    """Trains the model; returns its cross-entropy on `valid`, nats per time step over all keys."""
    model.compile(keras.optimizers.Adam(5e-3), "binary_crossentropy", weighted_metrics=[])
    x, y, weights = pieces(rolls)
    model.fit(x, y, BATCH, epochs, verbose=2, sample_weight=weights)
    x, y, weights = pieces(valid)
    loss = model.evaluate(x, y, BATCH, verbose=0, sample_weight=weights)
    return float(np.ravel(loss)[0]) * x.shape[-1]


def expected_steps(path, keys, lowest):
    """The first steps of a chorale that takes every key above one half, computed in Python."""
    session, steps = kg.StreamingSession(path), []
    frame = np.zeros((1, keys), "float32")
    frame[0, np.array(START) - lowest] = 1.0
    for _ in range(FIRST_STEPS):
        y = session.step(frame)
        steps.append({"keys": np.flatnonzero(frame[0]).tolist(), "probabilities": y[0].tolist()})
        frame = (y > 0.5).astype("float32")
    return steps


def fetch_runtime(folder):
    """Copies onnxruntime-web to a folder: from node_modules here, or else npm fetches it."""
    from keras_gated.onnx.verify.web_process import find_package

    with tempfile.TemporaryDirectory() as temporary:
        package = find_package()
        if package is None:
            npm = shutil.which("npm")
            if npm is None:
                sys.exit("The page needs onnxruntime-web, which npm fetches. Install Node.js.")
            command = [npm, "install", "--prefix", temporary, "--no-audit", "onnxruntime-web"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            package = Path(temporary) / "node_modules" / "onnxruntime-web"
        folder.mkdir(exist_ok=True)
        for name in RUNTIME:
            shutil.copy(package / "dist" / name, folder / name)


def write_page(model, folder, lowest, loss):
    """Writes the model's file, what the page says of it, and the page."""
    path, keys = folder / "chorale.onnx", model.input_shape[-1]
    report = kg.export_streaming(model, path, runtimes=("onnxruntime", "onnxruntime-web"))
    print(report)
    facts = {"lowest": lowest, "keys": keys, "start": START, "units": UNITS, "loss": loss}
    facts |= {"weights": model.count_params(), "bytes": report.size}
    facts["states"] = {name: [1, UNITS] for name in report.inputs[1:]}
    (folder / "facts.json").write_text(json.dumps(facts))
    (folder / "expected.json").write_text(json.dumps(expected_steps(path, keys, lowest)))
    for file in PAGE.iterdir():
        shutil.copy(file, folder / file.name)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/browser_chorale"))
    parser.add_argument("--smoke", action="store_true", help="train for one epoch")
    parser.add_argument("--no-fetch", action="store_true", help="without onnxruntime-web")
    return parser.parse_args()


def main():
    options = parse_arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    rolls, valid, lowest = read_data()
    if options.smoke:
        rolls, valid = rolls[:BATCH], valid[:BATCH]
    model = build(rolls[0].shape[1])
    loss = train(model, rolls, valid, 1 if options.smoke else EPOCHS)
    write_page(model, options.out, lowest, loss)
    if not options.no_fetch:
        fetch_runtime(options.out / "ort")
    print(f"The page is in {options.out}; its cross-entropy on other chorales is {loss:.3f} nats.")


if __name__ == "__main__":
    main()
