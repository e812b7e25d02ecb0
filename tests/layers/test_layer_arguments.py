"""The typed arguments of the layers are those of the constructors: editors complete them all."""

from inspect import signature
from typing import get_type_hints

import keras
import pytest

import keras_gated as kg
from keras_gated import layer_arguments
from keras_gated.layers import CELL_ARGUMENTS, OWN_ARGUMENTS

OF_ANY_LAYER = {"name", "dtype", "trainable", "activity_regularizer"}


def typed(name: str) -> set[str]:
    return set(get_type_hints(getattr(layer_arguments, name)))


def test_the_typed_arguments_are_those_of_cell_and_rnn():
    rnn = set(signature(keras.layers.RNN.__init__).parameters) - {"self", "cell", "kwargs"}
    named = set(signature(kg.GatedRNN.__init__).parameters) - {"self", "kwargs"}
    expected = {*CELL_ARGUMENTS, *OWN_ARGUMENTS, *rnn, *OF_ANY_LAYER}
    assert typed("SpecArguments") | named == expected | named


@pytest.mark.parametrize("layer", [kg.GatedLSTM, kg.GatedGRU])
def test_no_argument_is_written_twice(layer):
    named = set(signature(layer.__init__).parameters) - {"self", "kwargs"}
    assert not named & typed("GateLayerArguments")
    in_spec = {"spec", "output_activation", "reset_after", *named}
    assert {*CELL_ARGUMENTS, "time_parallel"} <= typed("GateLayerArguments") | in_spec


def test_every_typed_argument_is_taken():
    for name in typed("SpecArguments") - {"batch_norm", "layer_norm", "projection_units"}:
        kg.GatedRNN(4, "lstm", **{name: getattr(kg.GatedRNN(4, "lstm"), name)})
