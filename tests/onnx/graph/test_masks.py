"""Masks of every kind around a native operator."""

import keras
import numpy as np
import onnxruntime
import pytest
from onnx.helper import (
    make_empty_tensor_value_info,
    make_graph,
    make_model,
    make_opsetid,
    make_tensor_value_info,
)

import keras_gated as kg
from keras_gated.onnx.export import export_onnx
from keras_gated.onnx.graph.masks import MaskNodes
from keras_gated.onnx.graph.writer import GraphWriter
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


@pytest.mark.long
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


# The nodes alone --------------------------------------------------------------------------------


def computed(names: list, nodes: list, write, **arrays) -> list:
    """What tensors hold after the nodes ran in onnxruntime."""
    graph = make_graph(
        nodes,
        "masks",
        [
            make_tensor_value_info(n, 9 if a.dtype == bool else 1, a.shape)
            for n, a in arrays.items()
        ],
        [make_empty_tensor_value_info(name) for name in names],
        list(write._constants),
    )
    made = make_model(graph, opset_imports=[make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(made.SerializeToString())
    return session.run(names, arrays)


def test_valid_time_steps_are_moved_to_the_front_in_order():
    graph = make_graph([], "masks", [], [])
    write = GraphWriter(graph)
    write.start("m")
    nodes = MaskNodes(write, "mask")
    moved = nodes.move_valid_first("x", "x")
    x = np.random.default_rng(0).standard_normal((*MASKS.shape, F)).astype("float32")
    found, lengths = computed([moved, nodes.lengths], write.nodes, write, x=x, mask=MASKS)
    np.testing.assert_array_equal(lengths, MASKS.sum(1))
    for row, valid in enumerate(MASKS):
        np.testing.assert_array_equal(found[row, : valid.sum()], x[row, valid])
