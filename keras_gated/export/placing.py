"""Every stub of a converted graph gets what it stands for."""

from collections.abc import Mapping
from typing import Any

from keras_gated.export.tf2onnx_bridge import STUB, token_of
from keras_gated.export.writing import Written, graphs_in


def place(graph: Any, calls: Mapping[str, Any], root: Any = None) -> None:
    """Replaces every stub of an onnx.GraphProto, and of the graphs within it, in place.

    Args:
        graph: the graph.
        calls: by token what each stub stands for: `native.Call` or `scan.Scan`.
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
        nodes += calls[token_of(node)].nodes(node, written)
    del graph.node[:]
    graph.node.extend(nodes)
