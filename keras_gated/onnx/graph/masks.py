"""Masks for native operators: any mask (B, T), with exactly Keras's results.

Keras skips a masked time step: the states stay, and the output repeats the previous one. An ONNX
operator knows no mask. It has only `sequence_lens` (B,): how many steps of each row it runs, from
the front. That is enough for padding at the end, but a mask may have its valid steps anywhere.

So the valid steps of each row are moved to the front, in order. The operator runs over them, with
their number as `sequence_lens`; the masked steps are skipped, as in Keras. Then each time step
takes the output of the last valid step up to it:

    mask        0 1 0 1 1 0        three valid steps of six: 1, 3 and 4
    x           a b c d e f
    x moved     b d e . . .        sequence_lens = 3
    y moved     B D E . . .
    y           0 B B D E E        0 before the first valid step

A row without any valid step runs no step: it keeps its initial states, and its outputs are 0.
"""

from typing import Any

import numpy as np

from keras_gated.onnx.graph.writer import GraphWriter


class MaskNodes:
    """Writes the nodes that a mask (B, T) needs before and after an operator.

    Args:
        write: where nodes are written.
        mask: name of the mask's tensor.

    Attributes:
        lengths: name of the number of valid time steps of each row, int32 (B,), the operator's
            `sequence_lens`.
    """

    def __init__(self, write: GraphWriter, mask: str):
        self._write = write
        node, ints = write.node, write.ints
        self._mask = node("Cast", [mask], to=9)  # bool
        self._ones = ones = node("Cast", [mask], to=7)  # int64
        self._count = node("CumSum", [ones, write.integer(1)], "valid_so_far")  # (B, T)
        self._total = node("ReduceSum", [ones, ints(1)], "valid", keepdims=0)  # (B,)
        self.lengths = node("Cast", [self._total], "lengths", to=6)  # int32
        # The order that puts valid steps first: sort the steps by t, or by t + T if masked. All
        # keys of a row are different, for TopK may order equal ones in any way.
        time = node("Gather", [node("Shape", [mask]), ints(1)])
        steps = node("Range", [*(node("Squeeze", [t]) for t in (ints(0), time, ints(1)))])
        late = node("Mul", [node("Sub", [ints(1), ones]), time])
        keys = node("Add", [steps, late])
        _, self._order = node("TopK", [keys, time], outputs=2, axis=1, largest=0, sorted=1)

    def move_valid_first(self, x: str, name: str) -> str:
        """Returns x (B, T, F) with the valid time steps of each row moved to the front."""
        return self._take_steps(x, self._order, f"{name}_valid_first")

    def last_step(self, call: Any, y: str) -> str:
        """Returns the last step (B, U) that a call runs, of a sequence with valid steps first."""
        node, ints = self._write.node, self._write.ints
        last = node("Max", [node("Sub", [self._total, ints(1)]), ints(0)])
        last = node("Mul", [last, ints(0)]) if call.go_backwards else last
        return node("GatherND", [y, node("Unsqueeze", [last, ints(1)])], batch_dims=1)

    def restore(self, call: Any, results: dict, tensors: dict) -> dict:
        """Returns the sequence, the last output and the states as Keras gives them under the mask.

        Args:
            call: an `OperatorCall`.
            results: {name: tensor} of the operator; the sequence has its valid steps first and is
                in time order, also if the call goes backwards.
            tensors: {name: tensor} of the stub's inputs, for the initial states.
        """
        node, ints = self._write.node, self._write.ints
        zero = self._write.constant("keras_gated/zero", np.array(0.0, np.float32))
        any_valid = node("Unsqueeze", [node("Greater", [self._total, ints(0)]), ints(1)])
        index, has_output = self._last_valid_step(call)
        last_has_output = any_valid
        if call.zero_output_for_mask:  # then a masked step has no output at all
            has_output = self._mask
            name = "keras_gated/first_step" if call.go_backwards else "keras_gated/last_step"
            end = self._write.constant(name, np.array([0 if call.go_backwards else -1]))
            last_has_output = node("Gather", [has_output, end], axis=1)
        outputs = {"last": node("Where", [last_has_output, results["last"], zero], "last")}
        for name in call.states:
            before = tensors.get(name, zero)
            outputs[name] = node("Where", [any_valid, results[name], before], f"kept_{name}")
        y = self._take_steps(results["sequence"], index, "put_back")
        has_output = node("Unsqueeze", [has_output, ints(2)])
        return outputs | {"sequence": node("Where", [has_output, y, zero], "sequence")}

    def _last_valid_step(self, call: Any) -> tuple[str, str]:
        """For each time step: the index of the valid step that ran last by then; whether any did.

        Indices count the valid steps of a row. A call that goes backwards runs later steps first:
        there it is the first valid step at or after the time step.
        """
        node, ints = self._write.node, self._write.ints
        if call.go_backwards:
            before = node("Sub", [self._count, self._ones])
            total = node("Unsqueeze", [self._total, ints(1)])
            return before, node("Less", [before, total])
        index = node("Max", [node("Sub", [self._count, ints(1)]), ints(0)])
        return index, node("Greater", [self._count, ints(0)])

    def _take_steps(self, x: str, index: str, name: str) -> str:
        """Returns the time steps of x (B, T, F) that an index (B, T) names, for each row."""
        index = self._write.node("Unsqueeze", [index, self._write.ints(2)])
        return self._write.node("GatherND", [x, index], name, batch_dims=1)
