"""What the tests of conversion share. The witnesses are Keras's and torch's own layers."""

import keras
import numpy as np
from keras import ops

from tests.helpers import B, F, assert_close

LAYERS = keras.layers
T = 5


# Before the first valid time step Keras differs among backends: no row starts with a masked one.
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 0, 1, 1]], bool)
X = np.random.default_rng(1).standard_normal((B, T, F)).astype("float32")


def drawn(layer, shape=X.shape):
    """The layer, built, with random weights."""
    if not layer.built:
        layer.build(shape)
    rng = np.random.default_rng(2)
    layer.set_weights([0.6 * rng.standard_normal(w.shape) for w in layer.get_weights()])
    return layer


def states(layer):
    """Random states for a layer, in its structure."""
    rng = np.random.default_rng(3)
    sides = [layer.forward_layer, layer.backward_layer] if hasattr(layer, "merge_mode") else [layer]
    zeros = [state for side in sides for state in side.get_initial_state(B)]
    return keras.tree.map_structure(lambda z: 0.7 * rng.standard_normal(z.shape), zeros)


def flat(results):
    return [ops.convert_to_numpy(one) for one in keras.tree.flatten(results)]


def assert_same(others, layer, **call):
    """Raises where layers or models give other numbers, for X and what is passed beside it."""
    expected = flat(layer(X, **call))
    for other in others:
        results = flat(other(X, **call))
        assert len(results) == len(expected)
        for k, (one, right) in enumerate(zip(results, expected, strict=True)):
            assert_close(one, right, "keras float32", f"{other.name}: result {k}")


BOTH = {"return_sequences": True, "return_state": True}


def stock_only(layer) -> bool:
    return "keras_gated" not in str(keras.saving.serialize_keras_object(layer))


def in_front(*layers, shape=(T, F), dtype="float32"):
    """A model with layers in front of an LSTM."""
    return keras.Sequential([keras.Input(shape, dtype=dtype), *layers, LAYERS.LSTM(4)])


def adapted(layer, data):
    layer.adapt(data)
    return layer
