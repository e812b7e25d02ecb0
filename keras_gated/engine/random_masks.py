"""What a layer draws for a batch of sequences in training, and what stands for it at inference."""

from typing import Any, NamedTuple

import keras
from keras import ops, random

from keras_gated.engine.formula import DropoutMasks, cast_like


class RandomMasks(NamedTuple):
    """What acts on the states beside the formula.

    Attributes:
        masks: what multiplies h where it is read, and the candidate.
        kept: for each state the share that it keeps of itself: None, a number, or (B, T, U) of
            zeros and ones; empty where no state keeps any.
        training: bool, whether the sequences are those of a training step.
    """

    dropout: DropoutMasks = DropoutMasks()
    zoneout: tuple = ()
    training: bool = False

    @property
    def series(self) -> list:
        """Those of `zoneout` that are tensors."""
        return [share for share in self.zoneout if is_series(share)]


def is_series(share: Any) -> bool:
    """Whether a share is one of each time step."""
    return share is not None and not isinstance(share, float)


def apply_zoneout(zoneout, new: list, old: list) -> list:
    """Returns states of which the share `zoneout` stays as it was.

    Args:
        kept: for each state None, a number or (B, U); may be empty.
        new, old: the states after a step, and before.
    """
    pairs = zip(zoneout or [None] * len(new), new, old, strict=False)
    mixed = [n if d is None else _mixed(d, n, o) for d, n, o in pairs]
    return mixed + new[len(mixed) :]


def _mixed(share, new, old):
    share = cast_like(share, old) if is_series(share) else share
    return share * old + (1.0 - share) * new


def draw_masks(cell, sequences, states: list, training) -> tuple[Any, RandomMasks]:
    """Returns the inputs as training drops them, and what acts on the states.

    Args:
        cell: a `GatedCell`.
        sequences: (B, T, F).
        states: the first ones, tensors (B, U).
        training: bool.
    """
    if not training:
        return sequences, RandomMasks(zoneout=cell.zoneout_rates)
    seed, memory = cell.seed_generator, states[cell.form.memory_at]
    drop = _dropped(ops.ones_like(sequences[:, :1]), cell.dropout, seed)
    sequences = sequences if drop is None else sequences * drop
    dropout = DropoutMasks(
        _dropped(ops.ones_like(states[0]), cell.recurrent_dropout, seed),
        _dropped(ops.ones_like(memory), cell.candidate_dropout, seed),
    )
    pairs = zip(cell.zoneout_rates, states, strict=False)
    zoneout = tuple(rate and _stays(_over_time(sequences, s), rate, seed) for rate, s in pairs)
    return sequences, RandomMasks(dropout, zoneout, training=True)


def _dropped(ones, rate: float, seed):
    """A mask in the form of `ones`; None where nothing is dropped, as with 1.0 in Keras."""
    if not 0.0 < rate < 1.0:
        return None
    return ones * happens(ops.shape(ones), seed, 1.0 - rate, ones.dtype) / (1.0 - rate)


def _over_time(sequences, state):
    """Zeros (B, T, U) in the type of a state (B, U)."""
    return cast_like(ops.zeros_like(sequences[..., :1]), state) + ops.zeros_like(state)[:, None]


def _stays(like, rate: float, seed):
    """1 with the probability `rate`, else 0."""
    return happens(ops.shape(like), seed, rate, like.dtype)


# XLA's own generator needs some 2 µs a number on a CPU on TensorFlow, forty times as long as Philox
# (18,492 normal numbers on one thread: 44.6 ms and 1.2 ms, TensorFlow 2.21). Hence Philox.


def normal(shape, seed: random.SeedGenerator, stddev: float, dtype: str) -> Any:
    """Normal numbers around 0."""
    if keras.backend.backend() != "tensorflow":
        return random.normal(shape, stddev=stddev, dtype=dtype, seed=seed)
    import tensorflow as tf

    state = tf.cast(seed.next(), "int32")
    return tf.random.stateless_normal(shape, state, stddev=stddev, dtype=dtype, alg="philox")


def happens(shape, seed: random.SeedGenerator, probability: float, dtype: str) -> Any:
    """1 with the probability, else 0."""
    return ops.cast(_uniform(shape, seed) < probability, dtype)


def _uniform(shape, seed: random.SeedGenerator) -> Any:
    """float32 numbers from 0 to 1."""
    if keras.backend.backend() != "tensorflow":
        return random.uniform(shape, dtype="float32", seed=seed)
    import tensorflow as tf

    return tf.random.stateless_uniform(shape, tf.cast(seed.next(), "int32"), alg="philox")
