"""Options that a cell cannot have."""

import re

import keras
import numpy as np
import pytest

import keras_gated as kg
from tests.helpers import B, F, T, U, raises
from tests.layers.helpers import P, diagonal

ERRORS = {
    "both norms": (
        lambda: kg.GatedLSTM(U, layer_norm=True, batch_norm=True),
        "`layer_norm`...`batch_norm`...layer_norm=True, batch_norm=True",
    ),
    "nothing to normalise": (
        lambda: kg.GatedRNN(U, diagonal(), layer_norm=True),
        "`layer_norm`...kernel that is a matrix...layer_norm=True",
    ),
    "no product of the input": (
        lambda: kg.GatedRNN(U, diagonal(), batch_norm=True),
        "`batch_norm`...dense kernel...batch_norm=True",
    ),
    "a projected GRU": (
        lambda: kg.GatedGRU(U, projection_units=P),
        "`projection_units`...projection_units=2 with memory='hidden'",
    ),
    "projection before a diagonal": (
        lambda: kg.GatedLSTM(
            U, forget_gate=kg.Gate(recurrent_kernel="diagonal"), projection_units=P
        ),
        "`projection_units`...projection_units=2...forget",
    ),
    "projection behind a reset": (
        lambda: kg.GatedRNN(U, kg.CellSpec(reset_gate=kg.Tied("forget")), projection_units=P),
        "`projection_units`...reset...projection_units=2",
    ),
    "projection to none": (
        lambda: kg.GatedLSTM(U, projection_units=0),
        "`projection_units`...projection_units=0",
    ),
    "candidate dropout of 1": (
        lambda: kg.GatedLSTM(U, candidate_dropout=1.0),
        "`candidate_dropout`...candidate_dropout=1.0",
    ),
    "time parallel": (
        lambda: kg.GatedRNN(U, "min_gru", layer_norm=True, time_parallel=True),
        "time_parallel=True...layer_norm=True",
    ),
    "a projection at once": (
        lambda: kg.GatedRNN(U, "levy_srnn_hidden", projection_units=P, time_parallel=True),
        "time_parallel=True...projection_units=2",
    ),
    "batch norm of a cell alone": (
        lambda: keras.layers.RNN(kg.GatedCell(U, "gru", batch_norm=True))(
            np.zeros((B, T, F), "float32"), training=True
        ),
        "`batch_norm`...GatedRNN...batch_norm=True",
    ),
    "zoneout of 1": (
        lambda: kg.GatedLSTM(U, zoneout=1.0),
        "`zoneout`...zoneout=1.0",
    ),
    "two for one state": (
        lambda: kg.GatedGRU(U, zoneout=(0.1, 0.2)),
        "`zoneout`...zoneout=(0.1, 0.2)",
    ),
    "negative noise": (
        lambda: kg.GatedLSTM(U, weight_noise=-0.1),
        "`weight_noise`...weight_noise=-0.1",
    ),
    "no number": (
        lambda: kg.GatedLSTM(U, weight_noise=float("nan")),
        "`weight_noise`...weight_noise=nan",
    ),
    "no kernel for noise": (
        lambda: kg.GatedRNN(U, diagonal(), weight_noise=0.1),
        "`weight_noise`...kernel that is a matrix...weight_noise=0.1",
    ),
    "a bound of 0": (
        lambda: kg.GatedLSTM(U, state_clip=0.0),
        "`state_clip`...state_clip=0.0",
    ),
    "time parallel zoneout": (
        lambda: kg.GatedRNN(U, "min_gru", zoneout=0.1, time_parallel=True),
        "time_parallel=True...zoneout=0.1",
    ),
    "a cell alone": (
        lambda: keras.layers.RNN(kg.GatedCell(U, "gru", zoneout=0.5, weight_noise=0.1))(
            np.zeros((B, T, F), "float32"), training=True
        ),
        "`zoneout`, `weight_noise`...GatedRNN...zoneout=0.5, weight_noise=0.1",
    ),
}


@pytest.mark.parametrize("key", ERRORS)
def test_errors(key):
    raises(*ERRORS[key])


@pytest.mark.parametrize(
    "value",
    [None, False, True, 1, (), "", "a", (0.0,), (0.0, 0.0, 0.0), np.array([0.1, 0.2])],
    ids=repr,
)
def test_rates_of_zoneout_that_are_none(value):
    """As they were received, also where all of them are 0."""
    with pytest.raises(ValueError, match=re.escape(f"zoneout={value!r}")):
        kg.GatedLSTM(U, zoneout=value)
