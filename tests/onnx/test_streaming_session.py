"""A session: steps and chunks of a stream, its states, and what it refuses."""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

import keras_gated as kg
from keras_gated.onnx.export_streaming import export_streaming
from keras_gated.onnx.streaming_session import STATES as STATES_KEY
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
        ("step", np.zeros((2, F + 1)), r"'x' of shape \(batch, 3\).*Received: shape \(2, 4\)"),
        ("step", {"y": np.zeros((2, F))}, r"\['x'\].*Received: \['y'\]"),
    ],
)
def test_what_a_session_refuses(five, call, given, words):
    session, x = StreamingSession(five[1]), numbers(B, 4, F)
    session.chunk(x)
    before = session.state
    with pytest.raises(ValueError, match=words):
        getattr(session, call)(given)
    for name, state in session.state.items():  # a refused call leaves the stream as it was
        np.testing.assert_array_equal(state, before[name])
    session.chunk(x)


def test_a_refused_first_call_leaves_the_batch_open(five):
    session = StreamingSession(five[1])
    for bad in (np.zeros((0, 4, F)), np.zeros((3, 4, F + 1))):
        with pytest.raises(ValueError, match=r"'x' of shape \(batch, time, 3\)"):
            session.chunk(bad)
    assert session.chunk(numbers(B, 4, F)).shape == (B, 4, 2)


@pytest.mark.parametrize("given", [None, "abc", [[1.0, 2.0], [3.0]], np.zeros((B, F), complex)])
def test_inputs_and_states_that_are_no_numbers_are_refused(five, given):
    session = StreamingSession(five[1])
    for argument, use in (("inputs", session.step), ("state", partial(set_state, session))):
        value = given if argument == "inputs" else {**session.state, "lower_c": given}
        with pytest.raises(TypeError, match=f"`{argument}`.*cast to float32.*Received"):
            use(value)


def set_state(session, value) -> None:
    session.state = value


@pytest.mark.parametrize("value", [None, 3, [1], np.zeros((1, U))])
def test_a_state_that_is_no_dictionary_is_refused(five, value):
    received = rf"`state`.*'lower_h' \(batch, 5\).*Received: {type(value).__name__}.*reset"
    with pytest.raises(ValueError, match=received):
        StreamingSession(five[1]).state = value


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


# Many streams ------------------------------------------------------------------------------------


def test_streams_share_the_file_and_nothing_else(five):
    model, file, _ = five
    first = StreamingSession(file)
    x = numbers(3, 6, F)
    first.chunk(x[:, :2])  # a stream that began earlier, of another batch
    streams = [first.stream() for _ in range(4)]
    assert {id(one._session) for one in streams} == {id(first._session)}
    ys = [[one.step(x[k % 3, t][None]) for k, one in enumerate(streams)] for t in range(6)]
    for k, found in enumerate(zip(*ys, strict=True)):
        assert_close([np.stack(found, axis=1)], [whole(model, x)[0][k % 3 : k % 3 + 1]])
    assert_close([first.chunk(x[:, 2:])], [whole(model, x)[0][:, 2:]])


def test_streams_run_in_threads_at_the_same_time(five):
    model, file, _ = five
    first, x = StreamingSession(file), numbers(8, 40, F)
    (expected,) = whole(model, x)

    def run(k: int):
        stream = first.stream()
        return np.stack([stream.step(x[k, t][None]) for t in range(40)], axis=1)

    with ThreadPoolExecutor(8) as pool:
        assert_close([np.concatenate([*pool.map(run, range(8))])], [expected])


@pytest.mark.parametrize("rows", [1, [1], [False, True, False], slice(1, 2)])
def test_one_row_begins_anew_and_the_others_go_on(five, rows):
    model, file, _ = five
    session, x = StreamingSession(file), numbers(3, 7, F)
    session.chunk(x[:, :2])
    session.step(x[:, 2])
    session.reset(rows=rows)
    y, (expected,) = session.chunk(x[:, 3:]), whole(model, x)
    assert_close([y[[0, 2]]], [expected[[0, 2], 3:]])
    assert_close([y[1:2]], whole(model, x[1:2, 3:]))


def test_rows_that_are_not_there(five):
    session = StreamingSession(five[1])
    with pytest.raises(ValueError, match="`rows`.*not yet known.*rows=0"):
        session.reset(0)
    session.step(numbers(2, F))
    for rows in (2, [0, -3], "first", 0.5, (0, 1)):
        with pytest.raises(ValueError, match=r"(?s)`rows`.*batch 2.*Received: rows=.*reset\(\)"):
            session.reset(rows)


def test_options_of_onnxruntime_are_passed_on(five, tmp_path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")  # a trace of the options
    provider = ("CPUExecutionProvider", {})
    session = StreamingSession(five[1], session_options=options, providers=[provider])
    assert (tmp_path / "optimized.onnx").exists()
    assert session.stream().step(numbers(1, F)).shape == (1, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"providers": "CPUExecutionProvider"}, "`providers`.*providers='CPUExecutionProvider'"),
        ({"providers": ["NoProvider"]}, r"`providers`.*CPUExecution.*providers=\['NoProvider'\]"),
        ({"providers": []}, r"`providers`.*providers=\[\]"),
        ({"session_options": {"a": 1}}, r"`session_options`.*session_options=\{'a': 1\}"),
    ],
)
def test_options_that_onnxruntime_does_not_know(five, arguments, words):
    with pytest.raises(ValueError, match=words):
        StreamingSession(five[1], **arguments)


# Files that are none -----------------------------------------------------------------------------


def test_paths_of_no_file(five, tmp_path):
    for path in (b"stream.onnx", None, 3, "", "no.onnx", tmp_path, "x" * 5000, "x" * 300, "a\0b"):
        with pytest.raises(ValueError, match=r"`path`.*Received: path=.*export_streaming") as error:
            StreamingSession(path)  # type: ignore[arg-type]
        assert len(str(error.value)) < 500
    assert StreamingSession(Path(five[1])).outputs == ("head",)


def test_damaged_files(five, path):
    whole_file = Path(five[1]).read_bytes()
    for content in (b"", whole_file[: len(whole_file) // 2], b"hello world", bytes(range(256))):
        Path(path).write_bytes(content)
        words = rf"`path`.*model\.onnx', of {len(content)} bytes.*copy it again"
        with pytest.raises(ValueError, match=words):
            StreamingSession(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda listed: "no JSON",
        lambda listed: "{}",
        lambda listed: "[1, 2]",
        lambda listed: '[{"input": "lower_h"}]',
        lambda listed: '[{"input": ["lower_h"], "output": "", "shape": [5], "dtype": "float32"}]',
        lambda listed: listed.replace("lower_h", "other_h"),
        lambda listed: listed.replace("lower_h_out", "other_out"),
        lambda listed: listed.replace("[4]", "[7]"),
        lambda listed: listed.replace("float32", "float64"),
    ],
)
def test_a_foreign_list_of_states_is_refused(five, path, change):
    proto = onnx.load(five[1])
    (listed,) = [p for p in proto.metadata_props if p.key == STATES_KEY]
    listed.value = change(listed.value)
    onnx.save(proto, path)
    words = r"`path`.*model\.onnx'.*'keras_gated\.states'.*export_streaming"
    with pytest.raises(ValueError, match=words):
        StreamingSession(path)
