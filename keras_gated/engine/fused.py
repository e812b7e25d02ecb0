"""Cells that an operator of the backend computes whole: an LSTM, a GRU or a tanh RNN.

torch's operators are taken wherever they fit. cuDNN's LSTM on JAX is taken where a layer asks for
it, `use_cudnn=True`; the same argument on torch demands that torch's operator runs on cuDNN.

`spec.onnx_operator` finds the operator, for more cells than these three: an absent gate is one
whose bias saturates it, and a tied gate takes the weights of the other. The operator's weights are
made from the cell's in each call, by differentiable operations: so the backend's gradient reaches
the weights that are trained.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

import keras
from keras import ops

from keras_gated.engine.backends.selected import backend
from keras_gated.engine.call import RecurrentCall
from keras_gated.spec.normal_form import NormalForm
from keras_gated.spec.onnx_operator import (
    DEFAULT_FUNCTIONS,
    NativeOperator,
    find_native_operator,
)

_without_cudnn: ContextVar[bool] = ContextVar("keras_gated_without_cudnn", default=False)


@lru_cache(maxsize=256)
def find_fused_operator(form: NormalForm) -> NativeOperator | None:
    """Returns the operator that is a plain LSTM, GRU or tanh RNN and computes a cell, or None."""
    native = find_native_operator(form)
    usual = native.operator and native.functions == DEFAULT_FUNCTIONS[native.operator]
    # A GRU of a backend resets behind the product, and no operator has peepholes.
    form_of_gru = native.operator != "GRU" or native.linear_before_reset
    reads_input = native.input_functions == (None,) and not native.outside
    return native if usual and form_of_gru and reads_input and not native.peepholes else None


def runs_fused(call: RecurrentCall) -> bool:
    """Returns whether an operator of the backend can run a call, and all in it is as it takes it.

    Nothing is drawn, no option acts within a step, no sequence begins inside a row, all has one
    type, and masked time steps are at the end.
    """
    return backend.FUSED and _why_no_operator(call) is None and backend.can_fuse(call)


def _why_no_operator(call: RecurrentCall) -> str | None:
    """Why no operator of a library runs a call, whatever its tensors are; None if one may."""
    cell = call.cell
    if call.unroll:
        return "the loop is to be unrolled (unroll=True)"
    if option := cell.sequential_option or (cell.normalizer and "batch_norm=True"):
        return f"the option `{option}` acts in or before each time step"
    if call.starts is not None:
        return "sequences begin inside a row (`resets`)"
    if any(mask is not None for mask in call.drawn.dropout):
        return "masks of dropout act in each time step"
    if find_fused_operator(cell.form) is None:
        return _why_no_usual_operator(cell.form)
    return None


def _why_no_usual_operator(form: NormalForm) -> str:
    native = find_native_operator(form)
    if native.operator is None:
        return f"no such layer computes the cell ({native.reason})"
    return (
        "no such layer computes the cell: they have sigmoid gates and tanh, no peephole, and a "
        "reset gate behind the product"
    )


@contextmanager
def without_cudnn() -> Iterator[None]:
    """Inside this context cuDNN runs no layer, whatever its `use_cudnn` is: files are compared."""
    token = _without_cudnn.set(True)
    try:
        yield
    finally:
        _without_cudnn.reset(token)


def must_run_on_cudnn(call: RecurrentCall) -> bool:
    """Returns whether cuDNN has to run a call: the layer says so, and the call is a run.

    Keras also calls a layer to find out shapes, and torch to record it for a file.
    """
    if not call.use_cudnn or _without_cudnn.get() or backend.is_exporting():
        return False
    with keras.SymbolicScope() as scope:  # it knows the one around it
        return scope.original_scope is None


def run_on_cudnn(call: RecurrentCall) -> tuple:
    """Runs a cell on cuDNN.

    Returns:
        As `run_fused`.

    Raises:
        ValueError: if cuDNN cannot run the call here.
    """
    native = find_fused_operator(call.cell.form)
    reason = _why_no_operator(call) or backend.why_not_cudnn(native, call)
    if call.time_parallel is True:
        reason = "all time steps are to be computed at once (time_parallel=True)"
    if reason:
        name = keras.backend.backend()
        raise ValueError(
            f"Argument `use_cudnn=True` of {call.layer.name} requires that cuDNN runs the layer. "
            f"Received: a call on Keras's backend {name!r} that cuDNN cannot run, since {reason}. "
            "Write use_cudnn='auto', or layer.use_cudnn = 'auto' for a layer that was loaded: it "
            "then computes the same everywhere."
        )
    return run_fused(call)


def run_fused(call: RecurrentCall) -> tuple:
    """Runs a cell by an operator of the backend.

    Returns:
        The outputs h (B, T, U) in running order, and the list of last states.
    """
    cell, native = call.cell, find_fused_operator(call.cell.form)
    x, mask = call.in_running_order(call.sequences), None
    if call.mask is not None:
        mask = call.in_running_order(call.mask)
        x = call.readable(x, ops.cast(mask, x.dtype)[..., None])
    x = cell.formula.projected(call.weights, x)
    blocks = cell.by_block(call.weights)
    h, states = backend.run_fused(native, blocks, x, call.states, mask)
    if mask is not None:  # behind the end, the last state is repeated
        h = ops.where(mask[..., None], h, states[0][:, None])
    return h, states
