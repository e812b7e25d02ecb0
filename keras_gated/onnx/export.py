"""export_onnx: writes a Keras model to an ONNX file and checks it.

The steps are: check the arguments, convert the model (`model_to_graph.py`: trace, replace the
stubs, clean up), write a draft, compare the draft with the model (`verify`), give the draft its
final name. On Keras's JAX and torch backends, a process on TensorFlow does the conversion
(`subprocess_export.py`).
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras

from keras_gated.onnx.atomic_file import check_path, replace_when_complete
from keras_gated.onnx.errors import ExportError
from keras_gated.onnx.graph.tf2onnx import OPSETS
from keras_gated.onnx.model_file import write_model
from keras_gated.onnx.model_to_graph import ModelCall, convert_call, make_report
from keras_gated.onnx.report import ExportReport
from keras_gated.onnx.runtimes import check_runtimes
from keras_gated.onnx.subprocess_export import export_in_subprocess, on_tensorflow
from keras_gated.onnx.tracing.layer_places import check_stateless, in_float32, recurrent_names
from keras_gated.onnx.tracing.model_io import Interface, interface_of
from keras_gated.onnx.tracing.native_or_scan import LOWERINGS
from keras_gated.onnx.tracing.tracer import Tracer
from keras_gated.onnx.verify.check import check_onnx
from keras_gated.onnx.verify.differences import ParityReport
from keras_gated.onnx.verify.inputs import feeds_from_samples
from keras_gated.onnx.verify.runners import describe_runs, find_version
from keras_gated.onnx.verify.values import Feed
from keras_gated.spec.parts import check_bool


def export_onnx(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    input_signature=None,
    opset: int = 17,
    lowering: str | Mapping[str, str] = "auto",
    expected_batch: int = 1,
    compact: bool = True,
    runtimes: Sequence[str] = ("onnxruntime",),
    dynamic: bool = True,
    verify: bool = True,
    inputs: Any = None,
    modules: Sequence[str] = (),
) -> ExportReport:
    """Writes a Keras model to an ONNX file; each recurrent layer becomes one node.

    Gated layers, and Keras's own LSTM, GRU, SimpleRNN and RNN over gated cells, are exported as an
    LSTM, GRU or RNN node, or as a Scan that holds only the blocks that the cell has.

    Inputs and outputs keep the model's names, with "_" for characters other than letters, digits
    and "_./-". Batch and time may have any size. The model is exported as it runs with
    training=False; layers with mixed precision are exported in float32. The file appears only once
    it is complete and checked: a failed export writes no file and does not touch an older one. A
    model of more than 2 GB has its weights in a second file, `<path>.data`.

    On Keras's JAX and torch backends the model is saved, and a second process on TensorFlow writes
    the file. The file is then compared with the model on the backend in use.

    Args:
        model: keras.Model, Functional, Sequential or subclassed, built.
        path: where to write the file.
        input_signature: describes the inputs of a model that does not know them: one object, a list
            or a dictionary, as the model takes its inputs. Each is a keras.KerasTensor,
            keras.InputSpec or tf.TensorSpec with shape, dtype and, optionally, name.
        opset: int in 13..18, version of the ONNX operators.
        lowering: how recurrent layers are exported: "auto" (a native operator, or a Scan if there
            is none or a Scan is faster), "native" (an error if there is no operator), "scan", or
            "loop" (a loop over time, for comparison). Or a dictionary {layer name: one of these};
            layers not named get "auto".
        expected_batch: int > 0, the batch size that the file will mostly run at. "auto" uses it to
            decide which form is faster.
        compact: bool. Whether the weights of absent, tied and diagonal blocks of a native operator
            are left out, and made by nodes that onnxruntime computes once, when it loads the file.
        runtimes: names of the runtimes in which the file must be right: "onnxruntime", which is
            always one of them, "onnx.reference", "openvino", "onnxruntime-web" or "tract". Where a
            runtime computes a native operator wrongly or refuses it, the layer becomes a Scan. The
            file is compared in each one that is installed; the report says which were.
        dynamic: bool. True allows any batch and time; False fixes the batch at 1.
        verify: bool. Whether to run the file in onnxruntime and compare it with the model before
            it gets its final name. `check_onnx` says on which inputs.
        inputs: inputs of your own to compare on instead of random ones, as in `check_onnx`.
        modules: on the JAX and torch backends, names of modules that define custom layers and
            functions of the model. Modules that the saved model names are found without this.

    Returns:
        An `ExportReport`: the operator of each layer and why. `str()` is a table.

    Raises:
        ExportError: if the model cannot be exported, or if the file differs from the model.
        ValueError: if an argument has a wrong value.
        ImportError: if a package of the extra "onnx" is not installed. TensorFlow is one of them,
            on every backend.

    Example:
        >>> model = keras.Sequential([keras.Input((None, 3)), kg.GatedLSTM(4, name="lstm")])
        >>> report = kg.export_onnx(model, "model.onnx")
        >>> [(layer.name, layer.operator) for layer in report.layers]
        [('lstm', 'LSTM')]
        >>> print(report)
        model.onnx: opset 17, ... bytes, differs from Keras by at most ...
    """
    check_arguments(model, path, opset, lowering, expected_batch)
    check_stateless(model)
    interface = interface_of(model, input_signature, dynamic)
    check_inputs(inputs, interface, verify)
    options = {"opset": opset, "lowering": lowering, "expected_batch": expected_batch}
    options["compact"] = check_bool(compact, "compact")
    options["runtimes"] = runtimes = check_runtimes(runtimes)
    with replace_when_complete(path) as draft:
        if on_tensorflow():
            report = _write(model, draft, interface, **options)
        else:
            # There, the model would be compared on random inputs.
            options |= {"dynamic": dynamic, "verify": verify and inputs is None}
            report = export_in_subprocess(
                export_onnx, model, draft, input_signature, modules, **options
            )
        report = replace(report, path=os.fspath(path))
        if verify:
            here = [name for name in runtimes if find_version(name)]
            parity = check_onnx(
                model, draft, input_signature=input_signature, inputs=inputs, runtimes=here
            )
            if not parity.passed:
                raise ExportError(_failure_message(parity))
            largest = parity.largest_difference
            report = replace(report, largest_difference=largest, notes=parity.notes)
        report = replace(report, runtimes=describe_runs(runtimes, verify))
    return report


def _write(model, path, interface, **options) -> ExportReport:
    """Converts a model in this process and writes the file."""
    with in_float32(model):
        tracer = Tracer(model, **options)
        call = ModelCall(model, interface)
        proto = convert_call(call, tracer)
    write_model(proto, path)
    return make_report(path, proto, call, tracer)


def check_arguments(model: Any, path: str | os.PathLike, opset, lowering, expected_batch) -> None:
    """Raises a ValueError if an argument that both kinds of export share has a wrong value."""
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"Argument `model` must be a keras.Model. Received: {type(model).__name__}. "
            "Put a layer into one: keras.Sequential([keras.Input((None, features)), layer])."
        )
    check_path(path)
    if opset not in OPSETS:
        raise ValueError(
            f"Argument `opset` must be an integer in {OPSETS[0]}..{OPSETS[-1]}: masks need "
            f"{OPSETS[0]}, and the converter tf2onnx knows no version above {OPSETS[-1]}. "
            f"Received: opset={opset!r}. Use the default, 17."
        )
    _check_lowering(model, lowering)
    if not (type(expected_batch) is int and expected_batch > 0):
        raise ValueError(
            "Argument `expected_batch` must be an integer > 0. "
            f"Received: expected_batch={expected_batch!r}. Use 1, the default, if unsure."
        )


def check_inputs(inputs: Any, interface: Interface, verify: bool) -> list[Feed] | None:
    """Returns the inputs that the user gave as feeds; None if there are none.

    Raises:
        ValueError: if they do not fit the model, or if nothing is compared on them.
    """
    if inputs is None:
        return None
    if not verify:
        raise ValueError(
            "Argument `inputs` must be None with verify=False, for nothing is compared on them. "
            "Received: inputs and verify=False. Use verify=True, or leave out one of them."
        )
    return feeds_from_samples(inputs, interface.ports, "inputs")


def _check_lowering(model: keras.Model, lowering: Any) -> None:
    by_layer = isinstance(lowering, Mapping)
    values = list(lowering.values()) if by_layer else [lowering]
    if not all(isinstance(value, str) and value in LOWERINGS for value in values):
        raise ValueError(
            f"Argument `lowering` must be one of {', '.join(map(repr, LOWERINGS))}, or a "
            f"dictionary from layer names to these. Received: lowering={lowering!r}."
        )
    known = recurrent_names(model)
    if by_layer and (unknown := [name for name in lowering if name not in known]):
        raise ValueError(
            f"Argument `lowering` must name recurrent layers of the model: {known}. "
            f"Received: {unknown}."
        )


def _failure_message(parity: ParityReport) -> str:
    advice = (
        "If the model is unstable, so that its numbers grow without bound, this may be rounding: "
        "export with verify=False and check with check_onnx(..., tolerance=...). If the model is "
        "not made for these inputs, give others: inputs=... Otherwise please report the model."
    )
    head = "The converted graph does not compute what the model computes, so no file was written."
    if not parity.outputs and parity.notes:
        head = "The converted graph could not be compared with the model, so no file was written."
        advice = "Give inputs that the model takes: inputs=..."
    return "\n".join([head, *parity.problems, *(f"Note: {n}" for n in parity.notes), advice])
