"""Models of Keras become ours and come back."""

import keras
import pytest
from keras import ops

import keras_gated as kg
from keras_gated.onnx.tracing.layer_places import places_within
from tests.convert.helpers import LAYERS, T, X, assert_same, drawn, in_front, stock_only
from tests.helpers import F, U, assert_close, raises


def functional():
    x = keras.Input((T, F), name="x")
    shared = LAYERS.LSTM(U, return_sequences=True)
    y = LAYERS.Masking(0.0)(x)
    y = LAYERS.Bidirectional(LAYERS.GRU(U, return_sequences=True))(y)
    y = shared(LAYERS.Dense(U)(y)) + shared(LAYERS.Dense(U)(y))
    inner = keras.Sequential([keras.Input((T, U)), LAYERS.SimpleRNN(U), LAYERS.Dense(3)])
    return keras.Model(x, {"y": inner(ops.tanh(y)), "last": LAYERS.LSTM(4)(y)})


def sequential():
    layers = [LAYERS.LSTM(U, return_sequences=True), LAYERS.Dropout(0.5), LAYERS.GRU(4)]
    model = keras.Sequential(layers)
    model(X)
    return model


def of_frames():
    inner = keras.Sequential([keras.Input((T, 1)), LAYERS.GRU(U)])
    layers = [LAYERS.Reshape((F, T, 1)), LAYERS.TimeDistributed(inner), LAYERS.LSTM(4)]
    return keras.Sequential([keras.Input((T, F)), *layers])


@pytest.mark.sampled(2)
@pytest.mark.parametrize("make", [functional, sequential, of_frames])
def test_models_with_all_that_is_in_them(make):
    model = drawn(make())
    twin = kg.from_keras(model)
    back = kg.to_keras(twin)
    names = [layer.name for layer in model.layers]
    for other in (twin, back):
        assert type(other) is type(model) and [one.name for one in other.layers] == names
    assert_same([twin, back, kg.from_keras(twin)], model)
    recurrent = [one for one in places_within(twin) if isinstance(one, LAYERS.RNN)]
    assert recurrent and all(isinstance(one, kg.GatedRNN) for one in recurrent)
    assert stock_only(back)


def test_a_compiled_model_is_compiled_again():
    model = keras.Sequential([keras.Input((T, F)), LAYERS.GRU(U), LAYERS.Dense(1)])
    model.compile("adam", "mse")
    twin = kg.from_keras(model)
    assert twin.compiled
    assert_close(
        twin.evaluate(X, X[:, 0, :1], verbose=0),
        model.evaluate(X, X[:, 0, :1], verbose=0),
        "keras float32",
        "loss",
    )


def test_weights_of_keras_layers_lead_to_from_keras(tmp_path):
    stock = in_front()
    stock.save_weights(tmp_path / "stock.weights.h5")
    model = keras.Sequential([keras.Input((T, F)), kg.GatedLSTM(4)])
    raises(
        lambda: model.load_weights(tmp_path / "stock.weights.h5"),
        "`filepath`...Received: ...gated_cell...from_keras(model)",
    )
