"""export_streaming: writes a Keras model to an ONNX file whose states go in and come out.

An ONNX file keeps nothing between two runs. In a file for streams, each state of each recurrent
layer, and the last inputs of each causal convolution, are therefore inputs and outputs: whoever
runs the file passes them from one run to the next.

The model is traced twice. The first trace finds which states there are, their shapes and the names
that are taken; the second has an input for each of them. The rest is as in `export_onnx`.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras

from keras_gated.onnx.atomic_file import replace_when_complete
from keras_gated.onnx.errors import ExportError, require
from keras_gated.onnx.export import check_arguments, check_inputs
from keras_gated.onnx.model_file import write_model
from keras_gated.onnx.model_to_graph import convert_call, make_report, trace
from keras_gated.onnx.report import ExportReport
from keras_gated.onnx.runtimes import check_runtimes
from keras_gated.onnx.streaming_session import STATES, STRIDE
from keras_gated.onnx.subprocess_export import export_in_subprocess, on_tensorflow
from keras_gated.onnx.tracing.layer_places import in_float32, places_within
from keras_gated.onnx.tracing.model_io import Interface, interface_of
from keras_gated.onnx.tracing.streaming import (
    State,
    StreamingCall,
    has_open_time,
    layers_in_stream,
    name_states,
)
from keras_gated.onnx.tracing.tracer import Tracer
from keras_gated.onnx.verify.runners import describe_runs, open_others
from keras_gated.onnx.verify.streams import check_stream, open_stream, stateful_and_unroll_off
from keras_gated.spec.parts import check_bool


def export_streaming(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    input_signature=None,
    opset: int = 17,
    lowering: str | Mapping[str, str] = "auto",
    expected_batch: int = 1,
    compact: bool = True,
    runtimes: Sequence[str] = ("onnxruntime",),
    verify: bool = True,
    inputs: Any = None,
    modules: Sequence[str] = (),
) -> ExportReport:
    """Writes a Keras model to an ONNX file for streams: its states are inputs and outputs.

    The file is that of `export_onnx` with one more input and one more output for each state of each
    recurrent layer. A layer called "lstm" has the inputs `lstm_h` and `lstm_c` and the outputs
    `lstm_h_out` and `lstm_c_out`; the second call of a shared layer has `lstm_2_h`. If each run
    gets the states that the last run returned, chunks of any length give what the whole sequence
    gives. `StreamingSession` does this. The file's metadata lists the states under
    "keras_gated.states": a JSON list of {"input", "output", "shape", "dtype"}, the shape without
    the batch.

    The last inputs of a `Conv1D` with padding="causal" are a state as well, e.g. `conv1d_x`. If
    convolutions or pooling have strides, the length of each chunk must be a multiple of the
    metadata's "keras_gated.stride"; `StreamingSession` refuses others. Of convolutions and pooling
    that are not causal, those whose window is no longer than their stride are exported.

    Layers with stateful=True are exported in the same way; their own states are not changed. If
    the model itself passes a state to a layer (initial_state), the layer begins with that state in
    every chunk, and the file has no input for it. A masked time step repeats the output of the
    step before it, also if that step was in the last chunk.

    Args:
        model: keras.Model, Functional, Sequential or subclassed, built. At least one input must
            have an open time axis (the second axis).
        path: where to write the file.
        input_signature, opset, lowering, expected_batch, compact, runtimes, modules: as in
            `export_onnx`. Give an input_signature with an open time axis if the model is built for
            one length.
        verify: bool. Whether to run a random sequence in onnxruntime, whole and in chunks, and
            compare it with the model before the file gets its final name.
        inputs: whole sequences of your own to compare on instead of random ones, as in
            `check_onnx`.

    Returns:
        An `ExportReport`. Its inputs and outputs include the states.

    Raises:
        ExportError: if the model has no state to carry, has a layer that runs backwards or needs
            later time steps, calls a recurrent layer inside a condition or loop, cannot be
            exported, or does not give in chunks what it gives for the whole sequence.
        ValueError: if an argument has a wrong value.
        ImportError: if a package of the extra "onnx" is not installed.

    Example:
        >>> layer = kg.GatedLSTM(4, return_sequences=True, name="lstm")
        >>> model = keras.Sequential([keras.Input((None, 3)), layer])
        >>> report = kg.export_streaming(model, "stream.onnx")
        >>> report.inputs[1:], report.outputs[1:]
        (('lstm_h', 'lstm_c'), ('lstm_h_out', 'lstm_c_out'))
        >>> session = kg.StreamingSession("stream.onnx")
        >>> session.step(np.ones((1, 3), "float32")).shape
        (1, 4)
    """
    check_arguments(model, path, opset, lowering, expected_batch)
    _check_forward(model)
    interface = interface_of(model, input_signature)
    _check_open_time(interface)
    given = check_inputs(inputs, interface, verify)
    options: dict = {"opset": opset, "lowering": lowering, "expected_batch": expected_batch}
    options["compact"] = check_bool(compact, "compact")
    options["runtimes"] = runtimes = check_runtimes(runtimes)
    with in_float32(model), stateful_and_unroll_off(model), replace_when_complete(path) as draft:
        first: StreamingCall | None = None
        if on_tensorflow():
            report, first = _write(model, draft, interface, verify, **options)
        else:
            options |= {"verify": verify and inputs is None}
            report = export_in_subprocess(
                export_streaming, model, draft, input_signature, modules, **options
            )
        report = replace(report, path=os.fspath(path))
        if verify:
            compare_on = given or _graph_of(draft)
            others = open_others(runtimes, draft)
            findings = check_stream(model, interface, open_stream(draft), first, compare_on, others)
            largest = max((f.relative for f in findings.outputs), default=report.largest_difference)
            report = replace(report, largest_difference=largest, notes=tuple(findings.notes))
        report = replace(report, runtimes=describe_runs(runtimes, verify))
    return report


def _write(model, path, interface, verify, **options) -> tuple:
    """Writes the file; returns the report, and the first trace, which knows what may be wrong."""
    first = StreamingCall(model, interface)
    trace(first, Tracer(model, **options))
    if verify and first.refused:
        raise ExportError(
            "Argument `model` must give in chunks what it gives for the whole sequence. Received: "
            f"{'; '.join(first.refused)}; or use export_onnx for whole sequences."
        )
    tracer = Tracer(model, **options)
    call = StreamingCall(model, interface, name_states(first))
    proto = convert_call(call, tracer)
    _list_states(proto, call.states, first.stride())
    write_model(proto, path)
    return make_report(path, proto, call, tracer), first


def _graph_of(path: os.PathLike) -> Any:
    (onnx,) = require("onnx")
    return onnx.load(path, load_external_data=False).graph


def _check_forward(model: keras.Model) -> None:
    """Raises an ExportError if a layer needs the end of the sequence before it can begin."""
    places = places_within(model)
    backwards = [
        places[layer]
        for layer in layers_in_stream(model)
        if isinstance(layer, keras.layers.Bidirectional) or getattr(layer, "go_backwards", False)
    ]
    if backwards:
        raise ExportError(
            "Argument `model` must not have a layer that runs backwards: it begins at the end of "
            f"the sequence, and a stream has no end. Received: {backwards}. Build the model with "
            "forward layers alone, or export it for whole sequences with export_onnx."
        )


def _check_open_time(interface: Interface) -> None:
    """Raises an ExportError if every input has a fixed number of time steps."""
    if not any(map(has_open_time, interface.ports)):
        port = interface.ports[0]
        opened = (port.shape[0], None, *port.shape[2:])
        raise ExportError(
            "Argument `model` must have an input whose time axis, the second, is open. "
            f"Received: {', '.join(f'{p.name!r} {p.shape}' for p in interface.ports)}. Give e.g. "
            f"input_signature=keras.InputSpec(shape={opened}, dtype={port.dtype!r})."
        )


def _list_states(proto: Any, states: Sequence[State], stride: int) -> None:
    """Writes states and stride into the file's metadata, where `StreamingSession` reads them."""
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
    properties = {STATES: json.dumps(listed)} | ({STRIDE: str(stride)} if stride > 1 else {})
    onnx.helper.set_model_props(proto, properties)
