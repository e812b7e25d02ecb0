"""Bad input to layers, cells and look-ups: argument, expected, received and what to do."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from keras_gated.spec.parts import to_plain
from keras_gated.spec.presets import specification
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
            f"Argument `units` must be an integer > 0. Received: units={units!r}.",
        )
        for units in (0, -3, 2.0, "8", None, True)
    },
    "unknown preset": (
        lambda: kg.GatedRNN(U, "lst"),
        "Argument `spec` must be a CellSpec or the name of a preset. Received: spec='lst'. Did you "
        "mean 'lstm'...All names: list(keras_gated.presets).",
    ),
    "unknown preset in capitals": (lambda: kg.presets["GRU"], "Did you mean 'gru'"),
    "unknown preset like none": (lambda: kg.preset("!"), "Received: spec='!'. All names:"),
    "rank 2": (
        lambda: kg.GatedLSTM(U, name="cell")(X[0]),
        f"Argument `sequences` of cell must have rank 3: (batch, time, features). Received: "
        f"shape=({T}, {F}). Add the missing axis, e.g. x[None] for one sequence or x[..., None]",
    ),
    "rank 4": (lambda: kg.GatedGRU(U)(X[None]), "must have rank 3"),
    "rank 2 at build": (lambda: kg.GatedGRU(U).build((B, F)), "must have rank 3"),
    "rank 2 of a built layer": (lambda: built_layer()(X[0]), "must have rank 3"),
    "one to one where sizes differ": (
        lambda: kg.GatedRNN(U, kg.CellSpec(**ONE_TO_ONE))(X),
        "Argument `units` must equal the number of input features for this cell, whose input and "
        "candidate sees each input one to one (a diagonal or identity kernel). Received: "
        f"units={U}, input features={F} in a window of 1 time steps. Project the input first: "
        "keras.layers.Dense before the layer, or input_projection=keras_gated.Projection() in the",
    ),
    "literal MUT1": (lambda: kg.GatedRNN(U, "mut1")(X), "input_projection=keras_gated.Projection"),
    "activation with weights": (
        lambda: kg.GatedLSTM(U, activation=keras.layers.PReLU())(X),
        "An activation of ... must have no weights of its own. Received: PReLU. Put it behind the "
        "layer, or use a function.",
    ),
    "unknown number of features": (
        lambda: kg.GatedLSTM(U, name="cell").build((None, None, None)),
        "Argument `sequences` of cell must have a known number of features. Received: "
        "shape=(None, None, None). Give the last axis a size, e.g. keras.Input((None, 8)).",
    ),
    "one state too few": (
        lambda: kg.GatedLSTM(U, name="cell")(X, initial_state=[X[:, 0, :1]]),
        "Argument `initial_state` of cell must have 2 tensors: h, c. Received: 1.",
    ),
    "no state for the window": (
        lambda: kg.GatedRNN(U, "qrnn_f")(X, initial_state=np.zeros((B, U))),
        "must have 2 tensors: h, the window's inputs. Received: 1.",
    ),
    "weights of a layer without any": (
        lambda: kg.GatedRNN(U, "mgu").block_weights(),
        "gated_cell has no weights yet. Build it first: call it on data, or "
        "layer.build((None, None, features)).",
    ),
    "update gate that follows itself": (
        lambda: kg.GatedGRU(U, update_gate=kg.Tied("forget")),
        "Argument `update_gate` can be tied to 'reset' alone: it is itself the forget gate, and "
        "the input gate is its complement. Received: update_gate=Tied(to='forget'",
    ),
    "peephole of a GRU": (
        lambda: kg.GatedGRU(U, reset_gate=kg.Gate(peephole=True)),
        "Argument `reset_gate` of a GatedGRU must have no peephole: there is no memory cell to "
        "look at. Received: reset_gate=Gate(...Use GatedLSTM, or peephole=False.",
    ),
    "window of a bare cell": (
        lambda: kg.GatedCell(U, "qrnn_fo", name="cell").build((B, 3)),
        "Argument `inputs` of cell must have 2 x F features, the window of 2 time steps side by "
        f"side. Received: shape=({B}, 3). Use keras_gated.GatedRNN, which lays the window itself.",
    ),
    "unknown activation": (
        lambda: kg.GatedLSTM(U, activation="tan"),
        "An activation must be one of linear, sigmoid, tanh,...another name that keras.activations "
        "knows, or a function. Received: 'tan'. Did you mean 'tanh'",
    ),
    "unknown activation of a gate": (
        lambda: kg.GatedLSTM(U, forget_gate=kg.Gate(activation="sig")),
        "Received: 'sig'.",
    ),
    "number as an activation": (lambda: kg.GatedGRU(U, activation=3), "Received: 3."),
    "function that cannot be saved": (
        lambda: kg.GatedLSTM(U, activation=lambda x: x).spec.to_config(),
        "A specification that is saved must hold names or configs of activations and initializers. "
        "Received: <function...Register the function with "
        "keras.saving.register_keras_serializable and pass it to the layer, or give its name.",
    ),
    "dropout outside a GatedRNN": (
        lambda: keras.layers.RNN(kg.GatedCell(U, dropout=0.5))(X, training=True),
        "Arguments `dropout` of a GatedCell act in training only inside a keras_gated.GatedRNN, "
        "which draws for the whole sequence. Received: dropout=0.5 in another layer. Use GatedRNN, "
        "GatedLSTM or GatedGRU, or leave them out.",
    ),
    "constant t_max": (lambda: kg.Chrono(2), "Argument `t_max` must be > 2"),
    "count of no units": (
        lambda: kg.count_parameters("lstm", input_dim=F, units=0),
        "Argument `units` must be an integer > 0. Received: units=0.",
    ),
    "count of no inputs": (
        lambda: kg.count_parameters("lstm", input_dim=1.5, units=U),
        "Argument `input_dim` must be an integer > 0. Received: input_dim=1.5.",
    ),
    "budget below one unit": (
        lambda: kg.units_for_budget("lstm", input_dim=F, parameters=3),
        "Argument `parameters` must be at least 20, the weights of this cell with 1 units on 3 "
        "inputs. Received: parameters=3.",
    ),
}
TYPES = {
    "gate of a layer": (lambda: kg.GatedLSTM(U, input_gate="no"), "Argument `input_gate` must be"),
    "update gate": (lambda: kg.GatedGRU(U, update_gate=[]), "Argument `update_gate` must be True"),
    "reset gate": (lambda: kg.GatedGRU(U, reset_gate=None), "Argument `reset_gate` must be True"),
    "spec": (
        lambda: specification(7),
        "Argument `spec` must be the name of a preset, a keras_gated.CellSpec or its config. "
        "Received: spec=7. For a preset with arguments use keras_gated.preset(name, ...).",
    ),
    "argument of a preset": (
        lambda: kg.preset("janet", gamma=1),
        "Arguments of preset 'janet' must be among: beta=1.0. Received: gamma. Change other parts "
        "with dataclasses.replace.",
    ),
    "argument of a preset without any": (
        lambda: kg.preset("lstm", beta=1, alpha=2),
        "Arguments of preset 'lstm' must be among: none. Received: alpha, beta.",
    ),
}


@pytest.mark.parametrize("key", LAYERS)
def test_layer(key):
    raises(*LAYERS[key])


@pytest.mark.parametrize("key", TYPES)
def test_type(key):
    raises(*TYPES[key], TypeError)


def test_function_in_a_saved_part():
    raises(lambda: to_plain(print), "A specification that is saved must hold names or configs")


def test_unknown_preset_is_a_key_error_too():
    assert "lst" not in kg.presets and kg.presets.get("lst") is None
    raises(lambda: kg.presets["lst"], "Argument `spec`", KeyError)
