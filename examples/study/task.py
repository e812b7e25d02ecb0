"""What is learned: sequences, what is told of them, and how that is scored."""

import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np

import keras_gated as kg


@dataclasses.dataclass(frozen=True)
class Part:
    """Sequences (T_i, F), and a target for each: (T_i, ...) for every step, or one in all.

    `targets` is a list of arrays where every step has one, else an array (N, ...).
    """

    sequences: Sequence[np.ndarray]
    targets: Sequence[np.ndarray] | np.ndarray

    def batches(self, batch_size: int, buckets: list[int], shuffle: bool = False, seed: int = 0):
        """Padded to the lengths of `buckets`; what was added weighs nothing."""
        options = {"batch_size": batch_size, "buckets": buckets, "shuffle": shuffle, "seed": seed}
        return kg.PaddedBatches(self.sequences, self.targets, **options)

    def excerpts(self, length: int) -> "Part":
        """The sequences cut into pieces of `length` steps at most, as even as can be."""
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
        train, valid, test: Part. Nothing is fitted to `valid` but when to stop, to `test` nothing.
        outputs: width of the layer that reads the cell's output.
        score: of targets (..., K) or class numbers (...), and predictions (..., outputs): (...),
            in `unit`.
        unit: such as "nats per time step".
        floors: returns name -> score on `test` of what needs no cell; may take seconds.
        accuracy: whether the share of right answers is told, too.
        right: returns that share for the floors.
        shares: the output bias that alone says how often each output is 1, or 0.
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
        """Whether every time step has a target, or each sequence one."""
        return isinstance(self.train.targets, list | tuple)

    def buckets(self, count: int) -> list[int]:
        """Lengths for all three parts, so that what is compiled for one serves the others."""
        parts = self.train, self.valid, self.test
        return kg.bucket_lengths([len(x) for part in parts for x in part.sequences], count)

    def smaller(self, count: int) -> "Task":
        """The same with few sequences, to see that a script runs."""
        parts = {name: getattr(self, name).first(count) for name in ("train", "valid", "test")}
        return dataclasses.replace(self, **parts)


class Score(keras.losses.Loss):
    """A task's score as a loss: the mean over what was not added for padding."""

    def __init__(self, score):
        super().__init__(name="score", reduction="mean_with_sample_weight")
        self.call = score


class PooledScore(keras.metrics.Metric):
    """A task's score over all that is scored, of all batches.

    Keras's own metrics take the mean over the time steps of a row first, padding included, so that
    a step of a longer batch would count less.
    """

    def __init__(self, score):
        super().__init__(name="score")
        self.score = score
        self.total = self.add_variable((), "zeros", dtype="float32", name="total")
        self.count = self.add_variable((), "zeros", dtype="float32", name="count")

    def update_state(self, y_true, y_pred, sample_weight):
        # NumPy's weights, which test_on_batch hands on, do not multiply a tensor of torch.
        weighted = keras.ops.multiply(self.score(y_true, y_pred), sample_weight)
        self.total.assign_add(keras.ops.sum(weighted))
        self.count.assign_add(keras.ops.sum(sample_weight))

    def result(self):
        return self.total / self.count
