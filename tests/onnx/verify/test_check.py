"""check_onnx: what it compares, and what it says where it cannot."""

import re
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_gated as kg
from keras_gated.onnx.verify.differences import on_cpu
from tests.helpers import raises
from tests.onnx.helpers import F, functional, on_tensorflow

pytestmark = on_tensorflow


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


def test_a_file_that_is_not_there(exported, tmp_path):
    for path in (tmp_path / "no.onnx", tmp_path):  # nothing, and a folder
        text = f"`path`...path={str(path)!r}...export_onnx"
        raises(lambda path=path: kg.check_onnx(exported[0], path), text)
    for path in (b"whole.onnx", None, "x" * 5000, "a\0b"):
        text = f"`path`...path={repr(path)[:9]}...export_onnx"
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
