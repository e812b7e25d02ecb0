"""RecurrentCall: all that one run of a cell over time is.

A layer makes one and `engine.run` runs it; traces of gates and exports read it. So nothing about a
run is stored in a cell or a layer.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from keras import ops

from keras_gated.engine.formula import DropoutMasks, Tensors, cast_like


class RandomMasks(NamedTuple):
    """What training draws for a batch, and the numbers that stand for it at inference.

    Attributes:
        dropout: masks of h where it is read, and of the candidate.
        zoneout: for each state, the share of the old value that stays: None, a number (the rate, at
            inference), or (B, T, U) of zeros and ones, drawn with that rate. Empty if there is
            no zoneout.
        training: bool, whether something was drawn for a training step.
    """

    dropout: DropoutMasks = DropoutMasks()
    zoneout: tuple = ()
    training: bool = False

    @property
    def series(self) -> list:
        """Those of `zoneout` that are tensors."""
        return [rate for rate in self.zoneout if is_series(rate)]


def is_series(rate: Any) -> bool:
    """Returns whether the zoneout of a state is a mask for each time step, not one number."""
    return rate is not None and not isinstance(rate, float)


def apply_zoneout(zoneout, new: list, old: list) -> list:
    """Returns `rate ⊙ old + (1 - rate) ⊙ new` of each state.

    Args:
        zoneout: for each state None, a number or (B, U); may be empty.
        new, old: the states after a step, and before.
    """
    pairs = zip(zoneout or [None] * len(new), new, old, strict=False)
    mixed = [n if rate is None else _mixed(rate, n, o) for rate, n, o in pairs]
    return mixed + new[len(mixed) :]


def _mixed(rate, new, old):
    rate = cast_like(rate, old) if is_series(rate) else rate
    return rate * old + (1.0 - rate) * new


@dataclass(frozen=True)
class TimeSteps:
    """What the caller says about each time step. A layer passes it on in place of a mask alone.

    Attributes:
        mask: bool (B, T), False at time steps to skip, or None.
        starts: bool (B, T), True at time steps that begin with zero states, in the direction in
            which the layer runs; `starts_of_call` makes it of `resets`.
        at_end: bool, whether masked time steps are known to be at the end of the sequences.
    """

    mask: Any
    starts: Any = None
    at_end: bool = False


@dataclass(frozen=True)
class RecurrentCall:
    """One run of a cell over time.

    Attributes:
        layer: the layer that is called, of this package or Keras's.
        cell: the `GatedCell` that is run.
        weights: its weights by name, as tensors; in training with their noise.
        sequences: (B, T, k F), windows of k inputs, in the order of the layer's input.
        states: the first ones, a list of (B, U).
        mask: bool (B, T), or None.
        starts: bool (B, T), True at time steps that begin with zero states, masked ones too; or
            None.
        drawn: the `RandomMasks` of the batch.
        go_backwards, return_sequences, zero_output_for_mask, unroll, time_parallel: as in a
            `GatedRNN`.
        use_cudnn: bool, whether cuDNN must run it where it is run.
        masked_at_end: bool, whether the mask says no more than lengths do.
        zero_masked: bool, whether masked inputs count as 0. No step reads them, but the gradient of
            a kernel multiplies them by 0, and 0 times NaN is NaN. A file has no gradient.
        open_time: bool, whether the model was declared for sequences of any length.
    """

    layer: Any
    cell: Any
    weights: Tensors
    sequences: Any
    states: list
    mask: Any = None
    starts: Any = None
    drawn: RandomMasks = RandomMasks()
    go_backwards: bool = False
    return_sequences: bool = True
    zero_output_for_mask: bool = False
    unroll: bool = False
    time_parallel: bool | str = False
    use_cudnn: bool = False
    masked_at_end: bool = False
    zero_masked: bool = False
    open_time: bool = False

    def readable(self, x, mask):
        """Returns x with 0 at masked time steps if `zero_masked`; mask is 0 or 1, (..., 1)."""
        if mask is None or not self.zero_masked:
            return x
        return ops.where(mask > 0, x, ops.zeros_like(x))

    def in_running_order(self, x):
        """Returns x (B, T, ...) from the time step that runs first to the last one."""
        return ops.flip(x, axis=1) if self.go_backwards else x

    def time_major(self, x):
        """Returns x (B, T, F) as (T, B, F), in running order."""
        x = ops.transpose(x, (1, 0, 2))
        return ops.flip(x, axis=0) if self.go_backwards else x

    def goes_on(self, dtype):
        """Returns (B, T, 1) in running order, 0 at time steps that begin with zero states, else 1.

        None if there are none.
        """
        if self.starts is None:
            return None
        goes_on = ops.logical_not(self.in_running_order(self.starts))
        return ops.cast(goes_on, dtype)[..., None]

    def result(self, h, states: list) -> tuple:
        """Returns the last output, the outputs and the states, as Keras's loop returns them.

        Args:
            h: of all time steps (B, T, U), in running order; None without return_sequences.
            states: the last ones.
        """
        last = states[0]
        if self.mask is not None:
            valid = ops.cast(self.in_running_order(self.mask), "int32")
            valid = valid if self.zero_output_for_mask else ops.cumsum(valid, axis=1)
            shows = valid[..., None] > 0  # before the first valid step the output is 0
            last = ops.where(shows[:, -1], last, ops.zeros_like(last))
            h = ops.where(shows, h, ops.zeros_like(h)) if self.return_sequences else h
        return last, h if self.return_sequences else last[:, None], states
