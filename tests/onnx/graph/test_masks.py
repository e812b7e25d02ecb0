"""Masks of every kind around a native operator."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from keras_gated.onnx.export import export_onnx
from tests.onnx.helpers import (
    MASKS,
    F,
    U,
    assert_same,
    count_operators,
    native_nodes,
    on_tensorflow,
    randomized,
)

pytestmark = on_tensorflow
layers = keras.layers


class Masked(keras.Layer):
    """Hands every layer the same mask, given as an input; nothing but public Keras."""

    def __init__(self, layers, **kwargs):
        super().__init__(**kwargs)
        self.layers = layers

    def build(self, shapes):
        for layer in self.layers:
            layer.build(shapes[0])

    def call(self, inputs):
        x, mask, *states = inputs
        outputs = []
        for layer in self.layers:
            initial = [*states[: len(layer.cell.form.states)]]
            if initial and layer.cell.form.window > 1:
                initial.append(0.5 * x[:, 0])  # the input before the first, of any value
            outputs += layer(x, mask=mask, initial_state=initial or None)
        return outputs


MASKED = [  # name, return_sequences, go_backwards, zero_output_for_mask
    ("lstm", True, False, False),
    ("lstm", True, True, True),
    ("lstm", False, False, True),
    ("gru", True, False, True),
    ("gru", True, True, False),
    ("gru", False, True, False),
    ("elman", True, False, False),
    ("janet", True, True, False),
    ("minimal_rnn", False, True, True),
    ("t_lstm", True, True, False),
]


@pytest.mark.parametrize("initial", [pytest.param(False, marks=pytest.mark.long), True])
def test_masks_of_every_kind(initial, path):
    layers = [
        kg.GatedRNN(
            U,
            name,
            return_sequences=sequences,
            return_state=True,
            go_backwards=backwards,
            zero_output_for_mask=zero,
        )
        for name, sequences, backwards, zero in MASKED
    ]
    x = keras.Input((None, F), name="x")
    mask = keras.Input((None,), dtype="bool", name="mask")
    states = [keras.Input((U,), name=name) for name in "hc"] if initial else []
    model = randomized(keras.Model([x, mask, *states], Masked(layers)([x, mask, *states])))
    export_onnx(model, path, verify=False, lowering="native")
    counts = count_operators(path)
    assert "Loop" not in counts and "Scan" not in counts
    # Two of them run over the same input in opposite directions, and are one node.
    assert native_nodes(path) == len(layers) - 1
    rng = np.random.default_rng(1)
    given = [rng.standard_normal((len(MASKS), U)).astype("float32") for _ in states]
    values = rng.standard_normal((*MASKS.shape, F)).astype("float32")
    assert_same(model, path, values, MASKS, *given)
    assert_same(model, path, values[:1, :1], MASKS[:1, :1], *[s[:1] for s in given])
    assert_same(model, path, values[3:4, :1], MASKS[3:4, :1], *[s[:1] for s in given])
