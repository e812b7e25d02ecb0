"""The value of a gate: a constant, or a block's value, perhaps shared, shifted or complemented.

`evaluate` is the only place that says what a tie means. What it computes with is the caller's: the
formula gives it tensors, the equations LaTeX, the choice of an ONNX operator scales and shifts.
"""

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class GateValue:
    """The value of a gate: a constant, or the value of a block.

    Attributes:
        constant: the constant, or None.
        block: name of the block with the pre-activation `a`; "" if the gate is constant.
        offset: the value is `v = activation(a + offset)`,
        complement: or `1 - v` if this is True.
        other: name of the block that it shares 1 with: v is then the block's value divided by the
            sum of both values; "" if it shares nothing.
        trained: name of the gate whose trained scale and shift are applied to this, or "".
    """

    constant: float | None = None
    block: str = ""
    offset: float = 0.0
    complement: bool = False
    other: str = ""
    trained: str = ""


class Arithmetic(Protocol):
    """What `evaluate` computes with."""

    def constant(self, value: float) -> Any:
        """Returns a constant gate."""

    def activated(self, block: str, offset: float) -> Any:
        """Returns `activation(a + offset)` of a block."""

    def share(self, block: str, other: str) -> Any:
        """Returns the value of a block divided by the sum of that and the value of another one."""

    def complement(self, v: Any) -> Any:
        """Returns `1 - v`."""

    def scaled(self, v: Any, gate: str) -> Any:
        """Returns `σ(ζ) v + σ(ν)` with the trained numbers of a gate."""


def evaluate(value: GateValue, arithmetic: Arithmetic) -> Any:
    """Returns the value of a gate."""
    if value.constant is not None:
        return arithmetic.constant(value.constant)
    if value.other:
        v = arithmetic.share(value.block, value.other)
    else:
        v = arithmetic.activated(value.block, value.offset)
    v = arithmetic.complement(v) if value.complement else v
    return arithmetic.scaled(v, value.trained) if value.trained else v
