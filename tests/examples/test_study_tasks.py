"""Every task as it is trained on."""

import importlib.util

import keras
import numpy as np
import pytest
from study import memory
from study.task import Score


def tasks_as_trained(voices):
    yield voices
    yield memory.adding(length=12, sizes=(10, 1, 1))
    yield memory.copying(length=12, sizes=(10, 1, 1))
    if importlib.util.find_spec("sklearn"):
        yield memory.digits()


def test_the_loss_of_a_batch_is_the_mean_score(voices):
    """What fills up a batch, here all but 3 sequences, weighs nothing."""
    for task in tasks_as_trained(voices):
        part = task.train.first(3)
        ((x, lengths), y, weights) = part.batches(8, [len(part.sequences[0])])[0]
        guess = np.random.default_rng(0).normal(size=(*weights.shape, task.outputs))
        guess = guess.astype(np.float32)
        each = keras.ops.convert_to_numpy(task.score(y, guess))
        assert each.shape == weights.shape and x.shape[:2] == (8, len(part.sequences[0]))
        loss = Score(task.score)(y, guess, weights)
        assert float(loss) == pytest.approx(each[:3].mean(), rel=1e-5)
        assert lengths.tolist()[3:] == [0] * 5
