"""Keeps large weights out of the conversion, which would hold dozens of copies of them.

While a model is traced, its large weights are inputs of the graph. At the very end these inputs
become constants with the weights' values.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from keras_gated.onnx.errors import require
from keras_gated.onnx.graph.writer import drop_unread_constants, read_by, tensors_read

LARGE = 2**20  # bytes from which a weight is large


def put_weights_in(model: Any, weights: Mapping[str, Callable[[], np.ndarray]]) -> None:
    """Turns the inputs that stand for large weights into constants, in place.

    Nodes that read constants and weights alone, e.g. a Transpose of a kernel, are computed here.
    If another node reads the weight as well, they stay: the file would hold it twice.

    Args:
        model: an onnx.ModelProto.
        weights: {name of the input: function that returns the weight}.
    """
    graph = model.graph
    for k in reversed(range(len(graph.input))):
        if graph.input[k].name in weights:
            del graph.input[k]
    nodes = _nodes_on_weights(graph, set(weights))
    arrays = compute_nodes(model, nodes, weights)
    for node in nodes:
        graph.node.remove(node)
    read = tensors_read(graph)
    for name, array in arrays.items():
        if name in read:
            _add_constant(graph, name, array)
    for name, values in weights.items():
        if name in read:
            _add_constant(graph, name, values())
    drop_unread_constants(graph)


def _nodes_on_weights(graph: Any, weights: set[str]) -> list:
    """Returns the nodes that read nothing but constants, and weights that no other node reads."""
    constants = {"", *(tensor.name for tensor in graph.initializer)}
    nodes, computed = [], set(weights)
    read = {port.name for port in graph.output}  # by the other nodes
    for node in graph.node:
        names = read_by(node)
        if names & computed and names <= computed | constants:
            nodes.append(node)
            computed.update(node.output)
        else:
            read |= names
    twice = weights & read & _all_read(nodes)
    return _nodes_on_weights(graph, weights - twice) if twice else nodes


def _all_read(nodes: Iterable[Any]) -> set[str]:
    return set().union(*map(read_by, nodes))


def compute_nodes(model: Any, nodes: list, weights: Mapping) -> dict[str, np.ndarray]:
    """Returns the outputs of nodes that read nothing but constants and weights."""
    if not nodes:
        return {}
    onnx, _ = require("onnx", "onnx.reference")
    read = _all_read(nodes)
    feed = {name: values() for name, values in weights.items() if name in read}
    outputs = [name for node in nodes for name in node.output if name]
    describe = onnx.helper.make_empty_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "computed_from_weights",
        [describe(name) for name in feed],
        [describe(name) for name in outputs],
        [tensor for tensor in model.graph.initializer if tensor.name in read],
    )
    small_model = onnx.helper.make_model(graph, opset_imports=model.opset_import)
    arrays = onnx.reference.ReferenceEvaluator(small_model).run(None, feed)
    return dict(zip(outputs, arrays, strict=True))


def _add_constant(graph: Any, name: str, array: np.ndarray) -> None:
    """Adds a constant; numpy_helper.from_array would hold another copy of it."""
    (onnx,) = require("onnx")
    tensor = graph.initializer.add()
    tensor.name, tensor.raw_data = name, array.tobytes()
    tensor.dims.extend(array.shape)
    tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
