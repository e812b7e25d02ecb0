"""Chooses how a cell is exported: as a native operator, as a Scan, or as a Loop.

Native: one LSTM, GRU or RNN node. Every runtime knows these, and at small sizes they are the
fastest. The node multiplies by all of the operator's blocks, whatever the cell lacks: an absent
gate becomes a block of zeros with a bias that saturates its activation.

Scan: ONNX's loop over time, whose body is one time step of the cell. It is chosen for one of two
reasons:

- No operator computes the cell. For example, the memory passes through an activation from step to
  step, or an option such as layer_norm acts in every step.
- The cell lacks blocks and is large. The body holds only the products that the cell has. This saves
  more than the Scan costs, which is some time for each node of the body at each time step.

Loop: what tf2onnx makes of TensorFlow's loop over time, Keras's own for a layer of Keras. It is the
last resort, and can be asked for.
"""

from dataclasses import dataclass
from math import sqrt

from keras_gated.spec.normal_form import NormalForm
from keras_gated.spec.onnx_operator import NativeOperator, find_native_operator

LOWERINGS = ("auto", "native", "scan", "loop")
BLOCK_COUNTS = {"RNN": 1, "GRU": 3, "LSTM": 4}  # blocks of weights that an operator has


@dataclass(frozen=True)
class Choice:
    """How a cell is exported.

    Attributes:
        operator: "LSTM", "GRU", "RNN", "Scan" or "Loop".
        reason: why.
        native: how the cell's blocks fill the native operator; None for a Scan or a Loop.
    """

    operator: str
    reason: str
    native: NativeOperator | None = None


def choose(
    form: NormalForm,
    units: int,
    wanted: str = "auto",
    expected_batch: int = 1,
    stepwise_option: str | None = None,
) -> Choice:
    """Chooses how a cell is exported.

    Args:
        form: the cell's normal form.
        units: int > 0, size of the state.
        wanted: one of `LOWERINGS`. "native" gives a Scan if there is no operator; the caller
            decides whether that is an error.
        expected_batch: int > 0, the batch size that the file will mostly run at.
        stepwise_option: an option of the cell that acts on the states in every time step, which no
            operator does; or None.
    """
    native = find_native_operator(form)
    not_native = native.reason if native.operator is None else stepwise_option
    if wanted == "loop":
        return Choice("Loop", "lowering='loop'")
    if not any(block.kernel for block in form.blocks.values()):
        # Nothing of the input enters the loop, so there is no series for a Scan to run over.
        return _native(native) if not_native is None else Choice("Loop", not_native)
    if wanted == "scan" or not_native:
        return Choice("Scan", not_native or "lowering='scan'")
    if wanted == "auto" and (why := _faster_as_scan(form, native, units, expected_batch)):
        return Choice("Scan", why)
    return _native(native)


def _native(native: NativeOperator) -> Choice:
    return Choice(native.operator or "", native.reason, native)


def _faster_as_scan(form: NormalForm, native: NativeOperator, units: int, batch: int) -> str | None:
    """Returns why a Scan is faster than the native operator, or None if it is not.

    The rule is fitted to the measurements of `python -m benchmarks.onnx`: the more blocks the cell
    lacks, the smaller the size from which a Scan wins.
    """
    kernels = [block.recurrent_kernel for block in form.blocks.values()]
    present = sum(1 / kernel.groups for kernel in kernels if kernel and kernel.mixes_units)
    share = present / BLOCK_COUNTS[native.operator or ""]
    if share < 1 and units * sqrt(batch) >= (32 * max(share, 0.5)) ** 2:
        return f"at this size one {native.operator} node, which multiplies all blocks, is slower"
    return None
