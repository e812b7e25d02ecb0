"""export_onnx: a Keras model with gated layers to a file of native ONNX operators."""

import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
from keras import tree

from keras_gated.export.check import check_onnx
from keras_gated.export.choice import LOWERINGS
from keras_gated.export.errors import ExportError, require
from keras_gated.export.finishing import check_graph, histogram, tidy
from keras_gated.export.foreign import taken_over
from keras_gated.export.interface import (
    Interface,
    interface_of,
    output_axes,
    output_names,
)
from keras_gated.export.layers_within import (
    check_stateless,
    gated_layers,
    in_float32,
    layers_within,
    readable,
)
from keras_gated.export.placing import place
from keras_gated.export.report import ExportReport, LayerReport
from keras_gated.export.tf2onnx_bridge import OPSETS, convert
from keras_gated.export.tracing import Tracer
from keras_gated.recurrence import run_by


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
) -> ExportReport:
    """Writes a Keras model to an ONNX file; recurrent layers leave as one node each.

    Gated layers, and Keras's own LSTM, GRU, SimpleRNN and RNN over gated cells, become an LSTM, GRU
    or RNN node, or a Scan with only the blocks that the cell has.

    Inputs and outputs keep the model's names; batch and time stay open. The model is exported as it
    runs with training=False, layers of mixed precision in float32. The file appears only once it
    is complete and checked: a failed export leaves no file, and an older one as it was.

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

    Returns:
        An `ExportReport`: each layer's operator and why; str() is a table.

    Raises:
        ExportError: if the model cannot leave as ONNX, or if the file differs from the model.
        ValueError: if an argument is not as above.
        ImportError: if the packages of the extra "onnx" are not installed.

    Example:
        >>> print(kg.export_onnx(model, "model.onnx"))
    """
    _check_arguments(model, path, opset, lowering, expected_batch)
    check_stateless(model)
    interface = interface_of(model, input_signature, dynamic)
    with in_float32(model):
        tracer = Tracer(model, opset, lowering, expected_batch)
        proto, names = _converted(model, interface, tracer)
    report = ExportReport(
        path=os.fspath(path),
        opset=opset,
        layers=_layers(model, tracer),
        operators=histogram(proto.graph),
        inputs=tuple(port.name for port in interface.ports),
        outputs=tuple(names),
        size=proto.ByteSize(),
    )
    with _put_in_place(path) as draft:
        draft.write_bytes(proto.SerializeToString())
        if verify:
            parity = check_onnx(model, draft, input_signature=input_signature)
            if not parity.passed:
                raise ExportError(_differs(parity))
            report = replace(report, largest_difference=parity.largest_difference)
    return report


def _converted(model, interface: Interface, tracer: Tracer) -> tuple[Any, list[str]]:
    """The ONNX model, whole and valid, and the names of its outputs."""
    (tf,) = require("tensorflow")
    names: list[str] = []

    def called(*tensors):
        with run_by(tracer):
            outputs = model(interface.pack(tensors), training=False)
        names[:] = output_names(model, outputs, interface)
        flat = tree.flatten(outputs)
        return {name: tf.identity(t, name="y") for name, t in zip(names, flat, strict=True)}

    signature = [tf.TensorSpec(p.shape, p.dtype, name=p.name) for p in interface.ports]
    function = tf.function(called, input_signature=signature, autograph=False)
    with taken_over(model, tracer):
        function.get_concrete_function()
    tracer.check()
    proto, complaints = convert(function, signature, tracer.opset, tracer.shapes)
    place(proto.graph, tracer.calls)
    axes = output_axes(model, interface)
    tidy(
        proto,
        model.name,
        weights=_weights(model),
        inputs={port.name: interface.axes(port) for port in interface.ports},
        outputs=dict(zip(names, axes or [[]] * len(names), strict=True)),
    )
    check_graph(proto, [port.name for port in interface.ports], complaints)
    return proto, names


def _check_arguments(model: Any, path: str | os.PathLike, opset, lowering, expected_batch) -> None:
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"Argument `model` must be a keras.Model. Received: {type(model).__name__}. "
            "Put a layer into one: keras.Sequential([keras.Input((None, features)), layer])."
        )
    if not (folder := Path(path).absolute().parent).is_dir():
        raise ValueError(
            "Argument `path` must be in a folder that exists. "
            f"Received: path={os.fspath(path)!r}. Create {str(folder)!r} first."
        )
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
    if (backend := keras.backend.backend()) != "tensorflow":
        raise ExportError(
            "export_onnx traces the model with TensorFlow, so Keras must run on its TensorFlow "
            f"backend. Received: backend {backend!r}. Save the model with "
            "model.save('model.keras') and export it in a process that is started with the "
            "environment variable KERAS_BACKEND=tensorflow: "
            "keras_gated.export_onnx(keras.models.load_model('model.keras'), 'model.onnx')."
        )


def _check_lowering(model: keras.Model, lowering: Any) -> None:
    by_layer = isinstance(lowering, Mapping)
    asked = list(lowering.values()) if by_layer else [lowering]
    if not all(isinstance(one, str) and one in LOWERINGS for one in asked):
        raise ValueError(
            f"Argument `lowering` must be one of {', '.join(map(repr, LOWERINGS))}, or a "
            f"dictionary of these by layer name. Received: lowering={lowering!r}."
        )
    layers = [layer for layer in layers_within(model) if isinstance(layer, keras.layers.RNN)]
    known = sorted({name for layer in layers for name in (layer.name, readable(layer, model))})
    if by_layer and (unknown := [name for name in lowering if name not in known]):
        raise ValueError(
            f"Argument `lowering` must name recurrent layers of the model: {known}. "
            f"Received: {unknown}."
        )


def _weights(model: keras.Model) -> dict:
    """The weights of ordinary layers by readable name, e.g. "dense/kernel"."""
    return {
        weight.path.removeprefix(f"{model.name}/"): keras.ops.convert_to_numpy(weight)
        for weight in model.weights
    }


def _layers(model: keras.Model, tracer: Tracer) -> tuple[LayerReport, ...]:
    rows = [
        LayerReport(
            left.name, left.choice.operator, left.choice.reason, left.size, _trainable(left.weights)
        )
        for left in tracer.left.values()
    ]
    reason = "no call was seen: the model does not use it, or hides it behind a tf.function"
    rows += [
        LayerReport(readable(layer, model), "not traced", reason, None, _trainable(layer))
        for layer in gated_layers(model)
        if layer.cell not in tracer.left
    ]
    return tuple(rows)


def _trainable(layer: keras.Layer) -> int:
    return sum(math.prod(weight.shape) for weight in layer.trainable_weights)


@contextmanager
def _put_in_place(path: str | os.PathLike) -> Iterator[Path]:
    """A draft in the same folder that takes the place of `path` if all goes well."""
    target = Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".onnx", dir=target.parent)
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        draft.chmod(0o666 & ~_umask())
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _differs(parity) -> str:
    return "\n".join(
        [
            "The converted graph does not do what the model does, so no file was written.",
            *parity.problems,
            "If this is the rounding of an unstable model, whose numbers grow without bound, "
            "export with verify=False and check with check_onnx(..., tolerance=...). "
            "Else please report the model.",
        ]
    )
