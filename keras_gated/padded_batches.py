"""Sequences of different lengths as padded batches of a few shapes.

XLA compiles a training step once for each shape of its inputs, so few shapes mean little compiling.
`bucket_lengths` chooses the lengths to pad to, and `PaddedBatches` pads and shuffles.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_gated.sequence_batches import SequenceBatches


def bucket_lengths(lengths: Sequence[int], count: int = 4) -> list[int]:
    """Returns the lengths to pad sequences to, so that the total padding is smallest.

    Args:
        lengths: lengths of the sequences, in time steps.
        count: int > 0. The largest number of lengths to return.

    Returns:
        Lengths in increasing order. The last is that of the longest sequence.

    Raises:
        ValueError: if `lengths` is empty or `count` is not positive.

    Example:
        >>> kg.bucket_lengths([10, 11, 11, 90, 100], count=2)
        [11, 100]
    """
    if count < 1 or len(lengths) == 0:
        raise ValueError(
            "Argument `lengths` must have at least one length, and `count` must be > 0. "
            f"Received: {len(lengths)} lengths, count={count}."
        )
    values, times = np.unique(np.asarray(lengths, np.int64), return_counts=True)
    number = np.concatenate([[0], np.cumsum(times)])
    total = np.concatenate([[0], np.cumsum(times * values)])

    def padding(j: int):
        """Padding if the values from each i < j up to j are one bucket of length values[j - 1]."""
        return values[j - 1] * (number[j] - number[:j]) - (total[j] - total[:j])

    # Dynamic programming. least[j]: the smallest padding of the first j values with as many buckets
    # as there were rounds; starts[k][j]: where the last of k + 1 buckets then begins.
    ends = range(1, len(values) + 1)
    least = np.array([0.0, *(np.inf for _ in ends)])
    starts: list[list[int]] = []
    for _ in range(min(count, len(values))):
        costs = [least[:j] + padding(j) for j in ends]
        starts.append([0, *(int(np.argmin(cost)) for cost in costs)])
        least = np.array([np.inf, *(cost.min() for cost in costs)])
    buckets, j = [], len(values)
    for start in reversed(starts):
        buckets.append(int(values[j - 1]))
        j = start[j]
    return buckets[::-1]


class PaddedBatches(SequenceBatches):
    """Batches of sequences of different lengths, padded with zeros to a few lengths.

    All batches of one length have the same shape, so that a training step is compiled once for each
    length. A last batch that is not full gets rows of length 0 and weight 0. Padding changes no
    result if the model takes the lengths: a gated layer does not move on after the end of a row.

    Conventions: sequences and batches are shuffled again before each epoch. For `fit` and
    `evaluate`. What `predict` returns is in the order of the batches and has the added rows.
    Differs from `keras.utils.pad_sequences`, which makes one array of the longest length.

    Args:
        sequences: list of arrays (T_i, ...), e.g. (T_i, F), or integers (T_i,). For a model of
            several inputs a dictionary by input: each a list of arrays (T_i, ...) with the same
            T_i, or an array (N, ...) with a value for each sequence.
        targets: None; an array (N, ...) with a target for each sequence; or a list of arrays
            (T_i, ...) with a target for each time step. A dictionary of these for a model of
            several outputs.
        batch_size: int > 0.
        buckets: the lengths to pad to, or an int: how many (`bucket_lengths` chooses them).
        with_lengths: bool. Whether the model takes the lengths as a second input; in a dictionary
            as the input "lengths".
        shuffle: bool. Whether to shuffle. Keras's `fit` also shuffles the batches, with its own
            seed, unless it is called with shuffle=False.
        seed: int. Seed of this shuffling.
        class_weight: {class: weight}, or None. Weights of integer or one-hot targets; give them
            here and not to `fit`, since every batch has weights. With several targets by name.
        sample_weight: like `targets`: an array (N,), a list of arrays (T_i,), or None.
        **kwargs: arguments of `keras.utils.PyDataset`: workers, use_multiprocessing,
            max_queue_size.

    Returns:
        Each item is (inputs, targets, weights), or (inputs,) without targets. The inputs are
        (sequences (B, T, ...), lengths (B,)), or the sequences alone, or a dictionary of them. The
        weights, (B, T) or (B,) like the targets, are 0 for what was added and for the rest 1, or
        the product of `class_weight` and `sample_weight`. Use a loss with
        `reduction="mean_with_sample_weight"`: others also count what was added in their mean.

    Raises:
        ValueError: if sequences, targets and lengths do not fit together.

    Example:
        >>> sequences = [np.ones((n, 8), "float32") for n in (3, 5, 20)]
        >>> batches = kg.PaddedBatches(sequences, np.ones((3, 4)), batch_size=2, buckets=2)
        >>> sorted(inputs[0].shape for inputs, targets, weights in batches)
        [(2, 5, 8), (2, 20, 8)]
        >>> x, n = keras.Input((None, 8)), keras.Input((), dtype="int32")
        >>> model = keras.Model([x, n], kg.GatedGRU(4)(x, lengths=n))
        >>> model.compile("sgd", keras.losses.MeanSquaredError("mean_with_sample_weight"))
        >>> history = model.fit(batches, verbose=0)
    """

    def __init__(
        self,
        sequences: Sequence[Any] | Mapping[str, Any],
        targets: Any = None,
        *,
        batch_size: int = 32,
        buckets: int | Sequence[int] = 4,
        with_lengths: bool = True,
        shuffle: bool = True,
        seed: int = 0,
        class_weight: Mapping | None = None,
        sample_weight: Any = None,
        **kwargs,
    ):
        super().__init__(
            sequences, targets, batch_size, shuffle, seed, class_weight, sample_weight, **kwargs
        )
        self.with_lengths = with_lengths
        self.buckets = self._checked_buckets(buckets)
        self._batches = self._draw_batches()

    def _checked_buckets(self, buckets) -> list[int]:
        """The lengths to pad to; raises a ValueError if the longest sequence does not fit."""
        if isinstance(buckets, int):
            return bucket_lengths(self.lengths.tolist(), buckets)
        lengths = sorted(int(length) for length in buckets)
        if not lengths or lengths[-1] < self.lengths.max():
            raise ValueError(
                "Argument `buckets` must have a length into which the longest sequence fits. "
                f"Received: buckets={lengths} with a sequence of {self.lengths.max()} time steps."
            )
        return lengths

    def _draw_batches(self) -> list[tuple[int, np.ndarray]]:
        """The batches of an epoch: for each its length, and the numbers of its sequences."""
        rng = np.random.default_rng([self.seed, self.epoch])
        bucket_of = np.searchsorted(self.buckets, self.lengths)
        batches = []
        for k, length in enumerate(self.buckets):
            rows = np.flatnonzero(bucket_of == k)
            rows = rng.permutation(rows) if self.shuffle else rows
            starts = range(0, len(rows), self.batch_size)
            batches += [(length, rows[start : start + self.batch_size]) for start in starts]
        order = rng.permutation(len(batches)) if self.shuffle else range(len(batches))
        batches = [batches[k] for k in order]
        # On TensorFlow `fit` decides from the first two batches which dimensions vary.
        other = next((k for k, (length, _) in enumerate(batches) if length != batches[0][0]), None)
        if other is not None:
            batches[1], batches[other] = batches[other], batches[1]
        return batches

    def __getitem__(self, index: int) -> tuple:
        time, rows = self._batches[index]
        lengths = np.zeros(self.batch_size, np.int32)
        lengths[: len(rows)] = self.lengths[rows]
        inputs: Any = {name: self._padded(part, rows, time) for name, part in self.inputs.items()}
        if self.one_input:
            inputs = (inputs[""], lengths) if self.with_lengths else inputs[""]
        elif self.with_lengths:
            inputs["lengths"] = lengths
        if not self.targets:
            return (inputs,)
        y = {name: self._padded(part, rows, time) for name, part in self.targets.items()}
        weights = {name: self._weights(name, y[name], rows, lengths, time) for name in y}
        return (inputs, y[""], weights[""]) if self.one_target else (inputs, y, weights)

    def _padded(self, part: list | np.ndarray, rows, time: int) -> np.ndarray:
        """The entries with the numbers `rows` as one array (B, T, ...) or (B, ...), with zeros."""
        if isinstance(part, np.ndarray):
            added = np.zeros((self.batch_size - len(rows), *part.shape[1:]), part.dtype)
            return np.concatenate([part[rows], added])
        first = part[0]
        padded = np.zeros((self.batch_size, time, *first.shape[1:]), first.dtype)
        for k, row in enumerate(rows):
            padded[k, : len(part[row])] = part[row]
        return padded

    def _weights(self, name: str, y, rows, lengths, time: int) -> np.ndarray:
        """The weights of a target y: 0 for what was added."""
        each_step = isinstance(self.targets[name], list)
        steps, sequences = np.arange(time)[None], np.arange(self.batch_size)
        counts = steps < lengths[:, None] if each_step else sequences < len(rows)
        weights = counts.astype("float32")
        if name in self.sample_weight:
            own = self._padded(self.sample_weight[name], rows, time).astype("float32")
            weights = weights * (own[:, None] if own.ndim < weights.ndim else own)
        return self.times_class_weight(name, weights, y)
