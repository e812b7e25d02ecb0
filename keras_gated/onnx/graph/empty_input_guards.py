"""Guards that turn an empty input into an ordinary error.

If an LSTM or GRU node gets an empty tensor (batch 0 or time 0), onnxruntime does not raise: it ends
the whole process. The same happens in what tf2onnx makes of a loop. So a guard stands before such
nodes:

    Shape(x) -> Max(shape, 1) -> Reshape(x, largest)

If no axis is 0, this is x itself. If one is, Reshape must make more elements than there are, and
onnxruntime raises an error that a caller can catch. In front of a recurrent node, where x is
(T, B, I) and I is never 0, one node does:

    Reshape(x, [0, 0, -1])

A 0 stands for the axis of x, and -1 cannot be found if T or B is 0. Its shape is known before it
runs, which some runtimes need.
"""

from collections.abc import Iterable
from typing import Any

from keras_gated.onnx.graph.writer import RECURRENT_OPERATORS, GraphWriter, rename_tensors

# Operators whose output is empty only if an input is, and how many of the inputs count (None: all).
KEEP_ELEMENTS = {"Transpose": 1, "Squeeze": 1, "Identity": 1, "Split": 1, "Concat": None}


def guard_inputs(graph: Any, names: Iterable[str]) -> None:
    """Puts a guard behind each of these inputs of a graph, for files that hold a Loop."""
    write, nodes = GraphWriter(graph), []
    ports = [port for port in graph.input if port.name in set(names)]
    guarded = {port.name: f"{port.name}/not_empty" for port in ports}
    # All readers get the guarded tensor; then the input itself gets its name back.
    rename_tensors(graph, guarded)
    for port, name in zip(ports, guarded, strict=True):
        port.name = name
        write.start(name)
        write.guard(name)
        nodes += write.nodes
    nodes += graph.node
    del graph.node[:]
    graph.node.extend(nodes)


def drop_needless_guards(graph: Any) -> None:
    """Removes a guard if its input comes from a node that is guarded already, as in a stack."""
    writers = {output: node for node in graph.node for output in node.output}
    dropped, names = [], {}
    for node in graph.node:
        guard = _guard_of(node, writers)
        if guard and _never_empty(node.input[0], writers):
            dropped += guard
            names[node.output[0]] = node.input[0]
    for node in dropped:
        graph.node.remove(node)
    rename_tensors(graph, {name: _follow(name, names) for name in names})


def _follow(name: str, names: dict) -> str:
    """Follows renames to the end: the input of a dropped guard may be a dropped guard's output."""
    while name in names:
        name = names[name]
    return name


def _guard_of(node: Any, writers: dict) -> list:
    """Returns the nodes of a guard if `node` is its last one, else an empty list."""
    if node.op_type != "Reshape" or not node.name.endswith("/not_empty"):
        return []
    largest = writers.get(node.input[1])
    if largest is None:  # a constant shape: the guard is one node
        return [node]
    if largest.op_type != "Max":
        return []
    shape = writers.get(largest.input[0])
    complete = shape is not None and shape.op_type == "Shape" and shape.input[0] == node.input[0]
    return [shape, largest, node] if complete else []


def _never_empty(tensor: str, writers: dict) -> bool:
    """Whether a tensor comes from a guarded recurrent node, through nodes that drop no element."""
    node = writers.get(tensor)
    if node is None:
        return False
    if node.op_type in RECURRENT_OPERATORS:
        source = writers.get(node.input[0])
        return source is not None and bool(_guard_of(source, writers))
    if node.op_type not in KEEP_ELEMENTS:
        return False
    return all(_never_empty(name, writers) for name in node.input[: KEEP_ELEMENTS[node.op_type]])
