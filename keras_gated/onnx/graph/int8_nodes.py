"""Rewrites an ONNX graph so that its products with weights compute in int8.

A column of a weight is stored as w = s q, where q = round(w / s) is an integer in -n..n and
s = max|w| / n. By default n is 64; it may be 127 on processors that multiply 8 bits without
overflow. At each run, the input of a product is brought to 8 bits between its smallest and its
largest value. Biases, peepholes, activations and states stay in float32.

    MatMul(x, w)          DynamicQuantizeLinear(x)                   x as uint8, its scale and zero
                          MatMulInteger(x, q) -> Cast -> Mul(scales)  back to float32
    LSTM(x, W, R, ...)    DynamicQuantizeLSTM(x, W as int8, R as int8, ...)

This file works on the ONNX graph alone; it needs neither Keras nor the model. Graphs inside nodes
(the body of a Scan, the branches of an If) are rewritten as well. A weight may be in the same graph
as the product or in an outer one, and several nodes may read it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_gated.onnx.errors import require
from keras_gated.onnx.graph.writer import RECURRENT_OPERATORS, drop_unread_constants

MICROSOFT = "com.microsoft"
PRODUCTS = ("MatMul", "Gemm")
FLOAT = 1  # onnx.TensorProto.FLOAT
REASONS = {
    "Gather": "a table that is looked up",
    # Measured in onnxruntime 1.32 on one thread: ConvInteger after DynamicQuantizeLinear took 2.7
    # to 11 times as long as Conv, for kernels (32, 1, 9) to (512, 512, 3) and two dimensions.
    "Conv": "onnxruntime computes a Conv in float32 several times faster than in int8",
}
RANGE, REDUCED_RANGE = 127, 64  # the same as in onnxruntime's quantiser


@dataclass(frozen=True)
class NodeReport:
    """Whether one node, which multiplies or holds a matrix, computes in int8.

    Attributes:
        name: of the node.
        operator: of the node before quantisation, e.g. "LSTM" or "MatMul".
        within: name of the Scan or other node whose graph the node is in; "" in the main graph.
        quantized: whether it computes in int8 now.
        reason: the operator that replaced it, or why it stays in float32.
    """

    name: str
    operator: str
    within: str
    quantized: bool
    reason: str


def quantize(model: Any, per_channel: bool = True, reduce_range: bool = True) -> list[NodeReport]:
    """Quantises an onnx.ModelProto in place; returns a report on each node.

    Args:
        model: an onnx.ModelProto, opset 11 or newer.
        per_channel: bool. One scale for each column of a weight, instead of one for the whole.
        reduce_range: bool. Weights in -64..64 instead of -127..127.
    """
    (onnx,) = require("onnx")
    quantizer = _Quantizer(onnx, per_channel, REDUCED_RANGE if reduce_range else RANGE)
    quantizer.run(model.graph)
    drop_unread_constants(model.graph)
    domains = {opset.domain for opset in model.opset_import}
    has_lstm = any(row.operator == "LSTM" and row.quantized for row in quantizer.rows)
    if has_lstm and MICROSOFT not in domains:
        model.opset_import.append(onnx.helper.make_opsetid(MICROSOFT, 1))
    return quantizer.rows


class _NotQuantized(Exception):
    """Raised if a node stays in float32. The message is the reason."""


class _Constants:
    """The constants of one graph by name. New ones can be added."""

    def __init__(self, onnx: Any, graph: Any):
        self._graph, self._onnx = graph, onnx
        # An initializer that is an input as well is only a default: a caller may pass another.
        inputs = {port.name for port in graph.input}
        self.tensors = {t.name: t for t in graph.initializer if t.name not in inputs}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.tensors[node.output[0]] = node.attribute[0].t

    def add(self, name: str, array: np.ndarray) -> str:
        """Adds a constant unless one of this name exists, and returns the name."""
        if name not in self.tensors:
            self.tensors[name] = self._onnx.numpy_helper.from_array(array, name)
            self._graph.initializer.append(self.tensors[name])
        return name


class _Quantizer:
    """Rewrites a graph and the graphs inside it, and writes a report on each node.

    Args:
        onnx: the module.
        per_channel: see `quantize`.
        limit: n, the largest integer of a weight.

    Attributes:
        rows: the reports.
    """

    def __init__(self, onnx: Any, per_channel: bool, limit: int):
        self._onnx, self._per_channel, self._limit = onnx, per_channel, limit
        self.rows: list[NodeReport] = []

    def run(self, graph: Any, outer: Sequence[_Constants] = (), within: str = "") -> None:
        """Rewrites a graph.

        Args:
            graph: an onnx.GraphProto.
            outer: the constants of the graphs around it, the outermost first.
            within: name of the node that holds the graph.
        """
        scope = (*outer, _Constants(self._onnx, graph))
        in_uint8: dict[str, list] = {}  # tensors brought to 8 bits already: two products may share
        nodes: list = []
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    self.run(attribute.g, scope, node.name or node.op_type)
            nodes += self._replace(node, scope, in_uint8, within)
        del graph.node[:]
        graph.node.extend(nodes)

    def _replace(self, node: Any, scope: Sequence, in_uint8: dict, within: str) -> list:
        """Returns the nodes in place of one: its int8 form, or the node itself."""
        quantized = True
        try:
            if node.op_type == "LSTM":
                new, reason = [self._quantize_lstm(node, scope)], "DynamicQuantizeLSTM"
            elif node.op_type in PRODUCTS:
                new, reason = self._quantize_product(node, scope, in_uint8), "MatMulInteger"
            elif (reason := _reason_not_quantized(node, scope, self._onnx)) is None:
                return [node]
            else:
                new, quantized = [node], False
        except _NotQuantized as error:
            new, reason, quantized = [node], str(error), False
        self.rows.append(NodeReport(node.name, node.op_type, within, quantized, reason))
        return new

    # The nodes

    def _quantize_lstm(self, node: Any, scope: Sequence) -> Any:
        if any(a.name == "layout" and a.i for a in node.attribute):
            raise _NotQuantized("layout=1 is not what the int8 operator takes")
        inputs = [*node.input, *[""] * (8 - len(node.input))]  # X W R B lens h_0 c_0 P
        scales = []
        for k in (1, 2):  # W (directions, 4U, F) and R (directions, 4U, U)
            owner, w = self._find_weight(inputs[k], scope, 3)
            name, scale = self._store_int8(owner, inputs[k], w.transpose(0, 2, 1))
            zeros = np.zeros(tuple(owner.tensors[scale].dims), np.int8)
            scales += [scale, owner.add(f"{inputs[k]}/int8_zero", zeros)]
            inputs[k] = name
        new = self._onnx.helper.make_node(
            "DynamicQuantizeLSTM", inputs + scales, node.output, node.name, domain=MICROSOFT
        )
        new.attribute.extend(node.attribute)
        return new

    def _quantize_product(self, node: Any, scope: Sequence, in_uint8: dict) -> list:
        x, weight = node.input[:2]
        attributes = {a.name: self._onnx.helper.get_attribute_value(a) for a in node.attribute}
        transposed = bool(attributes.get("transB"))
        factors = {attributes.get("alpha", 1.0), attributes.get("beta", 1.0)}
        if attributes.get("transA") or factors != {1.0}:
            raise _NotQuantized("a Gemm that transposes its input or has factors")
        owner, w = self._find_weight(weight, scope, 2)
        name = f"{weight}/transposed" if transposed else weight
        q, scale = self._store_int8(owner, name, w.T if transposed else w)
        (y,), make, nodes = node.output, self._onnx.helper.make_node, []
        if x not in in_uint8:
            in_uint8[x] = [f"{y}/uint8", f"{y}/uint8_scale", f"{y}/uint8_zero"]
            nodes.append(make("DynamicQuantizeLinear", [x], in_uint8[x], name=f"{y}/uint8"))
        x_q, x_scale, x_zero = in_uint8[x]
        bias = [name for name in node.input[2:] if name]
        scaled = f"{y}/scaled" if bias else y
        # onnxruntime looks for exactly this pattern, and runs it as one node.
        nodes += [
            make("MatMulInteger", [x_q, q, x_zero], [f"{y}/int32"], name=node.name),
            make("Cast", [f"{y}/int32"], [f"{y}/float"], name=f"{y}/float", to=FLOAT),
            make("Mul", [x_scale, scale], [f"{y}/scale"], name=f"{y}/scale"),
            make("Mul", [f"{y}/float", f"{y}/scale"], [scaled], name=f"{y}/scaled"),
        ]
        return nodes + [make("Add", [scaled, b], [y], name=f"{y}/bias") for b in bias]

    # Weights

    def _find_weight(self, name: str, scope: Sequence, rank: int) -> tuple[_Constants, np.ndarray]:
        """Returns the constants of the graph that holds a weight, and the weight's array.

        Raises:
            _NotQuantized: unless it is a constant of float32 with this rank.
        """
        owner = next((c for c in reversed(scope) if name in c.tensors), None)
        if owner is None:
            raise _NotQuantized("its second factor is computed, not a constant")
        array = self._onnx.numpy_helper.to_array(owner.tensors[name])
        if array.dtype != np.float32:
            raise _NotQuantized(f"its weights are {array.dtype}")
        if array.ndim != rank:
            raise _NotQuantized(f"its second factor has {array.ndim} dimensions")
        return owner, array

    def _store_int8(self, owner: _Constants, name: str, w: np.ndarray) -> tuple[str, str]:
        """Adds a weight (..., inputs, outputs) as int8; returns its name and its scale's."""
        axes = -2 if self._per_channel else (-2, -1)
        scale = scales_of(w, axes, self._limit)
        q = np.round(w / np.expand_dims(scale, axes)).clip(-self._limit, self._limit)
        return owner.add(f"{name}/int8", q.astype(np.int8)), owner.add(f"{name}/int8_scale", scale)


