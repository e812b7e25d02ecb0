"""What the README shows runs as it stands there, and does what it says."""

import re

import keras
import numpy as np
import onnx
import pytest

import keras_gated as kg
from tests import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the export runs on Keras's TensorFlow backend"
)


def test_every_block_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    keras.backend.clear_session()  # the README names layers as Keras numbers them
    rng = np.random.default_rng(0)
    x = (rng.random((70, 31, 88)) < 0.1).astype("float32")
    names: dict = {"x": x, "y": x}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)
    assert {"model", "session", "report"} <= names.keys()
    assert np.shape(names["y"]) == (1, 88) and np.shape(names["ys"]) == (1, 29, 88)
    shapes = {name: np.shape(state) for name, state in names["kept"].items()}
    assert shapes == {"gated_lstm_h": (1, 36), "gated_lstm_c": (1, 36)}
    assert [layer.operator for layer in names["report"].layers] == ["LSTM"]
    assert {file.name for file in tmp_path.iterdir()} == {
        "model.onnx",
        "stream.onnx",
        "model.int8.onnx",
        "gates.png",
    }
    onnx.checker.check_model(onnx.load("model.int8.onnx"))
    assert "passed" in capsys.readouterr().out


def test_the_counts_are_those_of_the_catalogue():
    from keras_gated.spec.normal_form import resolve
    from keras_gated.spec.onnx_operator import lower

    native = sum(lower(resolve(kg.preset(name))).operator is not None for name in kg.presets)
    assert f"{native} of the {len(kg.presets)} named cells" in README
