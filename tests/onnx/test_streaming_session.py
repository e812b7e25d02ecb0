"""A session: steps and chunks of a stream, its states, and what it refuses."""

import json

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

import keras_gated as kg
from keras_gated.onnx.export_streaming import export_streaming
from keras_gated.onnx.streaming_session import StreamingSession
from tests.onnx.helpers import F, U, functional, native_nodes, on_tensorflow
from tests.onnx.streams import B, assert_close, assert_streams, numbers, whole

pytestmark = on_tensorflow
layers = keras.layers


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    """A model of five layers, its file and the report."""
    model = functional(
        layers.LSTM(U, return_sequences=True, name="lower"),
        layers.Dense(4),
        layers.GRU(U, return_sequences=True, name="middle"),
        kg.GatedRNN(4, "janet", return_sequences=True, name="upper"),
        layers.Dense(2, name="head"),
    )
    file = str(tmp_path_factory.mktemp("five") / "stream.onnx")
    return model, file, export_streaming(model, file)


STATES = {"lower_h": U, "lower_c": U, "middle_h": U, "upper_h": 4}


def test_steps_and_chunks_equal_the_whole_sequence(five):
    model, file, _ = five
    x = numbers(B, 50, F)
    (y,) = whole(model, x)
    session = StreamingSession(file)
    steps = [session.step(x[:, t]) for t in range(50)]
    assert steps[0].shape == (B, 2)
    assert_close([np.stack(steps, axis=1)], [y])
    assert_streams(model, file, x, (7, 1, 22, 20), (50,))


def test_names_axes_and_metadata(five):
    _, file, report = five
    outs = tuple(f"{name}_out" for name in STATES)
    assert report.inputs == ("x", *STATES) and report.outputs == ("head", *outs)
    assert report.largest_difference < 1e-5 and native_nodes(file) == 3
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    shapes = {
        port.name: [d.dim_param or d.dim_value for d in port.type.tensor_type.shape.dim]
        for port in (*model.graph.input, *model.graph.output)
    }
    for name, units in STATES.items():
        assert shapes[name] == shapes[f"{name}_out"] == ["batch", units]
    assert shapes["x"] == ["batch", "time", F] and shapes["head"] == ["batch", "time", 2]
    (listed,) = [p.value for p in model.metadata_props if p.key == "keras_gated.states"]
    assert json.loads(listed) == [
        {"input": name, "output": f"{name}_out", "shape": [units], "dtype": "float32"}
        for name, units in STATES.items()
    ]


def test_the_state_can_be_read_set_and_reset(five):
    _, file, _ = five
    session, x = StreamingSession(file), numbers(B, 9, F)
    begin = session.state
    assert {name: state.shape for name, state in begin.items()} == {
        name: (1, units) for name, units in STATES.items()
    }
    session.chunk(x[:, :4])
    saved = session.state
    assert all(state.any() for state in saved.values())
    y = session.chunk(x[:, 4:])
    for state in session.state.values():
        state[:] = 7.0  # a copy: the stream does not see it
    session.state = saved
    np.testing.assert_array_equal(session.chunk(x[:, 4:]), y)
    session.state = saved
    for state in saved.values():
        state[:] = 7.0  # nor what was given
    other = StreamingSession(file)
    other.chunk(x[:, :4])
    np.testing.assert_array_equal(session.chunk(x[:, 4:]), y)
    np.testing.assert_array_equal(other.chunk(x[:, 4:]), y)
    session.reset()
    assert not any(state.any() for state in session.state.values())
    first = session.chunk(x[:1, :4])  # of another batch
    assert_close([first], [StreamingSession(file).chunk(x[:, :4])[:1]])


def test_what_was_returned_stays_as_it_is(five):
    """Runs of one shape share buffers; nobody outside may see them."""
    _, file, _ = five
    session, x = StreamingSession(file), numbers(B, 12, F)
    given = [x[:, t].copy() for t in range(8)]
    found = [session.step(at) for at in given]
    first = [y.copy() for y in found]
    for at in given:
        at[:] = 7.0
    later = [session.step(x[:, t]) for t in range(8, 12)]
    np.testing.assert_array_equal(found, first)
    for y in found + later:
        y[:] = 7.0
    other = StreamingSession(file)
    other.chunk(x)
    assert_close([session.chunk(x)], [other.chunk(x)])


