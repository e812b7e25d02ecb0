"""Replaces the stubs of a converted graph with the nodes that they stand for.

A stub has one input for each tensor that a recurrent layer reads and one output for each tensor
that it returns. Its attribute `token` says which call of which layer it is; `tracing/tracer.py`
says why there are stubs at all. A layer `lstm` before and after:

    x -> KerasGatedStub(token) -> sequence, last output, h, c

    x -> Transpose -> guard -> LSTM(W, R, B) -> Squeeze -> Transpose -> sequence
                                             -> Squeeze -> last output, h
                                             -> Squeeze -> c

Outputs that nothing reads are not written. A stub for a Scan becomes one Scan node.

Two stubs over the same input and mask, one forward and one backward, become one node with
direction="bidirectional". This is how ONNX writes a Bidirectional layer: its weights are in one
place, and the input is read once.
"""

from collections.abc import Mapping
from typing import Any

from keras_gated.onnx.errors import ExportError
from keras_gated.onnx.graph.recurrent import OperatorCall, operator_nodes
from keras_gated.onnx.graph.scan import ScanCall
from keras_gated.onnx.graph.tf2onnx import STUB, token_of
from keras_gated.onnx.graph.writer import GraphWriter, inner_graphs, read_by

Calls = Mapping[str, Any]  # {token: OperatorCall or ScanCall}


def replace_stubs(graph: Any, calls: Calls, outer: GraphWriter | None = None) -> None:
    """Replaces every stub of a graph, and of the graphs inside it, in place.

    Args:
        graph: an onnx.GraphProto.
        calls: {token: the call that the stub stands for}.
        outer: the writer of the graph around this one; None if this is the outermost.
    """
    write = GraphWriter(graph, outer)
    if outer is None:
        for call in calls.values():
            write.name_for(call.name, call.name)  # so that no pair of calls takes this name
    for inner in inner_graphs(graph):
        replace_stubs(inner, calls, write)
    forward_stubs = _find_pairs(graph, calls)
    # A forward stub of a pair is written together with the backward one, when that is reached.
    paired = {token_of(stub) for stub in forward_stubs.values()}
    nodes = []
    for node in graph.node:
        if node.op_type != STUB:
            nodes.append(node)
            continue
        token = token_of(node)
        call = calls[token]
        if isinstance(call, ScanCall):
            nodes += call.nodes(node, write)
        elif token not in paired:
            stubs = [forward_stubs[token], node] if token in forward_stubs else [node]
            nodes += operator_nodes([calls[token_of(stub)] for stub in stubs], stubs, write)
    if forward_stubs:  # what reads a forward stub's output may now come before its node
        nodes = _sort(nodes)
    del graph.node[:]
    graph.node.extend(nodes)


def _find_pairs(graph: Any, calls: Calls) -> dict[str, Any]:
    """Returns {token of a backward stub: forward stub} for the pairs that become one node."""
    stubs = [
        node
        for node in graph.node
        if node.op_type == STUB and not isinstance(calls[token_of(node)], ScanCall)
    ]
    makers = {name: [maker] for maker in graph.node for name in maker.output}
    pairs: dict[str, Any] = {}
    single = []  # stubs that have no partner yet
    for stub in stubs:
        call = calls[token_of(stub)]
        for first in single:
            if _fit(first, calls[token_of(first)], stub, call) and _independent(
                [first, stub], makers
            ):
                single.remove(first)
                pairs[token_of(stub)] = first
                # From now on the two are one node: what needs one of them waits for both.
                makers |= {name: [first, stub] for name in (*first.output, *stub.output)}
                break
        else:
            single.append(stub)
    return pairs


def _fit(first: Any, forward: OperatorCall, second: Any, backward: OperatorCall) -> bool:
    """Whether two stubs run over the same input and mask, one forward and one backward."""
    if not forward.can_join(backward):
        return False
    ours, theirs = (
        {k: v for k, v in zip(c.inputs, s.input, strict=True) if k in ("x", "mask")}
        for c, s in ((forward, first), (backward, second))
    )
    return ours == theirs


def _independent(nodes: list, makers: Mapping[str, list]) -> bool:
    """Whether no node depends on another, directly or through others.

    Otherwise they cannot become one node, which would need its own output.

    Args:
        nodes: of a graph.
        makers: {tensor: the nodes that make it}; two nodes if these have become one.
    """
    own = {name for node in nodes for name in node.output}
    waiting, seen = [name for node in nodes for name in read_by(node)], set()
    while waiting:
        name = waiting.pop()
        if name in own:
            return False
        if name not in seen:
            waiting += [read for maker in makers.get(name, ()) for read in read_by(maker)]
        seen.add(name)
    return True


def _sort(nodes: list) -> list:
    """Returns the nodes in an order in which each comes after those that it depends on."""
    made = {name for node in nodes for name in node.output if name}
    done: set[str] = set()
    ordered: list = []
    while nodes:
        ready = [node for node in nodes if not (read_by(node) & made) - done]
        if not ready:
            raise ExportError("The nodes of the converted graph depend on each other in a circle.")
        done.update(name for node in ready for name in node.output)
        ordered += ready
        nodes = [node for node in nodes if not any(node is one for one in ready)]
    return ordered
