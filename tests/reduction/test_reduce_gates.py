"""What is planted as doing nothing goes, and the smaller model computes the same."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from keras_gated.reduction.model_graph import find_gated_layers, readers_of, twin_of
from keras_gated.reduction.steps import MEAN, steps_of

LAYERS = keras.layers
B, T, F, U = 6, 9, 3, 5


def model_of(layer, wrapper=None, **arguments):
    """A model with one recurrent layer on masked sequences, with random weights."""
    x = keras.Input((None, F), name="x")
    y = LAYERS.Masking(0.5)(x)
    recurrent = layer(return_sequences=True, **arguments)
    y = (wrapper(recurrent) if wrapper else recurrent)(y)
    model = keras.Model(x, LAYERS.Dense(2, name="dense")(LAYERS.Dropout(0.3)(y)))
    return with_random_weights(model)


def with_random_weights(model, seed=0):
    rng = np.random.default_rng(seed)
    model.set_weights([0.7 * rng.standard_normal(w.shape) for w in model.get_weights()])
    return model


def inputs(seed=1):
    x = np.random.default_rng(seed).standard_normal((B, T, F)).astype("float32")
    x[0, 6:] = x[1, :2] = 0.5  # masked
    return x


def stacked(layer, **arguments):
    x = keras.Input((None, F), name="x")
    y = layer(return_sequences=True, **arguments)(x)
    y = kg.GatedGRU(4, name="behind", return_sequences=True)(y)
    return with_random_weights(keras.Model(x, LAYERS.Dense(2)(y)))


MODELS = {
    "Keras's LSTM": lambda: model_of(LAYERS.LSTM, units=U, name="layer"),
    "Keras's GRU": lambda: model_of(LAYERS.GRU, units=U, name="layer"),
    "lstm_peephole": lambda: model_of(kg.GatedRNN, units=U, spec="lstm_peephole", name="layer"),
    "gru_cho": lambda: model_of(kg.GatedRNN, units=U, spec="gru_cho", name="layer"),
    "mgu": lambda: model_of(kg.GatedRNN, units=U, spec="mgu", name="layer"),
    "bidirectional": lambda: model_of(LAYERS.LSTM, LAYERS.Bidirectional, units=U, name="layer"),
    "stacked": lambda: stacked(LAYERS.LSTM, units=U, name="layer"),
}


def plant(layer, step):
    """Sets the weights of a gate so that a step changes nothing."""
    blocks = {k: {n: np.array(w) for n, w in b.items()} for k, b in layer.block_weights().items()}
    gate, value = blocks[step.gate], step.becomes
    if value is MEAN or isinstance(value, float):
        gate |= {key: np.zeros_like(w) for key, w in gate.items()}
        gate["bias"] += 0.4 if value is MEAN else 40.0
    elif isinstance(value, kg.Tied):
        sign = -1.0 if value.complement else 1.0
        if step.gate == "output" and "peephole" in gate:  # it sees another memory
            gate["peephole"] = blocks[value.to]["peephole"] = np.zeros(U)
        gate |= {k: sign * w for k, w in blocks[value.to].items()}
    else:
        gone = [key for key in ("kernel", "recurrent_kernel") if getattr(value, key) is None]
        gone += [] if value.peephole else ["peephole"]
        gate |= {key: np.zeros_like(gate[key]) for key in gone if key in gate}
        if value.recurrent_kernel == "diagonal":
            gate["recurrent_kernel"] = np.diag(np.diag(gate["recurrent_kernel"]))
    layer.set_block_weights(blocks)


def outputs(model):
    return keras.ops.convert_to_numpy(model(inputs()))


@pytest.mark.parametrize(
    "kind", [k if k == "mgu" else pytest.param(k, marks=pytest.mark.long) for k in MODELS]
)
def test_what_is_planted_goes_and_nothing_changes(kind):
    model = kg.from_keras(MODELS[kind]())
    layer, first = find_gated_layers(model)[0], model.get_weights()
    steps = steps_of(layer.cell.spec)
    assert len(steps) > 5
    for step in steps:
        model.set_weights(first)
        plant(layer, step)
        before, y = model.get_weights(), outputs(model)
        value = "mean" if step.becomes is MEAN else step.becomes
        smaller = kg.reduce_gates(model, {layer.name: {f"{step.gate}_gate": value}}, inputs())
        np.testing.assert_allclose(outputs(smaller), y, atol=1e-5, err_msg=f"{step}")
        assert smaller.count_params() < model.count_params(), step
        for old, now in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(old, now)


def set_reading_weights_to_zero(model, layer, units):
    """Sets all weights to 0 by which some units of a layer are read."""
    blocks = {k: {n: np.array(w) for n, w in b.items()} for k, b in layer.block_weights().items()}
    for block in blocks.values():
        if "recurrent_kernel" in block:
            block["recurrent_kernel"][units] = 0.0
    layer.set_block_weights(blocks)
    for reader in readers_of(model, layer):
        kernel = (
            reader.layer.kernel if hasattr(reader.layer, "kernel") else reader.layer.cell.kernel
        )
        rows = np.array(kernel)
        rows[reader.first + units] = 0.0
        kernel.assign(rows)


@pytest.mark.parametrize("kind", MODELS)
def test_units_without_weights_behind_them_go(kind):
    """Units 1 and 3 are read by nothing, so that they go, whatever they do."""
    model = kg.from_keras(MODELS[kind]())
    first = find_gated_layers(model)[0]
    layers = [first, twin] if (twin := twin_of(model, first)) else [first]
    for layer in layers:
        set_reading_weights_to_zero(model, layer, np.array([1, 3]))
    y = outputs(model)
    changes = {layer.name: {"units": U - 2} for layer in layers}
    smaller = kg.reduce_gates(model, changes, inputs())
    np.testing.assert_allclose(outputs(smaller), y, atol=1e-5)
    assert find_gated_layers(smaller)[0].units == U - 2
    assert smaller.count_params() < model.count_params()
