"""Another cell in an existing model: shared weights are those of the old cell, the rest is new."""

import keras
import numpy as np
import pytest

import keras_gated as kg

LAYERS = keras.layers
X = np.random.default_rng(0).standard_normal((4, 6, 3)).astype("float32")


def assert_equal(actual, expected):
    np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (actual, expected)))


def stock():
    keras.utils.set_random_seed(0)
    lstm = LAYERS.LSTM(5, return_sequences=True, name="lstm")
    two = LAYERS.Bidirectional(LAYERS.GRU(4, name="gru"), name="two")
    model = keras.Sequential([keras.Input((None, 3)), lstm, two, LAYERS.Dense(2, name="out")])
    model.compile("adam", "mse", metrics=["mae"], run_eagerly=True)  # to compile takes longer
    model.fit(X, np.ones((4, 2)), verbose=0)
    return model


def test_weights_that_both_cells_have_are_taken_over():
    model = stock()
    before = model.get_weights()
    other = kg.from_keras(model, cells={"lstm": "cifg", "backward_gru": "mgu"})
    new, old = other.get_layer("lstm"), kg.from_keras(model).get_layer("lstm")
    assert new.cell.spec == kg.preset("cifg")
    for name, block in new.block_weights().items():
        for key in ("kernel", "recurrent_kernel", "bias"):
            assert_equal(block[key], old.block_weights()[name][key])
    two = other.get_layer("two")
    assert two.backward_layer.cell.spec == kg.preset("mgu")
    assert two.forward_layer.cell.spec == kg.preset("gru")
    pairs = zip(two.forward_layer.get_weights(), model.get_layer("two").get_weights(), strict=False)
    assert all(np.array_equal(mine, theirs) for mine, theirs in pairs)
    out = zip(
        other.get_layer("out").get_weights(), model.get_layer("out").get_weights(), strict=True
    )
    assert all(np.array_equal(mine, theirs) for mine, theirs in out)
    assert other.loss == "mse" and int(other.optimizer.iterations.value) == 0
    other.fit(X, np.ones((4, 2)), verbose=0)
    for first, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(first, now)


def test_a_weight_of_another_shape_is_new():
    layer = LAYERS.LSTM(3, name="lstm")
    layer(X)
    diagonal = kg.CellSpec(forget_gate=kg.Gate(recurrent_kernel="diagonal"))
    new = kg.from_keras(layer, cells={"lstm": diagonal}).block_weights()
    old = kg.from_keras(layer).block_weights()
    assert new["forget"]["recurrent_kernel"].shape == (3,)
    assert_equal(new["forget"]["kernel"], old["forget"]["kernel"])


def test_states_of_a_stateful_layer_begin_anew():
    model = keras.Sequential(
        [keras.Input((6, 3), batch_size=4), LAYERS.LSTM(5, stateful=True, name="lstm")]
    )
    model(X)
    gru = kg.from_keras(model, cells={"lstm": "gru"}).get_layer("lstm")
    assert not np.any(keras.ops.convert_to_numpy(gru.states[0]))


def test_cells_that_are_no_dictionary():
    with pytest.raises(ValueError, match="`cells` must be a dictionary.*Received: cells='lstm'"):
        kg.from_keras(stock(), cells="lstm")


def test_a_layer_that_is_not_there():
    with pytest.raises(ValueError, match="`cells` must name recurrent layers: 'lstm', .*'lstn'"):
        kg.from_keras(stock(), cells={"lstn": "cifg"})
