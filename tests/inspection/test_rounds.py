"""Rounds of Newton's method, counted by layer."""

import keras
import numpy as np

import keras_gated as kg
from keras_gated.engine import newton
from tests.helpers import raises

X = np.random.default_rng(4).normal(size=(3, 40, 6)).astype("float32")


def test_each_layer_that_could_run_so_is_counted():
    layers = [
        kg.GatedRNN(6, "para_gru", return_sequences=True, name="gru"),
        kg.GatedLSTM(6, return_sequences=True, name="loop"),
        kg.GatedRNN(6, "para_lstm", stateful=True, time_parallel=True, name="lstm"),
    ]
    model = keras.Sequential([keras.Input((40, 6), batch_size=3), *layers])
    before = keras.ops.convert_to_numpy(model(X))
    layers[-1].reset_state()
    found = kg.newton_rounds(model, X)
    assert list(found) == ["gru", "lstm"]
    assert all(1 < took.rounds <= 12 and took.converged for took in found.values())
    # the model is as it was: also its states
    np.testing.assert_array_equal(before, keras.ops.convert_to_numpy(model(X)))


def test_padding_is_not_read():
    """As in a run, also where it holds no number."""
    layer, lengths = kg.GatedRNN(6, "para_gru"), np.array([40, 9, 1])
    x, spoilt = keras.Input((40, 6)), X.copy()
    n = keras.Input((), dtype="int32")
    model = keras.Model([x, n], layer(x, lengths=n))
    spoilt[1, 9:] = np.nan
    found = [kg.newton_rounds(model, [x, lengths]) for x in (X, spoilt)]
    assert found[0] == found[1] and found[0][layer.name].converged


def test_rounds_that_are_not_enough(monkeypatch):
    monkeypatch.setattr(newton, "MOST_ROUNDS", 2)
    layer = kg.GatedRNN(6, "para_gru", name="gru")
    assert kg.newton_rounds(layer, X) == {"gru": (2, False)}


def test_a_model_without_such_a_layer():
    raises(lambda: kg.newton_rounds(kg.GatedGRU(6), X), "`model_or_layer`...'para_gru'...GatedGRU")
