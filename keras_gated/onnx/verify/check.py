"""check_onnx: compares an ONNX file with the Keras model, in onnxruntime, at several shapes.

A file of `export_streaming` is compared over a whole sequence and in chunks, see `streams.py`.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_gated.onnx.errors import ExportError, require
from keras_gated.onnx.graph.cleanup import count_operators
from keras_gated.onnx.streaming_session import STATES, StreamingSession
from keras_gated.onnx.tracing.layer_places import in_float32
from keras_gated.onnx.tracing.model_io import Interface, Port, interface_of, output_names
from keras_gated.onnx.verify.differences import (
    TOLERANCE,
    Findings,
    ParityReport,
    on_cpu,
    short_reason,
)
from keras_gated.onnx.verify.inputs import Feed, describe_shapes, random_feed_maker, try_shapes
from keras_gated.onnx.verify.streams import compare_stream


def check_onnx(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    input_signature=None,
    tolerance: float = TOLERANCE,
    seed: int = 0,
    raise_on_failure: bool = False,
) -> ParityReport:
    """Compares an ONNX file with the Keras model that it was exported from.

    The file is checked against the ONNX standard, then runs in onnxruntime. The file and the model
    get the same random inputs, at several batches and time lengths, one time step included. Longer
    sequences are tried if the model refuses the short ones. A file of `export_streaming` runs over
    a whole sequence and in chunks. Layers with mixed precision compute in float32, as in the file.
    Keras computes on the CPU, except on the torch backend.

    Args:
        model: the Keras model.
        path: of the file.
        input_signature: as in `export_onnx`, for a model that does not know its inputs.
        tolerance: float > 0, the largest |difference| / max(1, |y|) allowed.
        seed: int, of the random inputs.
        raise_on_failure: bool. Whether to raise an error if the file differs.

    Returns:
        A `ParityReport`. `passed` says whether the file agrees; `str()` is a table.

    Raises:
        ExportError: with `raise_on_failure`, if the file differs. It says which output, at which
            shape.
        ValueError: if there is no such file.
        ImportError: if onnx or onnxruntime is not installed.

    Example:
        >>> model = keras.Sequential([keras.Input((None, 3)), kg.GatedLSTM(4, name="lstm")])
        >>> report = kg.export_onnx(model, "model.onnx", verify=False)
        >>> kg.check_onnx(model, "model.onnx").passed
        True
        >>> model.set_weights([w + 0.1 for w in model.get_weights()])
        >>> kg.check_onnx(model, "model.onnx").problems[0]
        "Output 'lstm' differs at ..."
    """
    onnx, _ = require("onnx", "onnxruntime")
    interface, path = interface_of(model, input_signature), os.fspath(path)
    if not Path(path).is_file():
        raise ValueError(
            "Argument `path` must be the path of an ONNX file that exists. "
            f"Received: path={path!r}. Write it with export_onnx or export_streaming first."
        )
    findings = Findings()
    proto = _read(onnx, path, findings)
    is_stream = any(entry.key == STATES for entry in proto.metadata_props)
    if session := _load(StreamingSession if is_stream else open_session, path, findings):
        compare = _compare_stream_file if is_stream else _compare_file
        with in_float32(model):
            compare(model, interface, session, seed, findings)
    report = findings.report(path, tolerance, count_operators(proto.graph))
    if raise_on_failure and not report.passed:
        raise ExportError(f"The ONNX file does not compute what the model computes.\n{report}")
    return report


def open_session(path: str) -> Any:
    """Returns an onnxruntime session on one CPU thread, so that its results can be repeated."""
    (onnxruntime,) = require("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _read(onnx: Any, path: str, findings: Findings) -> Any:
    """Returns the file as an onnx.ModelProto; an empty one if it cannot be read."""
    try:
        proto = onnx.load(path, load_external_data=False)
    except Exception as error:  # noqa: BLE001 - any error here is a finding
        findings.problems.append(f"The file cannot be read as ONNX: {error}")
        return onnx.ModelProto()
    try:
        onnx.checker.check_model(path, full_check=True)
    except Exception as error:  # noqa: BLE001 - as above
        findings.problems.append(f"The file is not valid ONNX: {error}")
    return proto


# A file of export_onnx ----------------------------------------------------------------------------


def _compare_file(model, interface: Interface, session: Any, seed: int, findings: Findings) -> None:
    ports = session.get_inputs()
    findings.problems += _name_problems(interface, [port.name for port in ports])
    findings.problems += [] if findings.problems else _shape_problems(interface.ports, ports)
    if not findings.problems:
        interface = _with_fixed_sizes(interface, session)
        try_shapes(_Comparison(model, interface, session, findings, seed).compare_at)


class _Comparison:
    """Compares a model and its file on random inputs.

    Args:
        model, interface: the model and its inputs.
        session: an onnxruntime session of the file.
        findings: where results go.
        seed: of the random inputs.
    """

    def __init__(self, model, interface: Interface, session: Any, findings: Findings, seed: int):
        self._model, self._interface, self._session = model, interface, session
        self._make_feed = random_feed_maker(model, interface.ports, seed)
        self._findings = findings
        self._done: dict[str, bool] = {}  # {shapes as text: whether Keras takes them}

    def compare_at(self, batch: int, time: int) -> bool:
        """Compares at one batch and time; returns whether Keras takes this shape.

        Different batches and times may give the same shapes, if the model fixes them.
        """
        feed = self._make_feed(batch, time)
        shape = describe_shapes(feed)
        if shape not in self._done:
            expected = self._run_model(feed, shape)
            self._done[shape] = expected is not None
            if expected is not None:
                self._compare(feed, shape, expected)
        return self._done[shape]

    def _run_model(self, feed: Feed, shape: str) -> dict[str, np.ndarray] | None:
        """Returns the model's outputs by name; None if it refuses the shape."""
        try:
            with on_cpu():
                tensors = map(keras.ops.convert_to_tensor, feed.values())
                outputs = self._model(self._interface.pack(tensors), training=False)
            flat = [np.asarray(keras.ops.convert_to_numpy(y)) for y in tree.flatten(outputs)]
        except Exception as error:  # noqa: BLE001 - e.g. a model that needs a longer sequence
            self._findings.notes.append(f"Keras refuses {shape}: {short_reason(error)}")
            return None
        if not any(y.size for y in flat):
            self._findings.notes.append(f"Keras gives an empty output at {shape}")
            return None
        names = output_names(self._model, outputs, self._interface)
        return dict(zip(names, flat, strict=True))

    def _compare(self, feed: dict, shape: str, expected: dict[str, np.ndarray]) -> None:
        problems = self._findings.problems
        try:
            arrays = self._session.run(None, feed)
        except Exception as error:  # noqa: BLE001 - any error here is a finding
            problems.append(f"onnxruntime fails at {shape}: {error}")
            return
        actual = dict(zip([p.name for p in self._session.get_outputs()], arrays, strict=True))
        if list(actual) != list(expected):
            problems.append(
                f"The file's outputs are {list(actual)}. The model's: {list(expected)}."
            )
            return
        for name, y in expected.items():
            self._findings.compare(name, shape, y, actual[name])


