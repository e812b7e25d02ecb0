"""Nodes and constants written into an ONNX graph."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_gated.onnx.errors import require
from keras_gated.onnx.tracing.model_layers import Names

OPERATORS = ("RNN", "GRU", "LSTM")


class GraphWriter:
    """Writes nodes and constants for a graph; equal constants are written once.

    Args:
        graph: an onnx.GraphProto.
        around: what writes the graph that it stands in, and holds the constants; None if none.

    Attributes:
        read: names of the tensors that something in the graph reads.
        nodes: the nodes of the call that is being written.
        scope: what the nodes' names begin with.
    """

    def __init__(self, graph: Any, around: "GraphWriter | None" = None):
        (self._onnx,) = require("onnx")
        self._constants: Any = around._constants if around else graph.initializer
        self._arrays: dict[str, np.ndarray] = around._arrays if around else self._written(graph)
        self._given: dict[Hashable, str] = around._given if around else {}
        self._unique = around._unique if around else Names()
        self.read = read_in(graph)
        self.nodes: list = []
        self.scope = ""

    def _written(self, graph: Any) -> dict[str, np.ndarray]:
        """The constants that an earlier writer left."""
        ours = (t for t in graph.initializer if t.name.startswith("keras_gated/"))
        return {tensor.name: self._onnx.numpy_helper.to_array(tensor) for tensor in ours}

    def begin(self, scope: str) -> None:
        """Starts the nodes of a call called `scope`."""
        self.nodes, self.scope = [], scope

    def constant(self, name: str, array: np.ndarray) -> str:
        """Returns the name of a constant; the same name stands for the same array."""
        if name not in self._arrays:
            self._arrays[name] = array
            self._constants.append(self._onnx.numpy_helper.from_array(array, name))
        elif not np.array_equal(self._arrays[name], array):
            raise AssertionError(f"two constants are called {name!r}")  # our own mistake
        return name

    def name_of(self, key: Hashable, wanted: str) -> str:
        """Returns the one name of what `key` stands for: `wanted`, or that and a number."""
        if key not in self._given:
            self._given[key] = self._unique(wanted)
        return self._given[key]

    def ints(self, *values: int) -> str:
        """Returns the name of a constant vector of integers."""
        listed = "_".join(map(str, values)).replace("-", "minus_")
        return self.constant(f"keras_gated/ints_{listed}", np.array(values, np.int64))

    def node(
        self, kind: str, inputs: Sequence[str], name: str = "", outputs: int = 1, **attributes
    ) -> Any:
        """Writes a node; returns the name of its output, or of each of them."""
        name = f"{self.scope}/{name or f'{kind.lower()}_{len(self.nodes)}'}"
        names = [name] if outputs == 1 else [f"{name}:{k}" for k in range(outputs)]
        made = self._onnx.helper.make_node(kind, list(inputs), names, name=name, **attributes)
        self.nodes.append(made)
        return name if outputs == 1 else names

    def not_empty(self, x: str) -> str:
        """Returns x, or an ordinary error where it is empty: there onnxruntime ends the process."""
        shape = self.node("Shape", [x])
        return self.node("Reshape", [x, self.node("Max", [shape, self.ints(1)])], "not_empty")

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


def nodes_in(graph: Any) -> Iterator[Any]:
    """Yields the nodes of a graph and of the graphs within it."""
    yield from graph.node
    for inner in graphs_in(graph):
        yield from nodes_in(inner)


def drop_unread(graph: Any) -> None:
    """Drops the constants that nothing reads, from the graphs within too."""
    for inner in graphs_in(graph):
        drop_unread(inner)
    read = read_in(graph)
    for k in reversed(range(len(graph.initializer))):
        if graph.initializer[k].name not in read:
            del graph.initializer[k]
    for k in reversed(range(len(graph.node))):
        if graph.node[k].op_type == "Constant" and graph.node[k].output[0] not in read:
            del graph.node[k]


def rename(graph: Any, names: Mapping[str, str]) -> None:
    """Renames tensors everywhere: constants, what nodes write and read, inner graphs."""
    for tensors in (graph.initializer, graph.input, graph.output, graph.value_info):
        for tensor in tensors:
            tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        for tensors in (node.input, node.output):
            for k, tensor in enumerate(tensors):
                tensors[k] = names.get(tensor, tensor)
    for inner in graphs_in(graph):
        rename(inner, names)
