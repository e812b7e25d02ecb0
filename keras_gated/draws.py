"""What a layer draws for a batch of sequences in training, and what stands for it at inference."""

from typing import Any, NamedTuple

from keras import ops, random

from keras_gated.formula import cast_like


class Draws(NamedTuple):
    """What acts on the states beside the formula.

    Attributes:
        h_mask: (B, U) that multiplies h where it is read, or None.
        kept: for each state the share that it keeps of itself: None, a number, or (B, T, U) of
            zeros and ones; empty where no state keeps any.
    """

    h_mask: Any = None
    kept: tuple = ()

    @property
    def series(self) -> list:
        """Those of `kept` that are tensors."""
        return [share for share in self.kept if is_series(share)]


def is_series(share: Any) -> bool:
    """Whether a share is one of each time step."""
    return share is not None and not isinstance(share, float)


def zoned(kept, new: list, old: list) -> list:
    """Returns states of which the share `kept` stays as it was.

    Args:
        kept: for each state None, a number or (B, U); may be empty.
        new, old: the states after a step, and before.
    """
    pairs = zip(kept or [None] * len(new), new, old, strict=False)
    mixed = [n if d is None else _mixed(d, n, o) for d, n, o in pairs]
    return mixed + new[len(mixed) :]


def _mixed(share, new, old):
    share = cast_like(share, old) if is_series(share) else share
    return share * old + (1.0 - share) * new


def draws(cell, sequences, h, training) -> tuple[Any, Draws]:
    """Returns the inputs as training drops them, and what acts on the states.

    Args:
        cell: a `GatedCell`.
        sequences: (B, T, F).
        h: (B, U), the first state.
        training: bool.
    """
    drop, seed = random.dropout, cell.seed_generator
    h_mask, kept = None, cell.kept
    if training and 0.0 < cell.dropout < 1.0:
        sequences = sequences * drop(ops.ones_like(sequences[:, :1]), cell.dropout, seed=seed)
    if training and 0.0 < cell.recurrent_dropout < 1.0:
        h_mask = drop(ops.ones_like(h), cell.recurrent_dropout, seed=seed)
    if training:
        like = ops.zeros_like(sequences[..., :1]) + ops.zeros_like(h)[:, None]  # (B, T, U)
        kept = tuple(rate and _stays(like, rate, seed) for rate in kept)
    return sequences, Draws(h_mask, kept)


def _stays(like, rate: float, seed):
    """1 with the probability `rate`, else 0."""
    drawn = random.uniform(ops.shape(like), dtype=like.dtype, seed=seed)
    return ops.cast(drawn < rate, like.dtype)
