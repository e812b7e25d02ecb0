"""When the engine takes a layer, and how its tensors go in and out."""

from keras import ops

from keras_gated.draws import Draws, is_series
from keras_gated.formula import split
from keras_gated.recurrence.backend import backend
from keras_gated.recurrence.parallel import run_parallel
from keras_gated.recurrence.sequence import Sequence


def takes(layer) -> bool:
    """Whether the engine can run the layer; if not, Keras's own loop does."""
    return layer.cell.loop_reason is None and not layer.unroll


def takes_parallel(layer, sequences) -> bool:
    """Whether the layer is run for all time steps at once: wanted, possible and worth it."""
    wanted = layer.time_parallel
    if wanted == "auto":
        wanted = layer.cell.linear and not layer.unroll and backend.accelerated()
    return wanted and sequences.shape[1] is not None


def run_fused(layer, sequences, states, mask, drawn: Draws, loop=None):
    """Runs a layer's cell over time in a loop; arguments and result as `recurrence.run`.

    Args:
        loop: like `backend.loop`, runs the step over time instead, without a gradient.
    """
    cell = layer.cell
    x = _turned(layer, sequences)
    valid = None if mask is None else _turned(layer, ops.cast(mask, x.dtype)[..., None])
    weights = cell.tensors
    terms = cell.input_terms(weights, x, _apart, valid, drawn.training)
    used = {k: w for k, w in weights.items() if k not in OF_INPUT}
    kept = [_turned(layer, d) if is_series(d) else d for d in drawn.kept]
    sequence = Sequence(cell.formula, used, terms, states, valid, drawn._replace(kept=kept))
    h, last = sequence.run() if loop is None else sequence.run_by(loop)
    return _result(layer, ops.transpose(h, (1, 0, 2)), last, mask)


def run_at_once(layer, sequences, states, mask, drawn: Draws):
    """Runs a layer's cell for all time steps at once; arguments and result as `recurrence.run`."""
    return _result(layer, *run_parallel(layer, sequences, states, mask, drawn), mask)


def _result(layer, h, states: list, mask):
    """The last output, the outputs and the states, from all h (B, T, U) in running direction.

    Where only the last output is wanted, h is not touched, so that no loop has to keep it.
    """
    last = states[0]
    if mask is not None:
        valid = ops.cast(ops.flip(mask, axis=1) if layer.go_backwards else mask, "int32")
        seen = (valid if layer.zero_output_for_mask else ops.cumsum(valid, axis=1))[..., None] > 0
        last = ops.where(seen[:, -1], last, ops.zeros_like(last))
        h = ops.where(seen, h, ops.zeros_like(h)) if layer.return_sequences else h
    return last, h if layer.return_sequences else last[:, None], states


def _apart(names, x, kernel):
    """The columns of x @ kernel, each a tensor of its own and not cut from a wide one."""
    return {name: ops.matmul(x, part) for name, part in split(names, kernel).items()}


# The weights that `Formula.input_terms` takes, and no step.
OF_INPUT = ("kernel", "kernel_gain", "diagonal_kernel", "projection_kernel", "projection_bias")


def _turned(layer, x):
    """(B, T, ...) as (T, B, ...), in running direction."""
    x = ops.transpose(x, (1, 0, 2))
    return ops.flip(x, axis=0) if layer.go_backwards else x
