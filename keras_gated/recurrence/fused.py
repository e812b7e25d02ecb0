"""When the engine takes a layer, and how its tensors go in and out."""

from keras import ops

from keras_gated.formula import split
from keras_gated.recurrence.sequence import Sequence


def takes(layer) -> bool:
    """Whether the engine can run the layer; if not, Keras's own loop does."""
    form = layer.cell.form
    sees_input = any(block.kernel for block in form.blocks.values())
    plain = layer.cell.formula.elementwise and not form.gate_recurrence
    return plain and sees_input and not layer.unroll


def run_fused(layer, sequences, states, mask, h_mask):
    """Runs a layer's cell over time; arguments and result as `recurrence.run`."""
    cell = layer.cell
    x = _turned(layer, sequences)
    valid = None if mask is None else _turned(layer, ops.cast(mask, x.dtype)[..., None])
    weights = cell.tensors
    terms = cell.formula.input_terms(weights, x, _apart)
    used = {k: w for k, w in weights.items() if k in RECURRENT}
    h, last = Sequence(cell.formula, used, terms, states, valid, h_mask).run()
    if valid is not None:
        h = _shown(layer, h, valid)
    outputs = ops.transpose(h, (1, 0, 2)) if layer.return_sequences else h[-1][:, None]
    return h[-1], outputs, last


def _apart(names, x, kernel):
    """The columns of x @ kernel, each a tensor of its own and not cut from a wide one."""
    return {name: ops.matmul(x, part) for name, part in split(names, kernel).items()}


RECURRENT = ("recurrent_kernel", "bias", "recurrent_diagonal_kernel", "peephole")


def _turned(layer, x):
    """(B, T, ...) as (T, B, ...), in running direction."""
    x = ops.transpose(x, (1, 0, 2))
    return ops.flip(x, axis=0) if layer.go_backwards else x


def _shown(layer, h, valid):
    """The outputs: zero before the first valid time step, and where the layer wants it."""
    seen = valid if layer.zero_output_for_mask else ops.cumsum(valid, axis=0)
    return ops.where(seen > 0, h, ops.zeros_like(h))
