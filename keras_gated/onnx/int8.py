"""An ONNX graph with its products in int8: weights stored so, inputs scaled as they come.

A weight w of a column is s q with q = round(w / s) in -n..n and s = max|w| / n, where n is 64, or
127 if the processors that run the file multiply 8 bits without overflow; the input of a product
becomes 8 bits between its least and its greatest value, found anew at each run. Biases, peepholes,
activations and states stay in float32. Works on the ONNX graph alone, inner graphs
included, whether a weight stands in them or around them, and read by one node or by several.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_gated.onnx.errors import require
from keras_gated.onnx.graph.writer import OPERATORS, drop_unread

MICROSOFT = "com.microsoft"
PRODUCTS = ("MatMul", "Gemm")
FLOAT = 1  # onnx.TensorProto.FLOAT
RANGE, REDUCED_RANGE = 127, 64  # as onnxruntime's own quantiser has them


@dataclass(frozen=True)
class NodeReport:
    """What became of a node that multiplies, or that holds a matrix.

    Attributes:
        name: of the node.
        operator: what it was, e.g. "LSTM" or "MatMul".
        within: name of the Scan or other node in whose graph it stands; "" in the main graph.
        quantized: whether it computes in int8 now.
        reason: by what, or why not.
    """

    name: str
    operator: str
    within: str
    quantized: bool
    reason: str


def quantize(model: Any, per_channel: bool = True, reduce_range: bool = True) -> list[NodeReport]:
    """Quantises an onnx.ModelProto in place; returns what became of each node.

    Args:
        model: an onnx.ModelProto, opset 11 or newer.
        per_channel: bool. A scale for each column of a weight, instead of one for the whole.
        reduce_range: bool. Weights in -64..64.
    """
    (onnx,) = require("onnx")
    pass_ = _Pass(onnx, per_channel, REDUCED_RANGE if reduce_range else RANGE)
    pass_.run(model.graph)
    drop_unread(model.graph)
    domains = {opset.domain for opset in model.opset_import}
    if MICROSOFT not in domains and any(r.operator == "LSTM" and r.quantized for r in pass_.rows):
        model.opset_import.append(onnx.helper.make_opsetid(MICROSOFT, 1))
    return pass_.rows


class _NotQuantized(Exception):
    """Raised where a node stays in float32, with the reason."""


class _Constants:
    """The constants of a graph by name, and the place for more."""

    def __init__(self, onnx: Any, graph: Any):
        self._graph, self._onnx = graph, onnx
        given = {port.name for port in graph.input}  # a caller may replace such a constant
        self.tensors = {t.name: t for t in graph.initializer if t.name not in given}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.tensors[node.output[0]] = node.attribute[0].t

    def add(self, name: str, array: np.ndarray) -> str:
        """Returns the name of a constant; the same name stands for the same array."""
        if name not in self.tensors:
            self.tensors[name] = self._onnx.numpy_helper.from_array(array, name)
            self._graph.initializer.append(self.tensors[name])
        return name


class _Pass:
    """One pass over a graph and the graphs within it, innermost first."""

    def __init__(self, onnx: Any, per_channel: bool, limit: int):
        self._onnx, self._per_channel, self._limit = onnx, per_channel, limit
        self.rows: list[NodeReport] = []

    def run(self, graph: Any, around: Sequence[_Constants] = (), within: str = "") -> None:
        """Rewrites a graph; `around` are the constants of the graphs that it stands in."""
        scope = (*around, _Constants(self._onnx, graph))
        inputs: dict[str, list] = {}  # what is in 8 bits already
        nodes: list = []
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    self.run(attribute.g, scope, node.name or node.op_type)
            nodes += self._replaced(node, scope, inputs, within)
        del graph.node[:]
        graph.node.extend(nodes)

    def _replaced(self, node: Any, scope: Sequence, inputs: dict, within: str) -> list:
        try:
            if node.op_type == "LSTM":
                new, reason = [self._lstm(node, scope)], "DynamicQuantizeLSTM"
            elif node.op_type in PRODUCTS:
                new, reason = self._product(node, scope, inputs), "MatMulInteger"
            elif (reason := _why_left(node, scope, self._onnx)) is None:
                return [node]
            else:
                raise _NotQuantized(reason)
        except _NotQuantized as left:
            self.rows.append(NodeReport(node.name, node.op_type, within, False, str(left)))
            return [node]
        self.rows.append(NodeReport(node.name, node.op_type, within, True, reason))
        return new

    # The nodes

    def _lstm(self, node: Any, scope: Sequence) -> Any:
        if any(a.name == "layout" and a.i for a in node.attribute):
            raise _NotQuantized("layout=1 is not what the int8 operator takes")
        inputs = [*node.input, *[""] * (8 - len(node.input))]
        scales = []
        for k in (1, 2):  # W (D, 4U, F) and R (D, 4U, U)
            owner, w = self._weight(inputs[k], scope, 3)
            name, scale = self._stored(owner, inputs[k], w.transpose(0, 2, 1))
            zeros = np.zeros(tuple(owner.tensors[scale].dims), np.int8)
            scales += [scale, owner.add(f"{inputs[k]}/int8_zero", zeros)]
            inputs[k] = name
        made = self._onnx.helper.make_node(
            "DynamicQuantizeLSTM", inputs + scales, node.output, node.name, domain=MICROSOFT
        )
        made.attribute.extend(node.attribute)
        return made

    def _product(self, node: Any, scope: Sequence, inputs: dict) -> list:
        x, weight = node.input[:2]
        given = {a.name: self._onnx.helper.get_attribute_value(a) for a in node.attribute}
        transposed = bool(given.get("transB"))
        if given.get("transA") or {given.get("alpha", 1.0), given.get("beta", 1.0)} != {1.0}:
            raise _NotQuantized("a Gemm that transposes its input or has factors")
        owner, w = self._weight(weight, scope, 2)
        stored = f"{weight}/transposed" if transposed else weight
        q, scale = self._stored(owner, stored, w.T if transposed else w)
        (y,), make, nodes = node.output, self._onnx.helper.make_node, []
        if x not in inputs:
            inputs[x] = [f"{y}/uint8", f"{y}/uint8_scale", f"{y}/uint8_zero"]
            nodes.append(make("DynamicQuantizeLinear", [x], inputs[x], name=f"{y}/uint8"))
        x_q, x_scale, x_zero = inputs[x]
        bias = [name for name in node.input[2:] if name]
        scaled = f"{y}/scaled" if bias else y
        nodes += [  # as onnxruntime looks for them to run them as one
            make("MatMulInteger", [x_q, q, x_zero], [f"{y}/int32"], name=node.name),
            make("Cast", [f"{y}/int32"], [f"{y}/float"], name=f"{y}/float", to=FLOAT),
            make("Mul", [x_scale, scale], [f"{y}/scale"], name=f"{y}/scale"),
            make("Mul", [f"{y}/float", f"{y}/scale"], [scaled], name=f"{y}/scaled"),
        ]
        return nodes + [make("Add", [scaled, b], [y], name=f"{y}/bias") for b in bias]

    # Weights

    def _weight(self, name: str, scope: Sequence, rank: int) -> tuple[_Constants, np.ndarray]:
        """A constant in float32, and the graph that it stands in."""
        owner = next((c for c in reversed(scope) if name in c.tensors), None)
        if owner is None:
            raise _NotQuantized("its second factor is computed, not a constant")
        array = self._onnx.numpy_helper.to_array(owner.tensors[name])
        if array.dtype != np.float32:
            raise _NotQuantized(f"its weights are {array.dtype}")
        if array.ndim != rank:
            raise _NotQuantized(f"its second factor has {array.ndim} dimensions")
        return owner, array

    def _stored(self, owner: _Constants, name: str, w: np.ndarray) -> tuple[str, str]:
        """Names of a weight (..., inputs, outputs) in int8 and of its scale."""
        axes = -2 if self._per_channel else (-2, -1)
        scale = scales_of(w, axes, self._limit)
        q = np.round(w / np.expand_dims(scale, axes)).clip(-self._limit, self._limit)
        return owner.add(f"{name}/int8", q.astype(np.int8)), owner.add(f"{name}/int8_scale", scale)


def scales_of(w: np.ndarray, axes: int | tuple, limit: int) -> np.ndarray:
    """Returns what a step of the integers is worth, over `axes` of a weight; 1 where all is 0."""
    greatest = np.abs(w).max(axes)
    return np.where(greatest > 0, greatest / limit, 1.0).astype(np.float32)


def _why_left(node: Any, scope: Sequence[_Constants], onnx: Any) -> str | None:
    """Why a node other than a product or an LSTM stays in float32; None if there is no choice."""
    if node.op_type in OPERATORS:
        return (
            f"onnxruntime has no int8 {node.op_type}. Export it with lowering='scan', or give "
            "quantize_onnx the Keras model: products within a Scan are quantised"
        )
    if any(attribute.HasField("g") for attribute in node.attribute):
        return None  # what stands within is told by itself
    for name in node.input:
        owner = next((c for c in reversed(scope) if name in c.tensors), None)
        tensor = owner and owner.tensors[name]
        if tensor and _is_float(onnx, tensor) and sum(size > 1 for size in tensor.dims) > 1:
            looked_up = node.op_type == "Gather"
            return "a table that is looked up" if looked_up else "not a product of matrices"
    return None


def _is_float(onnx: Any, tensor: Any) -> bool:
    return onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).kind == "f"
