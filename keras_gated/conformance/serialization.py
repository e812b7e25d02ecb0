"""Checks that a cell survives its config, a `.keras` file and an ONNX file.

Each check is a function of `CellCopies`. It returns a text on what it measured, or raises `Failed`
or `Skipped`.
"""

import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gated.conformance.cell_copies import CellCopies, assign
from keras_gated.conformance.compare import difference_text
from keras_gated.conformance.report import Failed, Skipped, error_text
from keras_gated.conformance.run_cell import rnn, to_arrays
from keras_gated.installation import install_hint

ONNX_PACKAGES = ("tensorflow", "tf2onnx", "onnx", "onnxruntime")


def config(copies: CellCopies) -> str:
    """`get_config` and `from_config` make an equal cell."""
    cell = copies.copy() if copies.original is None else copies.original
    try:
        cell_config = cell.get_config()
        copy = type(cell).from_config(dict(cell_config))
    except Exception as error:
        raise Failed(f"from_config(get_config()) raises {error_text(error)}") from error
    claim = "after from_config(get_config())"
    _check_equal_values(vars(copy), vars(cell), f"{claim} attribute")
    _check_equal_values(copy.get_config(), cell_config, f"{claim} config entry")
    if copies.original is not None:  # which is never run
        return "attributes and config equal"
    copies.build(copy)
    assign(copy, cell.get_weights())
    claim = "the cell and its copy by config differ with the same weights"
    largest = copies.compare(copies.run(copy), copies.run(cell), claim)
    return f"attributes and config equal, {difference_text(largest)}"


def _check_equal_values(actual: Mapping[str, Any], expected: Mapping[str, Any], claim: str) -> None:
    """Raises `Failed` if a number, text or list differs. Other values cannot be compared.

    Names that begin with an underscore belong to Keras.
    """
    for name, value in expected.items():
        if name.startswith("_") or name == "built" or name not in actual:
            continue
        if not _is_comparable(value):
            continue
        if not _is_comparable(actual[name]) or not np.array_equal(actual[name], value):
            raise Failed(
                f"{claim} {name!r} is {actual[name]!r}, before it was {value!r}: get_config must "
                "hold all that __init__ needs"
            )


def _is_comparable(value: Any) -> bool:
    """Whether a value is a number, a text or None, or a list of these."""
    if isinstance(value, list | tuple):
        return all(map(_is_comparable, value))
    return value is None or isinstance(value, bool | int | float | str | np.ndarray | np.generic)


def saving(copies: CellCopies) -> str:
    """A `.keras` file, loaded in safe mode, gives the same weights and results."""
    cell = copies.copy()
    model = _model(copies, cell)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        loaded: Any = keras.saving.load_model(path)
    _check_equal_weights(loaded.get_layer("checked").cell, cell)
    x, states = copies.tensors(cell)
    expected, actual = (to_arrays(each([x, *states], training=False)) for each in (model, loaded))
    claim = "the model and the one loaded from its file differ"
    largest = copies.compare(actual, expected, claim)
    return f"{len(cell.weights)} weights, {difference_text(largest)}"


def _check_equal_weights(loaded: Any, cell: Any) -> None:
    if len(loaded.weights) != len(cell.weights):
        raise Failed(f"the loaded cell has {len(loaded.weights)} of {len(cell.weights)} weights")
    for weight, other in zip(cell.weights, loaded.weights, strict=True):
        before, after = (np.asarray(ops.convert_to_numpy(each)) for each in (weight, other))
        if not np.array_equal(before, after):
            raise Failed(f"weight {weight.path} has other values after loading")


def _model(copies: CellCopies, cell: Any) -> keras.Model:
    """A model of a cell: (inputs, initial states) -> (outputs, last states)."""
    x = keras.Input((None, copies.input_dim), name="x")
    states = [keras.Input((size,), name=f"state_{k}") for k, size in enumerate(copies.sizes)]
    return keras.Model([x, *states], rnn(cell)(x, initial_state=states), name="model")


def onnx(copies: CellCopies) -> str:
    """A file of `export_onnx` passes `check_onnx`."""
    if keras.backend.backend() != "tensorflow":
        raise Skipped("runs only on Keras's TensorFlow backend, which writes the file")
    if missing := [name for name in ONNX_PACKAGES if find_spec(name) is None]:
        raise Skipped(f"{', '.join(missing)} not installed: {install_hint('onnx')}")
    from keras_gated.onnx.export import export_onnx
    from keras_gated.onnx.verify.check import check_onnx

    model = _model(copies, copies.copy())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        exported = export_onnx(model, path, verify=False).layers[0]
        parity = check_onnx(model, path, tolerance=copies.tolerance, seed=copies.seed)
    if not parity.passed:
        more = len(parity.problems) - 1
        raise Failed(parity.problems[0] + (f" And {more} more problems." if more else ""))
    return f"{exported.operator}, {difference_text(parity.largest_difference)}: {exported.reason}"
