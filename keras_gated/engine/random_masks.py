"""Draws the random masks of training, once for a batch of sequences."""

from typing import Any

import keras
from keras import ops, random

from keras_gated.engine.call import RandomMasks
from keras_gated.engine.formula import DropoutMasks, cast_like


def draw_masks(cell, sequences, states: list) -> tuple[Any, RandomMasks]:
    """Draws the masks of a batch in training.

    Args:
        cell: a `GatedCell`.
        sequences: (B, T, F).
        states: the first ones, tensors (B, U).

    Returns:
        The sequences after dropout of the input, and the `RandomMasks`.
    """
    seed, memory = cell.seed_generator, states[cell.form.memory_index]
    mask = _dropout_mask(ops.ones_like(sequences[:, :1]), cell.dropout, seed)
    sequences = sequences if mask is None else sequences * mask
    dropout = DropoutMasks(
        _dropout_mask(ops.ones_like(states[0]), cell.recurrent_dropout, seed),
        _dropout_mask(ops.ones_like(memory), cell.candidate_dropout, seed),
    )
    pairs = zip(cell.zoneout_rates, states, strict=False)
    zoneout = tuple(
        rate and _bernoulli_like(_over_time(sequences, s), rate, seed) for rate, s in pairs
    )
    return sequences, RandomMasks(dropout, zoneout, training=True)


def _dropout_mask(ones, rate: float, seed):
    """0 or 1 / (1 - rate) in the shape of `ones`; None for a rate of 0 or, as in Keras, 1."""
    if not 0.0 < rate < 1.0:
        return None
    return ones * bernoulli(ops.shape(ones), seed, 1.0 - rate, ones.dtype) / (1.0 - rate)


def _over_time(sequences, state):
    """Zeros (B, T, U) in the type of a state (B, U)."""
    return cast_like(ops.zeros_like(sequences[..., :1]), state) + ops.zeros_like(state)[:, None]


def _bernoulli_like(x, probability: float, seed):
    return bernoulli(ops.shape(x), seed, probability, x.dtype)


# On TensorFlow XLA's own generator needs some 2 µs a number on a CPU, forty times as long as Philox
# (18,492 normal numbers on one thread: 44.6 ms and 1.2 ms, TensorFlow 2.21). So Philox is named.


def normal(shape, seed: random.SeedGenerator, stddev: float, dtype: str) -> Any:
    """Returns normal numbers with mean 0."""
    if keras.backend.backend() != "tensorflow":
        return random.normal(shape, stddev=stddev, dtype=dtype, seed=seed)
    import tensorflow as tf

    state = tf.cast(seed.next(), "int32")
    return tf.random.stateless_normal(shape, state, stddev=stddev, dtype=dtype, alg="philox")


def bernoulli(shape, seed: random.SeedGenerator, probability: float, dtype: str) -> Any:
    """Returns numbers that are 1 with a probability, else 0."""
    return ops.cast(_uniform(shape, seed) < probability, dtype)


def _uniform(shape, seed: random.SeedGenerator) -> Any:
    """float32 numbers from 0 to 1."""
    if keras.backend.backend() != "tensorflow":
        return random.uniform(shape, dtype="float32", seed=seed)
    import tensorflow as tf

    return tf.random.stateless_uniform(shape, tf.cast(seed.next(), "int32"), alg="philox")
