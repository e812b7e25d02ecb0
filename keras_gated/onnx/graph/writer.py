"""Writes nodes and constants into an ONNX graph; small functions that read and change graphs."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_gated.onnx.errors import require
from keras_gated.onnx.tracing.layer_places import UniqueNames

RECURRENT_OPERATORS = ("RNN", "GRU", "LSTM")


class GraphWriter:
    """Writes nodes and constants for a graph. A constant that is needed again is written once.

    Constants go to the outermost graph, so that all graphs inside can read them. Nodes are
    collected call by call: `start`, then `node` for each, then `finish` returns them.

    Args:
        graph: an onnx.GraphProto.
        outer: the writer of the graph around this one; None if this is the outermost.

    Attributes:
        read: names of the tensors that something in the graph reads.
        nodes: the nodes of the call that is being written.
        scope: what the names of these nodes begin with.
    """

    def __init__(self, graph: Any, outer: "GraphWriter | None" = None):
        (self._onnx,) = require("onnx")
        self._constants: Any = outer._constants if outer else graph.initializer
        self._arrays: dict[str, np.ndarray] = outer._arrays if outer else self._existing(graph)
        self._names: dict[Hashable, str] = outer._names if outer else {}
        self._unique = outer._unique if outer else UniqueNames()
        self.read = tensors_read(graph)
        self.nodes: list = []
        self.scope = ""

    def _existing(self, graph: Any) -> dict[str, np.ndarray]:
        """Returns the constants of an earlier writer: another may write the same ones."""
        ours = (t for t in graph.initializer if t.name.startswith("keras_gated/"))
        return {tensor.name: self._onnx.numpy_helper.to_array(tensor) for tensor in ours}

    def start(self, scope: str) -> None:
        """Starts the nodes of a call. Their names will begin with `scope`."""
        self.nodes, self.scope = [], scope

    def constant(self, name: str, array: np.ndarray) -> str:
        """Writes a constant, unless it has been written, and returns its name."""
        if name not in self._arrays:
            self._arrays[name] = array
            self._constants.append(self._onnx.numpy_helper.from_array(array, name))
        elif not np.array_equal(self._arrays[name], array):
            raise AssertionError(f"two constants are called {name!r}")  # a mistake in this package
        return name

    def array(self, name: str) -> np.ndarray | None:
        """Returns a constant of the graph, or of one around it; None if there is none."""
        tensor = next((tensor for tensor in self._constants if tensor.name == name), None)
        return None if tensor is None else self._onnx.numpy_helper.to_array(tensor)

    def name_for(self, key: Hashable, wanted: str) -> str:
        """Returns the name that belongs to `key`: `wanted`, or with a number if that is taken.

        The same key gets the same name each time.
        """
        if key not in self._names:
            self._names[key] = self._unique(wanted)
        return self._names[key]

    def ints(self, *values: int) -> str:
        """Writes a constant vector of integers and returns its name."""
        text = "_".join(map(str, values)).replace("-", "minus_")
        return self.constant(f"keras_gated/ints_{text}", np.array(values, np.int64))

    def node(
        self, kind: str, inputs: Sequence[str], name: str = "", outputs: int = 1, **attributes
    ) -> Any:
        """Writes a node.

        Args:
            kind: the ONNX operator.
            inputs: names of tensors.
            name: of the node, after the scope; by default the operator and a number.
            outputs: how many.
            attributes: of the operator.

        Returns:
            The name of the output; of several, a list.
        """
        name = f"{self.scope}/{name or f'{kind.lower()}_{len(self.nodes)}'}"
        names = [name] if outputs == 1 else [f"{name}:{k}" for k in range(outputs)]
        made = self._onnx.helper.make_node(kind, list(inputs), names, name=name, **attributes)
        self.nodes.append(made)
        return name if outputs == 1 else names

    def integer(self, value: int) -> str:
        """Writes a constant integer, without axes, and returns its name."""
        text = f"{value}".replace("-", "minus_")
        return self.constant(f"keras_gated/int_{text}", np.array(value, np.int64))

    def guard(self, x: str) -> str:
        """Writes a guard of any x and returns its output: x, or an error if x is empty."""
        shape = self.node("Shape", [x])
        return self.node("Reshape", [x, self.node("Max", [shape, self.ints(1)])], "not_empty")

    def guard_sequences(self, x: str) -> str:
        """Writes a guard of sequences (T, B, I) with I > 0, of which the shape is known before."""
        return self.node("Reshape", [x, self.ints(0, 0, -1)], "not_empty")

    def finish(self, results: Mapping[str, str]) -> list:
        """Returns the nodes of the call, without those that nothing reads.

        Args:
            results: {name of a stub's output: tensor that takes its place}. The tensor gets the
                name of the stub's output, by which the rest of the graph reads it.
        """
        new_names: dict[str, str] = {}
        for name, tensor in results.items():
            if tensor in new_names:  # one tensor for two outputs: it can have one name only
                self.nodes.append(
                    self._onnx.helper.make_node("Identity", [new_names[tensor]], [name], name=name)
                )
            else:
                new_names[tensor] = name
        for node in self.nodes:
            for names in (node.input, node.output):
                for k, tensor in enumerate(names):
                    names[k] = new_names.get(tensor, tensor)
        return _without_unread(self.nodes, set(results))


def _without_unread(nodes: list, wanted: set[str]) -> list:
    """Returns the nodes that the `wanted` tensors depend on, in order."""
    needed = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted = wanted.union(node.input)
            needed.append(node)
    for node in needed:
        if node.op_type in RECURRENT_OPERATORS and node.output[0] not in wanted:
            node.output[0] = ""  # only the last state is read: ask for no sequence
    return needed[::-1]


def inner_graphs(graph: Any) -> list:
    """Returns the graphs that the nodes of a graph hold: branches, bodies of loops and Scans."""
    return [a.g for node in graph.node for a in node.attribute if a.HasField("g")]


def tensors_read(graph: Any) -> set[str]:
    """Returns the names of the tensors that a graph, or a graph inside it, reads or returns."""
    names = {output.name for output in graph.output}
    for node in graph.node:
        names.update(node.input)
    return names.union(*map(tensors_read, inner_graphs(graph)))


def read_by(node: Any) -> set[str]:
    """Returns the tensors that a node reads, those that its inner graphs read included."""
    inner = [a.g for a in node.attribute if a.HasField("g")]
    return set(node.input).union(*map(tensors_read, inner))


def all_nodes(graph: Any) -> Iterator[Any]:
    """Yields the nodes of a graph and of the graphs inside it."""
    yield from graph.node
    for inner in inner_graphs(graph):
        yield from all_nodes(inner)


def drop_unread_constants(graph: Any) -> None:
    """Removes the constants that nothing reads, also from the graphs inside."""
    for inner in inner_graphs(graph):
        drop_unread_constants(inner)
    read = tensors_read(graph)
    for k in reversed(range(len(graph.initializer))):
        if graph.initializer[k].name not in read:
            del graph.initializer[k]
    for k in reversed(range(len(graph.node))):
        if graph.node[k].op_type == "Constant" and graph.node[k].output[0] not in read:
            del graph.node[k]


def rename_tensors(graph: Any, names: Mapping[str, str]) -> None:
    """Renames tensors wherever a graph, or a graph inside it, writes, reads or declares them.

    Args:
        graph: an onnx.GraphProto.
        names: {old name: new name}.
    """
    for tensors in (graph.initializer, graph.input, graph.output, graph.value_info):
        for tensor in tensors:
            tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        for tensors in (node.input, node.output):
            for k, tensor in enumerate(tensors):
                tensors[k] = names.get(tensor, tensor)
    for inner in inner_graphs(graph):
        rename_tensors(inner, names)
