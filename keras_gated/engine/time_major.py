"""How a layer's tensors lie in the engine: time first, in running direction, and back."""

from keras import ops

from keras_gated.engine.formula import split

# The weights that `Formula.input_terms` takes, and no step.
OF_INPUT = ("kernel", "kernel_gain", "diagonal_kernel", "projection_kernel", "projection_bias")


def time_major(layer, x):
    """Returns (B, T, ...) as (T, B, ...), in running direction."""
    x = ops.transpose(x, (1, 0, 2))
    return ops.flip(x, axis=0) if layer.go_backwards else x


def separate_columns(names, x, kernel) -> dict:
    """Returns the columns of x @ kernel by name, each a tensor of its own.

    A wide product that is cut later is slower in the loop: XLA reads several blocks from one tensor
    without vector instructions (see `loop`).
    """
    return {name: ops.matmul(x, part) for name, part in split(names, kernel).items()}


def result_of(layer, h, states: list, mask) -> tuple:
    """Returns the last output, the outputs and the states.

    Where only the last output is wanted, h is not touched, so that no loop has to keep it.

    Args:
        layer: a `GatedRNN`.
        h: of all time steps (B, T, U), in running direction.
        states: the last ones.
        mask: bool (B, T), in the order of the inputs, or None.
    """
    last = states[0]
    if mask is not None:
        valid = ops.cast(ops.flip(mask, axis=1) if layer.go_backwards else mask, "int32")
        seen = (valid if layer.zero_output_for_mask else ops.cumsum(valid, axis=1))[..., None] > 0
        last = ops.where(seen[:, -1], last, ops.zeros_like(last))
        h = ops.where(seen, h, ops.zeros_like(h)) if layer.return_sequences else h
    return last, h if layer.return_sequences else last[:, None], states
