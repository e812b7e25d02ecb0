"""Layers of Keras become ours and come back: the same numbers and settings."""

from dataclasses import replace

import keras
import numpy as np
import pytest

import keras_gated as kg
from tests.convert.helpers import BOTH, LAYERS, MASK, X, assert_same, drawn, states, stock_only
from tests.helpers import FINEST, U, assert_close, raises

SETTINGS = {
    "lstm": (lambda: LAYERS.LSTM(U, **BOTH), kg.GatedLSTM),
    "lstm set": (
        lambda: LAYERS.LSTM(U, "relu", "hard_sigmoid", use_bias=False, **BOTH),
        kg.GatedLSTM,
    ),
    "gru": (lambda: LAYERS.GRU(U, **BOTH), kg.GatedGRU),
    "gru reset before": (
        lambda: LAYERS.GRU(U, None, "hard_sigmoid", reset_after=False, return_state=True),
        kg.GatedGRU,
    ),
    "gru without bias": (lambda: LAYERS.GRU(U, use_bias=False, unroll=True, **BOTH), kg.GatedGRU),
    "simple": (lambda: LAYERS.SimpleRNN(U, "relu", zero_output_for_mask=True, **BOTH), kg.GatedRNN),
    "lstm cell": (lambda: LAYERS.RNN(LAYERS.LSTMCell(U), **BOTH), kg.GatedLSTM),
    "gru cell": (lambda: LAYERS.RNN(LAYERS.GRUCell(U), **BOTH), kg.GatedGRU),
    "simple cell": (lambda: LAYERS.RNN(LAYERS.SimpleRNNCell(U), return_state=True), kg.GatedRNN),
    "gated cell": (lambda: LAYERS.RNN(kg.GatedCell(U, "gru_cho"), **BOTH), kg.GatedRNN),
    "stack": (
        lambda: LAYERS.RNN([LAYERS.LSTMCell(U), LAYERS.LSTMCell(U + 1)], **BOTH),
        LAYERS.RNN,
    ),
    "mixed stack": (
        lambda: LAYERS.RNN([LAYERS.GRUCell(U), LAYERS.SimpleRNNCell(U + 1)], go_backwards=True),
        LAYERS.RNN,
    ),
    "both ways": (
        lambda: LAYERS.Bidirectional(LAYERS.LSTM(U, **BOTH), merge_mode=None),
        LAYERS.Bidirectional,
    ),
    "unlike both ways": (
        lambda: LAYERS.Bidirectional(
            LAYERS.GRU(U), "sum", backward_layer=LAYERS.SimpleRNN(U, go_backwards=True)
        ),
        LAYERS.Bidirectional,
    ),
}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", SETTINGS)
def test_keras_layers_become_gated_ones_and_come_back(name):
    make, kind = SETTINGS[name]
    layer = drawn(make())
    twin = kg.from_keras(layer)
    assert type(twin) is kind
    back = kg.to_keras(twin)
    assert {layer.name, twin.name, back.name} == {layer.name}
    call = {} if name == "mixed stack" else {"initial_state": states(layer)}
    assert_same([twin, back], layer, mask=MASK, **call)
    assert_same([twin], layer, **call)
    if name != "gated cell":
        assert stock_only(back)


def test_settings_go_along_both_ways():
    settings = {
        "kernel_initializer": keras.initializers.RandomNormal(stddev=0.3),
        "recurrent_initializer": "he_normal",
        "bias_initializer": "ones",
        "unit_forget_bias": False,
        "kernel_regularizer": keras.regularizers.L2(0.1),
        "recurrent_regularizer": keras.regularizers.L1(0.2),
        "bias_regularizer": "l2",
        "activity_regularizer": "l1",
        "kernel_constraint": keras.constraints.MaxNorm(3),
        "recurrent_constraint": "unit_norm",
        "bias_constraint": "non_neg",
        "dropout": 0.1,
        "recurrent_dropout": 0.2,
        "seed": 7,
        "return_sequences": True,
        "return_state": True,
        "go_backwards": True,
        "stateful": True,
        "unroll": True,
        "zero_output_for_mask": True,
        "name": "memory",
        "trainable": False,
        "dtype": "mixed_bfloat16",
    }
    layer = LAYERS.LSTM(U, "softsign", "hard_sigmoid", **settings)
    config, twin = layer.get_config(), kg.from_keras(layer)
    assert config.items() >= {"unroll": True, "zero_output_for_mask": True, "seed": 7}.items()
    ours = twin.get_config()
    for name in config:
        assert ours[name] == config[name], name
    assert kg.to_keras(twin).get_config() == config
    assert not twin.built


def test_a_cell_of_other_type_or_frozen_alone_stays_so():
    layer = drawn(LAYERS.LSTM(U))
    layer.cell.trainable = False
    twin = kg.from_keras(layer)
    assert twin.trainable and not twin.trainable_weights and len(twin.weights) == 3
    assert not kg.to_keras(twin).trainable_weights


def test_stateful_layers_keep_their_batch_and_go_on():
    layer = drawn(LAYERS.GRU(U, stateful=True))
    twin = kg.from_keras(layer)
    for _ in range(2):
        assert_same([twin], layer)


def test_other_dtypes():
    layer = drawn(LAYERS.GRU(U, dtype="float64"))
    twin = kg.from_keras(layer)
    x = X.astype("float64")
    assert twin.compute_dtype == "float64"
    kind = f"keras {FINEST}"
    assert_close(twin(x), layer(x), kind, "from_keras")
    assert_close(kg.to_keras(twin)(x), layer(x), kind, "to_keras")


BY_HAND = {
    "LSTM": kg.CellSpec(
        input_gate=kg.Gate(activation="hard_sigmoid"),
        forget_gate=kg.Gate(activation="hard_sigmoid", bias_initializer="ones"),
        output_gate=kg.Gate("dense", "dense", activation="hard_sigmoid", use_bias=True),
        candidate=kg.Candidate(activation="softsign"),
        output_activation="softsign",
    ),
    "GRU": kg.CellSpec(
        memory="hidden",
        forget_gate=True,
        input_gate=kg.Tied("forget", complement=True),
        reset_gate=True,
    ),
    "SimpleRNN": kg.CellSpec(memory="hidden", forget_gate=0.0, input_gate=1.0),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_what_a_cell_is_decides_and_not_its_name(name):
    layer = drawn(kg.GatedRNN(U, BY_HAND[name], **BOTH))
    twin = kg.to_keras(layer)
    assert type(twin) is getattr(LAYERS, name)
    assert_same([layer], twin, initial_state=states(layer), mask=MASK)
    if name == "LSTM":
        assert twin.cell.unit_forget_bias


def test_initial_biases_without_an_argument_go_along_as_weights():
    spec = replace(kg.preset("gru"), forget_gate=kg.Gate(bias_initializer="ones"))
    layer = kg.GatedRNN(U, spec, name="memory")
    raises(
        lambda: kg.to_keras(layer),
        "`layer`...built...GRU...Received: GatedRNN 'memory', not built...forget",
    )
    layer.build(X.shape)
    assert_same([kg.to_keras(layer)], layer)
    assert np.max(layer.get_weights()[2]) == 1.0
