"""Every stub of a converted graph gets what it stands for."""

from collections.abc import Mapping
from typing import Any

from keras_gated.export import native
from keras_gated.export.scan import Scan
from keras_gated.export.tf2onnx_bridge import STUB, token_of
from keras_gated.export.writing import Written, graphs_in, read_in

Calls = Mapping[str, native.Call | Scan]


def place(graph: Any, calls: Calls, root: Any = None) -> None:
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
    firsts = _opposite(graph, calls)
    waiting = {token_of(first) for first in firsts.values()}
    nodes = []
    for node in graph.node:
        if node.op_type != STUB:
            nodes.append(node)
            continue
        call = calls[token_of(node)]
        if isinstance(call, Scan):
            nodes += call.nodes(node, written)
        elif token_of(node) not in waiting:
            stubs = [firsts[token_of(node)], node] if token_of(node) in firsts else [node]
            nodes += native.nodes([calls[token_of(stub)] for stub in stubs], stubs, written)
    if firsts:
        nodes = _in_order(nodes)
    del graph.node[:]
    graph.node.extend(nodes)


def _opposite(graph: Any, calls: Calls) -> dict[str, Any]:
    """{token: stub that runs forward over the same input} of the stubs that run backward."""
    stubs = [n for n in graph.node if n.op_type == STUB and not _is_scan(n, calls)]
    pairs: dict[str, Any] = {}
    free = []
    for stub in stubs:
        call = calls[token_of(stub)]
        first = next((f for f in free if _fit(f, calls[token_of(f)], stub, call, graph)), None)
        if first is None:
            free.append(stub)
        else:
            free.remove(first)
            pairs[token_of(stub)] = first
    return pairs


def _is_scan(stub: Any, calls: Calls) -> bool:
    return isinstance(calls[token_of(stub)], Scan)


def _fit(first: Any, forward: native.Call, second: Any, backward: native.Call, graph: Any) -> bool:
    """Whether two stubs can be one node: same input and mask, and the second needs no first."""
    if not forward.opposite(backward):
        return False
    given, other = (
        {k: v for k, v in zip(c.inputs, s.input, strict=True) if k in ("x", "mask")}
        for c, s in ((forward, first), (backward, second))
    )
    return given == other and not _depends(second, set(first.output), graph)


def _depends(node: Any, on: set[str], graph: Any) -> bool:
    """Whether a node needs any of some tensors, be it by way of others."""
    makers = {name: maker for maker in graph.node for name in maker.output}
    waiting, seen = [*_needs(node)], set()
    while waiting:
        name = waiting.pop()
        if name in on:
            return True
        if name not in seen and name in makers:
            waiting += _needs(makers[name])
        seen.add(name)
    return False


def _needs(node: Any) -> set[str]:
    """The tensors that a node reads, those that its inner graphs read included."""
    inner = [a.g for a in node.attribute if a.HasField("g")]
    return set(node.input).union(*map(read_in, inner))


def _in_order(nodes: list) -> list:
    """The nodes, each behind those that it needs."""
    made = {name for node in nodes for name in node.output if name}
    done: set[str] = set()
    ordered: list = []
    while nodes:
        ready = [node for node in nodes if not (_needs(node) & made) - done]
        done.update(name for node in ready for name in node.output)
        ordered += ready
        nodes = [node for node in nodes if not any(node is one for one in ready)]
    return ordered
