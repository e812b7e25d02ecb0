"""Compiled by XLA every preset gives the same numbers, and trains. TensorFlow only."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from tests.helpers import BACKEND, F, T, U, assert_close, case
from tests.typical import every_preset

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="Keras compiles otherwise here")
# One of each kind of part, several in a model: compiling a training step takes seconds.
TRAINED = [
    ["fgr"],
    *(
        pytest.param(names, marks=pytest.mark.long)
        for names in (
            ["lstm_peephole", "gru"],
            ["lstm", "slim_lstm4a", "mut1", "gru_cho", "janet"],
            ["minimal_rnn", "qrnn_fo", "mut3"],
            ["gru3", "slim_lstm11", "brc", "star", "elman"],
        )
    ),
]


@pytest.mark.sampled(6)
@every_preset
def test_compiled_equals_eager(name):
    this = case(name)
    layer = this.layer(return_state=True)
    compiled = tf.function(lambda x, states: layer(x, initial_state=states), jit_compile=True)
    states = [tf.constant(s) for s in this.initial_state]
    found = compiled(tf.constant(this.x), states)
    for index, (a, b) in enumerate(zip(found, layer(this.x, initial_state=states), strict=True)):
        assert_close(a, b, "xla", f"{name}: result {index}")


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", ["lstm", "gru", "t_lstm", "fgr"])
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("arguments", [{}, {"go_backwards": True, "zero_output_for_mask": True}])
def test_compiled_equals_eager_under_a_mask(name, jit_compile, arguments):
    this = case(name)
    mask = np.random.default_rng(3).random(this.x.shape[:2]) < 0.6  # holes
    mask[0], mask[1], mask[2] = np.arange(T) < 4, np.arange(T) >= 5, False
    layer = this.layer(**arguments)
    compiled = tf.function(lambda x, mask: layer(x, mask=mask), jit_compile=jit_compile)
    found = compiled(tf.constant(this.x), tf.constant(mask))
    assert_close(found, layer(this.x, mask=mask), "xla", name)


@pytest.mark.parametrize("names", TRAINED, ids="-".join)
def test_one_compiled_training_step_changes_every_weight(names):
    inputs = keras.Input((None, U))  # as many as units, as mut1 wants it
    layers = [kg.GatedRNN(U, name, peephole_initializer="glorot_uniform") for name in names]
    outputs = keras.layers.Dense(2)(keras.layers.concatenate([layer(inputs) for layer in layers]))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse", jit_compile=True)
    before = {w.path: w.numpy() for w in model.trainable_weights}
    x, y = keras.random.normal((8, T, U), seed=1), keras.random.normal((8, 2), seed=2)
    model.fit(x, y, epochs=1, batch_size=8, verbose=0)
    assert len(before) == 2 + sum(len(layer.weights) for layer in layers)
    after = {w.path: w.numpy() for w in model.trainable_weights}
    assert [path for path in before if np.array_equal(before[path], after[path])] == []
    assert model.jit_compile is True


@pytest.mark.parametrize("make", [kg.GatedLSTM, kg.GatedGRU, lambda n: kg.GatedRNN(n, "fgr")])
def test_layers_never_turn_xla_off(make):
    layer = make(U)
    layer(np.zeros((2, T, F), "float32"))
    assert layer.supports_jit and layer.cell.supports_jit
    model = keras.Sequential([keras.Input((None, F)), layer])
    model.compile("sgd", "mse")  # "auto": XLA wherever every layer supports it
    assert model.supports_jit
