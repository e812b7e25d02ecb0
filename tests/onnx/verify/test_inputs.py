"""The inputs at which a file is compared with its model."""

from pathlib import Path

import pytest
from keras import layers

import keras_gated as kg
from keras_gated.onnx.verify import inputs as samples
from tests.onnx.helpers import F, U, functional, on_tensorflow, randomized, shapes

pytestmark = on_tensorflow


def taken(run) -> list:
    """The shapes that `try_shapes` asks for."""
    asked = []
    samples.try_shapes(lambda batch, time: asked.append((batch, time)) or run(batch, time))
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
