"""Sequences that begin inside a row: in the files of both exports, and in a session."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from keras_gated.onnx.errors import ExportError
from keras_gated.onnx.export import export_onnx
from keras_gated.onnx.export_streaming import export_streaming
from keras_gated.onnx.streaming_session import StreamingSession
from tests.helpers import raises
from tests.onnx.helpers import (
    F,
    U,
    assert_same,
    count_operators,
    functional,
    on_tensorflow,
    randomized,
)
from tests.onnx.streams import B, assert_close, numbers

pytestmark = on_tensorflow
layers = keras.layers
T = 9
RESETS = np.zeros((B, T), bool)
RESETS[0, [0, 4]] = RESETS[-1, [3, 4, 8]] = True


def with_resets(*cells, mask=False, **arguments):
    """A model of gated layers, one behind the other, with an input of resets."""
    x, r = keras.Input((None, F), name="x"), keras.Input((None,), dtype="bool", name="resets")
    y = layers.Masking(name="masking")(x) if mask else x
    for cell in cells:
        y = kg.GatedRNN(U, cell, return_sequences=True, name=cell, **arguments)(y, resets=r)
    return randomized(keras.Model([x, r], y))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("go_backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("mask", [False, True], ids=["whole", "masked"])
def test_a_scan_in_place_of_an_operator(path, mask, go_backwards):
    model = with_resets("lstm", "gru", "qrnn_fo", mask=mask, go_backwards=go_backwards)
    report = export_onnx(model, path)
    assert [layer.operator for layer in report.layers] == ["Scan"] * 3
    assert all("resets: " in layer.reason for layer in report.layers), report
    x = numbers(B, T, F)
    x[1, 2:5] = 0.0
    assert_same(model, path, x, RESETS)


def test_only_the_layer_that_gets_them_is_a_scan(path):
    x, r = keras.Input((None, F), name="x"), keras.Input((None,), dtype="bool", name="resets")
    y = kg.GatedLSTM(U, return_sequences=True, name="with")(x, resets=r)
    model = randomized(keras.Model([x, r], kg.GatedLSTM(U, name="without")(y)))
    assert [layer.operator for layer in export_onnx(model, path).layers] == ["Scan", "LSTM"]
    text = r"native.*layer 'with': resets: an operator's states begin.*lowering='auto'"
    with pytest.raises(ExportError, match=text):
        export_onnx(model, path, lowering="native")


def test_a_cell_without_input_kernels_is_a_loop(path):
    """There is no series for a Scan, and the operator would not begin anew."""
    constants = {"input_gate": 1.0, "forget_gate": 0.0, "output_gate": 1.0}
    spec = kg.CellSpec(memory="hidden", candidate=kg.Candidate(kernel=None), **constants)
    x, r = keras.Input((None, F), name="x"), keras.Input((None,), dtype="bool", name="resets")
    layer = kg.GatedRNN(U, spec, return_sequences=True, name="cell", bias_initializer="ones")
    model = randomized(keras.Model([x, r], layer(x, resets=r)))
    assert export_onnx(model, path).layers[0].operator == "Loop"
    assert_same(model, path, numbers(B, T, F), RESETS)


def test_all_time_steps_at_once_become_a_scan(path):
    model = with_resets("min_gru", time_parallel=True)
    assert export_onnx(model, path).layers[0].operator == "Scan"
    assert_same(model, path, numbers(B, T, F), RESETS)


def test_two_directions(path):
    x, r = keras.Input((None, F), name="x"), keras.Input((None,), dtype="bool", name="resets")
    forwards = kg.GatedGRU(U, return_sequences=True, name="forwards")(x, resets=r)
    backwards = kg.GatedGRU(U, return_sequences=True, go_backwards=True, name="backwards")
    backwards = layers.Lambda(lambda y: keras.ops.flip(y, axis=1))(backwards(x, resets=r))
    model = randomized(keras.Model([x, r], layers.Concatenate()([forwards, backwards])))
    export_onnx(model, path)
    assert count_operators(path)["Scan"] == 2
    assert_same(model, path, numbers(B, T, F), RESETS)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("mask", [False, True], ids=["whole", "masked"])
def test_an_input_of_a_stream(path, mask):
    """Chunks give what the whole gives, also where a chunk begins with masked steps."""
    model = with_resets("lstm", "qrnn_fo", mask=mask)
    report = export_streaming(model, path)
    assert report.inputs[:2] == ("x", "resets")
    x = numbers(B, T, F)
    x[0, 2:4] = x[0, 4] = x[1, 3:6] = x[-1, 3:5] = 0.0
    y = keras.ops.convert_to_numpy(model([x, RESETS]))
    session, found = StreamingSession(path), []
    for steps in (slice(0, 3), slice(3, 4), slice(4, 9)):
        found.append(session.chunk([x[:, steps], RESETS[:, steps]]))
    assert_close([np.concatenate(found, axis=1)], [y])


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """A model, the same with an input of resets, and its file without one."""
    path = str(tmp_path_factory.mktemp("resets") / "stream.onnx")
    cells = ("gru", "qrnn_fo", "janet")
    named = with_resets(*cells)
    model = functional(*(kg.GatedRNN(U, c, return_sequences=True, name=c) for c in cells))
    model.set_weights(named.get_weights())
    export_streaming(model, path)
    return named, path


def test_a_chunk_with_resets(stream):
    model, path = stream
    x = numbers(B, T, F)
    y = keras.ops.convert_to_numpy(model([x, RESETS]))
    session = StreamingSession(path)
    assert_close([session.chunk(x, resets=RESETS)], [y])
    session.reset()
    found = [session.chunk(x[:, t : t + 3], resets=RESETS[:, t : t + 3]) for t in (0, 3, 6)]
    assert_close([np.concatenate(found, axis=1)], [y])
    session.reset()
    for t in range(T):  # the same by hand
        if t:
            session.reset(rows=RESETS[:, t])
        assert_close([session.step(x[:, t])], [y[:, t]])
    session.reset()
    none = np.zeros((B, T), int)
    assert_close([session.chunk(x, resets=none)], [StreamingSession(path).chunk(x)])


def test_the_last_output_and_a_convolution(path):
    """Its last inputs are a state too, and begin anew; outputs without time are the last ones."""
    front = layers.Conv1D(4, 3, strides=2, padding="causal", name="conv")
    model = functional(front, kg.GatedGRU(U, name="gru"))
    export_streaming(model, path)
    session, x = StreamingSession(path), numbers(2, 8, F)
    resets = np.zeros((2, 8), bool)
    resets[1, 4] = True
    found = session.chunk(x, resets=resets)
    alone = StreamingSession(path)
    assert_close([found[:1], found[1:]], [alone.chunk(x[:1]), alone.stream().chunk(x[1:, 4:])])
    resets[0, 3] = True
    text = "`resets`...multiples of 2 time steps...Received: True at time steps [3, 4]"
    raises(lambda: session.chunk(x, resets=resets), text)


@pytest.mark.parametrize(
    ("resets", "received"),
    [
        (RESETS[:, :4], f"shape ({B}, 4), dtype bool"),
        (RESETS[:1], f"shape (1, {T}), dtype bool"),
        (RESETS.astype("float32"), f"shape ({B}, {T}), dtype float32"),
        ([0, 4], "shape (2,), dtype int64"),
    ],
    ids=["time", "batch", "float", "list"],
)
def test_other_resets_are_refused_and_change_no_state(stream, resets, received):
    _, path = stream
    session, x = StreamingSession(path), numbers(B, T, F)
    session.chunk(x[:, :2])
    before = session.state
    text = f"`resets`...(B, T), here ({B}, {T})...Received: {received}"
    raises(lambda: session.chunk(x, resets=resets), text)
    raises(lambda: session.chunk(x[:1], resets=RESETS[:1]), f"batch of the stream, {B}")
    for name, state in session.state.items():
        np.testing.assert_array_equal(state, before[name])


def test_a_run_that_fails_changes_no_state(stream, monkeypatch):
    _, path = stream
    session, x = StreamingSession(path), numbers(B, T, F)
    session.chunk(x)
    before, runs, right = session.state, [], session._run

    def failing(arrays):
        runs.append(arrays)
        if len(runs) == 2:
            raise RuntimeError("planted")
        return right(arrays)

    monkeypatch.setattr(session, "_run", failing)
    with pytest.raises(RuntimeError, match="planted"):
        session.chunk(x, resets=RESETS)
    for name, state in session.state.items():
        np.testing.assert_array_equal(state, before[name])
