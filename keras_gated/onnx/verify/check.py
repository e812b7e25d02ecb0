"""check_onnx: compares an ONNX file with the Keras model, in onnxruntime, at several shapes.

A file of `export_streaming` is compared over a whole sequence and in chunks, see `streams.py`.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_gated.onnx.atomic_file import describe_path, is_file
from keras_gated.onnx.errors import ExportError, require
from keras_gated.onnx.graph.cleanup import count_operators
from keras_gated.onnx.runtimes import check_runtimes
from keras_gated.onnx.streaming_session import STATES, StreamingSession
from keras_gated.onnx.subprocess_export import on_tensorflow
from keras_gated.onnx.tracing.layer_places import in_float32
from keras_gated.onnx.tracing.model_io import Interface, Port, interface_of, output_names
from keras_gated.onnx.verify.differences import (
    TOLERANCE,
    Findings,
    ParityReport,
    compare_nan,
    on_cpu,
    short_reason,
)
from keras_gated.onnx.verify.inputs import describe_shapes, feeds_from_samples
from keras_gated.onnx.verify.runners import (
    Runner,
    first_lines,
    open_others,
    open_session,
    require_runtimes,
)
from keras_gated.onnx.verify.shapes import ShapeCheck, try_shapes
from keras_gated.onnx.verify.streams import compare_stream, open_stream
from keras_gated.onnx.verify.values import LENGTHS, Feed, Feeds

OUT_OF_RANGE = re.compile("index found|out of data bounds|out of bounds")  # onnxruntime's words


def check_onnx(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    input_signature=None,
    inputs: Any = None,
    runtimes: Sequence[str] = ("onnxruntime",),
    tolerance: float = TOLERANCE,
    seed: int = 0,
    raise_on_failure: bool = False,
) -> ParityReport:
    """Compares an ONNX file with the Keras model that it was exported from.

    The file is checked against the ONNX standard, then runs in onnxruntime. The file and the model
    get the same random inputs, at several batches and time lengths, one time step included. If the
    model takes no short sequence, the shortest that it takes is found. A file of `export_streaming`
    runs over a whole sequence and in chunks. Layers with mixed precision compute in float32, as in
    the file. Keras computes on the CPU, except on the torch backend.

    Some values are tried because they mean something to the model: padding, at the end and in
    holes, wherever a mask is computed from the input; token indices that an Embedding has; lengths
    from 0 to the number of time steps, for inputs of one integer for each sequence. What was tried
    is in the report. One NaN is tried too: the report notes if the file handles it in another way
    than Keras, as native LSTM and GRU nodes do, but the file does not fail for that.

    Args:
        model: the Keras model.
        path: of the file.
        input_signature: as in `export_onnx`, for a model that does not know its inputs.
        inputs: inputs of your own, as the model takes them (an array, list or dictionary), or a
            list of such. The file is compared on these instead of on random ones. One of
            `export_streaming` needs whole sequences.
        runtimes: names of the runtimes in which to run the file, as in `export_onnx`. Each must be
            installed.
        tolerance: float > 0, the largest |difference| / max(1, |y|) allowed.
        seed: int, of the random inputs.
        raise_on_failure: bool. Whether to raise an error if the file differs.

    Returns:
        A `ParityReport`. `passed` says whether the file agrees; `str()` is a table.

    Raises:
        ExportError: with `raise_on_failure`, if the file differs. It says which output, at which
            shape.
        ValueError: if there is no such file, or if `inputs` do not fit the model.
        ImportError: if onnx, onnxruntime or another of the runtimes is not installed.

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
    versions = require_runtimes(check_runtimes(runtimes))
    interface = interface_of(model, input_signature)
    if not is_file(path):
        raise ValueError(
            "Argument `path` must be a str or os.PathLike, the path of an ONNX file that exists. "
            f"Received: path={describe_path(path)}. Write it with export_onnx or export_streaming "
            "first."
        )
    path = os.fspath(path)
    given = None if inputs is None else feeds_from_samples(inputs, interface.ports, "inputs")
    findings = Findings()
    proto = _read(onnx, path, findings)
    is_stream = any(entry.key == STATES for entry in proto.metadata_props)
    if session := _load(open_stream if is_stream else open_session, path, findings):
        others = open_others(list(versions), path, findings.problems)
        compare = _compare_stream_file if is_stream else _compare_file
        with in_float32(model):
            compare(model, interface, session, others, given or proto.graph, seed, findings)
    report = findings.report(path, tolerance, count_operators(proto.graph), versions)
    if raise_on_failure and not report.passed:
        raise ExportError(f"The ONNX file does not compute what the model computes.\n{report}")
    return report


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


def _compare_file(
    model,
    interface: Interface,
    session: Any,
    others: Mapping[str, Runner],
    given_or_graph: Any,
    seed: int,
    findings: Findings,
) -> None:
    ports = session.get_inputs()
    findings.problems += _name_problems(interface, [port.name for port in ports])
    findings.problems += [] if findings.problems else _shape_problems(interface.ports, ports)
    if findings.problems:
        return
    interface = _with_fixed_sizes(interface, session)
    comparison = _Comparison(model, interface, session, others, findings)
    if isinstance(given_or_graph, list):
        comparison.compare_on(given_or_graph)
    else:
        feeds = Feeds(model, given_or_graph, interface.ports, seed)
        comparison.compare_on_random(feeds)


