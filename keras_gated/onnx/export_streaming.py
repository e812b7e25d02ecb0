"""export_streaming: a Keras model to an ONNX file whose recurrent states go in and come out."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras

from keras_gated.onnx.atomic_file import replace_when_complete
from keras_gated.onnx.convert import convert_call, report_on, traced
from keras_gated.onnx.errors import ExportError, require
from keras_gated.onnx.export import check_arguments
from keras_gated.onnx.report import ExportReport
from keras_gated.onnx.session import STATES, StreamingSession
from keras_gated.onnx.subprocess_export import export_in_subprocess, on_tensorflow
from keras_gated.onnx.tracing.model_io import Interface, interface_of
from keras_gated.onnx.tracing.model_layers import in_float32, places_within
from keras_gated.onnx.tracing.streaming import (
    State,
    StreamingCall,
    is_timed,
    layers_in_stream,
    named_states,
)
from keras_gated.onnx.tracing.tracer import Tracer
from keras_gated.onnx.verify.streams import check_stream, plain


def export_streaming(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    input_signature=None,
    opset: int = 17,
    lowering: str | Mapping[str, str] = "auto",
    expected_batch: int = 1,
    verify: bool = True,
    modules: Sequence[str] = (),
) -> ExportReport:
    """Writes a Keras model to an ONNX file for streams: the states go in and come out.

    The file is that of `export_onnx` with an input and an output more for each state of each
    recurrent layer: `lstm_h` and `lstm_c` in, `lstm_h_out` and `lstm_c_out` out, for a layer called
    "lstm"; the second call of a shared layer has `lstm_2_h`. Fed with the last outputs, chunks of
    any length give what the whole sequence gives; `StreamingSession` does so. The states stand in
    the file's metadata under "keras_gated.states", a JSON list of {"input", "output", "shape",
    "dtype"}, the shape without the batch.

    Layers with stateful=True leave in the same way; their own states are not touched. A state that
    the model itself passes to a layer (initial_state) stays as it is wired: such a layer begins
    anew with every chunk. A masked time step repeats the output before it, of the last chunk too.

    Args:
        model: a Functional, Sequential or subclassed model, built, with an input whose time axis,
            its second, is open.
        path: of the file to write.
        input_signature, opset, lowering, expected_batch, modules: as in `export_onnx`. An
            input_signature with an open time axis also serves a model built for one length.
        verify: bool. Whether a random sequence is run in onnxruntime, whole and in chunks, beside
            the model before the file counts.

    Returns:
        An `ExportReport`; its inputs and outputs include the states.

    Raises:
        ExportError: if the model has no state to carry, runs backwards, hides a recurrent layer in
            a condition or loop, cannot leave as ONNX, or does not give in chunks what it gives
            for the whole sequence.
        ValueError: if an argument is not as above.
        ImportError: if the packages of the extra "onnx" are not installed.

    Example:
        >>> kg.export_streaming(model, "stream.onnx")
        >>> session = kg.StreamingSession("stream.onnx")
        >>> y = session.step(x_t)   # (B, F) -> (B, U), and the states are kept
    """
    check_arguments(model, path, opset, lowering, expected_batch)
    _check_forward(model)
    interface = interface_of(model, input_signature)
    _check_open(interface)
    options: dict = {"opset": opset, "lowering": lowering, "expected_batch": expected_batch}
    with in_float32(model), plain(model), replace_when_complete(path) as draft:
        wired: list[str] = []
        if on_tensorflow():
            report, wired = _written(model, draft, interface, **options)
        else:
            options |= {"verify": verify}
            report = export_in_subprocess(
                export_streaming, model, draft, input_signature, modules, **options
            )
        report = replace(report, path=os.fspath(path))
        if verify:
            largest = check_stream(model, interface, StreamingSession(draft), wired)
            report = report if largest is None else replace(report, largest_difference=largest)
    return report


def _written(model, path, interface, opset, lowering, expected_batch) -> tuple:
    """Writes the file; returns the report and the calls to which the model passes states."""
    probe = StreamingCall(model, interface)
    traced(probe, Tracer(model, opset, lowering, expected_batch))
    tracer = Tracer(model, opset, lowering, expected_batch)
    call = StreamingCall(model, interface, named_states(probe))
    proto = convert_call(call, tracer)
    _list_states(proto, call.states)
    path.write_bytes(proto.SerializeToString())
    return report_on(path, proto, call, tracer), probe.wired


def _check_forward(model: keras.Model) -> None:
    places = places_within(model)
    backwards = [
        places[layer]
        for layer in layers_in_stream(model)
        if isinstance(layer, keras.layers.Bidirectional) or getattr(layer, "go_backwards", False)
    ]
    if backwards:
        raise ExportError(
            "Argument `model` must hold no layer that runs backwards: a stream has no end to begin "
            f"at. Received: {backwards}. Build the model with forward layers alone, or export it "
            "for whole sequences with export_onnx."
        )


def _check_open(interface: Interface) -> None:
    if not any(map(is_timed, interface.ports)):
        port = interface.ports[0]
        opened = (port.shape[0], None, *port.shape[2:])
        raise ExportError(
            "Argument `model` must have an input whose time axis, the second, is open. "
            f"Received: {', '.join(f'{p.name!r} {p.shape}' for p in interface.ports)}. Give e.g. "
            f"input_signature=keras.InputSpec(shape={opened}, dtype={port.dtype!r})."
        )


def _list_states(proto: Any, states: Sequence[State]) -> None:
    """Writes the states into the file's metadata."""
    (onnx,) = require("onnx")
    listed = [
        {
            "input": state.port.name,
            "output": state.output,
            "shape": list(state.port.shape[1:]),
            "dtype": state.port.dtype,
        }
        for state in states
    ]
    onnx.helper.set_model_props(proto, {STATES: json.dumps(listed)})
