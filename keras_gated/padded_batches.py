"""Sequences of different lengths as padded batches of a few shapes.

XLA compiles a training step once for each shape of its inputs, so few shapes mean little compiling.
`bucket_lengths` chooses the lengths to pad to, and `PaddedBatches` pads and shuffles.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np


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


class PaddedBatches(keras.utils.PyDataset):
    """Batches of sequences of different lengths, padded with zeros to a few lengths.

    All batches of one length have the same shape, so that a training step is compiled once for each
    length. A last batch that is not full gets rows of length 0 and weight 0. Padding changes no
    result if the model takes the lengths: a gated layer does not move on after the end of a row.

    Conventions: sequences and batches are shuffled again before each epoch. For `fit` and
    `evaluate`. What `predict` returns is in the order of the batches and has the added rows.
    Differs from `keras.utils.pad_sequences`, which makes one array of the longest length.

    Args:
        sequences: list of arrays (T_i, ...), e.g. (T_i, F), or integers (T_i,).
        targets: None; an array (N, ...) with a target for each sequence; or a list of arrays
            (T_i, ...) with a target for each time step.
        batch_size: int > 0.
        buckets: the lengths to pad to, or an int: how many (`bucket_lengths` chooses them).
        with_lengths: bool. Whether the model takes the lengths as a second input.
        shuffle: bool. Whether to shuffle. Keras's `fit` also shuffles the batches, with its own
            seed, unless it is called with shuffle=False.
        seed: int. Seed of this shuffling.
        **kwargs: arguments of `keras.utils.PyDataset`: workers, use_multiprocessing,
            max_queue_size.

    Returns:
        Each item is (inputs, targets, weights), or (inputs,) without targets. The inputs are
        (sequences (B, T, ...), lengths (B,)), or the sequences alone. The weights, (B, T) or (B,)
        like the targets, are 0 for what was added and 1 for the rest. Use a loss with
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
        sequences: Sequence[Any],
        targets: Any = None,
        *,
        batch_size: int = 32,
        buckets: int | Sequence[int] = 4,
        with_lengths: bool = True,
        shuffle: bool = True,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.sequences = [np.asarray(sequence) for sequence in sequences]
        self.lengths = np.array([len(sequence) for sequence in self.sequences], np.int32)
        self.batch_size, self.with_lengths = batch_size, with_lengths
        self.shuffle, self.seed, self.epoch = shuffle, seed, 0
        self.buckets = self._checked_buckets(buckets)
        self.each_step = isinstance(targets, list | tuple)
        self.targets = [np.asarray(t) for t in targets] if self.each_step else targets
        self._check_targets()
        self._batches = self._draw_batches()

    def _checked_buckets(self, buckets) -> list[int]:
        """The lengths to pad to; raises a ValueError if sequences or buckets are not valid."""
        if self.batch_size < 1:
            raise ValueError(
                f"Argument `batch_size` must be > 0. Received: batch_size={self.batch_size}."
            )
        shapes = {sequence.shape[1:] for sequence in self.sequences}
        if len(shapes) != 1:
            raise ValueError(
                "Argument `sequences` must be a list of one or more arrays (T_i, ...) whose shapes "
                f"differ only in T_i. Received: {len(self.sequences)} arrays with features "
                f"{sorted(shapes)}."
            )
        if isinstance(buckets, int):
            return bucket_lengths(self.lengths.tolist(), buckets)
        lengths = sorted(int(length) for length in buckets)
        if not lengths or lengths[-1] < self.lengths.max():
            raise ValueError(
                "Argument `buckets` must have a length into which the longest sequence fits. "
                f"Received: buckets={lengths} with a sequence of {self.lengths.max()} time steps."
            )
        return lengths

    def _check_targets(self) -> None:
        if self.targets is None:
            return
        if len(self.targets) != len(self.sequences):
            raise ValueError(
                "Argument `targets` must have one target for each sequence. Received: "
                f"{len(self.targets)} targets for {len(self.sequences)} sequences."
            )
        steps = [len(t) if t.ndim else 1 for t in self.targets] if self.each_step else None
        if steps not in (None, self.lengths.tolist()):
            raise ValueError(
                "Argument `targets`, if it is a list, must have arrays with a target for each time "
                f"step. Received: arrays of lengths {steps[:5]} for sequences of "
                f"{self.lengths[:5].tolist()} time steps. For one target for each sequence pass a "
                "NumPy array."
            )

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

    def on_epoch_end(self) -> None:
        """Shuffles again."""
        self.epoch += 1
        self._batches = self._draw_batches()

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple:
        time, rows = self._batches[index]
        lengths = np.zeros(self.batch_size, np.int32)
        lengths[: len(rows)] = self.lengths[rows]
        x = self._pad(self.sequences, rows, time)
        inputs = (x, lengths) if self.with_lengths else x
        if self.targets is None:
            return (inputs,)
        if self.each_step:
            weights = np.arange(time)[None] < lengths[:, None]
            return inputs, self._pad(self.targets, rows, time), weights.astype("float32")
        y = np.asarray(self.targets)[rows]
        y = np.concatenate([y, np.zeros((self.batch_size - len(rows), *y.shape[1:]), y.dtype)])
        return inputs, y, (np.arange(self.batch_size) < len(rows)).astype("float32")

    def _pad(self, arrays: Sequence[np.ndarray], rows, time: int) -> np.ndarray:
        """The arrays with the numbers `rows` as one array (B, T, ...), padded with zeros."""
        first = arrays[0]
        padded = np.zeros((self.batch_size, time, *first.shape[1:]), first.dtype)
        for k, row in enumerate(rows):
            padded[k, : len(arrays[row])] = arrays[row]
        return padded
