"""Nodes of a Scan's body that are joined: fewer, and the numbers are the same."""

from collections import Counter

import keras
import numpy as np
import onnx
import pytest
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.reference import ReferenceEvaluator

import keras_gated as kg
from keras_gated.onnx.export import export_onnx
from keras_gated.onnx.graph.joined_nodes import NodeJoiner
from keras_gated.onnx.graph.writer import GraphWriter
from tests.onnx.helpers import F, U, functional, on_tensorflow

T, B, PARTS = 3, 2, 4
SUMS = [make_node("Add", [f"p{k}", f"s{k}"], [f"a{k}"]) for k in range(PARTS)]


def value(name, *shape):
    return make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def scan_model(nodes, outputs, opset=17):
    """A model of one Scan: h is multiplied by a matrix, cut into parts, and passed to `nodes`."""
    count = [onnx.helper.make_attribute("num_outputs", PARTS)] if opset > 17 else []
    cut = make_node("Split", ["y"], [f"p{k}" for k in range(PARTS)], axis=-1, name="cut")
    cut.attribute.extend(count)
    # Of a used tensor a body needs a copy, for it may be an output twice.
    ends = [make_node("Identity", [name], [f"{name}/out"]) for name in outputs]
    body = make_graph(
        [make_node("MatMul", ["h", "w"], ["y"], name="product"), cut, *nodes, *ends],
        "body",
        [value("h", B, U), *(value(f"s{k}", B, U) for k in range(PARTS))],
        [value(f"{name}/out", B, U) for name in outputs],
        value_info=[value(f"p{k}", B, U) for k in range(PARTS)] + [value("w", U, PARTS * U)],
    )
    rng = np.random.default_rng(0)
    constants = {"w": (U, PARTS * U), "b0": (U,), "b1": (U,), "b2": (U,), "b3": (U,), "one": (1,)}
    graph = make_graph(
        [],
        "model",
        [value("h0", B, U), *(value(f"x{k}", T, B, U) for k in range(PARTS))],
        [value("state", B, U), *(value(f"z{k}", T, B, U) for k in range(1, len(outputs)))],
        [
            onnx.numpy_helper.from_array(rng.normal(size=shape).astype("f"), name)
            for name, shape in constants.items()
        ],
    )
    return graph, body, opset


def add_scan(graph, body, series, before=()):
    names = [output.name for output in graph.output]
    inputs = ["h0", *series.values()]
    scan = make_node("Scan", inputs, names, body=body, num_scan_inputs=len(series))
    graph.node.extend([*before, scan])


def run(graph, opset):
    model = make_model(graph, opset_imports=[make_opsetid("", opset)])
    model.ir_version = 10
    onnx.checker.check_model(model, full_check=True)
    rng = np.random.default_rng(1)
    feed = {
        port.name: rng.normal(size=[d.dim_value for d in port.type.tensor_type.shape.dim])
        for port in graph.input
    }
    feed = {name: x.astype("f") for name, x in feed.items()}
    return ReferenceEvaluator(model).run(None, feed)


