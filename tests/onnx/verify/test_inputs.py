"""Inputs of the user's own to compare on."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_gated as kg
from tests.helpers import raises
from tests.onnx.helpers import F, U, functional, on_tensorflow, randomized, shapes

pytestmark = on_tensorflow


@keras.saving.register_keras_serializable("tests")
class Picky(layers.Layer):
    """Takes nothing but a batch of 4."""

    def call(self, x):
        if x.shape[0] not in (4, None):
            raise ValueError("only a batch of 4")
        return x


def picky_model():
    return functional(Picky(), kg.GatedLSTM(U, return_sequences=True, name="lstm"))


RNG = np.random.default_rng(0)


def test_an_export_that_cannot_be_compared_asks_for_inputs(path):
    model = picky_model()
    with pytest.raises(kg.ExportError) as caught:
        kg.export_onnx(model, path)
    text = str(caught.value)
    assert "could not be compared" in text and "Keras refuses x (2, 9, 3): " in text
    assert "only a batch of 4" in text and "inputs=" in text and not Path(path).exists()
    given = [RNG.standard_normal((4, time, F)).astype("float32") for time in (2, 5)]
    assert kg.export_onnx(model, path, inputs=given[1]).largest_difference < 1e-5
    report = kg.check_onnx(model, path, inputs=given)
    assert report.passed and shapes(report) == ["x (4, 2, 3)", "x (4, 5, 3)"]
    assert "the inputs that were given: 2" in str(report)
    assert not kg.check_onnx(randomized(model, seed=1), path, inputs=given).passed


def test_inputs_for_a_stream(path):
    model = picky_model()
    given = {"x": RNG.standard_normal((4, 8, F)).astype("float32")}
    assert kg.export_streaming(model, path, inputs=given).largest_difference < 1e-5
    report = kg.check_onnx(model, path, inputs=given)
    assert shapes(report) == ["x (4, 8, 3)", "x (4, 8, 3) in chunks of 1, 3, 4"]


def test_inputs_that_do_not_fit(path):
    model = picky_model()
    for wrong in (np.zeros((4, 5)), np.zeros((4, 5, F + 1)), [], "x", np.zeros((0, 5, F))):
        for make in (kg.export_onnx, kg.export_streaming):
            raises(lambda m=make, w=wrong: m(model, path, inputs=w), "`inputs`...x float32 (any")
    given = np.zeros((4, 5, F), "float32")
    raises(lambda: kg.export_onnx(model, path, inputs=given, verify=False), "`inputs`...verify")


def test_inputs_that_keras_refuses(path):
    model = picky_model()
    with pytest.raises(kg.ExportError, match=r"Keras refuses x \(2, 5, 3\)"):
        kg.export_onnx(model, path, inputs=np.zeros((2, 5, F), "float32"))


def test_the_element_at_an_index(path):
    """An index below the length: as a length it would be out of range."""
    x, n = keras.Input((None, F), name="x"), keras.Input((), dtype="int32", name="n")
    y = ops.take_along_axis(kg.GatedGRU(U, return_sequences=True)(x), n[:, None, None], axis=1)
    model = randomized(keras.Model([x, n], y[:, 0]))
    assert kg.export_onnx(model, path).largest_difference < 1e-5
