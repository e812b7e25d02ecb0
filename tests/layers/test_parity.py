"""GatedLSTM, GatedGRU and the Elman preset beside keras.layers.LSTM, GRU and SimpleRNN."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from tests.helpers import (
    FINEST,
    QUICK,
    B,
    F,
    T,
    U,
    assert_close,
    case,
    largest,
    run_and_differentiate,
)
from tests.layers.helpers import PAIRS, as_list, both, data

pairs = pytest.mark.parametrize("pair", PAIRS)


FINE = {**QUICK, "dtype": FINEST}


def masks() -> dict:
    """What of (B, T) is valid; "mixed" is a row each padded right, left, with holes, and empty."""
    right = np.arange(T) < np.array([T, 6, 1, 4])[:, None]
    holes = np.random.default_rng(3).random((B, T)) < 0.6
    holes[:, 0] = holes[:, -1] = True  # also for go_backwards
    mixed = np.stack([right[1], right[3, ::-1], holes[2], np.zeros(T, bool)])
    return {"none": None, "right": right, "holes": holes, "mixed": mixed}


def check_equal(mine, theirs, x, kind="keras float32", **call):
    ours, stock = as_list(mine(x, **call)), as_list(theirs(x, **call))
    for index, (a, b) in enumerate(zip(ours, stock, strict=True)):
        assert_close(a, b, kind, f"result {index}")


@pairs
@pytest.mark.parametrize("use_bias", [True, False])
def test_weights_have_the_same_order_and_shape(pair, use_bias):
    mine, theirs = both(pair, use_bias=use_bias)
    assert [w.shape for w in mine.weights] == [w.shape for w in theirs.weights]
    assert [w.name for w in mine.weights] == [w.name for w in theirs.weights]


@pytest.mark.parametrize("pair", ["lstm", "gru", "gru before"])  # SimpleRNN seeds its dropout first
@pytest.mark.parametrize("more", [{}, {"use_bias": False}, {"kernel_initializer": "he_normal"}])
def test_initial_weights_are_the_same_for_the_same_seed(pair, more):
    ours, stock, own = PAIRS[pair]
    drawn = []
    for make in (ours, stock):
        keras.utils.set_random_seed(11)
        layer = make(U, **own, **more)
        layer.build((B, T, F))
        drawn.append(layer.get_weights())
    for index, (a, b) in enumerate(zip(*drawn, strict=True)):
        assert_close(a, b, "reload", f"weight {index}")
    assert np.ptp(drawn[0][0]) > 0.1  # drawn, not constant


def test_forget_bias_starts_at_zero_where_asked_for():
    mine, theirs = (make(U, unit_forget_bias=False) for make in (kg.GatedLSTM, keras.layers.LSTM))
    for layer in (mine, theirs):
        layer.build((B, T, F))
    assert_close(mine.get_weights()[2], theirs.get_weights()[2], "reload", "bias")


@pytest.mark.sampled(4)
@pairs
@pytest.mark.parametrize(
    ("activation", "use_bias"), [("relu", False), ("hard_sigmoid", True), (None, True)]
)
def test_numbers_and_gradient_with_other_activations(pair, activation, use_bias):
    arguments = {"activation": activation, "use_bias": use_bias}
    if pair != "elman":
        arguments["recurrent_activation"] = "hard_sigmoid"
    elif activation is None:  # to GatedRNN None means: as the preset says
        arguments["activation"] = "linear"
    check_numbers_and_gradient(pair, None, **arguments)


def check_numbers_and_gradient(pair, mask, **arguments):
    """In the finest precision there is, where a difference is none of rounding."""
    x, call = data(pair, FINEST)
    upstream = np.random.default_rng(9).standard_normal((B, T, U))
    layers = both(pair, FINEST, return_sequences=True, **arguments)
    compare_gradients(layers, x, upstream, call["initial_state"], mask=mask)


def compare_gradients(layers, x, upstream, state, **call):
    """Of ours and Keras's, by all weights, on each of which the outputs depend, and all states."""
    found = [run_and_differentiate(layer, x, upstream, state, **call) for layer in layers]
    slopes = found[1][1]
    assert slopes and min(map(largest, slopes)) > 1e-3
    for kind, ours, stock in zip(("result", "weight", "state"), *found, strict=True):
        for index, (a, b) in enumerate(zip(ours, stock, strict=True)):
            assert_close(a, b, f"keras {FINEST}", f"{kind} {index}")


LOOPS = {"engine": {}, "unrolled": {"unroll": True}}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", ["lstm", "gru", "elman", "fgr"])
def test_output_before_the_first_valid_step_is_zero(name, loop):
    """On every backend, though Keras's loop gives h_0 on some."""
    this, mask = case(name), masks()["mixed"]
    layer = this.layer(return_state=True, **LOOPS[loop])
    outputs, *states = layer(this.x, initial_state=this.state, mask=mask)
    early = mask.cumsum(axis=1) == 0
    found = keras.ops.convert_to_numpy(outputs)[early]
    assert_close(found, np.zeros_like(found), "reload", name)
    for mine, first in zip(states, this.state, strict=True):
        assert_close(mine[3], first[3], "reload", "states of the empty row")


@pairs
def test_unrolled_and_stateful(pair):
    x, _ = data(pair)
    check_equal(*both(pair, unroll=True, return_sequences=True), x)
    mine, theirs = both(pair, stateful=True)
    for part in (x, x[::-1], x):
        check_equal(mine, theirs, part)
    mine.reset_state()
    theirs.reset_state()
    check_equal(mine, theirs, x)


