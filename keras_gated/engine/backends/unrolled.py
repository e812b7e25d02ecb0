"""A loop over time as one copy of the step for each time step, on every backend."""

from keras import ops


def unrolled_loop(step, carry, xs, reverse: bool = False):
    """Returns the last carry and the stacked ys of `step(carry, x) -> carry, ys` over axis 0.

    Raises:
        ValueError: if the number of time steps is not known when the graph is built.
    """
    if xs[0].shape[0] is None:
        raise ValueError(
            "Argument `unroll=True` needs a known number of time steps. Received: sequences with "
            "an open time axis. Give it a size, e.g. keras.Input((10, features)), or leave out "
            "unroll."
        )
    # Unstacked at once: the gradient of a cut per step would be a whole series of zeros each.
    steps = list(zip(*(ops.unstack(x, axis=0) for x in xs), strict=True))
    rows = []
    for x in reversed(steps) if reverse else steps:
        carry, ys = step(carry, list(x))
        rows.append(ys)
    rows = rows[::-1] if reverse else rows
    return carry, [ops.stack(column) for column in zip(*rows, strict=True)]
