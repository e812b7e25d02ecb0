"""GatedCell in keras.layers.RNN: dropout as Keras's own cells have it."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_gated as kg
from tests.helpers import BACKEND, B, F, T, U, apart, assert_close, largest

X = np.random.default_rng(0).normal(size=(B, T, F)).astype("float32")
LSTM = kg.CellSpec(forget_gate=kg.Gate(bias_initializer="ones"))
RNN = keras.layers.RNN


def _both(make, seed=3, **arguments):
    """A layer over our cells and one over Keras's, with the same weights."""
    layers = []
    for cell in (lambda n, **a: kg.GatedCell(n, LSTM, **a), keras.layers.LSTMCell):
        layer = make(lambda n, cell=cell: cell(n, seed=seed, **arguments))
        layer.build((B, T, F))
        layers.append(layer)
    layers[0].set_weights(layers[1].get_weights())
    return layers


MAKE = {
    "one": lambda cell: RNN(cell(U), return_sequences=True),
    "stacked": lambda cell: RNN([cell(U), cell(4)], return_sequences=True),
    "both ways": lambda cell: keras.layers.Bidirectional(RNN(cell(U), return_sequences=True)),
}


@pytest.mark.parametrize("kind", MAKE)
def test_dropout_of_inputs_is_that_of_keras_cells(kind):
    """The masks are the same for a seed, one for all time steps, and others for the next batch."""
    ours, stock = _both(MAKE[kind], dropout=0.4)
    for batch in range(2):
        assert_close(
            ours(X, training=True), stock(X, training=True), "keras float32", f"batch {batch}"
        )
    assert apart(ours(X, training=True), ours(X, training=True)) > 1e-3
    assert_close(ours(X), stock(X), "keras float32", "inference")


def test_recurrent_dropout_is_one_mask_for_a_sequence():
    """With an identity as recurrent kernel and nothing else, h shows its mask."""
    candidate = kg.Candidate(recurrent_kernel="identity", activation="linear", use_bias=False)
    spec = kg.CellSpec(
        memory="hidden", forget_gate=0.0, input_gate=1.0, output_gate=False, candidate=candidate
    )
    layer = RNN(kg.GatedCell(U, spec, recurrent_dropout=0.5, seed=1), return_sequences=True)
    layer.build((B, T, F))
    start = np.ones((B, U), "float32")
    zeros = np.zeros((B, T, F), "float32")
    found = ops.convert_to_numpy(layer(zeros, initial_state=[start], training=True))
    stays = found[:, 0] > 0
    assert 0 < stays.sum() < stays.size
    expected = np.where(stays[:, None], 2.0 ** np.arange(1, T + 1)[:, None], 0.0)
    assert_close(found, expected, "float32", "powers of the mask")


def test_training_in_a_model():
    cells = [kg.GatedCell(4, "gru", dropout=0.1), kg.GatedCell(U, recurrent_dropout=0.2)]
    model = keras.Sequential([keras.Input((T, F)), RNN(cells), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    history = model.fit(X, np.ones((B, 1)), epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert largest(model.predict(X, verbose=0)) < 10.0


def test_half_precision():
    layer = RNN(kg.GatedCell(U, dropout=0.2, recurrent_dropout=0.2, dtype="mixed_bfloat16"))
    assert np.isfinite(ops.convert_to_numpy(ops.cast(layer(X, training=True), "float32"))).all()


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_rates_that_drop_nothing(rate):
    layer = RNN(kg.GatedCell(U, dropout=rate, recurrent_dropout=rate))
    assert_close(layer(X, training=True), layer(X), "reload", str(rate))


def test_a_gated_layer_draws_once():
    """The masks of its cell are not drawn beside those of the layer."""
    layer = kg.GatedLSTM(U, dropout=0.5, seed=1)
    layer(X)
    before = ops.convert_to_numpy(layer.cell.seed_generator.state)
    layer(X)
    assert_close(layer.cell.seed_generator.state, before, "reload", "inference draws nothing")


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the same on all")
def test_from_keras_of_stacked_cells_with_dropout():
    stock = RNN([keras.layers.LSTMCell(4, dropout=0.1), keras.layers.GRUCell(U, dropout=0.1)])
    stock.build((B, T, F))
    ours = kg.from_keras(stock)
    assert_close(ours(X), stock(X), "keras float32", "converted")
    assert [cell.dropout for cell in ours.cell.cells] == [0.1, 0.1]
