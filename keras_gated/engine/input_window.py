"""The input window: the last k inputs side by side, laid before the loop over time."""

from keras import ops


def stack_window(x, before, mask, size: int, go_backwards: bool = False):
    """Returns each time step's last `size` inputs, and those that the next call needs.

    Only valid steps count, in running direction: x_t first, then the valid input before it, and so
    on, reaching back into `before`. What a masked step gets is not used.

    Args:
        x: (B, T, F).
        before: (B, (size - 1) F), the inputs before the first, the latest first.
        mask: bool (B, T), or None.
        size: int > 1. The number k of time steps.
        go_backwards: bool. Whether the sequence runs from the last step to the first.

    Returns:
        (B, T, size F) and (B, (size - 1) F).
    """
    if go_backwards:
        windowed, before = stack_window(
            ops.flip(x, 1), before, None if mask is None else ops.flip(mask, 1), size
        )
        return ops.flip(windowed, 1), before
    features, behind = x.shape[-1], size - 1
    past = ops.flip(ops.reshape(before, (-1, behind, features)), axis=1)  # the earliest first
    valid = x if mask is None else _compact(x, mask)
    line = ops.concatenate([past, valid], axis=1)  # (B, size - 1 + T, F)
    time = ops.shape(x)[1]
    if mask is None:
        parts = [line[:, behind - lag : behind - lag + time] for lag in range(size)]
        last = time + behind - 1 - ops.arange(behind)
        tail = ops.take(line, last, axis=1)
    else:
        count = ops.cumsum(ops.cast(mask, "int32"), axis=1)  # valid steps up to here
        at = ops.maximum(count, 1) + behind - 1  # (B, T) place of x_t in the line
        parts = [_gather(line, at - lag) for lag in range(size)]
        tail = _gather(line, count[:, -1:] + behind - 1 - ops.arange(behind)[None])
    return ops.concatenate(parts, axis=-1), ops.reshape(tail, (-1, behind * features))


def _compact(x, mask):
    """x with the valid steps of each row moved to the front, in order."""
    time = ops.arange(ops.shape(x)[1])[None]
    order = ops.argsort(ops.where(mask, time, time + ops.shape(x)[1]), axis=1)  # no two equal
    return _gather(x, order)


def _gather(x, index):
    """x (B, T, F) at the time steps `index` (B, S)."""
    return ops.take_along_axis(x, index[..., None], axis=1)
