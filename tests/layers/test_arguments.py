"""Arguments as users of Keras write them: taken, or refused with what to write instead."""

from dataclasses import replace

import keras
import numpy as np
import pytest

import keras_gated as kg
from tests.helpers import B, F, T, U, assert_close, raises

X = np.random.default_rng(0).normal(size=(B, T, F)).astype("float32")


@pytest.mark.sampled(4)
@pytest.mark.parametrize("layer", [kg.GatedLSTM, kg.GatedGRU, kg.GatedRNN])
@pytest.mark.parametrize(
    "given",
    [{"use_cudnn": way, "implementation": 1} for way in ("auto", False)] + [{"implementation": 2}],
)
def test_keras_ways_are_taken_saved_and_change_nothing(layer, given):
    keras.utils.set_random_seed(1)
    ours = layer(U, **given)
    config = ours.get_config()
    assert {name: config[name] for name in given} == given
    again = layer.from_config(config)
    again.build(X.shape)
    plain = layer(U)
    y = plain(X)
    for other in (ours, again):
        other.build(X.shape)
        other.set_weights(plain.get_weights())
        assert_close(other(X), y, "reload", str(given))


@pytest.mark.parametrize("given", [{"use_cudnn": "no"}, {"implementation": 3}])
def test_other_ways_are_refused(given):
    ((name, value),) = given.items()
    raises(lambda: kg.GatedLSTM(U, **given), f"`{name}`...{name}={value!r}")


UNKNOWN = {
    "return_sequence": (kg.GatedLSTM, True, "return_sequences"),
    "recurent_dropout": (kg.GatedGRU, 0.1, "recurrent_dropout"),
    "forgot_gate": (kg.GatedLSTM, True, "forget_gate"),
    "time_major": (kg.GatedLSTM, True, "keras.ops.transpose"),
    "memory": (kg.GatedGRU, "cell", "CellSpec(memory=...)"),
    "spec": (kg.GatedLSTM, "mgu", "GatedRNN(units, 'mgu')"),
    "qwerty": (kg.GatedGRU, 1, "Leave it out"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_argument_is_answered_with_what_to_write(name):
    layer, value, advice = UNKNOWN[name]
    raises(lambda: layer(U, **{name: value}), f"`{name}`...Received: {name}={value!r}...{advice}")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: kg.GatedGRU(U, forget_gate=False), "`forget_gate`...update_gate"),
        (lambda: kg.GatedGRU(U, output_gate=False), "`output_gate`...GatedLSTM"),
        (lambda: kg.GatedGRU(U, peephole=True), "`peephole`...GatedLSTM"),
        (lambda: kg.GatedLSTM(U, reset_gate=True), "`reset_gate`...CellSpec(reset_gate=True)"),
        (lambda: kg.GatedLSTM(U, update_gate=0.5), "`update_gate`...forget_gate"),
        (lambda: kg.GatedRNN(U, "lstm", forget_gate=False), "CellSpec(forget_gate=...)"),
        (lambda: kg.GatedRNN(U, "gru", memory="cell"), "dataclasses.replace(spec, memory=...)"),
        (lambda: kg.GatedCell(U, "gru", unroll=True), "`unroll`...the layer that the cell is in"),
        (lambda: kg.GatedCell(U, "gru", dropuot=0.1), "`dropuot`...dropout"),
        (lambda: kg.GatedRNN("lstm", 32), "`units`...units='lstm'...GatedRNN(32, 'lstm')"),
        (lambda: kg.GatedRNN(32, "tanh"), "`spec`...spec='tanh'...'elman'"),
        (lambda: kg.GatedRNN(32, "SimpleRNN"), "`spec`...'elman'"),
        (lambda: kg.GatedGRU(U, reset_gate=kg.Tied("update")), "to='update'...Tied('forget')"),
        (lambda: kg.GatedLSTM(U, dropout="0.5"), "`dropout`...dropout='0.5'"),
        (lambda: kg.GatedLSTM(U, recurrent_dropout=None), "`recurrent_dropout`...None"),
        (lambda: kg.GatedLSTM(U, zoneout="0.5"), "`zoneout`...zoneout='0.5'"),
        (lambda: kg.GatedLSTM(U, layer_norm="no"), "`layer_norm`...layer_norm='no'"),
        (lambda: kg.GatedLSTM(U, return_sequences="no"), "`return_sequences`...'no'"),
        (lambda: kg.GatedLSTM(U, use_bias="no"), "`use_bias`...use_bias='no'"),
        (lambda: kg.GatedLSTM(U, peephole="no"), "`peephole`...peephole='no'"),
        (lambda: kg.GatedLSTM(U, unit_forget_bias="no"), "`unit_forget_bias`...'no'"),
        (lambda: kg.GatedGRU(U, reset_after="no"), "`reset_after`...reset_after='no'"),
        (lambda: kg.Tied("forget", complement="no"), "`complement`...complement='no'"),
        (lambda: kg.CellSpec(gate_recurrence=[]), "`gate_recurrence`...gate_recurrence=[]"),
    ],
)
def test_a_misplaced_argument_is_answered_with_what_to_write(make, text):
    raises(make, text)


def test_a_preset_is_a_specification():
    assert kg.GatedRNN(U, kg.presets["mgu"]).spec == kg.GatedRNN(U, "mgu").spec
    assert kg.GatedCell(U, kg.presets["mgu"]).spec == kg.preset("mgu")


@pytest.mark.parametrize(
    "make",
    [
        lambda value: kg.GatedLSTM(U, forget_gate=value),
        lambda value: kg.GatedRNN(U, replace(kg.preset("gru"), forget_gate=value)),
    ],
)
@pytest.mark.parametrize("value", [1.5, -0.5])
def test_a_constant_gate_out_of_its_range_is_said(make, value):
    with pytest.warns(UserWarning, match=rf"`forget_gate`.*forget_gate={value}"):
        make(value)
