"""Models and files for the tests of int8, and what must hold of a report."""

from pathlib import Path

import keras
import numpy as np
import onnx
from onnx import numpy_helper
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

import keras_gated as kg
from keras_gated.onnx.verify.runners import open_session

U = 64


# Of max |y|, for weights of usual size. A step of 8 bits is 0.004 of a weight, and recurrence adds.
BOUND = 0.06


def realistic(*layers):
    """A model with Keras's own initialisation, and biases and peepholes that are not zero."""
    x = y = keras.Input((None, U), name="x")
    for layer in layers:
        y = layer(y)
    return with_biases(keras.Model(x, y))


def with_biases(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) == 1 or "bias" in weight.path:
            weight.assign(weight.numpy() + 0.2 * rng.standard_normal(weight.shape))
    return model


def gated(name="lstm", **arguments):
    return kg.GatedRNN(U, name, return_sequences=True, **arguments)


def nodes_of(graph, within=""):
    """(the node that holds the graph, node) of a graph and of those within it."""
    for node in graph.node:
        yield within, node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes_of(attribute.g, node.name)


def constants_of(graph) -> dict:
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found |= constants_of(attribute.g)
    return found


def assert_told(report):
    """Whether every node in the file is as the report has it, counted anew."""
    model = onnx.load(report.path)
    onnx.checker.check_model(model)
    nodes, constants = list(nodes_of(model.graph)), constants_of(model.graph)
    in_file = {
        (node.name, within, "int8")
        for within, node in nodes
        if node.op_type in ("DynamicQuantizeLSTM", "MatMulInteger")
    }
    in_file |= {
        (node.name, within, "float32")
        for within, node in nodes
        if node.op_type in ("MatMul", "Gemm", "LSTM", "GRU", "RNN", "Gather")
        and any(constants.get(name, np.zeros(0)).dtype == np.float32 for name in node.input)
        and any(constants.get(name, np.zeros(0)).ndim > 1 for name in node.input)
    }
    rows = {(n.name, n.within, "int8" if n.quantized else "float32") for n in report.nodes}
    assert rows == in_file
    assert report.size_after == Path(report.path).stat().st_size
    text = str(report)
    assert all(node.name in text and node.reason in text for node in report.nodes)


def assert_close(report, bound=BOUND):
    for output in report.outputs:
        assert 0 < output.mean <= output.largest <= bound * output.magnitude, report


def run(path, feed) -> list:
    return open_session(path).run(None, feed)  # one thread: another order may round another way


def handmade(path, opset=17):
    """Every kind of product: y = x W, transposed, with factors, from the left, of two results..."""
    rng = np.random.default_rng(0)
    arrays = {
        "w": rng.standard_normal((4, 4)),
        "bias": rng.standard_normal(4),
        "given": rng.standard_normal((4, 4)),
        "kernel": rng.standard_normal((2, 3, 1, 1)),
    }
    tensors = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items()]
    constant = numpy_helper.from_array(rng.standard_normal((4, 4)).astype(np.float32), "v")
    nodes = [
        make_node("Constant", [], ["v"], name="constant", value=constant),
        make_node("MatMul", ["x", "v"], ["a"], name="of a node"),
        make_node("Gemm", ["a", "w", "bias"], ["b"], name="transposed", transB=1),
        make_node("Gemm", ["a", "w"], ["b2"], name="no bias"),
        make_node("Gemm", ["b", "w"], ["c"], name="factor", alpha=2.0),
        make_node("MatMul", ["w", "c"], ["d"], name="left"),
        make_node("MatMul", ["d", "given"], ["e"], name="input"),
        make_node("MatMul", ["e", "b2"], ["f"], name="two results"),
        make_node("Mul", ["f", "w"], ["y"], name="elementwise"),
    ]
    ports = [make_tensor_value_info(name, 1, [4, 4]) for name in ("x", "given", "y")]
    graph = make_graph(nodes, "handmade", ports[:2], ports[2:], tensors[:3])
    onnx.save(make_model(graph, opset_imports=[make_opsetid("", opset)], ir_version=8), path)
