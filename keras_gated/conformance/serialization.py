"""Checks of what outlives a cell: its config, a `.keras` file, an ONNX file."""

import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gated.conformance.compare import agreed, compare
from keras_gated.conformance.copies import Subject, assign
from keras_gated.conformance.report import Failed, Skipped, error_text
from keras_gated.conformance.run_cell import named, rnn, run, tensors

EXTRA = ("tensorflow", "tf2onnx", "onnx", "onnxruntime")


def config(s: Subject) -> str:
    """`get_config` and `from_config` make an equal cell."""
    original = s.cell() if s.given is None else s.given
    try:
        found = original.get_config()
        twin = type(original).from_config(dict(found))
    except Exception as error:
        raise Failed(f"from_config(get_config()) raises {error_text(error)}") from error
    about = "after from_config(get_config())"
    _equal(vars(twin), vars(original), f"{about} attribute")
    _equal(twin.get_config(), found, f"{about} config entry")
    if s.given is not None:
        return "attributes and config equal"
    s.build(twin)
    assign(twin, original.get_weights())
    expected, again = (run(cell, s.x, s.states) for cell in (original, twin))
    about = "the cell and its copy by config differ with the same weights"
    return f"attributes and config equal, {agreed(compare(again, expected, s.tolerance, about))}"


def _equal(found: Mapping[str, Any], expected: Mapping[str, Any], about: str) -> None:
    """Raises where a plain value differs; what begins with an underscore is Keras's."""
    for name, value in expected.items():
        if name.startswith("_") or name == "built" or name not in found or not _plain(value):
            continue
        if not _plain(found[name]) or not np.array_equal(found[name], value):
            raise Failed(
                f"{about} {name!r} is {found[name]!r}, before it was {value!r}: get_config must "
                "hold all that __init__ needs"
            )


def _plain(value: Any) -> bool:
    """Whether a value is one, or a list, of numbers or text."""
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    return value is None or isinstance(value, bool | int | float | str | np.ndarray | np.generic)


def saving(s: Subject) -> str:
    """A `.keras` file, loaded in safe mode, gives the same weights and numbers."""
    cell = s.cell()
    model = _model(s, cell)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        loaded: Any = keras.saving.load_model(path)
    again = loaded.get_layer("checked").cell
    _survived(cell, again)
    x, states = tensors(cell, s.x, s.states)
    expected, found = (named(each([x, *states], training=False)) for each in (model, loaded))
    about = "the model and the one loaded from its file differ"
    return f"{len(cell.weights)} weights, {agreed(compare(found, expected, s.tolerance, about))}"


def _survived(cell: Any, again: Any) -> None:
    if len(again.weights) != len(cell.weights):
        raise Failed(f"{len(again.weights)} weights of {len(cell.weights)} are in the loaded cell")
    for weight, other in zip(cell.weights, again.weights, strict=True):
        one, two = (np.asarray(ops.convert_to_numpy(each)) for each in (weight, other))
        if not np.array_equal(one, two):
            raise Failed(f"weight {weight.path} is another after loading")


def _model(s: Subject, cell: Any) -> keras.Model:
    """A model of the cell, from inputs and initial states to outputs and last states."""
    x = keras.Input((None, s.input_dim), name="x")
    states = [keras.Input((size,), name=f"state_{k}") for k, size in enumerate(s.sizes)]
    return keras.Model([x, *states], rnn(cell)(x, initial_state=states), name="model")


def onnx(s: Subject) -> str:
    """`export_onnx` writes a file that does the same in onnxruntime."""
    if keras.backend.backend() != "tensorflow":
        raise Skipped("checked where Keras runs on TensorFlow, which writes the file")
    if missing := [name for name in EXTRA if find_spec(name) is None]:
        raise Skipped(f'{", ".join(missing)} not installed: pip install "keras-gated[onnx]"')
    from keras_gated.onnx.export import export_onnx
    from keras_gated.onnx.verify.check import check_onnx

    model = _model(s, s.cell())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        left = export_onnx(model, path, verify=False).layers[0]
        parity = check_onnx(model, path, tolerance=s.tolerance, seed=s.seed)
    if not parity.passed:
        more = len(parity.problems) - 1
        raise Failed(parity.problems[0] + (f" And {more} more problems." if more else ""))
    return f"{left.operator}, {agreed(parity.largest_difference)}: {left.reason}"
