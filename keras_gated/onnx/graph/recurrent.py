"""Native LSTM, GRU and RNN nodes, their weights and what stands around them, in place of stubs.

Works on the ONNX graph alone. Two calls that run over the same input in opposite directions become
one bidirectional node.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_gated.onnx.graph.masks import Masked
from keras_gated.onnx.graph.writer import GraphWriter
from keras_gated.onnx.tracing.weights import Arrays
from keras_gated.spec.onnx_operator import Lowering, listed


@dataclass(frozen=True)
class Call:
    """One call of a layer that is an operator, of which the traced graph holds a stub.

    Attributes:
        name: of the call, readable; the second call of "enc" is "enc_2".
        weights_name: of the layer, which its calls share.
        lowering: the operator.
        arrays: the operator's weights.
        units: int, size U of the state.
        inputs: what the stub's inputs are: "x" (B, T, I), "output_gate" (B, T, U), "mask" (B, T),
            "h" and "c" (B, U); only those that there are.
        states: the states that come out, after the sequence (B, T, U) and the last output (B, U).
        go_backwards, zero_output_for_mask: as in the layer.
        in_time_order: whether the sequence of a layer that goes backwards is wanted in the order
            of the input, as `keras.layers.Bidirectional` has it in the end.
    """

    name: str
    weights_name: str
    lowering: Lowering
    arrays: Arrays
    units: int
    inputs: tuple[str, ...]
    states: tuple[str, ...]
    go_backwards: bool
    zero_output_for_mask: bool
    in_time_order: bool = False

    def opposite(self, other: "Call") -> bool:
        """Whether the two can be one bidirectional node, if they run over the same input."""
        ours, theirs = self.lowering, other.lowering
        return (
            (self.go_backwards, other.go_backwards) == (False, True)
            and (ours.operator, self.units) == (theirs.operator, other.units)
            and ours.linear_before_reset == theirs.linear_before_reset
            and (ours.peepholes, self.states) == (theirs.peepholes, other.states)
            and {"h", "c"} & set(self.inputs) == {"h", "c"} & set(other.inputs)
        )


def nodes(calls: Sequence[Call], stubs: Sequence[Any], write: GraphWriter) -> list:
    """Returns the nodes in place of one stub, or of the stubs of two opposite calls."""
    first = calls[0]
    write.begin(first.name if len(calls) == 1 else _together(calls, write))
    pairs = zip(calls, stubs, strict=True)
    given = [dict(zip(call.inputs, stub.input, strict=True)) for call, stub in pairs]
    masked = Masked(write, given[0]["mask"]) if "mask" in given[0] else None
    results: dict[str, str] = {}
    for call, stub, tensors, found in zip(
        calls, stubs, given, _run(calls, given, masked, write), strict=True
    ):
        write.scope = call.name
        if "output_gate" in tensors:
            found |= _times_output_gate(call, found, tensors["output_gate"], masked, write)
        if masked:
            found = masked.spread(call, found, tensors)
        if call.go_backwards and not call.in_time_order:
            found["sequence"] = _flipped(write, found["sequence"])
        names = zip(("sequence", "last", *call.states), stub.output, strict=True)
        results |= {output: found[name] for name, output in names if output in write.read}
    return write.deliver(results)


def _together(calls: Sequence[Call], write: GraphWriter) -> str:
    """A name for two calls: that of their weights, counted as the calls are."""
    count = calls[0].name.removeprefix(calls[0].weights_name)
    return _weights_name(calls, write) + count


def _weights_name(calls: Sequence[Call], write: GraphWriter) -> str:
    """A name for the weights of one call, or of two: that of what holds both layers."""
    names = tuple(call.weights_name for call in calls)
    if len(names) == 1:
        return names[0]
    holders = {name.rpartition("/")[0] for name in names}
    holder = holders.pop() if len(holders) == 1 else ""
    return write.name_of(names, holder or "_".join(names))


def _run(
    calls: Sequence[Call], given: list, masked: Masked | None, write: GraphWriter
) -> list[dict]:
    """Writes the operator; returns each call's sequence in time order, last output and states."""
    first = calls[0]
    kind = first.lowering.operator or ""
    x = masked.compact(given[0]["x"], "x") if masked else given[0]["x"]
    x = write.not_empty(write.node("Transpose", [x], "time_first", perm=[1, 0, 2]))
    h, c = (_both(write, [t[name] for t in given if name in t]) for name in ("h", "c"))
    w = _weights(calls, write)
    inputs = [x, w["W"], w["R"], w["B"], masked.lengths if masked else "", h]
    if kind == "LSTM":
        inputs += [h if first.lowering.hidden else c, w.get("P", "")]
    while not inputs[-1]:
        inputs.pop()
    outputs = 3 if kind == "LSTM" else 2
    y, *states = write.node(kind, inputs, kind, outputs, hidden_size=first.units, **_about(calls))
    found: list[dict] = [{} for _ in calls]
    for one, part in zip(found, _parts(write, y, len(calls), 1, "sequence"), strict=True):
        one["sequence"] = write.node("Transpose", [part], perm=[1, 0, 2])
    for name, state in zip(first.states, states, strict=False):
        for one, part in zip(found, _parts(write, state, len(calls), 0, name), strict=True):
            one[name] = part
    return [one | {"last": one["h"]} for one in found]