class SideBySide:
    """A built layer with all its results in one (B, ...), so that a gradient is of them all."""

    def __init__(self, layer):
        self.layer, self.trainable_weights = layer, layer.trainable_weights
        self.trainable_variables = layer.trainable_variables

    def __call__(self, x, **call):
        results = keras.tree.flatten(self.layer(x, **call))
        return keras.ops.concatenate([keras.ops.reshape(y, (len(y), -1)) for y in results], axis=-1)


def carried(mine, theirs, x, initial_state=None, **call):
    """Builds both, carries random weights over and compares numbers and gradients, in FINEST."""
    for layer in (mine, theirs):
        layer.build(keras.tree.map_structure(np.shape, x))
    layers, rng = [SideBySide(layer) for layer in (mine, theirs)], np.random.default_rng(8)
    theirs.set_weights([0.6 * rng.standard_normal(w.shape) for w in theirs.get_weights()])
    mine.set_weights(theirs.get_weights())
    upstream = rng.standard_normal(layers[0](x, **call).shape)
    compare_gradients(layers, x, upstream, initial_state, **call)


@pytest.mark.sampled(5)
@pairs
@pytest.mark.parametrize(
    ("merge_mode", "with_states"),
    [*((mode, False) for mode in ("concat", "sum", "mul", "ave", None)), ("concat", True)],
)
def test_inside_bidirectional(pair, merge_mode, with_states):
    ours, stock, own = PAIRS[pair]
    given = {"return_sequences": True, "return_state": with_states, **own, **FINE}
    mine, theirs = (
        keras.layers.Bidirectional(make(U, **given), merge_mode=merge_mode, dtype=FINEST)
        for make in (ours, stock)
    )
    x, call = data(pair, FINEST)
    state = [k * s for k in (1, 0.5) for s in call["initial_state"]] if with_states else None
    carried(mine, theirs, x, state, mask=masks()["holes"])


class EncoderDecoder(keras.Model):
    """Reads a sequence and writes one, from the states it ended in; both share a dense layer."""

    def __init__(self, make, own):
        super().__init__()
        self.encoder = make(U, return_state=True, **own)
        self.decoder = make(U, return_sequences=True, **own)
        self.shared = keras.layers.Dense(F)

    def call(self, x):
        _, *states = self.encoder(self.shared(x))
        return self.decoder(self.shared(x[:, :-1]), initial_state=states)


@pytest.mark.sampled(2)
@pairs
def test_an_encoder_and_a_decoder_in_a_model_of_ones_own(pair):
    """Forward and gradients."""
    ours, stock, own = PAIRS[pair]
    mine, theirs = (EncoderDecoder(make, {**own, **QUICK}) for make in (ours, stock))
    x, _ = data(pair)
    for model in (mine, theirs):
        model(x)
    rng = np.random.default_rng(8)
    theirs.set_weights([0.5 * rng.standard_normal(w.shape) for w in theirs.get_weights()])
    mine.set_weights(theirs.get_weights())
    upstream = rng.standard_normal((B, T - 1, U)).astype("float32")
    ((found,), slopes, _), ((expected,), others, _) = (
        run_and_differentiate(model, x, upstream) for model in (mine, theirs)
    )
    assert_close(found, expected, "keras float32", "outputs")
    for weight, a, b in zip(mine.trainable_weights, slopes, others, strict=True):
        assert_close(a, b, "keras float32", weight.path)


@pairs
def test_inside_time_distributed(pair):
    ours, stock, own = PAIRS[pair]
    x = np.random.default_rng(6).standard_normal((2, 4, 3, F)).astype(FINEST)
    wrap = keras.layers.TimeDistributed
    carried(*(wrap(make(U, **own, **FINE), dtype=FINEST) for make in (ours, stock)), x)


@pairs
def test_one_layer_for_two_inputs(pair):
    """Of two lengths: its weights have the gradient of both."""
    ours, stock, own = PAIRS[pair]
    inputs = [keras.Input((time, F), dtype=FINEST) for time in (T, T - 3)]
    models = []
    for make in (ours, stock):
        shared = make(U, **own, **FINE)
        models.append(keras.Model(inputs, [shared(x) for x in inputs]))
    x, _ = data(pair, FINEST)
    carried(*models, [x, x[::-1, 3:]])


CELLS = [
    ("lstm", keras.layers.LSTMCell, {}),
    ("gru", keras.layers.GRUCell, {}),
    ("gru_cho", keras.layers.GRUCell, {"reset_after": False}),
    ("elman", keras.layers.SimpleRNNCell, {}),
]


cells = pytest.mark.parametrize(("spec", "stock", "own"), CELLS, ids=[row[0] for row in CELLS])


@cells
def test_cell_inside_keras_rnn(spec, stock, own):
    mine, theirs = (
        keras.layers.RNN(cell, return_sequences=True, return_state=True, dtype=FINEST)
        for cell in (kg.GatedCell(U, spec, **FINE), stock(U, **own, **FINE))
    )
    x, call = data(spec, FINEST)
    carried(mine, theirs, x, call["initial_state"], mask=masks()["right"])


@pytest.mark.sampled(2)
@cells
def test_cell_inside_stacked_cells(spec, stock, own):
    mine, theirs = (
        keras.layers.RNN(
            keras.layers.StackedRNNCells(stack, dtype=FINEST), return_sequences=True, dtype=FINEST
        )
        for stack in (
            [kg.GatedCell(n, spec, **FINE) for n in (U, 4)],
            [stock(n, **own, **FINE) for n in (U, 4)],
        )
    )
    carried(mine, theirs, data(spec, FINEST)[0])
