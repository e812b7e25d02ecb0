"""The input window: the last k inputs side by side, made before the loop over time."""

from keras import ops


def stack_window(x, before, mask, size: int, go_backwards: bool = False):
    """Puts the last `size` inputs of each time step side by side.

    Only valid steps count, in running direction: x_t first, then the valid input before it, and so
    on, reaching back into `before`. Nothing reads the window of a masked step.

    Args:
        x: (B, T, F).
        before: (B, (size - 1) F), the inputs before the first one, the latest first.
        mask: bool (B, T), or None.
        size: int > 1. The number k of time steps.
        go_backwards: bool. Whether the sequence runs from the last step to the first.

    Returns:
        The windows (B, T, size F), and `before` for the next call, (B, (size - 1) F).
    """
    if go_backwards:
        mask = None if mask is None else ops.flip(mask, 1)
        windows, before = stack_window(ops.flip(x, 1), before, mask, size)
        return ops.flip(windows, 1), before
    features, past = x.shape[-1], size - 1
    earlier = ops.flip(ops.reshape(before, (-1, past, features)), axis=1)  # the earliest first
    valid = x if mask is None else _compact(x, mask)
    line = ops.concatenate([earlier, valid], axis=1)  # (B, size - 1 + T, F)
    time = ops.shape(x)[1]
    if mask is None:
        parts = [line[:, past - lag : past - lag + time] for lag in range(size)]
        last = time + past - 1 - ops.arange(past)
        tail = ops.take(line, last, axis=1)
    else:
        count = ops.cumsum(ops.cast(mask, "int32"), axis=1)  # valid steps up to here
        place = ops.maximum(count, 1) + past - 1  # (B, T) of x_t in the line
        parts = [_gather(line, place - lag) for lag in range(size)]
        tail = _gather(line, count[:, -1:] + past - 1 - ops.arange(past)[None])
    return ops.concatenate(parts, axis=-1), ops.reshape(tail, (-1, past * features))


def _compact(x, mask):
    """x with the valid steps of each row moved to the front, in order."""
    time = ops.arange(ops.shape(x)[1])[None]
    order = ops.argsort(ops.where(mask, time, time + ops.shape(x)[1]), axis=1)  # no two equal
    return _gather(x, order)


def _gather(x, index):
    """x (B, T, F) at the time steps `index` (B, S)."""
    return ops.take_along_axis(x, index[..., None], axis=1)