def scales_of(w: np.ndarray, axes: int | tuple, limit: int) -> np.ndarray:
    """Returns the scales of a weight: max|w| / limit over `axes`, or 1 if all numbers are 0."""
    largest = np.abs(w).max(axes)
    return np.where(largest > 0, largest / limit, 1.0).astype(np.float32)


def _reason_not_quantized(node: Any, scope: Sequence[_Constants], onnx: Any) -> str | None:
    """Returns why a node that is neither a product nor an LSTM stays in float32.

    None if there is nothing to report: the node holds no matrix of weights.
    """
    if node.op_type in RECURRENT_OPERATORS:
        return (
            f"onnxruntime has no int8 {node.op_type}. Export it with lowering='scan', or give "
            "quantize_onnx the Keras model: products within a Scan are quantised"
        )
    if any(attribute.HasField("g") for attribute in node.attribute):
        return None  # the nodes of its graph have rows of their own
    for name in node.input:
        owner = next((c for c in reversed(scope) if name in c.tensors), None)
        tensor = owner and owner.tensors[name]
        if tensor and _is_float(onnx, tensor) and sum(size > 1 for size in tensor.dims) > 1:
            return REASONS.get(node.op_type, "not a product of matrices")
    return None


def _is_float(onnx: Any, tensor: Any) -> bool:
    return onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).kind == "f"
