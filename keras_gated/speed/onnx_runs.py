"""Exports a layer in each form that it has in ONNX, and makes a function that runs each file."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras

from keras_gated.onnx.export import export_onnx
from keras_gated.onnx.report import ExportReport
from keras_gated.onnx.tracing.native_or_scan import LOWERINGS
from keras_gated.onnx.verify.runners import open_session
from keras_gated.spec.onnx_operator import find_native_operator

FORMS = tuple(form for form in LOWERINGS if form != "auto")  # native, scan, loop


def onnx_runs(
    layer: keras.Layer, x: Any, folder: str | os.PathLike, forms: Sequence[str] = FORMS
) -> dict[str, Callable[[], Any]]:
    """Writes a layer to one ONNX file per form; returns functions that run them on one CPU thread.

    Args:
        layer: a gated recurrent layer.
        x: array (B, T, F), the input.
        folder: for the files. They may be deleted once this function has returned.
        forms: which forms to write.

    Returns:
        {form: function}, without the forms that the cell does not have.
    """
    model = keras.Sequential([keras.Input((None, x.shape[-1])), layer])
    runs: dict[str, Callable[[], Any]] = {}
    no_operator = find_native_operator(layer.cell.form).operator is None
    for form in forms:
        if form == "native" and no_operator:  # the export would raise
            continue
        path = Path(folder) / f"{form}.onnx"
        report = export_onnx(model, path, lowering=form, verify=False)
        if form_of(report) == form:
            (name,) = report.inputs
            runs[form] = partial(open_session(os.fspath(path)).run, None, {name: x})
    return runs


def form_of(report: ExportReport) -> str:
    """Returns the form in which a model's only layer was exported."""
    (layer,) = report.layers
    operator = layer.operator.lower()
    return operator if operator in FORMS else "native"
