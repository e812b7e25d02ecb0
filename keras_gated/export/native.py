"""A stub's place taken by a native LSTM, GRU or RNN node, its weights and what stands around it.

Works on the ONNX graph alone. Masks are exact for any pattern: the valid time steps of each row are
gathered to the front, the operator runs over them (`sequence_lens`), and they are put back.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_gated.export.errors import require
from keras_gated.export.tf2onnx_bridge import STUB, token_of
from keras_gated.export.tracing import Call


def place(graph: Any, calls: Mapping[str, Call], root: Any = None) -> None:
    """Replaces every stub of an onnx.GraphProto, and of the graphs within it, in place.

    Args:
        graph: the graph.
        calls: what each stub stands for, by token.
        root: the outermost graph, which holds all weights; None if `graph` is it.
    """
    root = graph if root is None else root
    for inner in graphs_in(graph):
        place(inner, calls, root)
    written = Written(graph, root)
    nodes = []
    for node in graph.node:
        if node.op_type != STUB:
            nodes.append(node)
            continue
        nodes += _operator(calls[token_of(node)], node, written)
    del graph.node[:]
    graph.node.extend(nodes)


OPERATORS = ("RNN", "GRU", "LSTM")


class Written:
    """Writes nodes and constants for a graph; equal constants are written once.

    Attributes:
        read: names of the tensors that something in the graph reads.
        nodes: the nodes of the call that is being written.
    """

    def __init__(self, graph: Any, root: Any):
        (self._onnx,) = require("onnx")
        self._root = root
        self._initializers = {tensor.name for tensor in root.initializer}
        self.read = read_in(graph)
        self.nodes: list = []
        self._scope = ""

    def begin(self, scope: str) -> None:
        """Starts the nodes of a call called `scope`."""
        self.nodes, self._scope = [], scope

    def constant(self, name: str, array: np.ndarray) -> str:
        """Returns the name of a constant; the same name stands for the same array."""
        if name not in self._initializers:
            self._initializers.add(name)
            self._root.initializer.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def ints(self, *values: int) -> str:
        """Returns the name of a constant vector of integers."""
        listed = "_".join(map(str, values)).replace("-", "minus_")
        return self.constant(f"keras_gated/ints_{listed}", np.array(values, np.int64))

    def node(self, kind: str, inputs: Sequence[str], name: str = "", outputs=1, **attributes):
        """Writes a node; returns the name of its output, or of each of them."""
        name = f"{self._scope}/{name or f'{kind.lower()}_{len(self.nodes)}'}"
        names = [name] if outputs == 1 else [f"{name}:{k}" for k in range(outputs)]
        made = self._onnx.helper.make_node(kind, list(inputs), names, name=name, **attributes)
        self.nodes.append(made)
        return name if outputs == 1 else names

    def deliver(self, results: Mapping[str, str]) -> list:
        """Returns the nodes that are needed, `results[name]` being called `name` as others do."""
        given: dict[str, str] = {}
        for name, tensor in results.items():
            if tensor in given:
                self.nodes.append(
                    self._onnx.helper.make_node("Identity", [given[tensor]], [name], name=name)
                )
            else:
                given[tensor] = name
        for node in self.nodes:
            for names in (node.input, node.output):
                for k, tensor in enumerate(names):
                    names[k] = given.get(tensor, tensor)
        return _needed(self.nodes, set(results))


def _operator(call: Call, stub: Any, write: Written) -> list:
    """The nodes in place of a stub."""
    write.begin(call.name)
    tensors = dict(zip(call.inputs, stub.input, strict=True))
    wanted = dict(zip(("sequence", "last", *call.states), stub.output, strict=True))
    wanted = {name: output for name, output in wanted.items() if output in write.read}
    if call.go_backwards:
        for name in ("x", "output_gate", "mask"):
            if name in tensors:
                tensors[name] = _flipped(write, tensors[name], name)
    masked = _Mask(write, tensors["mask"], call) if "mask" in tensors else None
    found = _run(call, tensors, masked, write, "sequence" in wanted)
    results = masked.spread(found, tensors) if masked else found
    return write.deliver({output: results[name] for name, output in wanted.items()})


def _run(call: Call, tensors: dict, masked: "_Mask | None", write: Written, sequence: bool) -> dict:
    """Writes the operator; returns the sequence, the last output and the states, without masks."""
    kind, lowering = call.lowering.operator or "", call.lowering
    x = masked.compact(tensors["x"], "x") if masked else tensors["x"]
    x = _guarded(write, write.node("Transpose", [x], "time_first", perm=[1, 0, 2]))
    weights = {
        name: write.constant(f"{call.weights_name}/{name}", array)
        for name, array in call.arrays.items()
    }
    h = write.node("Unsqueeze", [tensors["h"], write.ints(0)]) if "h" in tensors else ""
    inputs = [x, weights["W"], weights["R"], weights["B"], masked.lengths if masked else "", h]
    if kind == "LSTM":
        c = write.node("Unsqueeze", [tensors["c"], write.ints(0)]) if "c" in tensors else ""
        inputs += [h if lowering.hidden else c, weights.get("P", "")]
    while not inputs[-1]:
        inputs.pop()
    found = write.node(
        kind,
        inputs,
        kind,
        outputs=3 if kind == "LSTM" else 2,
        hidden_size=call.units,
        **lowering.attributes,
    )
    results = {
        name: write.node("Squeeze", [state, write.ints(0)], f"last_{name}")
        for name, state in zip(call.states, found[1:], strict=False)
    }
    results["last"] = results["h"]
    if sequence or "output_gate" in tensors:
        y = write.node("Squeeze", [found[0], write.ints(1)])
        results["sequence"] = write.node("Transpose", [y], "batch_first", perm=[1, 0, 2])
    return _shown(results, tensors, masked, write) if "output_gate" in tensors else results


def _shown(found: dict, tensors: dict, masked: "_Mask | None", write: Written) -> dict:
    """What left the operator times an output gate that was computed outside."""
    gate = tensors["output_gate"]
    gate = masked.compact(gate, "output_gate") if masked else gate
    y = write.node("Mul", [found["sequence"], gate], "shown")
    if masked:
        h = masked.last_of(y)
    else:
        h = write.node("Gather", [y, write.constant("keras_gated/last", np.array(-1))], axis=1)
    return found | {"sequence": y, "h": h, "last": h}


def _flipped(write: Written, tensor: str, name: str) -> str:
    """A tensor (B, T, ...) from the last time step to the first."""
    ends = [write.ints(k) for k in (-1, -(2**31), 1, -1)]
    return write.node("Slice", [tensor, *ends], f"{name}_backwards")


def _guarded(write: Written, x: str) -> str:
    """x, or an ordinary error where it is empty: there onnxruntime's operators end the process."""
    shape = write.node("Shape", [x])
    return write.node("Reshape", [x, write.node("Max", [shape, write.ints(1)])], "not_empty")


