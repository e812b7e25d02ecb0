"""Any mask around a native node, exactly: the valid time steps of each row run, the others wait.

The valid steps are gathered to the front, the operator runs over them (`sequence_lens`), and what
comes out is put back.
"""

from typing import Any

import numpy as np

from keras_gated.onnx.graph.writer import GraphWriter


class Masked:
    """A mask (B, T): to the operator and back.

    Args:
        write: where nodes are written.
        mask: name of the mask's tensor.

    Attributes:
        lengths: name of the number of valid time steps of each row, int32 (B,).
    """

    def __init__(self, write: GraphWriter, mask: str):
        self._write = write
        node, ints = write.node, write.ints
        self._mask = node("Cast", [mask], to=9)  # bool
        self._ones = ones = node("Cast", [mask], to=7)  # int64
        self._count = node("CumSum", [ones, ints(1)], "valid_so_far")
        self._total = node("ReduceSum", [ones, ints(1)], "valid", keepdims=0)
        self.lengths = node("Cast", [self._total], "lengths", to=6)  # int32
        time = node("Gather", [node("Shape", [mask]), ints(1)])
        steps = node("Range", [*(node("Squeeze", [t]) for t in (ints(0), time, ints(1)))])
        # Valid steps in order, then the others: no two keys are equal.
        late = node("Mul", [node("Sub", [ints(1), ones]), time])
        keys = node("Add", [steps, late])
        _, self._order = node("TopK", [keys, time], outputs=2, axis=1, largest=0, sorted=1)

    def compact(self, x: str, name: str) -> str:
        """Returns x (B, T, F) with the valid time steps of each row at the front."""
        return self._at(x, self._order, f"{name}_valid_first")

    def last_of(self, call: Any, y: str) -> str:
        """Returns the step (B, U) of a compact sequence that a call runs over last."""
        node, ints = self._write.node, self._write.ints
        last = node("Max", [node("Sub", [self._total, ints(1)]), ints(0)])
        last = node("Mul", [last, ints(0)]) if call.go_backwards else last
        return node("GatherND", [y, node("Unsqueeze", [last, ints(1)])], batch_dims=1)

    def spread(self, call: Any, found: dict, tensors: dict) -> dict:
        """Returns sequence, last output and states as the layer has them under the mask.

        Args:
            call: a `native.Call`.
            found: what came out of the operator, by name; the sequence compact, in time order.
            tensors: the stub's inputs by name.
        """
        node, ints = self._write.node, self._write.ints
        zero = self._write.constant("keras_gated/zero", np.array(0.0, np.float32))
        some = node("Unsqueeze", [node("Greater", [self._total, ints(0)]), ints(1)])
        index, shown = self._where(call)
        ends = some
        if call.zero_output_for_mask:
            shown = self._mask
            end = "keras_gated/first_step" if call.go_backwards else "keras_gated/last_step"
            step = np.array([0 if call.go_backwards else -1])
            ends = node("Gather", [shown, self._write.constant(end, step)], axis=1)
        results = {"last": node("Where", [ends, found["last"], zero], "last")}
        for name in call.states:
            before = tensors.get(name, zero)
            results[name] = node("Where", [some, found[name], before], f"kept_{name}")
        y = self._at(found["sequence"], index, "put_back")
        shown = node("Unsqueeze", [shown, ints(2)])
        return results | {"sequence": node("Where", [shown, y, zero], "sequence")}

    def _where(self, call: Any) -> tuple[str, str]:
        """For each time step: which valid step was run last by then, and whether any was."""
        node, ints = self._write.node, self._write.ints
        if call.go_backwards:  # the next valid one
            before = node("Sub", [self._count, self._ones])
            total = node("Unsqueeze", [self._total, ints(1)])
            return before, node("Less", [before, total])
        index = node("Max", [node("Sub", [self._count, ints(1)]), ints(0)])
        return index, node("Greater", [self._count, ints(0)])

    def _at(self, x: str, index: str, name: str) -> str:
        index = self._write.node("Unsqueeze", [index, self._write.ints(2)])
        return self._write.node("GatherND", [x, index], name, batch_dims=1)
