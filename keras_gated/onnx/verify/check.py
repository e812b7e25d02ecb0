"""Does an ONNX file do what the Keras model does? Asked of onnxruntime, at several shapes."""

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
from keras_gated.onnx.session import STATES, StreamingSession
from keras_gated.onnx.tracing.model_io import (
    Interface,
    Port,
    interface_of,
    output_names,
    random_inputs,
)
from keras_gated.onnx.tracing.model_layers import in_float32
from keras_gated.onnx.verify.differences import TOLERANCE, Findings, ParityReport, on_cpu, reason_of
from keras_gated.onnx.verify.inputs import at_shapes, describe_shapes
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
    """Runs an ONNX file in onnxruntime beside the Keras model and compares.

    The file is checked in full against the ONNX standard. Both get random inputs at several batch
    sizes and time lengths, one time step included; longer ones where the model needs them. A file
    of `export_streaming` is run over the whole sequence and in chunks. Layers of mixed precision
    compute in float32 meanwhile, as in the file, and Keras on the CPU (but on the torch backend).

    Args:
        model: the Keras model that the file was exported from.
        path: of the file.
        input_signature: as in `export_onnx`, for a model that does not know its inputs.
        tolerance: float > 0, on |difference| / max(1, |y|).
        seed: int, of the random inputs.
        raise_on_failure: bool. Whether a file that differs raises.

    Returns:
        A `ParityReport`; its `passed` tells, its str() explains.

    Raises:
        ExportError: with `raise_on_failure`, if the file differs: names the output and the shape.
        ValueError: if there is no such file.
        ImportError: if onnx or onnxruntime is not installed.

    Example:
        >>> print(kg.check_onnx(model, "model.onnx"))
    """
    onnx, _ = require("onnx", "onnxruntime")
    interface, path = interface_of(model, input_signature), os.fspath(path)
    if not Path(path).is_file():
        raise ValueError(
            f"Argument `path` must be of an ONNX file that exists. Received: path={path!r}. "
            "Write it with export_onnx or export_streaming first."
        )
    findings = Findings()
    proto = _read(onnx, path, findings)
    if not findings.problems:
        streaming = any(entry.key == STATES for entry in proto.metadata_props)
        with in_float32(model):
            (_as_stream if streaming else _whole)(model, interface, path, seed, findings)
    report = findings.report(path, tolerance, count_operators(proto.graph))
    if raise_on_failure and not report.passed:
        raise ExportError(f"The ONNX file does not do what the model does.\n{report}")
    return report


def session_of(path: str) -> Any:
    """Returns an onnxruntime session on one thread of the CPU, whose results repeat."""
    (onnxruntime,) = require("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _read(onnx: Any, path: str, findings: Findings) -> Any:
    """The file as an onnx.ModelProto, empty if it is none."""
    try:
        proto = onnx.load(path)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it is the finding
        findings.problems.append(f"The file cannot be read as ONNX: {error}")
        return onnx.ModelProto()
    try:
        onnx.checker.check_model(path, full_check=True)
    except Exception as error:  # noqa: BLE001 - as above
        findings.problems.append(f"The file is not valid ONNX: {error}")
    return proto


# A file of export_onnx --------------------------------------------------------------------------


def _whole(model, interface: Interface, path: str, seed: int, findings: Findings) -> None:
    session = _loaded(session_of, path, findings)
    if session is None:
        return
    given = session.get_inputs()
    findings.problems += _misnamed(interface, [port.name for port in given])
    findings.problems += [] if findings.problems else _unlike(interface.ports, given)
    if not findings.problems:
        interface = _as_fixed(interface, session)
        at_shapes(_Beside(model, interface, session, findings, seed).at)


class _Beside:
    """A model and its file, run beside each other on random inputs."""

    def __init__(self, model, interface: Interface, session: Any, findings: Findings, seed: int):
        self._model, self._interface, self._session = model, interface, session
        self._findings, self._rng = findings, np.random.default_rng(seed)
        self._done: dict[str, bool] = {}

    def at(self, batch: int, time: int) -> bool:
        """Compares at one shape, unless that was done; returns whether Keras takes it."""
        arrays = random_inputs(self._model, self._interface, batch, time, self._rng)
        feed = dict(zip([port.name for port in self._interface.ports], arrays, strict=True))
        shape = describe_shapes(feed)
        if shape not in self._done:
            expected = self._expected(arrays, shape)
            self._done[shape] = expected is not None
            if expected is not None:
                self._compare(feed, shape, expected)
        return self._done[shape]

    def _expected(self, arrays: list, shape: str) -> dict[str, np.ndarray] | None:
        """What the model gives, by name; None where it takes no such shape."""
        try:
            with on_cpu():
                tensors = [keras.ops.convert_to_tensor(array) for array in arrays]
                outputs = self._model(self._interface.pack(tensors), training=False)
            flat = [np.asarray(keras.ops.convert_to_numpy(y)) for y in tree.flatten(outputs)]
        except Exception as error:  # noqa: BLE001 - the model may need a longer sequence, say
            self._findings.notes.append(f"Keras refuses {shape}: {reason_of(error)}")
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
        except Exception as error:  # noqa: BLE001 - the finding
            problems.append(f"onnxruntime fails at {shape}: {error}")
            return
        found = dict(zip([p.name for p in self._session.get_outputs()], arrays, strict=True))
        if list(found) != list(expected):
            problems.append(f"The file's outputs are {list(found)}. The model's: {list(expected)}.")
            return
        for name, y in expected.items():
            self._findings.compare(name, shape, y, found[name])


def _loaded(session: Any, path: str, findings: Findings) -> Any:
    """A session of the file, or None if it cannot be loaded."""
    try:
        return session(path)
    except Exception as error:  # noqa: BLE001 - the finding
        findings.problems.append(f"onnxruntime cannot load the file: {error}")
        return None


def _misnamed(interface: Interface, names: Sequence[str]) -> list[str]:
    expected = [port.name for port in interface.ports]
    if list(names) == expected:
        return []
    return [f"The file's inputs are {list(names)}. The model's are {expected}."]


def _unlike(ports: Sequence[Port], given: Sequence[Any]) -> list[str]:
    """The file's inputs of another rank, or of another size where both fix it."""
    return [
        f"Input {ours.name!r} of the file has shape {tuple(theirs.shape)}. "
        f"The model's has {ours.shape}."
        for ours, theirs in zip(ports, given, strict=True)
        if len(ours.shape) != len(theirs.shape)
        or any(
            type(a) is type(b) is int and a != b
            for a, b in zip(ours.shape, theirs.shape, strict=True)
        )
    ]


def _as_fixed(interface: Interface, session: Any) -> Interface:
    """The interface with the sizes that the file fixes."""
    ports = []
    for port, given in zip(interface.ports, session.get_inputs(), strict=True):
        pairs = zip(port.shape, given.shape, strict=True)
        shape = tuple(theirs if isinstance(theirs, int) else ours for ours, theirs in pairs)
        ports.append(replace(port, shape=shape))
    return replace(interface, ports=tuple(ports))


# A file of export_streaming ---------------------------------------------------------------------


def _as_stream(model, interface: Interface, path: str, seed: int, findings: Findings) -> None:
    session = _loaded(StreamingSession, path, findings)
    if session is None:
        return
    findings.problems += _misnamed(interface, session.inputs)
    if not findings.problems:
        for _ in compare_stream(model, interface, session, findings, seed):
            pass
