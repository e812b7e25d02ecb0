"""Initial biases of gates: the law of each, its sign, its seed, saved and used."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_gated as kg
from tests.helpers import B, F, T, U, assert_close, raises

N = 20_000  # drawn, to see the law and its ends
MAKE = {
    "forget": lambda **a: kg.ForgetBias(1.5, **{k: v for k, v in a.items() if k != "seed"}),
    "chrono": lambda **a: kg.Chrono(50.0, **a),
    "uniform": lambda **a: kg.UniformGate(**a),
}
each = pytest.mark.parametrize("kind", MAKE)


def drawn(initializer, n=N):
    return ops.convert_to_numpy(initializer((n,), dtype="float32")).astype("float64")


def test_forget_bias_is_its_value():
    assert_close(drawn(kg.ForgetBias(), U), np.ones(U), "reload", "default")
    assert_close(drawn(kg.ForgetBias(2.5), U), np.full(U, 2.5), "reload", "2.5")


@pytest.mark.parametrize("t_max", [3.0, 50.0, 1000])
def test_chrono_is_the_logarithm_of_a_uniform_span(t_max):
    span = np.sort(np.exp(drawn(kg.Chrono(t_max, seed=1))))  # U(1, t_max - 1)
    assert 1.0 - 1e-6 <= span[0] and span[-1] <= (t_max - 1.0) * (1 + 1e-5)
    check_uniform((span - 1.0) / (t_max - 2.0))


@pytest.mark.parametrize("n", [2, 16, N])
def test_uniform_gate_is_the_logit_of_a_uniform_share(n):
    many = np.concatenate([drawn(kg.UniformGate(seed=s), n) for s in range(max(1, 400 // n))])
    share = np.sort(1.0 / (1.0 + np.exp(-many)))  # U(1/n, 1 - 1/n)
    assert share[0] >= 1.0 / n - 1e-6 and share[-1] <= 1.0 - 1.0 / n + 1e-6
    if n > 2:  # with two units the law is the point 1/2
        check_uniform((share - 1.0 / n) / (1.0 - 2.0 / n))


def check_uniform(values):
    """The largest distance from the uniform law; 1.63 / sqrt(n) is passed once in a hundred."""
    ends = np.arange(len(values) + 1) / len(values)
    distance = max(np.abs(values - ends[1:]).max(), np.abs(values - ends[:-1]).max())
    assert distance < 1.95 / np.sqrt(len(values))  # once in a thousand; the seed is fixed


@pytest.mark.parametrize("t_max", [2, 1.0, -3.0, float("nan")])
def test_chrono_needs_a_span(t_max):
    raises(lambda: kg.Chrono(t_max), f"`t_max`...t_max={t_max!r}")


@each
def test_negate_is_the_exact_negative(kind):
    remaining, written = MAKE[kind](seed=5), MAKE[kind](seed=5, negate=True)
    assert_close(drawn(written), -drawn(remaining), "reload", kind)
    assert np.abs(drawn(remaining)).max() > 0


@pytest.mark.parametrize("kind", ["chrono", "uniform"])
def test_seed(kind):
    assert_close(drawn(MAKE[kind](seed=5)), drawn(MAKE[kind](seed=5)), "reload", kind)
    assert not np.array_equal(drawn(MAKE[kind](seed=5)), drawn(MAKE[kind](seed=6)))
    unseeded = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        unseeded.append(drawn(MAKE[kind]()))
    assert_close(*unseeded, "reload", f"{kind} from the global seed")


@each
@pytest.mark.parametrize("negate", [False, True])
def test_configuration_round_trip(kind, negate):
    first = MAKE[kind](seed=7, negate=negate)
    config = keras.initializers.serialize(first)
    again = keras.initializers.get(config)
    assert type(again) is type(first) and again.get_config() == first.get_config()
    assert_close(drawn(again), drawn(first), "reload", kind)


@each
def test_of_one_gate_alone(kind, tmp_path):
    forget, write = MAKE[kind](seed=1), MAKE[kind](seed=1, negate=True)
    layer = kg.GatedLSTM(
        U,
        forget_gate=kg.Gate(bias_initializer=forget),
        input_gate=kg.Gate(bias_initializer=write),
    )
    model = keras.Sequential([keras.Input((T, F)), layer])
    blocks = layer.block_weights()
    assert_close(blocks["forget"]["bias"], drawn(forget, U), "reload", "forget")
    assert_close(blocks["input"]["bias"], -drawn(forget, U), "reload", "input")
    for other in ("candidate", "output"):
        assert_close(blocks[other]["bias"], np.zeros(U), "reload", other)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    x = np.ones((B, T, F), "float32")
    assert_close(again(x), model(x), "reload", "reloaded")
    fresh = type(layer).from_config(layer.get_config())
    fresh.build((B, T, F))
    assert_close(fresh.block_weights()["forget"]["bias"], drawn(forget, U), "reload", "rebuilt")


def test_bias_of_the_whole_layer():
    layer = kg.GatedGRU(U, bias_initializer=kg.ForgetBias(0.25))
    layer.build((B, T, F))
    assert_close(layer.get_weights()[2], np.full((2, 3 * U), 0.25), "reload", "bias")


def test_law_of_a_gate_is_of_its_own_units():
    """Two gates that share a UniformGate are drawn each for U units, not for 2 U."""
    gate = kg.Gate(bias_initializer=kg.UniformGate(seed=2))
    layer = kg.GatedLSTM(U, input_gate=gate, forget_gate=gate)
    layer.build((B, T, F))
    bias = ops.convert_to_numpy(layer.block_weights()["forget"]["bias"])
    share = 1.0 / (1.0 + np.exp(-bias))
    assert share.min() >= 1.0 / U - 1e-6 and share.max() <= 1.0 - 1.0 / U + 1e-6


def _started(recurrent) -> list:
    """The initial weights of a model of these layers, for one seed."""
    keras.utils.set_random_seed(11)
    model = keras.Sequential([keras.Input((T, F)), *recurrent(), keras.layers.Dense(3)])
    return model.get_weights()


def _bidirectional(make):
    return lambda: [keras.layers.Bidirectional(make(U, return_sequences=True)), make(U)]


PLACES = {
    "alone": lambda make: lambda: [make(U)],
    "dropout": lambda make: lambda: [make(U, dropout=0.1, recurrent_dropout=0.2)],
    "stacked": lambda make: lambda: [make(U, return_sequences=True), make(U, use_bias=False)],
    "bidirectional": _bidirectional,
    "its own seed": lambda make: lambda: [make(U, seed=3), keras.layers.Dense(2)],
    "cells": lambda make: lambda: [keras.layers.RNN([CELLS[make](U), CELLS[make](U)])],
}
CELLS = {
    kg.GatedLSTM: lambda units: kg.GatedCell(
        units, kg.CellSpec(forget_gate=kg.Gate(bias_initializer="ones"))
    ),
    keras.layers.LSTM: keras.layers.LSTMCell,
    kg.GatedGRU: lambda units: kg.GatedCell(units, "gru"),
    keras.layers.GRU: keras.layers.GRUCell,
}


@pytest.mark.sampled(5)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "pair", [(kg.GatedLSTM, keras.layers.LSTM), (kg.GatedGRU, keras.layers.GRU)], ids=str
)
def test_what_follows_a_layer_starts_as_behind_keras_own(place, pair):
    ours, stock = (_started(PLACES[place](make)) for make in pair)
    for mine, other in zip(ours, stock, strict=True):
        assert_close(mine, other, "reload", place)
