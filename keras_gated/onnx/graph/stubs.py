"""Every stub of a converted graph gets what it stands for."""

from collections.abc import Mapping
from typing import Any

from keras_gated.onnx.errors import ExportError
from keras_gated.onnx.graph import recurrent
from keras_gated.onnx.graph.scan import Scan
from keras_gated.onnx.graph.tf2onnx import STUB, token_of
from keras_gated.onnx.graph.writer import GraphWriter, graphs_in, read_in

Calls = Mapping[str, Any]  # recurrent.Call or Scan


def place(graph: Any, calls: Calls, around: GraphWriter | None = None) -> None:
    """Replaces every stub of an onnx.GraphProto, and of the graphs within it, in place.

    Args:
        graph: the graph.
        calls: what each stub stands for, by token.
        around: what writes the graph that it stands in; None if it is the outermost.
    """
    written = GraphWriter(graph, around)
    if around is None:
        for call in calls.values():
            written.name_of(call.name, call.name)  # taken
    for inner in graphs_in(graph):
        place(inner, calls, written)
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
            nodes += recurrent.nodes([calls[token_of(stub)] for stub in stubs], stubs, written)
    if firsts:
        nodes = _in_order(nodes)
    del graph.node[:]
    graph.node.extend(nodes)


def _opposite(graph: Any, calls: Calls) -> dict[str, Any]:
    """{token: stub that runs forward over the same input} of the stubs that run backward."""
    stubs = [n for n in graph.node if n.op_type == STUB and not _is_scan(n, calls)]
    makers = {name: [maker] for maker in graph.node for name in maker.output}
    pairs: dict[str, Any] = {}
    free = []
    for stub in stubs:
        call = calls[token_of(stub)]
        for first in free:
            if _fit(first, calls[token_of(first)], stub, call) and _independent(
                [first, stub], makers
            ):
                free.remove(first)
                pairs[token_of(stub)] = first
                makers |= {name: [first, stub] for name in (*first.output, *stub.output)}
                break
        else:
            free.append(stub)
    return pairs


def _is_scan(stub: Any, calls: Calls) -> bool:
    return isinstance(calls[token_of(stub)], Scan)


def _fit(first: Any, forward: recurrent.Call, second: Any, backward: recurrent.Call) -> bool:
    """Whether two stubs run over the same input and mask in opposite directions."""
    if not forward.opposite(backward):
        return False
    given, other = (
        {k: v for k, v in zip(c.inputs, s.input, strict=True) if k in ("x", "mask")}
        for c, s in ((forward, first), (backward, second))
    )
    return given == other


def _independent(nodes: list, makers: Mapping[str, list]) -> bool:
    """Whether no node needs what another makes, be it by way of others.

    `makers` are the nodes that make a tensor; two where they have become one.
    """
    own = {name for node in nodes for name in node.output}
    waiting, seen = [name for node in nodes for name in _needs(node)], set()
    while waiting:
        name = waiting.pop()
        if name in own:
            return False
        if name not in seen:
            waiting += [read for maker in makers.get(name, ()) for read in _needs(maker)]
        seen.add(name)
    return True


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
        if not ready:
            raise ExportError("The nodes of the converted graph wait for one another.")
        done.update(name for node in ready for name in node.output)
        ordered += ready
        nodes = [node for node in nodes if not any(node is one for one in ready)]
    return ordered
