"""A stub's place taken by a native LSTM, GRU or RNN node, its weights and what stands around it.

Works on the ONNX graph alone. Masks are exact for any pattern: the valid time steps of each row are
gathered to the front, the operator runs over them (`sequence_lens`), and they are put back.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_gated.export.lowering import Lowering
from keras_gated.export.packing import Arrays
from keras_gated.export.writing import Written


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

    def nodes(self, stub: Any, write: Written) -> list:
        """Returns the nodes in place of the stub."""
        return _operator(self, stub, write)


def _operator(call: Call, stub: Any, write: Written) -> list:
    write.begin(call.name)
    tensors = dict(zip(call.inputs, stub.input, strict=True))
    wanted = dict(zip(("sequence", "last", *call.states), stub.output, strict=True))
    wanted = {name: output for name, output in wanted.items() if output in write.read}
    if call.go_backwards:
        for name in ("x", "output_gate", "mask"):
            if name in tensors:
                tensors[name] = _flipped(write, tensors[name], name)
    masked = _Mask(write, tensors["mask"], call) if "mask" in tensors else None
    found = _run(call, tensors, masked, write, "sequence" in wanted)
    results = masked.spread(found, tensors) if masked else found
    return write.deliver({output: results[name] for name, output in wanted.items()})


def _run(call: Call, tensors: dict, masked: "_Mask | None", write: Written, sequence: bool) -> dict:
    """Writes the operator; returns the sequence, the last output and the states, without masks."""
    kind, lowering = call.lowering.operator or "", call.lowering
    x = masked.compact(tensors["x"], "x") if masked else tensors["x"]
    x = _guarded(write, write.node("Transpose", [x], "time_first", perm=[1, 0, 2]))
    weights = {
        name: write.constant(f"{call.weights_name}/{name}", array)
        for name, array in call.arrays.items()
    }
    h = write.node("Unsqueeze", [tensors["h"], write.ints(0)]) if "h" in tensors else ""
    inputs = [x, weights["W"], weights["R"], weights["B"], masked.lengths if masked else "", h]
    if kind == "LSTM":
        c = write.node("Unsqueeze", [tensors["c"], write.ints(0)]) if "c" in tensors else ""
        inputs += [h if lowering.hidden else c, weights.get("P", "")]
    while not inputs[-1]:
        inputs.pop()
    found = write.node(
        kind,
        inputs,
        kind,
        outputs=3 if kind == "LSTM" else 2,
        hidden_size=call.units,
        **lowering.attributes,
    )
    results = {
        name: write.node("Squeeze", [state, write.ints(0)], f"last_{name}")
        for name, state in zip(call.states, found[1:], strict=False)
    }
    results["last"] = results["h"]
    if sequence or "output_gate" in tensors:
        y = write.node("Squeeze", [found[0], write.ints(1)])
        results["sequence"] = write.node("Transpose", [y], "batch_first", perm=[1, 0, 2])
    return _shown(results, tensors, masked, write) if "output_gate" in tensors else results


def _shown(found: dict, tensors: dict, masked: "_Mask | None", write: Written) -> dict:
    """What left the operator times an output gate that was computed outside."""
    gate = tensors["output_gate"]
    gate = masked.compact(gate, "output_gate") if masked else gate
    y = write.node("Mul", [found["sequence"], gate], "shown")
    if masked:
        h = masked.last_of(y)
    else:
        h = write.node("Gather", [y, write.constant("keras_gated/last", np.array(-1))], axis=1)
    return found | {"sequence": y, "h": h, "last": h}


def _flipped(write: Written, tensor: str, name: str) -> str:
    """A tensor (B, T, ...) from the last time step to the first."""
    ends = [write.ints(k) for k in (-1, -(2**31), 1, -1)]
    return write.node("Slice", [tensor, *ends], f"{name}_backwards")


def _guarded(write: Written, x: str) -> str:
    """x, or an ordinary error where it is empty: there onnxruntime's operators end the process."""
    shape = write.node("Shape", [x])
    return write.node("Reshape", [x, write.node("Max", [shape, write.ints(1)])], "not_empty")


class _Mask:
    """A mask (B, T): to the operator and back."""

    def __init__(self, write: Written, mask: str, call: Call):
        self._write, self._call = write, call
        node, ints = write.node, write.ints
        self._mask = node("Cast", [mask], to=9)  # bool
        ones = node("Cast", [mask], to=7)  # int64
        self._count = node("CumSum", [ones, ints(1)], "valid_so_far")
        total = node("ReduceSum", [ones, ints(1)], "valid", keepdims=0)
        self.lengths = node("Cast", [total], "lengths", to=6)  # int32
        self._total = total
        time = node("Gather", [node("Shape", [mask]), ints(1)])
        steps = node("Range", [*(node("Squeeze", [t]) for t in (ints(0), time, ints(1)))])
        # Valid steps in order, then the others: no two keys are equal.
        late = node("Mul", [node("Sub", [ints(1), ones]), time])
        keys = node("Add", [steps, late])
        _, self._order = node("TopK", [keys, time], outputs=2, axis=1, largest=0, sorted=1)

    def compact(self, x: str, name: str) -> str:
        """x (B, T, F) with the valid time steps of each row at the front."""
        return self._at(x, self._order, f"{name}_valid_first")

    def last_of(self, y: str) -> str:
        """The last valid step (B, U) of a compact sequence."""
        node, ints = self._write.node, self._write.ints
        last = node("Max", [node("Sub", [self._total, ints(1)]), ints(0)])
        last = node("Unsqueeze", [last, ints(1)])
        return node("GatherND", [y, last], batch_dims=1)

    def spread(self, found: dict, tensors: dict) -> dict:
        """Sequence, last output and states as the layer has them under the mask."""
        node, ints = self._write.node, self._write.ints
        zero = self._write.constant("keras_gated/zero", np.array(0.0, np.float32))
        some = node("Unsqueeze", [node("Greater", [self._total, ints(0)]), ints(1)])
        shown = node("Greater", [self._count, ints(0)])
        ends = some
        if self._call.zero_output_for_mask:
            shown = self._mask
            last = self._write.constant("keras_gated/last_step", np.array([-1]))
            ends = node("Gather", [shown, last], axis=1)
        results = {"last": node("Where", [ends, found["h"], zero], "last")}
        for name in self._call.states:
            before = tensors.get(name, zero)
            results[name] = node("Where", [some, found[name], before], f"kept_{name}")
        if "sequence" in found:
            index = node("Max", [node("Sub", [self._count, ints(1)]), ints(0)])
            y = self._at(found["sequence"], index, "put_back")
            shown = node("Unsqueeze", [shown, ints(2)])
            results["sequence"] = node("Where", [shown, y, zero], "sequence")
        return results

    def _at(self, x: str, index: str, name: str) -> str:
        index = self._write.node("Unsqueeze", [index, self._write.ints(2)])
        return self._write.node("GatherND", [x, index], name, batch_dims=1)