def test_states_and_inputs_in_any_order_of_memory(five):
    _, file, _ = five
    session, other, x = StreamingSession(file), StreamingSession(file), numbers(B, 9, F)
    begin = {name: numbers(B, units, seed=3) for name, units in STATES.items()}
    session.state, other.state = begin, {k: np.asfortranarray(v) for k, v in begin.items()}
    for t in range(9):
        given = np.asfortranarray(x[:, t])
        np.testing.assert_array_equal(other.step(given), session.step(x[:, t].copy()))
    for name, state in session.state.items():
        np.testing.assert_array_equal(other.state[name], state)


def test_a_run_that_fails_leaves_the_stream_as_it_was(five):
    _, file, _ = five
    session, x = StreamingSession(file), numbers(B, 9, F)
    session.step(x[:, 0])
    session.step(x[:, 1])
    saved, bound = session.state, session._buffers._bound[0]
    bound.clear_binding_inputs()
    with pytest.raises(Exception, match="(?i)input"):
        session.step(x[:, 2])
    for name, state in session.state.items():
        np.testing.assert_array_equal(state, saved[name])


def test_two_sessions_do_not_disturb_one_another(five):
    model, file, _ = five
    a, b = numbers(B, 6, F, seed=1), numbers(3, 6, F, seed=2)
    one, two = StreamingSession(file), StreamingSession(file)
    found = [(one.step(a[:, t]), two.step(b[:, t])) for t in range(6)]
    for x, ys in zip((a, b), zip(*found, strict=True), strict=True):
        assert_close([np.stack(ys, axis=1)], whole(model, x))


def test_what_a_session_takes(five):
    _, file, _ = five
    session, x = StreamingSession(file), numbers(B, 4, F)
    y = session.chunk(x)
    for given in ({"x": x}, [x], x.tolist(), x.astype("float64")):
        session.reset()
        np.testing.assert_array_equal(session.chunk(given), y)
    assert session.inputs == ("x",) and session.outputs == ("head",)
    assert session.timed == {"x", "head"}


@pytest.mark.parametrize(
    ("call", "given", "words"),
    [
        ("chunk", np.zeros((3, 4, F)), r"2.*Received: batch 3.*reset\(\)"),
        ("step", np.zeros((1, F)), "2.*Received: batch 1"),
        ("chunk", np.zeros((2, 0, F)), r"'x' of shape \(batch, time, 3\).*\(2, 0, 3\)"),
        ("chunk", np.zeros((0, 4, F)), r"length 0.*\(0, 4, 3\)"),
        ("step", np.zeros((0, F)), r"'x' of shape \(batch, 3\).*Received: shape \(0, 3\)"),
        ("step", np.zeros((2, 1, F)), r"\(batch, 3\).*Received: shape \(2, 1, 3\).*chunk\(\)"),
        ("chunk", np.zeros((2, F)), r"\(batch, time, 3\).*Received: shape \(2, 3\).*step\(\)"),
        ("step", np.float32(3.0), r"Received: shape \(\)"),
        ("step", {"y": np.zeros((2, F))}, r"\['x'\].*Received: \['y'\]"),
    ],
)
def test_what_a_session_refuses(five, call, given, words):
    session, x = StreamingSession(five[1]), numbers(B, 4, F)
    session.chunk(x)
    before = session.state
    with pytest.raises(ValueError, match=words):
        getattr(session, call)(given)
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
        session.step(np.zeros((B, F + 1)))
    for name, state in session.state.items():  # a refused call leaves the stream as it was
        np.testing.assert_array_equal(state, before[name])
    session.chunk(x)


def test_a_refused_first_call_leaves_the_batch_open(five):
    session = StreamingSession(five[1])
    for bad in (np.zeros((0, 4, F)), np.zeros((3, 4, F + 1))):
        with pytest.raises(Exception, match="(?i)dimension|length 0"):
            session.chunk(bad)
    assert session.chunk(numbers(B, 4, F)).shape == (B, 4, 2)


def test_a_wrong_state_is_refused(five):
    session = StreamingSession(five[1])
    good = session.state
    wrong = [
        {},
        {**good, "more": good["lower_h"]},
        {**good, "lower_c": np.zeros((2, U))},
        {**good, "upper_h": np.zeros((1, U))},
        {name: state[:0] for name, state in good.items()},
    ]
    for state in wrong:
        with pytest.raises(ValueError, match=r"`state`.*'lower_h' \(batch, 5\).*Received"):
            session.state = state
    with pytest.raises(ValueError, match=r"'upper_h' \(1, 5\).*session.state as a pattern"):
        session.state = wrong[3]


def test_a_file_without_states_is_refused(path):
    model = functional(kg.GatedRNN(U, "lstm"))
    kg.export_onnx(model, path, verify=False)
    with pytest.raises(ValueError, match=r"model\.onnx.*export_streaming"):
        StreamingSession(path)
