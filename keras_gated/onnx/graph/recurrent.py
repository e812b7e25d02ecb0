"""Writes a native LSTM, GRU or RNN node in place of a stub, with its weights and what is around it.

ONNX's operators differ from Keras's layers in several ways, and the nodes around the operator make
up for each of them:

- Time is the first axis, and there is an axis of directions: Transpose and Squeeze.
- A mask is not known, only the number of steps of each row (`sequence_lens`): see `masks.py`.
- Keras's backward layer returns its outputs from the last time step to the first, an operator with
  direction="reverse" in the order of time: the sequence is reversed. A Bidirectional reverses it
  once more; `cleanup.py` removes the two.
- An output gate that reads only the input may be computed outside of the operator: it multiplies
  what comes out.
- An empty input ends onnxruntime's process: see `empty_input_guards.py`.

This file works on the ONNX graph alone. Two calls over the same input in opposite directions become
one bidirectional node.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_gated.onnx.graph.masks import MaskNodes
from keras_gated.onnx.graph.writer import GraphWriter
from keras_gated.onnx.tracing.operator_inputs import Arrays
from keras_gated.spec.onnx_operator import NativeOperator, activation_attributes


@dataclass(frozen=True)
class OperatorCall:
    """One call of a layer that is exported as a native operator. A stub stands for it.

    Attributes:
        name: of the call, readable; the second call of "enc" is "enc_2".
        weights_name: of the layer; all its calls share it.
        native: how the cell's blocks fill the operator.
        arrays: the operator's weights.
        units: int, size U of the state.
        inputs: what each input of the stub is: "x" (B, T, I), "output_gate" (B, T, U), "mask"
            (B, T), "h" and "c" (B, U). Those that the call does not have are left out.
        states: the states that the stub returns, after the sequence (B, T, U) and the last output
            (B, U).
        go_backwards, zero_output_for_mask: as in the layer.
    """

    name: str
    weights_name: str
    native: NativeOperator
    arrays: Arrays
    units: int
    inputs: tuple[str, ...]
    states: tuple[str, ...]
    go_backwards: bool
    zero_output_for_mask: bool

    def can_join(self, other: "OperatorCall") -> bool:
        """Whether this call, forward, and another, backward, can be one bidirectional node.

        The node has one set of attributes for both. The caller checks that both read the same
        input.
        """
        ours, theirs = self.native, other.native
        return (
            (self.go_backwards, other.go_backwards) == (False, True)
            and (ours.operator, self.units) == (theirs.operator, other.units)
            and ours.linear_before_reset == theirs.linear_before_reset
            and (ours.peepholes, self.states) == (theirs.peepholes, other.states)
            and {"h", "c"} & set(self.inputs) == {"h", "c"} & set(other.inputs)
        )


def operator_nodes(calls: Sequence[OperatorCall], stubs: Sequence[Any], write: GraphWriter) -> list:
    """Returns the nodes in place of one stub, or of two stubs that become one node.

    Args:
        calls: one call, or a forward and a backward one.
        stubs: the stub of each.
        write: the writer of the graph.
    """
    write.start(calls[0].name if len(calls) == 1 else _pair_name(calls, write))
    pairs = zip(calls, stubs, strict=True)
    tensors = [dict(zip(call.inputs, stub.input, strict=True)) for call, stub in pairs]
    mask = MaskNodes(write, tensors[0]["mask"]) if "mask" in tensors[0] else None
    results = _write_operator(calls, tensors, mask, write)
    outputs: dict[str, str] = {}
    for call, stub, own, result in zip(calls, stubs, tensors, results, strict=True):
        write.scope = call.name
        if "output_gate" in own:
            result |= _apply_output_gate(call, result, own["output_gate"], mask, write)
        if mask:
            result = mask.restore(call, result, own)
        if call.go_backwards:
            result["sequence"] = _reverse_time(write, result["sequence"])
        names = zip(("sequence", "last", *call.states), stub.output, strict=True)
        outputs |= {output: result[name] for name, output in names if output in write.read}
    return write.finish(outputs)


def _write_operator(
    calls: Sequence[OperatorCall], tensors: list[dict], mask: MaskNodes | None, write: GraphWriter
) -> list[dict]:
    """Writes the operator; returns {name: tensor} of the results of each call.

    The results are "sequence" in time order, "last", and the states. Under a mask the valid steps
    come first.
    """
    first = calls[0]
    kind = first.native.operator or ""
    x = mask.move_valid_first(tensors[0]["x"], "x") if mask else tensors[0]["x"]
    x = write.guard_sequences(write.node("Transpose", [x], "time_first", perm=[1, 0, 2]))
    h, c = (_stack_directions(write, [t[name] for t in tensors if name in t]) for name in "hc")
    weights = _write_weights(calls, write)
    lengths = mask.lengths if mask else ""  # "" is an optional input that is left out
    inputs = [x, weights["W"], weights["R"], weights["B"], lengths, h]
    if kind == "LSTM":
        # If the memory is the cell's only state, the operator's c_0 is the cell's h_0.
        inputs += [h if first.native.single_state else c, weights.get("P", "")]
    while not inputs[-1]:
        inputs.pop()
    outputs = 3 if kind == "LSTM" else 2
    y, *states = write.node(
        kind, inputs, kind, outputs, hidden_size=first.units, **_attributes(calls)
    )
    results: list[dict] = [{} for _ in calls]
    for own, part in zip(results, _split_directions(write, y, calls, 1, "sequence"), strict=True):
        own["sequence"] = write.node("Transpose", [part], perm=[1, 0, 2])
    for name, state in zip(first.states, states, strict=False):
        for own, part in zip(results, _split_directions(write, state, calls, 0, name), strict=True):
            own[name] = part
    return [own | {"last": own["h"]} for own in results]


def _attributes(calls: Sequence[OperatorCall]) -> dict:
    """Returns the operator's attributes, for one or both directions."""
    attributes = calls[0].native.attributes
    if len(calls) == 1:
        return attributes | ({"direction": "reverse"} if calls[0].go_backwards else {})
    operators = [call.native for call in calls]
    functions = tuple(f for native in operators for f in native.functions)
    if any("activations" in native.attributes for native in operators):
        attributes |= activation_attributes(functions)
    return attributes | {"direction": "bidirectional"}


