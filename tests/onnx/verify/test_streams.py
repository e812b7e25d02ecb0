"""A file for streams is compared whole and in chunks."""

import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import onnx
import pytest
from keras import ops

import keras_gated as kg
from keras_gated.onnx import streaming_session as session
from tests.onnx.helpers import F, U, functional, on_tensorflow, randomized, shapes

pytestmark = on_tensorflow


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
