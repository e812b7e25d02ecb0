"""Compares a file of export_streaming with the model: over a whole sequence, then in chunks.

The two comparisons find different mistakes. If the whole sequence differs, the graph is wrong. If
only the chunks differ, the model mixes time steps outside of the layers whose states are carried,
e.g. in an attention layer, and cannot run as a stream.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from keras_gated.onnx.errors import ExportError, require
from keras_gated.onnx.model_to_graph import ModelCall
from keras_gated.onnx.streaming_session import StreamingSession
from keras_gated.onnx.subprocess_export import on_tensorflow
from keras_gated.onnx.tracing.layer_places import layers_within
from keras_gated.onnx.tracing.model_io import Interface
from keras_gated.onnx.tracing.streaming import StreamingCall, has_open_time
from keras_gated.onnx.verify.differences import (
    TOLERANCE,
    USUAL,
    Findings,
    compare_nan,
    on_cpu,
    short_reason,
)
from keras_gated.onnx.verify.inputs import describe_shapes
from keras_gated.onnx.verify.runners import Runner, RunnerStream, first_lines
from keras_gated.onnx.verify.values import Feed, Feeds

CHUNKS = (1, 3, 2)  # time steps of each chunk


def check_stream(
    model: keras.Model,
    interface: Interface,
    session: StreamingSession,
    traced: StreamingCall | None,
    given_or_graph: Any,
    others: Mapping[str, Runner] | None = None,
) -> Findings:
    """Compares a file, over a whole sequence and in chunks, with the model.

    Args:
        model: the model.
        interface: its inputs, with time open.
        session: of the file.
        traced: the call that was traced; it knows what in the model a stream cannot do.
        given_or_graph, others: as in `compare_stream`.

    Returns:
        What was found. There is nothing if Keras refuses the sequence on another backend than
        TensorFlow.

    Raises:
        ExportError: if the difference is more than rounding, or if nothing could be compared.
    """
    findings = Findings()
    compared = compare_stream(model, interface, session, findings, given_or_graph, others=others)
    for lengths in compared:
        if problems := findings.all_problems(TOLERANCE):
            message = _whole_message if len(lengths) == 1 else _chunks_message
            raise ExportError(message(" ".join(problems), traced))
    # On another backend, the process on TensorFlow has compared already.
    if not findings.outputs and on_tensorflow():
        raise ExportError(
            "The converted graph could not be compared with the model, so no file was written. "
            f"{' '.join(findings.notes)} Give sequences that the model takes: inputs=..."
        )
    return findings


def compare_stream(
    model: keras.Model,
    interface: Interface,
    session: StreamingSession,
    findings: Findings,
    given_or_graph: Any,
    seed: int = 0,
    others: Mapping[str, Runner] | None = None,
) -> Iterator[Sequence[int]]:
    """Compares a file with the model, each sequence as a whole, then in chunks.

    Args:
        model, interface, session: as in `check_stream`.
        findings: where results go.
        given_or_graph: sequences to compare on, as feeds; or the onnx.GraphProto of the file, for
            random ones.
        seed: of the random sequences.
        others: the file in other runtimes than onnxruntime, by their names.

    Yields:
        After each comparison, the lengths of its chunks. Nothing if Keras refuses the sequence.
    """
    interface = _with_open_time(interface, session)
    streams: dict[str, Any] = {USUAL: session}
    streams |= {name: RunnerStream(session, run) for name, run in (others or {}).items()}
    for words, feed in _sequences(model, interface, session, findings, given_or_graph, seed):
        arrays = [*feed.values()]
        try:
            with stateful_and_unroll_off(model), on_cpu():
                expected = _run_model(ModelCall(model, interface), arrays)
        except Exception as error:  # noqa: BLE001 - e.g. a model that needs a longer sequence
            findings.notes.append(f"Keras refuses {words}: {short_reason(error)}")
            continue
        for lengths in _chunks(feed, session):
            at = (
                words
                if len(lengths) == 1
                else f"{words} in chunks of {', '.join(map(str, lengths))}"
            )
            for runtime, stream in streams.items():
                stream.reset()
                try:
                    actual = _run_in_chunks(stream, interface, arrays, lengths)
                except Exception as error:  # noqa: BLE001 - any error here is a finding
                    findings.problems.append(f"{runtime} fails at {at}: {first_lines(error)}")
                else:
                    _compare(findings, at, expected, actual, runtime)
            yield lengths
    if findings.outputs and not findings.problems:
        _try_nan(ModelCall(model, interface), session, findings, feed)


def _try_nan(call: ModelCall, session: StreamingSession, findings: Findings, feed: Feed) -> None:
    """Notes whether the file passes on a NaN as Keras does."""

    def run_keras(changed: Feed) -> dict:
        with stateful_and_unroll_off(call.model), on_cpu():
            return _run_model(call, [*changed.values()])

    def run_file(changed: Feed) -> dict:
        session.reset()
        return _run_in_chunks(
            session, call.interface, [*changed.values()], _chunks(feed, session)[0]
        )

    compare_nan(findings, feed, run_keras, run_file)


def _sequences(model, interface, session, findings: Findings, given_or_graph: Any, seed: int):
    """Yields the sequences to compare on, each with what it is."""
    if isinstance(given_or_graph, list):
        findings.tried.append(f"the sequences that were given: {len(given_or_graph)}")
        for feed in given_or_graph:
            yield describe_shapes(feed), feed
        return
    feeds = Feeds(model, given_or_graph, interface.ports, seed)
    findings.tried += feeds.describe()
    feed = feeds(2, sum(_chunk_lengths(session)))
    yield describe_shapes(feed), feed
    for words, variant in feeds.variants(feed):
        yield f"{describe_shapes(feed)} with {words}", variant


def _chunks(feed: Feed, session: StreamingSession) -> list[tuple[int, ...]]:
    """Returns the lengths of chunks for two runs over a sequence: the whole, and several."""
    time = next(feed[name].shape[1] for name in session.inputs if name in session.timed)
    several = _chunk_lengths(session)
    if time != sum(several):  # a sequence of the caller's
        rest = time // session.stride - 1
        several = [session.stride * part for part in (1, rest // 2, rest - rest // 2)]
    return [(time,), tuple(length for length in several if length > 0)]


def open_stream(path: str | os.PathLike) -> StreamingSession:
    """Returns a session on one CPU thread that writes no log."""
    (onnxruntime,) = require("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return StreamingSession(path, session_options=options)


def _chunk_lengths(session: StreamingSession) -> list[int]:
    """Returns lengths of chunks; together they are longer than the windows that are carried."""
    states = session.state.values()
    longest = sum(array.shape[1] for array in states if array.ndim == 3)
    lengths = [session.stride * length for length in CHUNKS]
    more = -(-longest // session.stride)
    return [*lengths, *([session.stride * (more + 1)] if more > 1 else [])]


def _compare(findings: Findings, at: str, expected: dict, actual: dict, runtime: str) -> None:
    if sorted(expected) != sorted(actual):
        findings.problems.append(
            f"The file's outputs are {list(actual)}. The model's are {list(expected)}."
        )
        return
    for name, y in expected.items():
        findings.compare(name, at, y, actual[name], runtime)


def _with_open_time(interface: Interface, session: StreamingSession) -> Interface:
    """Returns the model's inputs with time open where it is open in the file."""
    ports = [
        replace(p, shape=(p.shape[0], None, *p.shape[2:])) if p.name in session.timed else p
        for p in interface.ports
    ]
    return replace(interface, ports=tuple(ports))