def _write_weights(calls: Sequence[OperatorCall], write: GraphWriter) -> dict[str, str]:
    """Writes the operator's weights, both directions in one array; returns {key: name}."""
    name = _weights_name(calls, write)
    return {
        key: write.constant(f"{name}/{key}", np.concatenate([c.arrays[key] for c in calls]))
        for key in calls[0].arrays
    }


def _pair_name(calls: Sequence[OperatorCall], write: GraphWriter) -> str:
    """Returns a name for two calls: the name of their weights, with the number of the call."""
    number = calls[0].name.removeprefix(calls[0].weights_name)
    return _weights_name(calls, write) + number


def _weights_name(calls: Sequence[OperatorCall], write: GraphWriter) -> str:
    """Returns a name for the weights of one call, or of two: that of the layer that holds both."""
    names = tuple(call.weights_name for call in calls)
    if len(names) == 1:
        return names[0]
    holders = {name.rpartition("/")[0] for name in names}
    holder = holders.pop() if len(holders) == 1 else ""
    return write.name_for(names, holder or "_".join(names))


def _stack_directions(write: GraphWriter, states: list[str]) -> str:
    """Returns initial states, (B, U) for each direction, as one (directions, B, U); "" if none."""
    rows = [write.node("Unsqueeze", [state, write.ints(0)]) for state in states]
    return rows[0] if len(rows) == 1 else write.node("Concat", rows, axis=0) if rows else ""


def _split_directions(
    write: GraphWriter, tensor: str, calls: Sequence[OperatorCall], axis: int, name: str
) -> list[str]:
    """Returns the part of each direction of a result, without the axis of directions."""
    parts, count = [tensor], len(calls)
    if count > 1:
        ones = write.ints(*[1] * count)
        parts = write.node("Split", [tensor, ones], f"{name}s", count, axis=axis)
    return [write.node("Squeeze", [part, write.ints(axis)]) for part in parts]


def _apply_output_gate(
    call: OperatorCall, results: dict, gate: str, mask: MaskNodes | None, write: GraphWriter
) -> dict:
    """Multiplies the operator's outputs with an output gate that was computed outside of it."""
    gate = mask.move_valid_first(gate, "output_gate") if mask else gate
    y = write.node("Mul", [results["sequence"], gate], "shown")
    if mask:
        h = mask.last_step(call, y)
    else:
        end = 0 if call.go_backwards else -1
        at = write.constant("keras_gated/first" if not end else "keras_gated/last", np.array(end))
        h = write.node("Gather", [y, at], axis=1)
    return {"sequence": y, "h": h, "last": h}


def _reverse_time(write: GraphWriter, tensor: str) -> str:
    """Returns a sequence (B, T, U) from its last time step to the first."""
    # Slice along axis 1 with step -1, from the last element to before the first.
    start, end, axis, step = (write.ints(k) for k in (-1, -(2**31), 1, -1))
    return write.node("Slice", [tensor, start, end, axis, step], "backwards")
