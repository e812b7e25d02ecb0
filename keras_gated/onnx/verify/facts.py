"""What the graph of a file and the layers of a model say about the values of an input.

Gather(weights, ids)     ids are indices of `weights`
Equal(x, -1)             -1 has a meaning, e.g. padding
Less(x, 5)               numbers around 5 matter
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_gated.onnx.errors import require
from keras_gated.onnx.graph.writer import all_nodes
from keras_gated.onnx.tracing.layer_places import layers_within
from keras_gated.onnx.tracing.model_io import Port

# Operators whose output holds numbers of their inputs, and those that compute an index.
MOVING = {
    *("Cast", "Clip", "Concat", "Expand", "Flatten", "Gather", "GatherND", "Identity", "Max"),
    *("Min", "Pad", "ReduceMax", "ReduceMin", "Reshape", "Slice", "Split", "Squeeze", "Tile"),
    *("Transpose", "Unsqueeze", "Where"),
}
ARITHMETIC = MOVING | {"Abs", "Add", "Div", "Mod", "Mul", "Neg", "Sub"}
ORDER = {"Greater", "GreaterOrEqual", "Less", "LessOrEqual"}
CONDITION_FIRST = {"Where"}  # the first input is not among the numbers of the output
BOOL = 9  # onnx.TensorProto.BOOL


@dataclass(frozen=True)
class Facts:
    """What is known of the values of an input.

    Attributes:
        limit: token indices are below it; None for other numbers.
        paddings: values that the model compares its input with for equality.
        thresholds: values that the model asks to be smaller or larger than.
    """

    limit: int | None = None
    paddings: tuple[float, ...] = ()
    thresholds: tuple[float, ...] = ()


def facts_of_inputs(model: keras.Model | None, graph: Any, ports: Sequence[Port]) -> list[Facts]:
    """Returns what the graph of a file and the layers of a model say of each input.

    Args:
        model: the Keras model, if it is known.
        graph: the onnx.GraphProto of the file.
        ports: the inputs.
    """
    layers = layers_within(model) if model else []
    embeddings = [layer for layer in layers if isinstance(layer, keras.layers.Embedding)]
    masked = [one.mask_value for one in layers if isinstance(one, keras.layers.Masking)]
    smallest = min((layer.input_dim for layer in embeddings), default=None)
    constants = _scalars(graph)
    facts = []
    for port in ports:
        limit, paddings, thresholds = _facts_of(graph, port, constants)
        if is_integer(port):
            limit = limit or (None if is_length(port) else smallest)
            paddings += [0] if limit and any(layer.mask_zero for layer in embeddings) else []
        else:
            paddings += masked if len(port.shape) > 2 else []
        facts.append(Facts(limit, _unique(paddings, port), _unique(thresholds, port)))
    return facts


def is_integer(port: Port) -> bool:
    return "int" in port.dtype


def is_length(port: Port) -> bool:
    """Whether an input has one integer for each sequence."""
    return is_integer(port) and all(size == 1 for size in port.shape[1:])


def _unique(values: Sequence[float], port: Port) -> tuple[float, ...]:
    """The values without repetition that are finite and that the input's dtype can hold."""
    finite = [v for v in values if np.isfinite(v)]
    if is_integer(port):
        limits = np.iinfo(port.dtype)
        finite = [int(v) for v in finite if v == int(v) and limits.min <= v <= limits.max]
    return tuple(dict.fromkeys(finite))


# The graph ----------------------------------------------------------------------------------------


def _facts_of(graph: Any, port: Port, constants: dict[str, float]) -> tuple:
    """Returns what a graph says of an input: limit, paddings, thresholds."""
    numbers, computed = _reached(graph, port.name, MOVING), _reached(graph, port.name, ARITHMETIC)
    sizes = _sizes_of_constants(graph)
    limits, paddings, thresholds = [], [], []
    for node in all_nodes(graph):
        read = [name for name in node.input if name in numbers]
        compared = [constants[name] for name in node.input if name in constants]
        if node.op_type == "Equal" and read:
            paddings += compared
        elif node.op_type in ORDER and read:
            thresholds += compared
        elif node.op_type == "Cast" and read and any(a.i == BOOL for a in node.attribute):
            paddings += [0]
        elif node.op_type == "Gather" and node.input[0] in sizes and node.input[1] in computed:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            limits.append(sizes[node.input[0]][axis])
    return min(limits, default=None), paddings, thresholds


def _reached(graph: Any, name: str, operators: set[str]) -> set[str]:
    """Returns the tensors that hold an input's numbers if only these operators change them."""
    reached = {name}
    for node in all_nodes(graph):
        numbers = node.input[1:] if node.op_type in CONDITION_FIRST else node.input[:]
        numbers = node.input[:1] if node.op_type in ("Gather", "GatherND") else numbers
        if node.op_type in operators and reached.intersection(numbers):
            reached.update(node.output)
    return reached


def _constants(graph: Any) -> dict[str, Any]:
    """Returns the constants of a graph and of the graphs inside, as onnx.TensorProto."""
    graphs, tensors = [graph], {}
    while graphs:
        one = graphs.pop()
        tensors |= {tensor.name: tensor for tensor in one.initializer}
        for node in one.node:
            graphs += [a.g for a in node.attribute if a.HasField("g")]
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                tensors[node.output[0]] = node.attribute[0].t
    return tensors


def _scalars(graph: Any) -> dict[str, float]:
    """Returns the constants of one number."""
    (onnx,) = require("onnx")
    single = {k: t for k, t in _constants(graph).items() if np.prod(t.dims, dtype=int) == 1}
    arrays = {name: onnx.numpy_helper.to_array(tensor) for name, tensor in single.items()}
    return {k: float(array.flat[0]) for k, array in arrays.items() if array.dtype.kind in "iuf"}


def _sizes_of_constants(graph: Any) -> dict[str, list[int]]:
    return {name: list(tensor.dims) for name, tensor in _constants(graph).items() if tensor.dims}
