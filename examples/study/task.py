"""Tasks: sequences, targets and a score."""

import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np

import keras_gated as kg


@dataclasses.dataclass(frozen=True)
class Part:
    """Sequences (T_i, F) and their targets.

    `targets` is a list of arrays (T_i, ...) if every time step has a target, or an array (N, ...)
    with one target for each sequence.
    """

    sequences: Sequence[np.ndarray]
    targets: Sequence[np.ndarray] | np.ndarray

    def batches(self, batch_size: int, buckets: list[int], shuffle: bool = False, seed: int = 0):
        """Returns batches, padded to the lengths of `buckets`; padding has weight 0."""
        options = {"batch_size": batch_size, "buckets": buckets, "shuffle": shuffle, "seed": seed}
        return kg.PaddedBatches(self.sequences, self.targets, **options)

    def excerpts(self, length: int) -> "Part":
        """Returns the sequences cut into pieces of at most `length` steps, about equally long."""
        cut = [
            list(zip(*(np.array_split(a, -(-len(x) // length)) for a in (x, y)), strict=True))
            for x, y in zip(self.sequences, self.targets, strict=True)
        ]
        sequences, targets = zip(*(piece for pieces in cut for piece in pieces), strict=True)
        return Part(sequences, targets)

    def first(self, count: int) -> "Part":
        return Part(self.sequences[:count], self.targets[:count])


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A set in three parts and the score of a prediction, less is better.

    Args:
        name: as in the registry.
        train, valid, test: Part. `valid` decides only when to stop, `test` decides nothing.
        outputs: width of the layer that reads the cell's output.
        score: of targets (..., K) or class numbers (...), and predictions (..., outputs): (...),
            in `unit`.
        unit: such as "nats per time step".
        floors: returns name -> score on `test` of models without a cell; may take seconds.
        accuracy: whether the share of right answers is reported, too.
        right: returns that share for the floors.
        shares: the initial output bias: the log odds with which each output is 1, or 0.
    """

    name: str
    train: Part
    valid: Part
    test: Part
    outputs: int
    score: Callable
    unit: str
    floors: Callable[[], dict[str, float]]
    accuracy: bool = False
    right: Callable[[], dict[str, float]] = dict
    shares: Sequence[float] | float = 0.0

    @property
    def input_dim(self) -> int:
        return self.train.sequences[0].shape[-1]

    @property
    def each_step(self) -> bool:
        """Whether every time step has a target (else each sequence has one)."""
        return isinstance(self.train.targets, list | tuple)

    def buckets(self, count: int) -> list[int]:
        """Returns lengths for all three parts, so that they share compiled functions."""
        parts = self.train, self.valid, self.test
        return kg.bucket_lengths([len(x) for part in parts for x in part.sequences], count)

    def smaller(self, count: int) -> "Task":
        """Returns the same task with few sequences, for a short run."""
        parts = {name: getattr(self, name).first(count) for name in ("train", "valid", "test")}
        return dataclasses.replace(self, **parts)


class Score(keras.losses.Loss):
    """A task's score as a loss: the mean over all that is not padding."""

    def __init__(self, score):
        super().__init__(name="score", reduction="mean_with_sample_weight")
        self.call = score


class PooledScore(keras.metrics.Metric):
    """A task's score: the mean over all time steps of all batches that are not padding.

    Keras's own metrics first take the mean over the time steps of a row, with padding, so that a
    step of a longer batch would count less.
    """

    def __init__(self, score):
        super().__init__(name="score")
        self.score = score
        self.total = self.add_variable((), "zeros", dtype="float32", name="total")
        self.count = self.add_variable((), "zeros", dtype="float32", name="count")

    def update_state(self, y_true, y_pred, sample_weight):
        # Weights may be NumPy arrays (test_on_batch), which cannot multiply a tensor of torch.
        weighted = keras.ops.multiply(self.score(y_true, y_pred), sample_weight)
        self.total.assign_add(keras.ops.sum(weighted))
        self.count.assign_add(keras.ops.sum(sample_weight))

    def result(self):
        return self.total / self.count

    # A copy of a compiled model makes its metrics anew.

    def get_config(self):
        return {"score": keras.saving.serialize_keras_object(self.score)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["score"]))
