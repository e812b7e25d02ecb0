"""The writer of a graph: names, constants, and what nothing reads."""

import numpy as np
import onnx
import pytest
from onnx.helper import make_graph, make_node, make_tensor_value_info

from keras_gated.onnx.graph.writer import (
    GraphWriter,
    drop_unread_constants,
    rename_tensors,
    tensors_read,
)
from tests.onnx.helpers import on_tensorflow

pytestmark = on_tensorflow


def test_one_name_for_two_constants_is_an_error():
    write = GraphWriter(onnx.GraphProto())
    assert write.constant("w", np.ones(2)) == write.constant("w", np.ones(2)) == "w"
    with pytest.raises(AssertionError, match="two constants are called 'w'"):
        write.constant("w", np.zeros(2))


def graph_of(nodes=(), outputs=("y",), constants=()):
    """A graph from x to the outputs; of constants only the names matter."""
    ports = [make_tensor_value_info(name, 1, None) for name in ("x", *outputs)]
    arrays = [onnx.numpy_helper.from_array(np.ones(2), name) for name in constants]
    return make_graph(list(nodes), "graph", ports[:1], ports[1:], arrays)


def test_an_inner_writer_writes_constants_to_the_outermost_graph():
    outer, inner = graph_of(), graph_of()
    write = GraphWriter(inner, GraphWriter(outer))
    assert write.ints(1, -1) == write.ints(1, -1) == "keras_gated/ints_1_minus_1"
    assert [tensor.name for tensor in outer.initializer] == ["keras_gated/ints_1_minus_1"]
    assert not inner.initializer


def test_names_are_given_once_and_the_same_key_has_the_same():
    write = GraphWriter(graph_of())
    assert [write.name_for(key, "enc") for key in ("a", "b", "a")] == ["enc", "enc_2", "enc"]


def test_finish_leaves_out_what_nothing_reads_and_renames_results():
    write = GraphWriter(graph_of())
    write.start("enc")
    a = write.node("Neg", ["x"])
    write.node("Abs", [a], "unread")
    b = write.node("Relu", [a])
    nodes = write.finish({"y": b, "z": b})
    assert [node.op_type for node in nodes] == ["Neg", "Relu", "Identity"]
    assert [list(node.output) for node in nodes] == [["enc/neg_0"], ["y"], ["z"]]
    assert list(nodes[2].input) == ["y"]  # one tensor has one name


def test_a_recurrent_node_gives_no_sequence_that_nothing_reads():
    write = GraphWriter(graph_of())
    write.start("enc")
    _, h = write.node("GRU", ["x", "w", "r"], outputs=2)
    (node,) = write.finish({"y": h})
    assert list(node.output) == ["", "y"]


def test_constants_that_nothing_reads_are_dropped_also_where_an_inner_graph_reads():
    inner = graph_of([make_node("Add", ["x", "used_inside"], ["y"])])
    branch = make_node("If", ["x"], ["y"], then_branch=inner, else_branch=graph_of([]))
    graph = graph_of([branch], constants=("used_inside", "unread"))
    drop_unread_constants(graph)
    assert [tensor.name for tensor in graph.initializer] == ["used_inside"]


def test_a_tensor_is_renamed_wherever_it_is_read():
    inner = graph_of([make_node("Neg", ["a"], ["y"])])
    nodes = [make_node("Abs", ["x"], ["a"]), make_node("If", ["a"], ["y"], then_branch=inner)]
    graph = graph_of(nodes)
    rename_tensors(graph, {"a": "b"})
    assert [list(node.output) for node in graph.node] == [["b"], ["y"]]
    assert graph.node[1].input[0] == "b" and graph.node[1].attribute[0].g.node[0].input[0] == "b"
    assert tensors_read(graph) == {"x", "b", "y"}
