"""Guards against empty inputs: there onnxruntime's LSTM and GRU end the whole process.

A guard is a Reshape to the tensor's own shape, each axis at least 1: the tensor itself, or an
ordinary error where it is empty.
"""

from typing import Any

from keras_gated.onnx.graph.writer import OPERATORS, GraphWriter, rename

# Nodes whose result is empty only where what they take is.
PASSING = {"Transpose": 1, "Squeeze": 1, "Identity": 1, "Split": 1, "Concat": None}


def guard_inputs(graph: Any) -> None:
    """Puts a guard behind each input: what the converter makes of a loop may end the process."""
    write, nodes = GraphWriter(graph), []
    guarded = {port.name: f"{port.name}/not_empty" for port in graph.input}
    rename(graph, guarded)
    for port, given in zip(graph.input, guarded, strict=True):
        port.name = given
        write.begin(given)
        write.not_empty(given)
        nodes += write.nodes
    nodes += graph.node
    del graph.node[:]
    graph.node.extend(nodes)


def drop_needless(graph: Any) -> None:
    """Drops the guards of what comes straight from a guarded operator, as in a stack of layers."""
    writers = {output: node for node in graph.node for output in node.output}
    dropped, names = [], {}
    for node in graph.node:
        guard = _guard_of(node, writers)
        if guard and _never_empty(node.input[0], writers):
            dropped += guard
            names[node.output[0]] = node.input[0]
    for node in dropped:
        graph.node.remove(node)
    rename(graph, {name: _source(name, names) for name in names})


def _source(name: str, names: dict) -> str:
    while name in names:
        name = names[name]
    return name


def _guard_of(node: Any, writers: dict) -> list:
    """Returns the three nodes of a guard whose last is `node`, or none."""
    if node.op_type != "Reshape" or not node.name.endswith("/not_empty"):
        return []
    largest = writers.get(node.input[1])
    if largest is None or largest.op_type != "Max":
        return []
    shape = writers.get(largest.input[0])
    whole = shape is not None and shape.op_type == "Shape" and shape.input[0] == node.input[0]
    return [shape, largest, node] if whole else []


def _never_empty(tensor: str, writers: dict) -> bool:
    """Whether a tensor comes, through nodes that pass on what they get, from behind a guard."""
    node = writers.get(tensor)
    if node is None:
        return False
    if node.op_type in OPERATORS:
        given = writers.get(node.input[0])
        return given is not None and bool(_guard_of(given, writers))
    if node.op_type not in PASSING:
        return False
    return all(_never_empty(name, writers) for name in node.input[: PASSING[node.op_type]])