class _Mask:
    """A mask (B, T): to the operator and back."""

    def __init__(self, write: Written, mask: str, call: Call):
        self._write, self._call = write, call
        node, ints = write.node, write.ints
        self._mask = node("Cast", [mask], to=9)  # bool
        ones = node("Cast", [mask], to=7)  # int64
        self._count = node("CumSum", [ones, ints(1)], "valid_so_far")
        total = node("ReduceSum", [ones, ints(1)], "valid", keepdims=0)
        self.lengths = node("Cast", [total], "lengths", to=6)  # int32
        self._total = total
        time = node("Gather", [node("Shape", [mask]), ints(1)])
        steps = node("Range", [*(node("Squeeze", [t]) for t in (ints(0), time, ints(1)))])
        # Valid steps in order, then the others: no two keys are equal.
        late = node("Mul", [node("Sub", [ints(1), ones]), time])
        keys = node("Add", [steps, late])
        _, self._order = node("TopK", [keys, time], outputs=2, axis=1, largest=0, sorted=1)

    def compact(self, x: str, name: str) -> str:
        """x (B, T, F) with the valid time steps of each row at the front."""
        return self._at(x, self._order, f"{name}_valid_first")

    def last_of(self, y: str) -> str:
        """The last valid step (B, U) of a compact sequence."""
        node, ints = self._write.node, self._write.ints
        last = node("Max", [node("Sub", [self._total, ints(1)]), ints(0)])
        last = node("Unsqueeze", [last, ints(1)])
        return node("GatherND", [y, last], batch_dims=1)

    def spread(self, found: dict, tensors: dict) -> dict:
        """Sequence, last output and states as the layer has them under the mask."""
        node, ints = self._write.node, self._write.ints
        zero = self._write.constant("keras_gated/zero", np.array(0.0, np.float32))
        some = node("Unsqueeze", [node("Greater", [self._total, ints(0)]), ints(1)])
        shown = node("Greater", [self._count, ints(0)])
        ends = some
        if self._call.zero_output_for_mask:
            shown = self._mask
            last = self._write.constant("keras_gated/last_step", np.array([-1]))
            ends = node("Gather", [shown, last], axis=1)
        results = {"last": node("Where", [ends, found["h"], zero], "last")}
        for name in self._call.states:
            before = tensors.get(name, zero)
            results[name] = node("Where", [some, found[name], before], f"kept_{name}")
        if "sequence" in found:
            index = node("Max", [node("Sub", [self._count, ints(1)]), ints(0)])
            y = self._at(found["sequence"], index, "put_back")
            shown = node("Unsqueeze", [shown, ints(2)])
            results["sequence"] = node("Where", [shown, y, zero], "sequence")
        return results

    def _at(self, x: str, index: str, name: str) -> str:
        index = self._write.node("Unsqueeze", [index, self._write.ints(2)])
        return self._write.node("GatherND", [x, index], name, batch_dims=1)


def _needed(nodes: list, wanted: set[str]) -> list:
    """The nodes that `wanted` tensors come from, what nobody reads left out."""
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted = wanted.union(node.input)
            kept.append(node)
    for node in kept:
        if node.op_type in OPERATORS and node.output[0] not in wanted:
            node.output[0] = ""  # the sequence, where only the last state is of use
    return kept[::-1]


def graphs_in(graph: Any) -> list:
    """Returns the graphs that the nodes of a graph hold: branches and loop bodies."""
    return [a.g for node in graph.node for a in node.attribute if a.HasField("g")]


def read_in(graph: Any) -> set[str]:
    """Returns the names of the tensors that are read in a graph or in a graph within it."""
    names = {output.name for output in graph.output}
    for node in graph.node:
        names.update(node.input)
    return names.union(*map(read_in, graphs_in(graph)))
