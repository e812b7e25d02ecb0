"""Checks of what a layer is called with: a mask, lengths, resets and initial states."""

import warnings
from typing import Any

import keras
from keras import ops

from keras_gated.engine.backends.selected import backend


def mask_of_call(layer: Any, sequences, mask, lengths=None):
    """Returns the mask (B, T) of a call, bool, or None.

    Args:
        layer: the layer that is called.
        sequences: (B, T, F).
        mask: (B, T) or (B, T, 1), or a list of which the first is taken, as in Keras; or None.
        lengths: integers (B,), or None. With a mask too, a time step counts if both say so.

    Raises:
        ValueError: if a shape or type does not fit.
    """
    mask = mask[0] if isinstance(mask, list | tuple) else mask
    mask = None if mask is None else _checked_mask(layer, sequences, mask)
    if lengths is None:
        return mask
    within = _within(layer, sequences, lengths)
    return within if mask is None else ops.logical_and(within, mask)


def _checked_mask(layer, sequences, mask):
    mask = ops.cast(ops.convert_to_tensor(mask), "bool")
    shape = tuple(mask.shape)
    flat = shape[:2] if shape[2:] in ((), (1,)) else ()
    batch, time = sequences.shape[:2]
    # One row for all sequences broadcasts.
    fits = len(flat) == 2 and (flat[0] == 1 or _same(flat[0], batch)) and _same(flat[1], time)
    if not fits:
        raise ValueError(
            f"Argument `mask` of {layer.name} must be bool (batch, time): one value for each time "
            f"step of the sequences {tuple(sequences.shape)}. Received: shape={shape}. If the "
            "features have masks of their own, combine them first: keras.ops.any(mask, axis=-1)."
        )
    return mask[..., 0] if len(shape) == 3 else mask


def _within(layer, sequences, lengths):
    """The mask (B, T) that `lengths` mean."""
    lengths = ops.convert_to_tensor(lengths)
    dtype = keras.backend.standardize_dtype(lengths.dtype)
    shape = tuple(lengths.shape)
    if len(shape) != 1 or "int" not in dtype or not _same(shape[0], sequences.shape[0]):
        raise ValueError(
            f"Argument `lengths` of {layer.name} must be integers (B,): one for each of the "
            f"sequences {tuple(sequences.shape)}. Received: shape={shape}, dtype={dtype}."
        )
    known, time = backend.values_on_host(lengths), sequences.shape[1]
    if known is not None and time is not None and ((known < 0) | (known > time)).any():
        warnings.warn(
            f"Argument `lengths` of {layer.name} should be from 0 to {time}, the number of time "
            f"steps. Received: lengths from {known.min()} to {known.max()}. If a layer before it "
            "shortened the sequences, shorten the lengths too.",
            stacklevel=2,
        )
    return ops.arange(ops.shape(sequences)[1], dtype=dtype)[None] < lengths[:, None]


def starts_of_call(layer: Any, sequences, resets):
    """Returns where a layer begins with zero states, bool (B, T), in the order of the sequences.

    Forwards these are the marks. Backwards the last step of a sequence runs first: that is the one
    before the mark of the next sequence.

    Args:
        layer: the layer that is called.
        sequences: (B, T, F).
        resets: (B, T), True where a sequence begins. One row stands for all sequences.

    Raises:
        ValueError: if the shape does not fit.
    """
    resets = ops.cast(ops.convert_to_tensor(resets), "bool")
    shape, (batch, time) = tuple(resets.shape), sequences.shape[:2]
    one_row = shape[:1] == (1,) and batch != 1
    if len(shape) != 2 or not (one_row or _same(shape[0], batch)) or not _same(shape[1], time):
        raise ValueError(
            f"Argument `resets` of {layer.name} must be bool (batch, time): for each time step of "
            f"the sequences {tuple(sequences.shape)}, whether a sequence begins there. Received: "
            f"shape={shape}. Make it from the time steps at which sequences begin: "
            "np.isin(np.arange(time), begins)[None], one row for each row of the batch."
        )
    if one_row:
        resets = ops.broadcast_to(resets, ops.shape(sequences)[:2])
    if not layer.go_backwards:
        return resets
    return ops.concatenate([resets[:, 1:], ops.zeros_like(resets[:, :1])], axis=1)


def _same(size: int | None, other: int | None) -> bool:
    """Whether two sizes are the same, or one is not known yet."""
    return size is None or other is None or size == other


def states_of_call(layer: Any, sequences, states) -> list | None:
    """Returns initial states as a list, one row of a state broadcast to the batch; None for None.

    Args:
        layer: the layer that is called; `state_size` has the size of each state.
        sequences: (B, T, F).
        states: a tensor, or a list of tensors (B, U), (1, U) or (U,).

    Raises:
        ValueError: if their number or a shape does not fit.
    """
    if states is None:
        return None
    states = states if isinstance(states, list | tuple) else [states]
    states = [ops.convert_to_tensor(state) for state in states]
    sizes, batch = layer.state_size, sequences.shape[0]
    names = [*layer.cell.form.states, "the window's inputs"][: len(sizes)]
    shapes = [tuple(state.shape) for state in states]
    fits = len(states) == len(sizes) and all(
        len(shape) in (1, 2)
        and shape[-1] == size
        and (len(shape) == 1 or shape[0] == 1 or _same(shape[0], batch))
        for shape, size in zip(shapes, sizes, strict=True)
    )
    if not fits:
        expected = ", ".join(str((batch or "B", size)) for size in sizes).replace("'", "")
        raise ValueError(
            f"Argument `initial_state` of {layer.name} must have {len(sizes)} tensors: "
            f"{', '.join(names)}, of shapes {expected}. Received: {len(states)} of shapes "
            f"{', '.join(map(str, shapes))}. One row (1, units) or (units,) stands for all "
            "sequences."
        )
    return [_in_batch(state, shape, sequences) for state, shape in zip(states, shapes, strict=True)]


def _in_batch(state, shape: tuple, sequences):
    if len(shape) == 2 and (shape[0] != 1 or sequences.shape[0] == 1):
        return state
    return ops.broadcast_to(state, (ops.shape(sequences)[0], shape[-1]))
