"""The values of gates as tensors: activations, ties, trained decays, and logarithms."""

import math
from typing import Any

from keras import ops

from keras_gated.spec.gate_values import evaluate

LEAST_REST = 0.25e-6  # of 1 - v²: there the slope of its root is 1000


class GateTensors:
    """Computes gates from pre-activations, see `gate_values`; tied gates share one activation.

    Args:
        formula: the `Formula` of the cell.
        a: pre-activations by block.
        hooks: `Hooks`.
        decays: the vectors λ by block.
        ties: the trained numbers (2, 1) of ties, ζ and ν, by gate.
    """

    def __init__(self, formula: Any, a: dict, hooks: Any, decays: dict, ties: dict):
        self._formula, self._a, self._hooks = formula, a, hooks
        self._decays, self._ties = decays, ties
        self._done: dict = {}

    def __call__(self, gate: str):
        """Returns the value of a gate; of a constant one, a float."""
        return evaluate(self._formula.form.gates[gate], self)

    def log(self, gate: str):
        """Returns the logarithm of a gate's value. `CellSpec` refuses complements here."""
        value = self._formula.form.gates[gate]
        if value.constant is not None:
            return math.log(value.constant)
        return self._activation(value.block, value.offset)

    def root_of_rest(self, gate: str):
        """Returns `√(1 - v²)` of a gate's value v; of a constant one, a float."""
        constant = self._formula.form.gates[gate].constant
        if constant is not None:
            return math.sqrt(1.0 - constant**2)
        return _root_of_rest(self.log(gate))

    # The arithmetic of `evaluate`

    def constant(self, value: float) -> float:
        return value

    def activated(self, block: str, offset: float):
        value = self._activation(block, offset)
        return ops.exp(value) if block in self._formula.log_activation else value

    def _activation(self, block: str, offset: float):
        """The value of a block, or its logarithm where the formula computes that."""
        key = (block, offset)
        if key not in self._done:
            a = self._a[block] + offset if offset else self._a[block]
            functions = self._formula.activation | self._formula.log_activation
            value = self._hooks.activated(block, functions[block], a)
            if block in self._decays:
                rate = -self._formula.decay[block] * ops.softplus(self._decays[block])
                # A node, since a weight acts here: its gradient is found as that of a bias.
                value = self._hooks.node(f"logarithm of {block} + {offset}", rate * value)
            self._done[key] = value
        return self._done[key]

    def share(self, block: str, other: str):
        """Of logarithms, since both values can be too small for their sum: v / (v + w) is
        σ(log v - log w).
        """
        key = (block, other)
        if key not in self._done:
            one, another = (self._activation(k, 0.0) for k in key)
            self._done[key] = ops.sigmoid(one - another)
        return self._done[key]

    def complement(self, v):
        return 1.0 - v

    def scaled(self, v, gate: str):
        key = ("scaled", gate)
        if key not in self._done:
            scale, shift = ops.unstack(ops.sigmoid(self._ties[gate]), axis=0)
            self._done[key] = self._hooks.node(f"tie of {gate}", scale * v + shift)
        return self._done[key]


def _root_of_rest(log_v):
    """`√(1 - v²)` from log v, exact where v is close to 1; its slope by 1 - v² is at most 1000.

    At v = 1 the slope of a root is infinite, and the gradient of all weights would be NaN. So the
    gradient goes through u - stop_gradient(u), which is 0, times a bounded slope; the value is that
    of the root. recurrentgemma has the same bound.
    """
    u = -ops.expm1(2.0 * log_v)
    root, slope = ops.sqrt(u), 0.5 * ops.rsqrt(ops.maximum(u, LEAST_REST))
    return ops.stop_gradient(root) + (u - ops.stop_gradient(u)) * ops.stop_gradient(slope)
