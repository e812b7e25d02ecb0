"""The input window: the last k inputs side by side, made before the loop over time."""

from keras import ops


def stack_window(x, before, mask, size: int, go_backwards: bool = False, starts=None):
    """Puts the last `size` inputs of each time step side by side.

    Only valid steps count, in running direction: x_t first, then the valid input before it, and so
    on, reaching back into `before`. Nothing reads the window of a masked step.

    Args:
        x: (B, T, F).
        before: (B, (size - 1) F), the inputs before the first one, the latest first.
        mask: bool (B, T), or None.
        size: int > 1. The number k of time steps.
        go_backwards: bool. Whether the sequence runs from the last step to the first.
        starts: bool (B, T), or None. True where a sequence begins in running direction: a window
            has zeros for the inputs before.

    Returns:
        The windows (B, T, size F), and `before` for the next call, (B, (size - 1) F).
    """
    if go_backwards:
        mask, starts = (None if m is None else ops.flip(m, 1) for m in (mask, starts))
        windows, before = stack_window(ops.flip(x, 1), before, mask, size, starts=starts)
        return ops.flip(windows, 1), before
    parts, tail = _parts(x, before, mask, size)
    if starts is not None:
        # The number of the sequence that a step is in; 0 goes on from before the first step.
        number = ops.cumsum(ops.cast(starts, "int32"), axis=1)[..., None]
        zeros = ops.zeros_like(before[:, : size - 1], dtype="int32")
        numbers, of_tail = _parts(number, zeros, mask, size)
        parts = [_where_equal(n, number, part) for n, part in zip(numbers, parts, strict=True)]
        tail = _where_equal(of_tail, number[:, -1:], tail)
    tail = ops.reshape(tail, (-1, (size - 1) * x.shape[-1]))
    return ops.concatenate(parts, axis=-1), tail


def _where_equal(number, other, x):
    return ops.where(ops.equal(number, other), x, ops.zeros_like(x))


def _parts(x, before, mask, size: int):
    """The columns of the windows, a list of (B, T, F), and the last inputs (B, size - 1, F)."""
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
    return parts, tail


def _compact(x, mask):
    """x with the valid steps of each row moved to the front, in order."""
    time = ops.arange(ops.shape(x)[1])[None]
    order = ops.argsort(ops.where(mask, time, time + ops.shape(x)[1]), axis=1)  # no two equal
    return _gather(x, order)


def _gather(x, index):
    """x (B, T, F) at the time steps `index` (B, S)."""
    return ops.take_along_axis(x, index[..., None], axis=1)