def _about(calls: Sequence[Call]) -> dict:
    """The operator's attributes for all directions."""
    about = calls[0].lowering.attributes
    if len(calls) == 1:
        return about | ({"direction": "reverse"} if calls[0].go_backwards else {})
    lowerings = [call.lowering for call in calls]
    functions = tuple(f for lowering in lowerings for f in lowering.functions)
    if any("activations" in lowering.attributes for lowering in lowerings):
        about |= listed(functions)
    return about | {"direction": "bidirectional"}


def _weights(calls: Sequence[Call], write: GraphWriter) -> dict[str, str]:
    """Names of the operator's weights, those of all directions in one."""
    name = _weights_name(calls, write)
    return {
        key: write.constant(f"{name}/{key}", np.concatenate([c.arrays[key] for c in calls]))
        for key in calls[0].arrays
    }


def _both(write: GraphWriter, states: list[str]) -> str:
    """Initial states (B, U) as (directions, B, U); "" where there are none."""
    rows = [write.node("Unsqueeze", [state, write.ints(0)]) for state in states]
    return rows[0] if len(rows) == 1 else write.node("Concat", rows, axis=0) if rows else ""


def _parts(write: GraphWriter, tensor: str, count: int, axis: int, name: str) -> list[str]:
    """The directions of a result, each without their axis."""
    parts = [tensor]
    if count > 1:
        parts = write.node(
            "Split", [tensor, write.ints(*[1] * count)], f"{name}s", count, axis=axis
        )
    return [write.node("Squeeze", [part, write.ints(axis)]) for part in parts]


def _times_output_gate(
    call: Call, found: dict, gate: str, masked: Masked | None, write: GraphWriter
) -> dict:
    """What left the operator times an output gate that was computed outside."""
    gate = masked.compact(gate, "output_gate") if masked else gate
    y = write.node("Mul", [found["sequence"], gate], "shown")
    if masked:
        h = masked.last_of(call, y)
    else:
        end = 0 if call.go_backwards else -1
        at = write.constant("keras_gated/first" if not end else "keras_gated/last", np.array(end))
        h = write.node("Gather", [y, at], axis=1)
    return {"sequence": y, "h": h, "last": h}


def _flipped(write: GraphWriter, tensor: str) -> str:
    """A sequence (B, T, U) from its last time step to the first."""
    ends = [write.ints(k) for k in (-1, -(2**31), 1, -1)]
    return write.node("Slice", [tensor, *ends], "backwards")
