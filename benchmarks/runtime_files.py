"""ONNX files of one preset in many forms, with inputs and what must come out of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_gated as kg
from keras_gated.onnx.graph.stored_once import LEAST_SAVED
from keras_gated.onnx.verify.runners import open_in

UNITS, INPUTS, BATCH, TIME = 32, 16, 3, 7
KINDS = ("plain", "masked", "bidirectional", "masked bidirectional", "streaming")
# (form, opset): "whole" is a native node with compact=False.
FORMS = (("native", 17), ("native", 18), ("whole", 17), ("scan", 17), ("scan", 18))
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class File:
    """One file.

    Attributes:
        kind: one of `KINDS`, or "int8".
        form: "native", "whole", "scan", or "int8".
        opset: version of the operators.
        path: where it is; None if the cell has no such form.
        operator: of the recurrent node.
        feed, expected: inputs, and outputs of the Keras model; for int8, of onnxruntime.
    """

    kind: str
    form: str
    opset: int
    path: str | None
    operator: str = ""
    feed: Any = None
    expected: Any = None


def write_files(preset: str, folder: str, seed: int) -> Iterator[File]:
    """Writes the files of a preset to a folder, with random weights."""
    rng = np.random.default_rng(seed)
    for kind in KINDS:
        model = _make_model(preset, kind, rng)
        sizes = {}
        for form, opset in FORMS:
            file = _export(model, kind, form, opset, f"{folder}/{kind} {form} {opset}.onnx", rng)
            sizes[form, opset] = Path(file.path).stat().st_size if file.path else 0
            saved = sizes[form, opset] - sizes["native", 17]
            if form != "whole" or saved > LEAST_SAVED // 2:  # else nothing was left out
                yield file
        if kind == "plain":
            yield _quantize(model, f"{folder}/int8.onnx", rng)


def _make_model(preset: str, kind: str, rng: Any) -> keras.Model:
    layer: Any = kg.GatedRNN(UNITS, preset, return_sequences=True, name="rnn")
    layer.return_state = kind != "streaming"
    x = keras.Input((None, UNITS if layer.cell.form.square else INPUTS), name="x")
    y = keras.layers.Masking()(x) if "masked" in kind else x
    y = (keras.layers.Bidirectional(layer) if "bidirectional" in kind else layer)(y)
    model = keras.Model(x, y)
    for weight in model.weights:  # biases and such begin with equal numbers
        value = keras.ops.convert_to_numpy(weight)
        weight.assign(value + rng.normal(scale=0.1, size=value.shape))
    return model


def _export(model, kind: str, form: str, opset: int, path: str, rng: Any) -> File:
    export: Any = kg.export_streaming if kind == "streaming" else kg.export_onnx
    options = {"lowering": "scan" if form == "scan" else "native", "compact": form != "whole"}
    try:
        report = export(model, path, opset=opset, verify=False, **options)
    except kg.ExportError:
        return File(kind, form, opset, None)
    feed = _inputs(path, kind, rng)
    expected = _run_model(model, feed)
    if kind == "streaming":  # the states that come out
        expected |= dict(zip(report.outputs[1:], _last_states(model, feed), strict=True))
    else:
        expected = dict(zip(report.outputs, expected.values(), strict=True))
    return File(kind, form, opset, path, report.layers[0].operator, feed, expected)


def _quantize(model, path: str, rng: Any) -> File:
    report = kg.quantize_onnx(model, path, verify=False)
    feed = _inputs(path, "plain", rng)
    operator = next((n for n in report.operators if n.startswith("DynamicQ")), "Scan")
    return File("int8", "int8", 17, path, operator, feed, open_in("onnxruntime", path)(feed))


def _inputs(path: str, kind: str, rng: Any) -> Arrays:
    """Returns random inputs: states that are not zero, masked steps at the end and in holes."""
    import onnx

    feed = {}
    for port in onnx.load(path).graph.input:
        sizes = [axis.dim_value for axis in port.type.tensor_type.shape.dim]
        shape = (BATCH, *sizes[1:]) if port.name != "x" else (BATCH, TIME, sizes[-1])
        feed[port.name] = rng.normal(scale=0.5, size=shape).astype("float32")
    if "masked" in kind:
        feed["x"][0, 5:] = feed["x"][1, 2:4] = 0
    return feed


def _run_model(model, feed: Arrays) -> Arrays:
    """Returns the model's outputs, numbered; from the states in the feed, if there are any."""
    x, *states = feed.values()
    y = model.layers[-1](x, initial_state=states) if states else model(x)
    flat = keras.tree.flatten(y)
    return {str(k) if k else model.layers[-1].name: np.asarray(v) for k, v in enumerate(flat)}


def _last_states(model, feed: Arrays) -> list:
    layer = model.layers[-1]
    layer.return_state = True
    try:
        return [*_run_model(model, feed).values()][1:]
    finally:
        layer.return_state = False