@contextmanager
def stateful_and_unroll_off(model: keras.Model) -> Iterator[None]:
    """Sets stateful=False and unroll=False in all layers for as long as the context is open.

    A stateful layer would change its own states. An unrolled loop needs a fixed time.
    """
    layers = [layer for layer in layers_within(model) if isinstance(layer, keras.layers.RNN)]
    before = [(layer.stateful, layer.unroll) for layer in layers]
    try:
        for layer in layers:
            layer.stateful = layer.unroll = False
        yield
    finally:
        for layer, (stateful, unroll) in zip(layers, before, strict=True):
            layer.stateful, layer.unroll = stateful, unroll


def _run_model(call: ModelCall, arrays: list) -> dict:
    """Returns the model's outputs for whole sequences; raises if it refuses them.

    A model that is built for one length may refuse other lengths, but accept an open time axis:
    so on TensorFlow it is tried again in a graph in which time is open.
    """
    try:
        outputs = call(*map(keras.ops.convert_to_tensor, arrays))
    except Exception:  # noqa: BLE001 - a layer may raise anything
        if not on_tensorflow():
            raise
        (tf,) = require("tensorflow")
        signature = [tf.TensorSpec(p.shape, p.dtype) for p in call.ports]
        function = tf.function(lambda *x: call(*x), input_signature=signature, autograph=False)
        outputs = function.get_concrete_function()(*map(tf.constant, arrays))
    return {name: keras.ops.convert_to_numpy(y) for name, y in outputs.items()}


def _run_in_chunks(session, interface: Interface, arrays: list, lengths) -> dict[str, np.ndarray]:
    """Returns the session's outputs: joined along time, or of the last chunk if they have none."""
    ends = np.cumsum(lengths)
    runs = []
    for end, length in zip(ends, lengths, strict=True):
        parts = [
            x[:, end - length : end] if has_open_time(port) else x
            for port, x in zip(interface.ports, arrays, strict=True)
        ]
        y = session.chunk(parts)
        runs.append(y if isinstance(y, dict) else {session.outputs[0]: y})
    return {
        name: np.concatenate([run[name] for run in runs], axis=1)
        if name in session.timed
        else runs[-1][name]
        for name in session.outputs
    }


def _whole_message(problems: str, traced: StreamingCall | None) -> str:
    if reasons := traced and traced.reasons_against_file():
        return (
            "Argument `model` must be a model that runs as a stream. No file was written. "
            f"{' '.join(reasons)} Or use export_onnx for whole sequences."
        )
    return (
        "The converted graph does not compute what the model computes, so no file was written. "
        f"{problems} If the model is unstable, so that its numbers grow without bound, this may be "
        "rounding: export with verify=False. Otherwise please report the model."
    )


def _chunks_message(problems: str, traced: StreamingCall | None) -> str:
    reasons = (traced and traced.reasons_against_chunks()) or [
        "Recurrent layers and causal convolutions alone carry a state from chunk to chunk. "
        "Whatever else mixes time steps sees one chunk alone. Move it out of the model."
    ]
    return (
        "The model does not give in chunks what it gives for the whole sequence, so no file was "
        f"written. {problems} {' '.join(reasons)} Or use export_onnx for whole sequences."
    )
