"""The batches and time lengths at which a file is compared with its model."""

import keras
import pytest
from keras import layers

import keras_gated as kg
from keras_gated.onnx.verify.shapes import LONGER, SHAPES, shortest_time, try_shapes
from tests.onnx.helpers import F, U, functional, on_tensorflow, randomized, shapes

pytestmark = on_tensorflow


def asked(run, takes=None) -> list:
    """The shapes that `try_shapes` runs."""
    found: list = []
    try_shapes(lambda batch, time: found.append((batch, time)) or run(batch, time), takes)
    return found


def test_longer_sequences_are_tried_only_where_none_is_taken():
    short = [*SHAPES]
    assert asked(lambda batch, time: True) == short
    assert asked(lambda batch, time: time in (9, 14)) == short
    assert asked(lambda batch, time: batch == 1) == short
    assert asked(lambda batch, time: time in (1, 32)) == [*short, (2, 32), (1, 37)]
    assert asked(lambda batch, time: False) == [*short, *((2, time) for time in LONGER)]


def test_the_shortest_length_and_two_longer_ones():
    for shortest in (15, 16, 400, 70_000):
        takes = lambda batch, time, least=shortest: time >= least  # noqa: E731
        wanted = [(2, shortest), (1, shortest + 5), (3, 2 * shortest + 1)]
        assert asked(takes, takes) == [*SHAPES, *wanted]
    of_ten = lambda batch, time: time % 10 == 0  # noqa: E731 - no power of 2 is a multiple
    assert shortest_time(of_ten) == 10 and shortest_time(lambda batch, time: False) is None
    assert asked(of_ten, of_ten) == [*SHAPES, (2, 10), (1, 20), (3, 30)]


def test_what_keras_says_it_takes_but_refuses_is_followed_by_longer_ones():
    refuses = asked(lambda batch, time: time >= 100, lambda batch, time: True)
    assert refuses == [*SHAPES, (2, 2), (2, 32), (2, 128), (1, 133)]


@pytest.mark.parametrize(("kernel", "stride"), [(10, 5), (400, 160)])
def test_a_convolution_in_front_of_a_recurrent_layer(kernel, stride, path):
    # At exactly 9 steps Keras's GRU takes the empty sequence, and onnxruntime refuses it.
    model = functional(layers.Conv1D(8, kernel, strides=stride), kg.GatedGRU(6), shape=(None, 1))
    assert kg.export_onnx(model, path).largest_difference < 1e-5
    report = kg.check_onnx(model, path)
    times = {10: [14], 400: [400, 405, 801]}[kernel]
    batches = {10: [1], 400: [2, 1, 3]}[kernel]
    pairs = zip(batches, times, strict=True)
    assert shapes(report) == [f"x ({batch}, {time}, 1)" for batch, time in pairs]
    assert report.notes[0].startswith("Keras refuses x (2, 9, 1): Computed output size would be")
    wrong = kg.check_onnx(randomized(model, seed=1), path)
    assert not wrong.passed and f"differs at x ({batches[0]}, {times[0]}, 1)" in wrong.problems[0]


def test_a_length_that_must_be_a_multiple(path):
    model = functional(layers.Reshape((-1, 5 * F)), kg.GatedGRU(U, name="gru"))
    assert kg.export_onnx(model, path).largest_difference < 1e-5
    report = kg.check_onnx(model, path)
    assert shapes(report) == ["x (2, 5, 3)", "x (1, 10, 3)", "x (3, 15, 3)"]


def test_further_open_axes_are_made_larger(path):
    x = keras.Input((None, None, 1), name="x")
    y = layers.GlobalAveragePooling2D()(layers.Conv2D(2, (2, 8))(x))
    model = randomized(keras.Model(x, y))
    assert kg.export_onnx(model, path).largest_difference < 1e-5
    assert shapes(kg.check_onnx(model, path))[0] == "x (2, 9, 9, 1)"


def test_a_shape_at_which_nothing_comes_out_is_left_out(path):
    model = functional(layers.AveragePooling1D(12))
    kg.export_onnx(model, path, verify=False)
    report = kg.check_onnx(model, path)
    assert report.passed and shapes(report) == ["x (1, 14, 3)"]
    assert "x (2, 9, 3)" in report.notes[0] and "x (3, 1, 3)" in report.notes[1]


def test_sizes_that_are_fixed_are_run_once(path):
    model = functional(layers.Conv1D(4, 16), shape=(20, F))
    kg.export_onnx(model, path, dynamic=False)
    report = kg.check_onnx(model, path)
    assert report.passed and shapes(report) == ["x (1, 20, 3)"]
