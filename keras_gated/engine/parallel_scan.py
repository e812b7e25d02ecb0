r"""A cell whose memory is linear, run for all time steps at once.

If gates and candidate see only x_t, the coefficients of `c_t = f_t ⊙ c_{t-1} + i_t ⊙ c̃_t` are known
before the loop. Two steps of such a recurrence are again one step of that form:

    c_2 = f_2 (f_1 c_0 + w_1) + w_2 = (f_2 f_1) c_0 + (f_2 w_1 + w_2)

so an associative scan finds all c_t in O(log T) depth.

References:
    - Blelloch, "Prefix sums and their applications", 1990.
    - Martin and Cundy, "Parallelizing linear recurrent neural nets over sequence length", 2018.
      arXiv:1709.04057.
"""

from keras import ops

from keras_gated.engine.call import RecurrentCall
from keras_gated.engine.formula import DropoutMasks, Hooks, product_by_block


def run_all_steps(call: RecurrentCall) -> tuple:
    """Runs a cell for all time steps.

    Args:
        call: of a cell whose `form.linear_memory` holds, with known T and no zoneout.

    Returns:
        The outputs h (B, T, U) in running order, and the list of last states.
    """
    cell, first = call.cell, [state[:, None] for state in call.states]
    x, mask = call.in_running_order(call.sequences), None
    if call.mask is not None:
        mask = ops.cast(call.in_running_order(call.mask), first[-1].dtype)[..., None]
    x, goes_on = call.readable(x, mask), call.goes_on(first[-1].dtype)
    weights, training = call.weights, call.drawn.training
    terms = cell.input_terms(weights, x, product_by_block, mask, training)
    series = ops.zeros_like(ops.cast(x[..., :1], first[-1].dtype)) + first[-1]
    hooks = _AllStepsHooks(series, first[-1], mask, goes_on)
    dropout = DropoutMasks(*(m if m is None else m[:, None] for m in call.drawn.dropout))
    h, _ = cell.formula.step(weights, terms, first, dropout, hooks)
    if mask is None or len(first) == 1:  # then h is the memory, which a mask holds already
        series = [h, hooks.c][: len(first)]
    else:
        series = [_hold(h, mask, goes_on, first[0]), hooks.c]
    return series[0], [s[:, -1] for s in series]


def _hold(h, mask, goes_on, start):
    """h of each time step; of a masked one that of the last valid step, or start (B, 1, U).

    Zeros where a sequence began in between.
    """
    zeros = ops.zeros_like(h)
    held = _zeros_at_starts(goes_on, 1.0 - mask + zeros)
    return _scan(held, ops.where(mask > 0, h, zeros), start)


def _zeros_at_starts(goes_on, forget):
    """The share of the state before that stays: none at time steps that begin with zeros."""
    return forget if goes_on is None else ops.where(goes_on > 0, forget, ops.zeros_like(forget))


class _AllStepsHooks(Hooks):
    """Computes the memory of all time steps where a step computes that of one."""

    def __init__(self, like, start, mask, goes_on):
        self.like, self.start, self.mask, self.goes_on = like, start, mask, goes_on
        self.c = None

    def memory(self, c, forget_value, written):
        zeros = ops.zeros_like(self.like)
        forget, written = (zeros if x is None else zeros + x for x in (forget_value, written))
        if self.mask is not None:  # a masked step keeps everything and writes nothing
            forget = ops.where(self.mask > 0, forget, ops.ones_like(forget))
            written = ops.where(self.mask > 0, written, zeros)
        self.c = _scan(_zeros_at_starts(self.goes_on, forget), written, self.start)
        return self.c


def _scan(forget, written, start):
    """Returns all `c_t = forget_t ⊙ c_{t-1} + written_t` (B, T, U) from c_0 = start (B, 1, U)."""
    first = written[:, :1] + forget[:, :1] * start
    return _from_zero(forget, ops.concatenate([first, written[:, 1:]], axis=1))


def _from_zero(forget, written):
    """The same from zero: pairs of neighbours are one step each of a recurrence half as long.

    `keras.ops.associative_scan` says the same, but XLA refuses it on TensorFlow.
    """
    time = written.shape[1]
    if time <= 1:
        return written
    pairs = time - time % 2
    earlier, later = forget[:, 0:pairs:2], forget[:, 1:pairs:2]
    # The second of each pair by recursion, the others from the one before them.
    second = _from_zero(earlier * later, later * written[:, 0:pairs:2] + written[:, 1:pairs:2])
    first = written[:, :1]
    if time > 2:  # on TensorFlow XLA refuses the gradient of an empty slice with a stride
        rest = forget[:, 2::2] * second[:, : (time - 1) // 2] + written[:, 2::2]
        first = ops.concatenate([first, rest], axis=1)
    both = ops.stack([first[:, : pairs // 2], second], axis=2)
    shape = (ops.shape(both)[0], pairs, both.shape[-1])
    both = ops.reshape(both, shape)
    return ops.concatenate([both, first[:, pairs // 2 :]], axis=1) if time % 2 else both
