"""export_onnx: a Keras model with gated layers to a file of native ONNX operators."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras

from keras_gated.onnx.atomic_file import check_path, replace_when_complete
from keras_gated.onnx.convert import ModelCall, convert_call, report_on
from keras_gated.onnx.errors import ExportError
from keras_gated.onnx.graph.tf2onnx import OPSETS
from keras_gated.onnx.report import ExportReport
from keras_gated.onnx.subprocess_export import export_in_subprocess, on_tensorflow
from keras_gated.onnx.tracing.choice import LOWERINGS
from keras_gated.onnx.tracing.model_io import interface_of
from keras_gated.onnx.tracing.model_layers import check_stateless, in_float32, recurrent_names
from keras_gated.onnx.tracing.tracer import Tracer
from keras_gated.onnx.verify.check import check_onnx
from keras_gated.onnx.verify.differences import ParityReport


def export_onnx(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    input_signature=None,
    opset: int = 17,
    lowering: str | Mapping[str, str] = "auto",
    expected_batch: int = 1,
    dynamic: bool = True,
    verify: bool = True,
    modules: Sequence[str] = (),
) -> ExportReport:
    """Writes a Keras model to an ONNX file; recurrent layers leave as one node each.

    Gated layers, and Keras's own LSTM, GRU, SimpleRNN and RNN over gated cells, become an LSTM, GRU
    or RNN node, or a Scan with only the blocks that the cell has.

    Inputs and outputs keep the model's names; batch and time stay open. The model is exported as it
    runs with training=False, layers of mixed precision in float32. The file appears only once it
    is complete and checked: a failed export leaves no file, and an older one as it was.

    On Keras's JAX and torch backends a process of its own, on TensorFlow, writes the file from the
    saved model; it is compared with the model as it runs here.

    Args:
        model: a Functional, Sequential or subclassed model, built.
        path: of the file to write.
        input_signature: for a model that does not know its inputs: these as the model takes them
            (one, a list or a dictionary), each a keras.KerasTensor, keras.InputSpec or
            tf.TensorSpec with shape, dtype and, if wanted, name.
        opset: int in 13..18, version of the ONNX operators.
        lowering: "auto" (a native operator, or a Scan where there is none or it is faster),
            "native" (an error where there is none), "scan", or "loop" (Keras's own loop, for
            comparison); or a dictionary of these by layer name, "auto" for the others.
        expected_batch: int > 0, the batch that the file will mostly run at: "auto" looks at it.
        dynamic: bool. Whether batch and time stay open; False fixes the batch at 1.
        verify: bool. Whether the file is run in onnxruntime beside the model before it counts.
        modules: on the JAX and torch backends, names of modules that define custom layers and
            functions of the model. Those that its saved configuration names are found without.

    Returns:
        An `ExportReport`: each layer's operator and why; str() is a table.

    Raises:
        ExportError: if the model cannot leave as ONNX, or if the file differs from the model.
        ValueError: if an argument is not as above.
        ImportError: if the packages of the extra "onnx" are not installed; TensorFlow is one, on
            every backend.

    Example:
        >>> print(kg.export_onnx(model, "model.onnx"))
    """
    check_arguments(model, path, opset, lowering, expected_batch)
    check_stateless(model)
    interface = interface_of(model, input_signature, dynamic)
    options = {"opset": opset, "lowering": lowering, "expected_batch": expected_batch}
    with replace_when_complete(path) as draft:
        if on_tensorflow():
            report = _written(model, draft, interface, **options)
        else:
            options |= {"dynamic": dynamic, "verify": verify}
            report = export_in_subprocess(
                export_onnx, model, draft, input_signature, modules, **options
            )
        report = replace(report, path=os.fspath(path))
        if verify:
            parity = check_onnx(model, draft, input_signature=input_signature)
            if not parity.passed:
                raise ExportError(_differs(parity))
            report = replace(report, largest_difference=parity.largest_difference)
    return report


def _written(model, path, interface, opset, lowering, expected_batch) -> ExportReport:
    with in_float32(model):
        tracer = Tracer(model, opset, lowering, expected_batch)
        call = ModelCall(model, interface)
        proto = convert_call(call, tracer)
    path.write_bytes(proto.SerializeToString())
    return report_on(path, proto, call, tracer)


def check_arguments(model: Any, path: str | os.PathLike, opset, lowering, expected_batch) -> None:
    """Raises a ValueError or an ExportError unless a model can be exported with these."""
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"Argument `model` must be a keras.Model. Received: {type(model).__name__}. "
            "Put a layer into one: keras.Sequential([keras.Input((None, features)), layer])."
        )
    check_path(path)
    if opset not in OPSETS:
        raise ValueError(
            f"Argument `opset` must be an integer in {OPSETS[0]}..{OPSETS[-1]}, which masks need "
            f"and the converter knows. Received: opset={opset!r}. Use the default, 17."
        )
    _check_lowering(model, lowering)
    if not (type(expected_batch) is int and expected_batch > 0):
        raise ValueError(
            "Argument `expected_batch` must be an integer > 0. "
            f"Received: expected_batch={expected_batch!r}. Use 1, the default, if unsure."
        )


def _check_lowering(model: keras.Model, lowering: Any) -> None:
    by_layer = isinstance(lowering, Mapping)
    asked = list(lowering.values()) if by_layer else [lowering]
    if not all(isinstance(one, str) and one in LOWERINGS for one in asked):
        raise ValueError(
            f"Argument `lowering` must be one of {', '.join(map(repr, LOWERINGS))}, or a "
            f"dictionary of these by layer name. Received: lowering={lowering!r}."
        )
    known = recurrent_names(model)
    if by_layer and (unknown := [name for name in lowering if name not in known]):
        raise ValueError(
            f"Argument `lowering` must name recurrent layers of the model: {known}. "
            f"Received: {unknown}."
        )


def _differs(parity: ParityReport) -> str:
    advice = (
        "If this is the rounding of an unstable model, whose numbers grow without bound, "
        "export with verify=False and check with check_onnx(..., tolerance=...). "
        "Else please report the model."
    )
    head = "The converted graph does not do what the model does, so no file was written."
    if not parity.outputs and parity.notes:
        head = "The converted graph could not be compared with the model, so no file was written."
        advice = "Export with verify=False and compare it on inputs that the model takes."
    return "\n".join([head, *parity.problems, *(f"Note: {n}" for n in parity.notes), advice])
