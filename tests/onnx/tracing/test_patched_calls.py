"""TimeDistributed and Dense in a file: other calls with the same results."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from keras_gated.onnx.export import export_onnx
from keras_gated.onnx.tracing.patched_layers import replacement_call
from tests.onnx.helpers import (
    F,
    U,
    assert_same,
    exported,
    functional,
    on_tensorflow,
    randomized,
    run,
)

pytestmark = on_tensorflow
layers = keras.layers


def test_time_distributed(path):
    x = keras.Input((None, None, F), name="x")
    inner = keras.Sequential([keras.Input((None, F)), keras.layers.LSTM(U), keras.layers.Dense(4)])
    y = keras.layers.TimeDistributed(kg.GatedGRU(F, return_sequences=True))(x)
    y = keras.layers.TimeDistributed(inner)(y)
    model = randomized(keras.Model(x, kg.GatedRNN(U, "mgu", name="top")(y)))
    exported(model, path, 3)
    x = np.random.default_rng(1).standard_normal((2, 3, 4, F)).astype("float32")
    assert_same(model, path, x)


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_dense_on_sequences_is_one_product(activation, path):
    x = y = keras.Input((None, 2, F), name="x")
    for use_bias in (True, False):
        y = keras.layers.Dense(4, activation, use_bias=use_bias)(y)
    model = randomized(keras.Model(x, y))
    report = export_onnx(model, path)
    activations = {"Softmax": 2} if activation else {}
    assert report.operators == {"MatMul": 2, "Add": 1, **activations}


RNG = np.random.default_rng(0)


def test_time_distributed_around_ordinary_layers(path):
    model = functional(
        kg.GatedLSTM(U, return_sequences=True),
        layers.TimeDistributed(layers.Dense(4, activation="relu")),
        layers.TimeDistributed(keras.Sequential([layers.Dense(3), layers.LayerNormalization()])),
    )
    exported(model, path, 1)


def test_the_mask_passes_a_time_distributed(path):
    model = functional(
        layers.Masking(), layers.TimeDistributed(layers.Dense(F)), kg.GatedGRU(U, name="top")
    )
    exported(model, path, 1)


class Sums(keras.Layer):
    """The sum over the valid words of a sentence; takes the mask."""

    def call(self, words, mask=None):
        valid = 1.0 if mask is None else keras.ops.cast(mask, words.dtype)[..., None]
        return keras.ops.sum(words * valid, axis=1)


class Sentences(keras.Layer):
    """Hands a mask of words (B, sentences, words) to a TimeDistributed."""

    def __init__(self):
        super().__init__()
        self.inner = layers.TimeDistributed(Sums())

    def call(self, inputs):
        x, mask = inputs
        return 1.0 * self.inner(x, mask=mask)  # which has no mask itself


@pytest.mark.long
def test_a_mask_of_inner_time_steps(path):
    x = keras.Input((None, 4, F), name="x")
    mask = keras.Input((None, 4), dtype="bool", name="mask")
    y = kg.GatedLSTM(U)(Sentences()([x, mask]))
    model = randomized(keras.Model([x, mask], y))
    export_onnx(model, path, verify=False)  # Keras itself runs this only where time is known
    values = RNG.standard_normal((2, 3, 4, F)).astype("float32")
    given = RNG.random((2, 3, 4)) < 0.6
    y = model([values, given])
    np.testing.assert_allclose(run(path, values, given)[0], y, rtol=1e-5, atol=1e-5)


def test_a_time_distributed_of_known_time_runs_step_by_step(path):
    x = keras.Input((4, F), name="x")
    centred = layers.TimeDistributed(layers.UnitNormalization(axis=0))(x)  # looks at all rows
    exported(randomized(keras.Model(x, kg.GatedLSTM(U)(centred))), path, 1)


def test_dense_on_integers(path):
    x = keras.Input((None, F), dtype="int32", name="x")
    exported(randomized(keras.Model(x, kg.GatedLSTM(U)(layers.Dense(4)(x)))), path, 1)


# Without an export ------------------------------------------------------------------------------


def test_a_replaced_call_gives_the_numbers_of_the_layers_own():
    x = RNG.standard_normal((2, 3, 4, F)).astype("float32")
    mask = RNG.random((2, 3, 4)) < 0.6
    recurrent = layers.TimeDistributed(kg.GatedGRU(U))
    for layer, given in ((recurrent, {"mask": mask}), (layers.Dense(4, "softmax"), {})):
        expected = layer(x, **given)
        found = replacement_call(layer)(x, **given)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_only_these_layers_are_called_in_another_way():
    quantized, lora = layers.Dense(4), layers.Dense(4)
    for layer in (quantized, lora):
        layer.build((None, 4))
    quantized.quantize("int8")
    lora.enable_lora(2)
    own = type("Own", (layers.Dense,), {})(2)
    own.build((None, 4))
    assert [replacement_call(one) for one in (quantized, lora, own, layers.GRU(2))] == [None] * 4
    assert replacement_call(layers.Dense(4)) is None  # not built yet
