"""Does a file of export_streaming give in chunks what the model gives for the whole sequence?"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import keras
import numpy as np

from keras_gated.onnx.convert import ModelCall
from keras_gated.onnx.errors import ExportError, require
from keras_gated.onnx.session import StreamingSession
from keras_gated.onnx.subprocess_export import on_tensorflow
from keras_gated.onnx.tracing.model_io import Interface, random_inputs
from keras_gated.onnx.tracing.model_layers import layers_within
from keras_gated.onnx.tracing.streaming import is_timed
from keras_gated.onnx.verify.differences import TOLERANCE, Findings, on_cpu, reason_of
from keras_gated.onnx.verify.inputs import describe_shapes

CHUNKS = (1, 3, 2)  # time steps, one after another, beside the whole


def check_stream(
    model: keras.Model, interface: Interface, session: StreamingSession, wired: Sequence[str]
) -> float | None:
    """Compares a file, whole and in chunks, with the model.

    Args:
        model: the model.
        interface: its inputs, time open.
        session: of the file.
        wired: names of the calls of layers to which the model itself passes the states.

    Returns:
        The largest difference, relative to max(1, |y|); None where Keras refuses the sequence and
        is not on TensorFlow.

    Raises:
        ExportError: if it is more than rounding, or if nothing could be compared.
    """
    findings = Findings()
    for lengths in compare_stream(model, interface, session, findings):
        if wrong := findings.wrong(TOLERANCE):
            raise ExportError(_refused(lengths, " ".join(wrong), wired))
    if not findings.outputs and on_tensorflow():  # elsewhere TensorFlow has compared already
        raise ExportError(
            "The converted graph could not be compared with the model, so no file was written. "
            f"{' '.join(findings.notes)} Export with verify=False and compare it on sequences that "
            "the model takes."
        )
    return max((f.relative for f in findings.outputs), default=None)


def compare_stream(
    model: keras.Model,
    interface: Interface,
    session: StreamingSession,
    findings: Findings,
    seed: int = 0,
) -> Iterator[Sequence[int]]:
    """Compares a file with the model into `findings`: whole, then in chunks.

    Yields:
        After each of the two the lengths of its chunks; nothing where Keras refuses the sequence.
    """
    interface = _opened(interface, session)
    arrays = random_inputs(model, interface, 2, sum(CHUNKS), np.random.default_rng(seed))
    shape = describe_shapes(dict(zip([port.name for port in interface.ports], arrays, strict=True)))
    try:
        with plain(model), on_cpu():
            expected = _whole(ModelCall(model, interface), arrays)
    except Exception as error:  # noqa: BLE001 - the model may need a longer sequence, say
        findings.notes.append(f"Keras refuses {shape}: {reason_of(error)}")
        return
    for lengths in ((sum(CHUNKS),), CHUNKS):
        at = shape if len(lengths) == 1 else f"{shape} in chunks of {', '.join(map(str, lengths))}"
        session.reset()
        try:
            found = _in_chunks(session, interface, arrays, lengths)
        except Exception as error:  # noqa: BLE001 - whatever onnxruntime dislikes is the finding
            findings.problems.append(f"onnxruntime fails at {at}: {error}")
        else:
            _compare(findings, at, expected, found)
        yield lengths


def _compare(findings: Findings, at: str, expected: dict, found: dict) -> None:
    if sorted(expected) != sorted(found):
        findings.problems.append(
            f"The file's outputs are {list(found)}. The model's are {list(expected)}."
        )
        return
    for name, y in expected.items():
        findings.compare(name, at, y, found[name])


def _opened(interface: Interface, session: StreamingSession) -> Interface:
    """The interface with time open where it is open in the file."""
    ports = [
        replace(p, shape=(p.shape[0], None, *p.shape[2:])) if p.name in session.timed else p
        for p in interface.ports
    ]
    return replace(interface, ports=tuple(ports))


@contextmanager
def plain(model: keras.Model) -> Iterator[None]:
    """Inside, no layer writes its states or unrolls its loop, for which time must be fixed."""
    layers = [layer for layer in layers_within(model) if isinstance(layer, keras.layers.RNN)]
    before = [(layer.stateful, layer.unroll) for layer in layers]
    try:
        for layer in layers:
            layer.stateful = layer.unroll = False
        yield
    finally:
        for layer, (stateful, unroll) in zip(layers, before, strict=True):
            layer.stateful, layer.unroll = stateful, unroll


def _whole(call: ModelCall, arrays: list) -> dict:
    """The model's outputs for whole sequences; raises where it takes none."""
    try:
        outputs = call(*map(keras.ops.convert_to_tensor, arrays))
    except Exception:  # noqa: BLE001 - the model may be built for one length
        if not on_tensorflow():
            raise
        (tf,) = require("tensorflow")  # a graph in which time is open
        signature = [tf.TensorSpec(p.shape, p.dtype) for p in call.ports]
        function = tf.function(lambda *x: call(*x), input_signature=signature, autograph=False)
        outputs = function.get_concrete_function()(*map(tf.constant, arrays))
    return {name: keras.ops.convert_to_numpy(y) for name, y in outputs.items()}


def _in_chunks(session, interface: Interface, arrays: list, lengths) -> dict[str, np.ndarray]:
    """The session's outputs: those of a chunk put together, the others of the last chunk."""
    ends = np.cumsum(lengths)
    runs = []
    for end, length in zip(ends, lengths, strict=True):
        parts = [
            x[:, end - length : end] if is_timed(port) else x
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


def _refused(lengths: Sequence[int], found: str, wired: Sequence[str]) -> str:
    if len(lengths) == 1:
        return (
            f"The converted graph does not do what the model does, so no file was written. {found} "
            "If this is the rounding of an unstable model, whose numbers grow without bound, "
            "export with verify=False. Else please report the model."
        )
    passed = f" as it is to the calls {list(wired)}" if wired else ""
    return (
        "The model does not give in chunks what it gives for the whole sequence, so no file was "
        f"written. In chunks of {', '.join(map(str, lengths))} time steps: {found} Only recurrent "
        "layers carry a state: what mixes time steps otherwise (Conv1D, pooling over time, "
        f"attention, an initial_state that is passed on{passed}) sees one chunk alone. Move it out "
        "of the exported model, or use export_onnx for whole sequences."
    )
