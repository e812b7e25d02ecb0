"""Cells that an operator of the backend computes whole: an LSTM, a GRU or a tanh RNN.

`spec.onnx_operator` finds the operator, for more cells than these three: an absent gate is one
whose bias saturates it, and a tied gate takes the weights of the other. The operator's weights are
made from the cell's in each call, by differentiable operations: so the backend's gradient reaches
the weights that are trained.
"""

from functools import lru_cache

from keras import ops

from keras_gated.engine.backends.selected import backend
from keras_gated.engine.call import RecurrentCall
from keras_gated.spec.normal_form import NormalForm
from keras_gated.spec.onnx_operator import (
    DEFAULT_FUNCTIONS,
    NativeOperator,
    find_native_operator,
)


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
    cell = call.cell
    return (
        backend.FUSED
        and not call.unroll
        and cell.sequential_option is None
        and cell.normalizer is None
        and call.starts is None
        and all(mask is None for mask in call.drawn.dropout)
        and find_fused_operator(cell.form) is not None
        and backend.can_fuse(call)
    )


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