def joined(nodes, outputs, opset=17):
    """Returns the operators of the body after joining; its numbers are those from before."""
    series = {f"s{k}": f"x{k}" for k in range(PARTS)}
    graph, body, _ = scan_model(nodes, outputs, opset)
    add_scan(graph, body, series)
    expected = run(graph, opset)
    graph, body, _ = scan_model(nodes, outputs, opset)
    write = GraphWriter(graph)
    write.start("scan")
    NodeJoiner(body, series, write).run()
    del body.value_info[:]
    add_scan(graph, body, series, write.nodes)
    for ours, theirs in zip(run(graph, opset), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    return Counter(node.op_type for node in body.node if node.op_type != "Identity"), series


def gates(*kinds, **attributes):
    return [make_node(kind, [f"a{k}"], [f"v{k}"], **attributes) for k, kind in enumerate(kinds)]


V = ["v0", "v1", "v2", "v3"]


@pytest.mark.parametrize("opset", [13, 17, 18])
def test_gates_side_by_side_share_a_sum_and_an_activation(opset):
    nodes = SUMS + gates("Sigmoid", "Sigmoid", "Sigmoid", "Tanh")
    operators, series = joined(nodes, V, opset)
    assert operators == {"Gemm": 1, "Split": 2, "Sigmoid": 1, "Tanh": 1}
    assert len(series) == 1


def test_all_gates_of_one_activation_are_cut_once():
    operators, _ = joined(SUMS + gates(*["Sigmoid"] * 4), V)
    assert operators == {"Gemm": 1, "Split": 1, "Sigmoid": 1}


def test_vectors_are_added_together():
    sums = [make_node("Add", [f"p{k}", f"b{k}"], [f"a{k}"]) for k in range(PARTS)]
    operators, series = joined(sums, ["a0", "a1", "a2", "a3"])
    assert operators == {"Gemm": 1, "Split": 1} and len(series) == PARTS


def test_a_part_that_is_read_twice_stays():
    more = make_node("Mul", ["p1", "p1"], ["v1"])
    sums = [SUMS[0], *SUMS[2:]]
    operators, series = joined([*sums, more], ["a0", "v1", "a2", "a3"])
    assert operators == {"MatMul": 1, "Split": 2, "Add": 2, "Mul": 1}
    assert set(series.values()) == {"x0", "x1", "scan/concat_0"}


def test_a_part_that_leaves_the_body_stays():
    operators, _ = joined(SUMS[1:], ["p0", "a1", "a2", "a3"])
    assert operators == {"MatMul": 1, "Split": 2, "Add": 1}


def test_what_is_broadcast_is_not_joined():
    sums = [make_node("Add", [f"p{k}", "one"], [f"a{k}"]) for k in range(PARTS)]
    operators, _ = joined(sums, ["a0", "a1", "a2", "a3"])
    assert operators == {"MatMul": 1, "Split": 1, "Add": 4}


def test_what_the_step_computes_is_not_joined():
    sums = [make_node("Add", [f"p{k}", f"p{k + 1}"], [f"a{k}"]) for k in (0, 2)]
    operators, _ = joined(sums, ["a0", "a2"])
    assert operators == {"MatMul": 1, "Split": 1, "Add": 2}


def test_activations_with_other_attributes_are_not_joined():
    kinds = [make_node("HardSigmoid", [f"a{k}"], [f"v{k}"], alpha=0.1 * (k // 2)) for k in range(4)]
    operators, _ = joined(SUMS + kinds, V)
    assert operators == {"Gemm": 1, "Split": 3, "HardSigmoid": 2}


@on_tensorflow
def test_the_gates_of_a_gru_share_a_product_and_a_sigmoid(path):
    model = functional(kg.GatedRNN(U, "gru", return_sequences=True, name="cell"))
    export_onnx(model, path, lowering="scan")
    (scan,) = (node for node in onnx.load(path).graph.node if node.op_type == "Scan")
    body = next(a.g for a in scan.attribute if a.name == "body")
    operators = Counter(node.op_type for node in body.node)
    assert operators["Gemm"] == operators["Sigmoid"] == 1 and len(body.node) <= 14


@on_tensorflow
def test_cells_whose_equal_vectors_are_one_constant(path):
    """The biases of a GRU behind its product are zeros, three and two vectors of one size."""
    gru = kg.GatedRNN(U, "gru", return_sequences=True, name="three")
    two = kg.CellSpec(
        memory="hidden",
        input_gate=kg.Tied("forget", complement=True),
        reset_gate=kg.Tied("forget"),
        candidate=kg.Candidate(reset_after=True),
    )
    layers = [gru, kg.GatedRNN(U, two, return_sequences=True, name="two")]
    model = keras.Sequential([keras.Input((None, F)), *layers])
    report = export_onnx(model, path, lowering="scan")
    assert [layer.operator for layer in report.layers] == ["Scan", "Scan"]
