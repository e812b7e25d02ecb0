"""Bad input to layers, cells and look-ups: argument, expected, received and what to do."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from keras_gated.spec.config import to_json_value
from keras_gated.spec.preset_lookup import as_spec
from tests.helpers import B, F, T, U, raises

ONE_TO_ONE = {"input_gate": kg.Gate("diagonal"), "candidate": kg.Candidate("identity")}
X = np.zeros((B, T, F), "float32")


def built_layer():
    layer = kg.GatedLSTM(U)
    layer.build((B, T, F))
    return layer


LAYERS = {
    **{
        f"units={units!r}": (
            lambda units=units: kg.GatedLSTM(units),
            f"`units`...units={units!r}",
        )
        for units in (0, -3, 2.0, "8", None, True)
    },
    "unknown preset": (
        lambda: kg.GatedRNN(U, "lst"),
        "`spec`...spec='lst'...'lstm'",
    ),
    "unknown preset in capitals": (lambda: kg.presets["GRU"], "spec='GRU'...'gru'"),
    "unknown preset like none": (lambda: kg.preset("!"), "spec='!'"),
    "rank 2": (
        lambda: kg.GatedLSTM(U, name="cell")(X[0]),
        f"`sequences`...shape=({T}, {F})",
    ),
    "rank 4": (lambda: kg.GatedGRU(U)(X[None]), f"`sequences`...shape=(1, {B}, {T}, {F})"),
    "rank 2 at build": (lambda: kg.GatedGRU(U).build((B, F)), f"`sequences`...shape=({B}, {F})"),
    "rank 2 of a built layer": (lambda: built_layer()(X[0]), f"`sequences`...shape=({T}, {F})"),
    "one to one where sizes differ": (
        lambda: kg.GatedRNN(U, kg.CellSpec(**ONE_TO_ONE))(X),
        f"`units`...units={U}, input features={F}...input_projection=keras_gated.Projection",
    ),
    "literal MUT1": (lambda: kg.GatedRNN(U, "mut1")(X), "input_projection=keras_gated.Projection"),
    "activation with weights": (
        lambda: kg.GatedLSTM(U, activation=keras.layers.PReLU())(X),
        "Received: PReLU",
    ),
    "unknown number of features": (
        lambda: kg.GatedLSTM(U, name="cell").build((None, None, None)),
        "`sequences`...shape=(None, None, None)",
    ),
    "one state too few": (
        lambda: kg.GatedLSTM(U, name="cell")(X, initial_state=[X[:, 0, :1]]),
        "`initial_state`...2...h, c...Received: 1",
    ),
    "no state for the window": (
        lambda: kg.GatedRNN(U, "qrnn_f")(X, initial_state=np.zeros((B, U))),
        "`initial_state`...2...h, the window's inputs...Received: 1",
    ),
    "weights of a layer without any": (
        lambda: kg.GatedRNN(U, "mgu").block_weights(),
        "gated_cell...no weights...build",
    ),
    "update gate that follows itself": (
        lambda: kg.GatedGRU(U, update_gate=kg.Tied("forget")),
        "`update_gate`...update_gate=Tied(to='forget'",
    ),
    "peephole of a GRU": (
        lambda: kg.GatedGRU(U, reset_gate=kg.Gate(peephole=True)),
        "`reset_gate`...reset_gate=Gate(",
    ),
    "window of a bare cell": (
        lambda: kg.GatedCell(U, "qrnn_fo", name="cell").build((B, 3)),
        f"`inputs`...shape=({B}, 3)",
    ),
    "unknown activation": (
        lambda: kg.GatedLSTM(U, activation="tan"),
        "Received: 'tan'...'tanh'",
    ),
    "unknown activation of a gate": (
        lambda: kg.GatedLSTM(U, forget_gate=kg.Gate(activation="sig")),
        "Received: 'sig'.",
    ),
    "number as an activation": (lambda: kg.GatedGRU(U, activation=3), "Received: 3."),
    "function that cannot be saved": (
        lambda: kg.GatedLSTM(U, activation=lambda x: x).spec.to_config(),
        "Received: <function...register_keras_serializable",
    ),
    "zoneout outside a GatedRNN": (
        lambda: keras.layers.RNN(kg.GatedCell(U, zoneout=0.5))(X, training=True),
        "`zoneout`...zoneout=0.5",
    ),
    "constant t_max": (lambda: kg.Chrono(2), "`t_max`...t_max=2"),
    "count of no units": (
        lambda: kg.count_parameters("lstm", input_dim=F, units=0),
        "`units`...units=0",
    ),
    "count of no inputs": (
        lambda: kg.count_parameters("lstm", input_dim=1.5, units=U),
        "`input_dim`...input_dim=1.5",
    ),
    "budget below one unit": (
        lambda: kg.units_for_budget("lstm", input_dim=F, parameters=3),
        "`parameters`...parameters=3",
    ),
}
TYPES = {
    "gate of a layer": (lambda: kg.GatedLSTM(U, input_gate="no"), "`input_gate`...input_gate='no'"),
    "update gate": (lambda: kg.GatedGRU(U, update_gate=[]), "`update_gate`...update_gate=[]"),
    "reset gate": (lambda: kg.GatedGRU(U, reset_gate=None), "`reset_gate`...reset_gate=None"),
    "spec": (
        lambda: as_spec(7),
        "`spec`...spec=7",
    ),
    "argument of a preset": (
        lambda: kg.preset("janet", gamma=1),
        "'janet'...beta=1.0...Received: gamma",
    ),
    "argument of a preset without any": (
        lambda: kg.preset("lstm", beta=1, alpha=2),
        "'lstm'...Received: alpha, beta",
    ),
}


@pytest.mark.parametrize("key", LAYERS)
def test_layer(key):
    raises(*LAYERS[key])


@pytest.mark.parametrize("key", TYPES)
def test_type(key):
    raises(*TYPES[key], TypeError)


def test_function_in_a_saved_part():
    raises(lambda: to_json_value(print), "saved...Received: <built-in function print>")


def test_unknown_preset_is_a_key_error_too():
    assert "lst" not in kg.presets and kg.presets.get("lst") is None
    raises(lambda: kg.presets["lst"], "`spec`...spec='lst'", KeyError)
