"""Does a file of export_streaming give in chunks what the model gives for the whole sequence?"""

from collections.abc import Sequence

import keras
import numpy as np

from keras_gated.export.conversion import ModelCall
from keras_gated.export.elsewhere import on_tensorflow
from keras_gated.export.errors import ExportError, require
from keras_gated.export.interface import Interface, random_inputs
from keras_gated.export.session import StreamingSession
from keras_gated.export.streaming_call import is_timed

CHUNKS = (1, 3, 2)  # time steps, one after another, beside the whole
TOLERANCE = 1e-5  # on |difference| / max(1, |y|)


def check_stream(
    model: keras.Model, interface: Interface, session: StreamingSession, wired: Sequence[str]
) -> float | None:
    """Compares a file, whole and in chunks, with the model.

    Args:
        model: the model, its layers not stateful.
        interface: its inputs, time open.
        session: of the file.
        wired: names of the calls of layers to which the model itself passes the states.

    Returns:
        The largest difference, relative to max(1, |y|); None where Keras refuses the sequence.

    Raises:
        ExportError: if it is more than rounding.
    """
    arrays = random_inputs(model, interface, 2, sum(CHUNKS), np.random.default_rng(0))
    expected = _whole(ModelCall(model, interface), arrays)
    if expected is None:
        return None
    largest = 0.0
    for lengths in ((sum(CHUNKS),), CHUNKS):
        session.reset()
        try:
            found = _in_chunks(session, interface, arrays, lengths)
        except Exception as error:  # noqa: BLE001 - whatever onnxruntime dislikes is the finding
            raise ExportError(_refused(lengths, str(error), wired)) from error
        differences = {name: _difference(y, found[name]) for name, y in expected.items()}
        # Written so that a NaN fails.
        wrong = [name for name, value in differences.items() if not value <= TOLERANCE]
        if wrong:
            said = [f"Output {name!r} differs by {differences[name]:.2e}." for name in wrong]
            raise ExportError(_refused(lengths, " ".join(said), wired))
        largest = max(largest, *differences.values())
    return largest


def _whole(call: ModelCall, arrays: list) -> dict | None:
    """The model's outputs for whole sequences."""
    try:
        outputs = call(*map(keras.ops.convert_to_tensor, arrays))
    except Exception:  # noqa: BLE001 - the model may be built for one length
        if not on_tensorflow():
            return None
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


def _difference(y: np.ndarray, found: np.ndarray) -> float:
    """The largest difference relative to max(1, |y|); infinite where the shapes differ."""
    if y.shape != found.shape:
        return float("inf")
    return float((np.abs(y - found) / np.maximum(1.0, np.abs(y))).max(initial=0.0))


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
