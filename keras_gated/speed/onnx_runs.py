"""The forms of a layer in ONNX as functions without arguments, to be timed."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras

from keras_gated.onnx.export import export_onnx
from keras_gated.onnx.report import ExportReport
from keras_gated.onnx.tracing.choice import LOWERINGS
from keras_gated.onnx.verify.check import session_of
from keras_gated.spec.onnx_operator import lower

FORMS = tuple(form for form in LOWERINGS if form != "auto")


def onnx_runs(
    layer: keras.Layer, x: Any, folder: str | os.PathLike, forms: Sequence[str] = FORMS
) -> dict[str, Callable[[], Any]]:
    """Writes a layer to ONNX files; returns the run of each in onnxruntime, on one CPU thread.

    Args:
        layer: a gated recurrent layer.
        x: array (B, T, F), the input.
        folder: where the files go; they are read at once.
        forms: those wanted.

    Returns:
        {form: function}, without the forms that the cell does not have.
    """
    model = keras.Sequential([keras.Input((None, x.shape[-1])), layer])
    runs: dict[str, Callable[[], Any]] = {}
    has_none = lower(layer.cell.form).operator is None
    for form in forms:
        if form == "native" and has_none:  # the export would refuse it
            continue
        path = Path(folder) / f"{form}.onnx"
        report = export_onnx(model, path, lowering=form, verify=False)
        if form_of(report) == form:
            (name,) = report.inputs
            runs[form] = partial(session_of(os.fspath(path)).run, None, {name: x})
    return runs


def form_of(report: ExportReport) -> str:
    """Returns which form the only layer of a model took."""
    (layer,) = report.layers
    operator = layer.operator.lower()
    return operator if operator in FORMS else "native"