def _load(open_file: Any, path: str, findings: Findings) -> Any:
    """Returns a session of a valid file; None if the file is not, or onnxruntime cannot load it."""
    try:
        return None if findings.problems else open_file(path)
    except Exception as error:  # noqa: BLE001 - any error here is a finding
        findings.problems.append(f"onnxruntime cannot load the file: {error}")
        return None


def _name_problems(interface: Interface, names: Sequence[str]) -> list[str]:
    """Returns a problem if the file's inputs have other names than the model's."""
    expected = [port.name for port in interface.ports]
    if list(names) == expected:
        return []
    return [f"The file's inputs are {list(names)}. The model's are {expected}."]


def _shape_problems(ports: Sequence[Port], file_ports: Sequence[Any]) -> list[str]:
    """Returns a problem for each input of another rank, or of another size if both fix it."""
    return [
        f"Input {ours.name!r} of the file has shape {tuple(theirs.shape)}. "
        f"The model's has {ours.shape}."
        for ours, theirs in zip(ports, file_ports, strict=True)
        if len(ours.shape) != len(theirs.shape)
        or any(
            type(a) is type(b) is int and a != b
            for a, b in zip(ours.shape, theirs.shape, strict=True)
        )
    ]


def _with_fixed_sizes(interface: Interface, session: Any) -> Interface:
    """Returns the model's inputs with the sizes that the file fixes."""
    ports = []
    for port, file_port in zip(interface.ports, session.get_inputs(), strict=True):
        pairs = zip(port.shape, file_port.shape, strict=True)
        shape = tuple(theirs if isinstance(theirs, int) else ours for ours, theirs in pairs)
        ports.append(replace(port, shape=shape))
    return replace(interface, ports=tuple(ports))


# A file of export_streaming -----------------------------------------------------------------------


def _compare_stream_file(
    model, interface: Interface, session: StreamingSession, seed: int, findings: Findings
) -> None:
    findings.problems += _name_problems(interface, session.inputs)
    if not findings.problems:
        for _ in compare_stream(model, interface, session, findings, seed):
            pass