class _Comparison:
    """Compares a model and its file.

    Args:
        model, interface: the model and its inputs.
        session: an onnxruntime session of the file.
        others: the file in other runtimes, by their names.
        findings: where results go.
    """

    def __init__(
        self,
        model,
        interface: Interface,
        session: Any,
        others: Mapping[str, Runner],
        findings: Findings,
    ):
        self._model, self._interface, self._session = model, interface, session
        self._others = others
        self._findings = findings
        self._done: dict[str, bool] = {}  # {shapes as text: whether Keras takes them}

    def compare_on(self, given: list[Feed]) -> None:
        """Compares on inputs that the user gave."""
        self._findings.tried.append(f"the inputs that were given: {len(given)}")
        if all([self._compare_on(feed, describe_shapes(feed)) for feed in given]):
            self._try_nan(given[0])

    def compare_on_random(self, feeds: Feeds) -> None:
        """Compares on random inputs of several shapes."""
        check = ShapeCheck(self._model, self._interface)
        feeds.other = check.other

        def run(batch: int, time: int) -> bool:
            return self._compare_at(feeds, check, batch, time)

        try_shapes(run, check.takes if check.can_say else None)
        self._findings.tried += feeds.describe()
        if self._usual:
            self._try_nan(self._usual)

    _usual: Feed | None = None  # random inputs of more than one time step that Keras takes

    def _compare_at(self, feeds: Feeds, check: ShapeCheck, batch: int, time: int) -> bool:
        """Compares at one batch and time; returns whether Keras takes this shape.

        Different batches and times may give the same shapes, if the model fixes them.
        """
        feed = feeds(batch, time)
        shape = describe_shapes(feed)
        if shape in self._done:
            return self._done[shape]
        if check.can_say and (reason := check.refusal(batch, time)):
            self._findings.notes.append(reason.format(shape))
            self._done[shape] = False
        else:
            self._done[shape] = self._compare_lengths(feeds, feed, batch, time)
        if self._done[shape] and time > 1 and not self._usual:
            self._usual = feed
            for words, variant in feeds.variants(feed):
                self._compare_on(variant, f"{shape} with {words}")
        return self._done[shape]

    def _compare_lengths(self, feeds: Feeds, feed: Feed, batch: int, time: int) -> bool:
        """Compares on inputs, with fewer values for lengths if Keras refuses them."""
        before, notes = feeds.lengths, len(self._findings.notes)
        for feeds.lengths in LENGTHS[LENGTHS.index(before) :]:
            if self._compare_on(feed, describe_shapes(feed)):
                return True
            if not feeds.has_lengths:
                break
            feed = feeds(batch, time)
        feeds.lengths = before  # it was not the lengths
        del self._findings.notes[notes + 1 :]
        return False

    def _compare_on(self, feed: Feed, words: str) -> bool:
        """Compares on one feed; returns whether Keras takes it."""
        expected = self._run_model(feed, words)
        return expected is not None and self._compare(feed, words, expected)

    def _run_model(self, feed: Feed, words: str) -> dict[str, np.ndarray] | None:
        """Returns the model's outputs by name; None if it refuses the inputs."""
        try:
            with on_cpu():
                tensors = map(keras.ops.convert_to_tensor, feed.values())
                outputs = self._model(self._interface.pack(tensors), training=False)
            flat = [np.asarray(keras.ops.convert_to_numpy(y)) for y in tree.flatten(outputs)]
        except Exception as error:  # noqa: BLE001 - e.g. a model that needs a longer sequence
            self._findings.notes.append(f"Keras refuses {words}: {short_reason(error)}")
            return None
        if not any(y.size for y in flat):
            self._findings.notes.append(f"Keras gives an empty output at {words}")
            return None
        names = output_names(self._model, outputs, self._interface)
        return dict(zip(names, flat, strict=True))

    def _compare(self, feed: Feed, words: str, expected: dict[str, np.ndarray]) -> bool:
        """Compares with the model's outputs; returns False if an index is out of range."""
        problems = self._findings.problems
        try:
            actual = self._run_file(feed)
        except Exception as error:  # noqa: BLE001 - any error here is a finding
            if OUT_OF_RANGE.search(str(error)) and not on_tensorflow():
                # TensorFlow refuses such an index; JAX and torch may read something else.
                self._findings.notes.append(f"An index is out of range at {words}")
                return False
            problems.append(f"onnxruntime fails at {words}: {error}")
            return True
        if list(actual) != list(expected):
            problems.append(
                f"The file's outputs are {list(actual)}. The model's: {list(expected)}."
            )
            return True
        for name, y in expected.items():
            self._findings.compare(name, words, y, actual[name])
        self._compare_others(feed, words, expected)
        return True

    def _compare_others(self, feed: Feed, words: str, expected: dict[str, np.ndarray]) -> None:
        """Compares the outputs of the other runtimes."""
        for runtime, run in self._others.items():
            try:
                actual = run(feed)
            except Exception as error:  # noqa: BLE001 - any error here is a finding
                reason = first_lines(error)
                self._findings.problems.append(f"{runtime} fails at {words}: {reason}")
                continue
            for name, y in expected.items():
                self._findings.compare(name, words, y, actual[name], runtime)

    def _run_file(self, feed: Feed) -> dict[str, np.ndarray]:
        arrays = self._session.run(None, feed)
        return dict(zip([p.name for p in self._session.get_outputs()], arrays, strict=True))

    def _try_nan(self, feed: Feed) -> None:
        """Notes whether the file passes on a NaN as Keras does."""
        if not self._findings.problems:
            compare_nan(
                self._findings, feed, lambda x: self._run_model(x, "a NaN") or {}, self._run_file
            )


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
    model,
    interface: Interface,
    session: StreamingSession,
    others: Mapping[str, Runner],
    given_or_graph: Any,
    seed: int,
    findings: Findings,
) -> None:
    findings.problems += _name_problems(interface, session.inputs)
    if not findings.problems:
        compared = compare_stream(model, interface, session, findings, given_or_graph, seed, others)
        for _ in compared:
            pass
