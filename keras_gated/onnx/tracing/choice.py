"""Which of the forms of a cell goes into the file: a native operator, a Scan, or Keras's loop."""

from dataclasses import dataclass
from math import sqrt

from keras_gated.spec.normal_form import NormalForm
from keras_gated.spec.onnx_operator import Lowering, lower

LOWERINGS = ("auto", "native", "scan", "loop")
BLOCKS = {"RNN": 1, "GRU": 3, "LSTM": 4}


@dataclass(frozen=True)
class Choice:
    """What a cell becomes.

    Attributes:
        operator: "LSTM", "GRU", "RNN", "Scan" or "Loop".
        reason: why.
        lowering: the native operator, if it is one.
    """

    operator: str
    reason: str
    lowering: Lowering | None = None


def choose(
    form: NormalForm,
    units: int,
    wanted: str = "auto",
    expected_batch: int = 1,
    stepwise_option: str | None = None,
) -> Choice:
    """Returns what a cell becomes.

    Args:
        form: its normal form.
        units: int > 0, size of the state.
        wanted: one of `LOWERINGS`. "native" and "scan" are followed as far as the cell has them.
        expected_batch: int > 0, the batch that the file will mostly run at.
        beside: what acts on the states beside the formula, which no operator does; or None.
    """
    native = lower(form)
    refusal = native.reason if native.operator is None else stepwise_option
    if wanted == "loop":
        return Choice("Loop", "lowering='loop'")
    if not any(block.kernel for block in form.blocks.values()):
        return _native(native) if refusal is None else Choice("Loop", refusal)
    if wanted == "scan" or refusal:
        return Choice("Scan", refusal or "lowering='scan'")
    if wanted == "auto" and (why := _faster_as_scan(form, native, units, expected_batch)):
        return Choice("Scan", why)
    return _native(native)


def _native(lowering: Lowering) -> Choice:
    return Choice(lowering.operator or "", lowering.reason, lowering)


def _faster_as_scan(form: NormalForm, native: Lowering, units: int, batch: int) -> str | None:
    """Why a Scan is faster, or None.

    An operator multiplies the blocks that the cell has not, too; a Scan pays for each node at each
    time step. `python -m benchmarks.onnx` shows where they meet.
    """
    has = sum(block.recurrent_kernel == "dense" for block in form.blocks.values())
    share = has / BLOCKS[native.operator or ""]
    if share < 1 and units * sqrt(batch) >= (32 * max(share, 0.5)) ** 2:
        return f"at this size one {native.operator} node, which multiplies all blocks, is slower"
    return None
