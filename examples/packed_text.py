"""Short texts packed into rows: a GRU learns docstrings of Python, with and without packing.

The texts have 20 to 400 characters. Padded to one length, most of a batch is padding. Packed, each
row holds several texts, and `resets` tells the layer where a text begins. Two equal models learn
to predict the next character, one from padded and one from packed batches with as many texts. The
script prints how many time steps an epoch has, how long it takes, and the loss on other texts. It
checks that the packed model gives each text what it gives for the text alone, and what the loss is
if the states go on from one text to the next.

    pip install ".[tensorflow]"
    python examples/packed_text.py
    python examples/packed_text.py --smoke      # a few texts, one epoch, no XLA
"""

import argparse
import ast
import importlib.util
import os
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import extras  # noqa: F401 - names what to install if a package is missing
import keras
import numpy as np
from rich.console import Console
from rich.table import Table

import keras_gated as kg

# Modules of the standard library that are written in Python.
MODULES = (
    *("argparse", "ast", "bdb", "calendar", "configparser", "copy", "csv", "datetime"),
    *("difflib", "doctest", "enum", "fractions", "ftplib", "functools", "gettext", "imaplib"),
    *("inspect", "ipaddress", "locale", "mailbox", "optparse", "pathlib", "pdb", "pickle"),
    *("platform", "pydoc", "random", "shutil", "smtplib", "socket", "statistics"),
    *("string", "subprocess", "tarfile", "tempfile", "textwrap", "threading", "tokenize"),
    *("traceback", "turtle", "typing", "unittest", "uuid", "warnings", "weakref", "zipfile"),
)
CHARACTERS, SHORTEST, LONGEST, BEGIN = 128, 20, 400, 0
UNITS, TEXTS, LENGTH, EPOCHS = 128, 64, 512, 12  # texts in a batch, time steps of a packed row


def docstrings(module):
    """The docstrings of a module's functions and classes, from its source."""
    spec = importlib.util.find_spec(module)
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]


def read_texts():
    """All texts as integers (T,), each once, in the order of the modules."""
    found = dict.fromkeys(text for module in MODULES for text in docstrings(module) if text)
    fits = [t for t in found if SHORTEST <= len(t) <= LONGEST and t.isascii()]
    return [np.frombuffer(text.encode("ascii"), np.uint8).astype("int32") for text in fits]


def batches(texts, packed, seed, **arguments):
    """Inputs are the characters before; targets are the characters."""
    inputs = [np.concatenate([[BEGIN], text[:-1]]).astype("int32") for text in texts]
    if not packed:
        return kg.PaddedBatches(inputs, texts, batch_size=TEXTS, buckets=1, seed=seed, **arguments)
    rows = max(1, round(TEXTS * np.mean([len(text) for text in texts]) / LENGTH))
    return kg.PackedBatches(inputs, texts, batch_size=rows, length=LENGTH, seed=seed, **arguments)


def build(packed, compiled, seed):
    keras.utils.set_random_seed(seed)
    x = keras.Input((None,), dtype="int32")
    more = keras.Input((None,), dtype="bool") if packed else keras.Input((), dtype="int32")
    vectors = keras.layers.Embedding(CHARACTERS, 32)(x)
    layer = kg.GatedGRU(UNITS, return_sequences=True, name="gru")
    hidden = layer(vectors, resets=more) if packed else layer(vectors, lengths=more)
    model = keras.Model([x, more], keras.layers.Dense(CHARACTERS)(hidden))
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    model.compile(keras.optimizers.Adam(4e-3), loss, jit_compile=compiled)
    return model


def train(model, data, epochs):
    """Returns the median of the seconds of an epoch; the first one compiles."""
    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        model.fit(data, verbose=0)
        seconds.append(time.perf_counter() - start)
    return np.median(seconds[1:] or seconds)


def largest_difference(model, texts):
    """Of the outputs for each text in a packed batch from those for the text alone."""
    data, worst = batches(texts[:12], True, seed=0, shuffle=False), 0.0
    for (x, resets), _, weights in data:
        together = keras.ops.convert_to_numpy(model([x, resets]))
        for row, begin in np.argwhere(resets & (weights > 0)):
            later = np.flatnonzero(resets[row, begin + 1 :])
            end = begin + 1 + later[0] if len(later) else x.shape[1]
            steps = slice(begin, end)
            alone = model([x[row : row + 1, steps], np.zeros((1, end - begin), bool)])
            worst = max(worst, np.abs(together[row, steps] - np.asarray(alone)[0]).max())
    return worst


def without_resets(model, texts):
    """The loss if the states go on from one text of a row to the next."""
    items = list(batches(texts, True, seed=0))
    inputs = [(x, np.zeros_like(resets)) for (x, resets), _, _ in items]
    losses = [
        (model.evaluate(list(x), y, sample_weight=w, verbose=0, batch_size=len(y)), w.sum())
        for x, (_, y, w) in zip(inputs, items, strict=True)
    ]
    return sum(loss * weight for loss, weight in losses) / sum(weight for _, weight in losses)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few texts, one epoch, no XLA")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the batches")
    options = parser.parse_args()

    texts = read_texts()
    np.random.default_rng(options.seed).shuffle(texts)
    texts, epochs = (texts[:200], 1) if options.smoke else (texts, EPOCHS)
    valid, train_set = texts[: len(texts) // 5], texts[len(texts) // 5 :]
    print(f"{len(train_set)} texts to learn, {len(valid)} to test")

    table = Table("batches", title="one epoch", caption="loss: nats for a character of other texts")
    for column in ("rows x time steps", "padding", "seconds", "loss"):
        table.add_column(column, justify="right")
    for name in ("padded", "packed"):
        packed = name == "packed"
        data = batches(train_set, packed, options.seed)
        model = build(packed, not options.smoke, options.seed)
        seconds = train(model, data, epochs)
        shape = data[0][2].shape
        steps = len(data) * shape[0] * shape[1]
        padding = 1 - sum(map(len, train_set)) / steps
        loss = model.evaluate(batches(valid, packed, options.seed), verbose=0)
        rows = f"{len(data)} x {shape[0]} x {shape[1]}"
        table.add_row(name, rows, f"{padding:.0%}", f"{seconds:.2f}", f"{loss:.3f}")
    Console().print(table)
    print(f"Packing saves {data.padding_saved:.1%} of the padding.")

    worst = largest_difference(model, valid)
    assert worst < 1e-4, worst
    print(f"A text in a packed row and the text alone differ by {worst:.1e} at most.")
    leaking = without_resets(model, valid)
    print(f"Without resets, the packed model's loss is {leaking:.3f}.")


if __name__ == "__main__":
    main()
