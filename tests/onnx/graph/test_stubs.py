"""Stubs become nodes: two of opposite directions become one, where neither needs the other."""

import keras
import numpy as np
import onnx
import pytest
from onnx.helper import make_graph, make_node, make_tensor_value_info

import keras_gated as kg
from keras_gated.onnx.errors import ExportError
from keras_gated.onnx.export import export_onnx
from keras_gated.onnx.graph import stubs
from tests.onnx.helpers import F, U, exported, functional, on_tensorflow, randomized

pytestmark = on_tensorflow
layers = keras.layers


def test_bidirectional_is_one_node(path):
    model = functional(
        keras.layers.Bidirectional(kg.GatedRNN(U, "cifg", return_sequences=True), name="both"),
        keras.layers.Bidirectional(kg.GatedRNN(U, "gru_cho"), merge_mode="sum"),
    )
    report = exported(model, path, 2)
    assert sum(layer.name.startswith("both/forward_") for layer in report.layers) == 1
    graph = onnx.load(path).graph
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    assert weights["both/W"] == [2, 4 * U, F] and "both/LSTM" in {node.name for node in graph.node}


def test_a_backward_layer_that_needs_the_forward_one_stays_apart(path):
    x = keras.Input((None, F), name="x")
    y, *states = kg.GatedLSTM(U, return_sequences=True, return_state=True, name="there")(x)
    back = kg.GatedLSTM(U, return_sequences=True, go_backwards=True, name="back")
    model = randomized(keras.Model(x, [y, back(x, initial_state=states)]))
    exported(model, path, 2)


def test_two_ways_over_one_input_are_one_node_also_without_bidirectional(path):
    x = keras.Input((None, F), name="x")
    there = kg.GatedLSTM(U, return_sequences=True, name="there")
    back = kg.GatedLSTM(U, return_sequences=True, go_backwards=True, name="back")
    model = randomized(keras.Model(x, [there(x), back(x)]))
    exported(model, path, 1)
    assert "there_back/LSTM" in {node.name for node in onnx.load(path).graph.node}


class TwoPairs(keras.Layer):
    """Two pairs of opposite layers, held in one place."""

    def __init__(self):
        super().__init__(name="two")
        ways = {"there": False, "back": True, "there_too": False, "back_too": True}
        self.four = [
            layers.LSTM(U, return_sequences=True, go_backwards=backwards, name=name)
            for name, backwards in ways.items()
        ]

    def call(self, x):
        there, back, there_too, back_too = self.four
        y = keras.ops.concatenate([there(x), back(x)], axis=-1)
        return keras.ops.concatenate([there_too(y), back_too(y)], axis=-1)


def test_two_pairs_in_one_place(path):
    exported(functional(TwoPairs()), path, 2)
    names = {t.name for t in onnx.load(path).graph.initializer}
    assert {"two/W", "two_2/W"} <= names


def test_a_bidirectional_called_twice_stores_its_weights_once(path):
    both = layers.Bidirectional(kg.GatedLSTM(U, return_sequences=True), name="both")
    a, b = keras.Input((None, F), name="a"), keras.Input((None, F), name="b")
    report = exported(randomized(keras.Model([a, b], [both(a), both(b)])), path, 2)
    graph = onnx.load(path).graph
    stored = {t.name: int(np.prod(t.dims)) for t in graph.initializer if len(t.dims) > 1}
    assert set(stored) == {"both/W", "both/R", "both/B"}
    assert sum(stored.values()) == sum(layer.weights_in_file for layer in report.layers)
    assert {"both/LSTM", "both_2/LSTM"} <= {node.name for node in graph.node}


def test_pairs_that_would_wait_for_each_other_stay_apart(path):
    def layer(name, backwards):
        return layers.LSTM(U, return_sequences=True, go_backwards=backwards, name=name)

    x = keras.Input((None, F), name="x")
    z = layers.Dense(F)(x)
    s = layers.Dense(U)(z[:, 0])
    h1 = layer("f1", False)(x, initial_state=[s, s])
    h2 = layer("f2", False)(z, initial_state=[s, s])
    o2 = layer("b2", True)(z, initial_state=[h1[:, -1], h1[:, -1]])
    o1 = layer("b1", True)(x, initial_state=[h2[:, -1], h2[:, -1]])
    exported(randomized(keras.Model(x, [o1, o2])), path, 3)


class SameName(keras.Model):
    """A pair and a layer of one name."""

    def __init__(self):
        super().__init__()
        self.pair = layers.Bidirectional(layers.LSTM(U, return_sequences=True), name="rnn")
        self.top = layers.LSTM(U, name="rnn")

    def call(self, x):
        return self.top(self.pair(x))


def test_a_pair_and_a_layer_of_one_name_in_a_model_that_was_never_called(path):
    signature = keras.InputSpec(shape=(None, None, F), dtype="float32")
    report = export_onnx(SameName(), path, input_signature=signature)
    assert [layer.operator for layer in report.layers] == ["LSTM"] * 3
    names = {t.name for t in onnx.load(path).graph.initializer}
    assert {"rnn/W", "rnn_2/W"} <= names


# The graph alone --------------------------------------------------------------------------------


def test_nodes_are_independent_unless_one_reads_the_other_directly_or_not():
    a, b = make_node("Neg", ["x"], ["a"]), make_node("Abs", ["a"], ["b"])
    c, d = make_node("Neg", ["b"], ["c"]), make_node("Neg", ["x"], ["d"])
    makers = {node.output[0]: [node] for node in (a, b, c, d)}
    assert stubs._independent([a, d], makers) and stubs._independent([d, c], makers)
    assert not stubs._independent([a, b], makers)
    assert not stubs._independent([c, a], makers)  # through b


def test_what_a_branch_reads_counts_too():
    a = make_node("Neg", ["x"], ["a"])
    port = make_tensor_value_info("y", 1, None)
    inner = make_graph([make_node("Abs", ["a"], ["y"])], "inner", [], [port])
    branch = make_node("If", ["x"], ["z"], then_branch=inner, else_branch=inner)
    assert not stubs._independent([a, branch], {"a": [a], "z": [branch]})


def test_two_that_have_become_one_node_wait_for_each_other():
    a, b = make_node("Neg", ["x"], ["a"]), make_node("Neg", ["c"], ["b"])
    c, d = make_node("Neg", ["x"], ["c"]), make_node("Neg", ["a"], ["d"])
    apart = {node.output[0]: [node] for node in (a, b, c, d)}
    assert stubs._independent([c, d], apart)
    together = apart | {"a": [a, b], "b": [a, b]}
    assert not stubs._independent([c, d], together)  # d needs a, so b, so c


def test_nodes_are_put_in_an_order_in_which_each_finds_its_inputs():
    a, b, c = (make_node("Neg", [i], [o]) for i, o in (("x", "a"), ("a", "b"), ("b", "c")))
    assert stubs._sort([c, a, b]) == [a, b, c]
    with pytest.raises(ExportError, match="circle"):
        stubs._sort([make_node("Add", ["x", "c"], ["a"]), b, c])
