"""Sequences in chunks, for the tests of streams."""

import keras
import numpy as np

from keras_gated.onnx.streaming_session import StreamingSession

B = 2


def numbers(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def whole(model, *arrays):
    outputs = model(arrays[0] if len(arrays) == 1 else list(arrays), training=False)
    return [keras.ops.convert_to_numpy(y) for y in keras.tree.flatten(outputs)]


def in_chunks(session, lengths, *arrays) -> list:
    """Each output of a session, put together where it has a time axis."""
    ends, runs = np.cumsum(lengths), []
    assert ends[-1] == arrays[0].shape[1]
    for end, length in zip(ends, lengths, strict=True):
        ys = session.chunk([x[:, end - length : end] for x in arrays])
        runs.append(list(ys.values()) if isinstance(ys, dict) else [ys])
    return [np.concatenate(ys, 1) if ys[0].ndim == 3 else ys[-1] for ys in zip(*runs, strict=True)]


def assert_close(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def assert_streams(model, file, x, *lengths):
    """The chunks of each list of lengths equal the whole sequence."""
    session = StreamingSession(file)
    for each in lengths:
        session.reset()
        assert_close(in_chunks(session, each, x), whole(model, x))
