"""check_onnx: what it compares, and what it says where it cannot."""

import json
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
from keras import layers, ops

import keras_gated as kg
from keras_gated.onnx import session
from keras_gated.onnx.verify import inputs as samples
from keras_gated.onnx.verify.differences import on_cpu
from tests.helpers import raises

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the export runs on Keras's TensorFlow backend"
)
F, U = 3, 5


def randomized(model, seed=0):
    rng = np.random.default_rng(seed)
    model.set_weights([0.5 * rng.standard_normal(w.shape) for w in model.get_weights()])
    return model


def functional(*parts, shape=(None, F), **arguments):
    x = y = keras.Input(shape, name="x", **arguments)
    for part in parts:
        y = part(y)
    return randomized(keras.Model(x, y))


def shapes(report) -> list[str]:
    return [row.shape for row in report.outputs]


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "model.onnx")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model, its file and its file for streams."""
    model = functional(
        kg.GatedLSTM(U, return_sequences=True, name="enc"), layers.Dense(2, name="y")
    )
    folder = tmp_path_factory.mktemp("exported")
    whole, stream = str(folder / "whole.onnx"), str(folder / "stream.onnx")
    kg.export_onnx(model, whole, verify=False)
    kg.export_streaming(model, stream, verify=False)
    return model, whole, stream


# Shapes -----------------------------------------------------------------------------------------


def taken(run) -> list:
    """The shapes that `at_shapes` asks for."""
    asked = []
    samples.at_shapes(lambda batch, time: asked.append((batch, time)) or run(batch, time))
    return asked


def test_longer_sequences_are_tried_only_where_none_is_taken():
    short = [*samples.SHAPES]
    assert taken(lambda batch, time: True) == short
    assert taken(lambda batch, time: time in (9, 14)) == short
    assert taken(lambda batch, time: batch == 1) == short
    assert taken(lambda batch, time: time in (1, 32)) == [*short, (2, 32), (1, 37)]
    assert taken(lambda batch, time: time > 100) == [*short, (2, 32), (2, 128), (1, 133)]
    assert taken(lambda batch, time: False) == [*short, (2, 32), (2, 128), (2, 512)]


def test_a_convolution_over_more_steps_than_the_short_ones(path):
    model = functional(layers.Conv1D(4, 16), kg.GatedGRU(U, name="gru"))
    assert 0 < kg.export_onnx(model, path).largest_difference < 1e-5
    report = kg.check_onnx(model, path)
    assert report.passed and shapes(report) == ["x (2, 32, 3)", "x (1, 37, 3)"]
    assert len(report.notes) == 3
    assert report.notes[0].startswith("Keras refuses x (2, 9, 3): Exception encountered when")
    assert "Computed output size would be negative" in report.notes[0]
    wrong = kg.check_onnx(randomized(model, seed=1), path)
    assert not wrong.passed and "differs at x (2, 32, 3)" in wrong.problems[0]


def test_a_shape_at_which_nothing_comes_out_is_left_out(path):
    report = kg.check_onnx(*pooled(path, 12))
    assert report.passed and shapes(report) == ["x (1, 14, 3)"]
    assert report.notes[0] == "Keras gives an empty output at x (2, 9, 3)"


def pooled(path, size) -> tuple:
    model = functional(layers.AveragePooling1D(size))
    kg.export_onnx(model, path, verify=False)
    return model, path


def test_sizes_that_are_fixed_are_run_once(path):
    model = functional(layers.Conv1D(4, 16), shape=(20, F))
    kg.export_onnx(model, path, dynamic=False)
    report = kg.check_onnx(model, path)
    assert report.passed and shapes(report) == ["x (1, 20, 3)"]


def test_an_export_that_cannot_be_compared_says_what_keras_refused(path):
    model = functional(layers.Conv1D(4, 600))
    with pytest.raises(kg.ExportError) as caught:
        kg.export_onnx(model, path)
    text = str(caught.value)
    assert "could not be compared" in text
    assert "Keras refuses x (2, 512, 3): " in text and "would be negative" in text
    assert "verify=False" in text and not Path(path).exists()


# Numbers ----------------------------------------------------------------------------------------


def test_an_output_without_a_finite_number_is_not_compared(path):
    x = keras.Input((None, F), name="x")
    sometimes, never = ops.log(x), layers.Activation("linear", name="never")(ops.log(-1 - x * x))
    model = keras.Model(x, {"sometimes": sometimes, "never": never})
    kg.export_onnx(model, path, verify=False)
    report = kg.check_onnx(model, path)
    (problem,) = report.problems
    assert "'never'" in problem and "no finite number" in problem
    assert not report.passed and report.largest_difference < 1e-5
    model = keras.Model(x, sometimes)
    kg.export_onnx(model, path)
    assert np.isnan(ops.convert_to_numpy(model(np.array([[[-1.0, 1, 2]]])))).any()


class Where(layers.Layer):
    """Calls `note` whenever it computes."""

    def __init__(self, note):
        super().__init__()
        self.note = note

    def call(self, x):
        self.note()
        return x


def test_keras_computes_on_the_cpu_too(exported, monkeypatch):
    scopes: list[str] = []

    @contextmanager
    def device(name):
        scopes.append(name)
        with right(name):
            yield
        scopes.pop()

    right = keras.device
    monkeypatch.setattr(keras, "device", device)
    model, *files = exported
    seen: list[tuple] = []
    where = Where(lambda: seen.append(tuple(scopes)))
    x = keras.Input((None, F), name="x")
    observed = keras.Model(x, layers.Activation("linear", name="y")(model(where(x))))
    for file in files:
        seen.clear()
        assert kg.check_onnx(observed, file).passed
        assert set(seen) == {("cpu",)}
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with on_cpu():
        assert scopes == []


# Files ------------------------------------------------------------------------------------------


def test_a_file_that_is_not_there(exported, tmp_path):
    for path in (tmp_path / "no.onnx", tmp_path):  # nothing, and a folder
        text = f"`path`...path={str(path)!r}...export_onnx"
        raises(lambda path=path: kg.check_onnx(exported[0], path), text)


@pytest.mark.parametrize("content", [b"no such thing", b"", b"\x08\x08" * 40])
def test_a_file_that_is_no_onnx(exported, path, content):
    Path(path).write_bytes(content)
    report = kg.check_onnx(exported[0], path)
    assert not report.passed and not report.operators and "FAILED" in str(report)
    assert re.search("cannot be read as ONNX|not valid", report.problems[0])
    with pytest.raises(kg.ExportError, match="cannot be read as ONNX|not valid"):
        kg.check_onnx(exported[0], path, raise_on_failure=True)


@pytest.mark.parametrize("shape", [(F,), (None, 2, F), (None, F + 1)])
def test_inputs_of_another_shape(exported, path, shape):
    other = functional(layers.Dense(2, name="y"), shape=shape)
    kg.export_onnx(other, path, verify=False)
    report = kg.check_onnx(exported[0], path)
    assert not report.passed and not report.outputs
    (problem,) = report.problems
    assert "'x'" in problem and "('batch', " in problem and "(None, None, 3)" in problem


# Streams ----------------------------------------------------------------------------------------


def test_a_file_for_streams_is_run_whole_and_in_chunks(exported, path):
    model, _, stream = exported
    report = kg.check_onnx(model, stream)
    assert report.passed and 0 < report.largest_difference < 1e-5
    assert shapes(report) == ["x (2, 6, 3)", "x (2, 6, 3) in chunks of 1, 3, 2"]
    assert report.operators["LSTM"] == 1
    assert kg.check_onnx(model, stream, seed=1).outputs != report.outputs
    assert not kg.check_onnx(model, stream, tolerance=1e-12).passed
    swap_states(stream, path)
    report = kg.check_onnx(model, path)
    (problem,) = report.problems
    assert "Output 'y' differs at x (2, 6, 3) in chunks of 1, 3, 2 by" in problem
    with pytest.raises(kg.ExportError, match="in chunks of 1, 3, 2"):
        kg.check_onnx(model, path, raise_on_failure=True)


def swap_states(stream, path) -> None:
    """Writes the file with each of two states leaving where the other should."""
    proto = onnx.load(stream)
    (listed,) = (entry for entry in proto.metadata_props if entry.key == session.STATES)
    h, c = json.loads(listed.value)
    h["output"], c["output"] = c["output"], h["output"]
    listed.value = json.dumps([h, c])
    onnx.save(proto, path)


def test_a_file_for_streams_of_another_model(exported):
    x = keras.Input((None, F), name="z")
    other = keras.Model(x, kg.GatedLSTM(U)(x))
    assert kg.check_onnx(other, exported[2]).problems == (
        "The file's inputs are ['x']. The model's are ['z'].",
    )
    other = functional(kg.GatedLSTM(U, name="enc"))
    assert (
        "outputs are ['y']. The model's are ['enc']"
        in kg.check_onnx(other, exported[2]).problems[0]
    )


def test_a_stateful_model_beside_its_file_keeps_its_states(path):
    x = keras.Input(batch_shape=(2, None, F), name="x")
    layer = kg.GatedRNN(U, "gru", stateful=True, return_sequences=True)
    model = randomized(keras.Model(x, layer(x)))
    model(np.ones((2, 4, F), "float32"))
    before = ops.convert_to_numpy(layer.states[0])
    kg.export_streaming(model, path, verify=False)
    assert kg.check_onnx(model, path).passed
    assert layer.stateful and before.any()
    np.testing.assert_array_equal(ops.convert_to_numpy(layer.states[0]), before)


ALONE = """
import sys
for name in ("keras", "tensorflow", "keras_gated", "onnx"):
    sys.modules[name] = None  # cannot be imported
import numpy as np
from session import StreamingSession
stream = StreamingSession(sys.argv[1])
print(*np.ravel(stream.step(np.ones((1, 3), np.float32))))
"""


def test_a_copy_of_the_sessions_file_is_all_that_a_stream_needs(exported, tmp_path):
    model, _, stream = exported
    shutil.copy(session.__file__, tmp_path / "session.py")
    done = subprocess.run(
        [sys.executable, "-c", ALONE, stream], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    expected = ops.convert_to_numpy(model(np.ones((1, 1, F), "float32")))
    np.testing.assert_allclose([float(y) for y in done.stdout.split()], expected[0, 0], atol=1e-5)


def test_a_session_without_onnxruntime(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match="'onnxruntime'.*pip install onnxruntime"):
        kg.StreamingSession(exported[2])
