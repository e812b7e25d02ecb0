"""Sequences of unlike length as batches of a few shapes: XLA compiles once for each shape."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np


def bucket_lengths(lengths: Sequence[int], count: int = 4) -> list[int]:
    """Returns the lengths to pad sequences to, so that least is added in all.

    Args:
        lengths: of the sequences, in time steps.
        count: int > 0. How many lengths to return at most.

    Returns:
        Increasing lengths, the last of which is the longest given one.

    Raises:
        ValueError: if there is no length or no bucket.

    Example:
        >>> kg.bucket_lengths([10, 11, 11, 90, 100], count=2)
        [11, 100]
    """
    if count < 1 or len(lengths) == 0:
        raise ValueError(
            "Arguments `lengths` and `count` must hold one length and one bucket at least. "
            f"Received: {len(lengths)} lengths, count={count}."
        )
    values, times = np.unique(np.asarray(lengths, np.int64), return_counts=True)
    number = np.concatenate([[0], np.cumsum(times)])
    total = np.concatenate([[0], np.cumsum(times * values)])

    def added(j: int):
        """Time steps added if the sequences from each i to j are padded to the length of j."""
        return values[j - 1] * (number[j] - number[:j]) - (total[j] - total[:j])

    ends = range(1, len(values) + 1)
    least = np.array([0.0, *(np.inf for _ in ends)])
    before: list[list[int]] = []
    for _ in range(min(count, len(values))):
        costs = [least[:j] + added(j) for j in ends]
        before.append([0, *(int(np.argmin(cost)) for cost in costs)])
        least = np.array([np.inf, *(cost.min() for cost in costs)])
    found, j = [], len(values)
    for earlier in reversed(before):
        found.append(int(values[j - 1]))
        j = earlier[j]
    return found[::-1]


class PaddedBatches(keras.utils.PyDataset):
    """Batches of sequences of unlike length, padded with zeros to a few lengths.

    All batches of one length have one shape: a last one that is not full is filled up with rows of
    length 0 and weight 0. So a compiled training step is compiled once for each length, and padding
    changes no number: a gated layer that is given the lengths stands still behind the end.

    Conventions: shuffled anew before each epoch, within and among the lengths. For `fit` and
    `evaluate`; what `predict` returns has the rows in the order of the batches, and the filling.
    Differs from `keras.utils.pad_sequences`, which makes one array of the longest length.

    Args:
        sequences: list of arrays (T_i, ...), such as (T_i, F) or integers (T_i,).
        targets: None; an array (N, ...), a target for each sequence; or a list of arrays
            (T_i, ...), a target for each time step.
        batch_size: int > 0.
        buckets: int, how many lengths to pad to (`bucket_lengths` finds them), or the lengths.
        with_lengths: bool. Whether the model takes the lengths beside the sequences.
        shuffle: bool. Keras's `fit` shuffles the batches themselves again, by its own seed, unless
            it is given shuffle=False.
        seed: int, of the shuffling here.
        **kwargs: as `keras.utils.PyDataset`: workers, use_multiprocessing, max_queue_size.

    Returns:
        Of each item: (inputs, targets, weights), or (inputs,) without targets. The inputs are
        (sequences (B, T, ...), lengths (B,)), or the sequences alone; the weights 0 for what was
        added and 1 for the rest, (B, T) or (B,) as the targets are. Give the loss
        `reduction="mean_with_sample_weight"`, or it divides by what was added, too.

    Raises:
        ValueError: if sequences, targets or lengths do not fit together.

    Example:
        >>> x, n = keras.Input((None, 8)), keras.Input((), dtype="int32")
        >>> model = keras.Model([x, n], kg.GatedGRU(32)(x, lengths=n))
        >>> model.fit(kg.PaddedBatches(sequences, labels))
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
        self.buckets = self._checked(buckets)
        self.each_step = isinstance(targets, list | tuple)
        self.targets = [np.asarray(t) for t in targets] if self.each_step else targets
        self._check_targets()
        self._batches = self._drawn()

    def _checked(self, buckets) -> list[int]:
        if self.batch_size < 1:
            raise ValueError(
                f"Argument `batch_size` must be > 0. Received: batch_size={self.batch_size}."
            )
        shapes = {sequence.shape[1:] for sequence in self.sequences}
        if len(shapes) != 1:
            raise ValueError(
                "Argument `sequences` must hold arrays (T_i, ...) that are alike but for T_i, one "
                f"at least. Received: {len(self.sequences)} with features {sorted(shapes)}."
            )
        if isinstance(buckets, int):
            return bucket_lengths(self.lengths.tolist(), buckets)
        found = sorted(int(length) for length in buckets)
        if not found or found[-1] < self.lengths.max():
            raise ValueError(
                "Argument `buckets` must hold a length for the longest sequence. "
                f"Received: buckets={found} with a sequence of {self.lengths.max()} time steps."
            )
        return found

    def _check_targets(self) -> None:
        if self.targets is None:
            return
        if len(self.targets) != len(self.sequences):
            raise ValueError(
                "Argument `targets` must have a target for each sequence. Received: "
                f"{len(self.targets)} targets for {len(self.sequences)} sequences."
            )
        steps = [len(t) if t.ndim else 1 for t in self.targets] if self.each_step else None
        if steps not in (None, self.lengths.tolist()):
            raise ValueError(
                "Argument `targets`, where it is a list, must hold arrays with a target for each "
                f"time step. Received: lengths {steps[:5]} for sequences of "
                f"{self.lengths[:5].tolist()} time steps. Give one target for each sequence as a "
                "NumPy array."
            )

    def _drawn(self) -> list[tuple[int, np.ndarray]]:
        """The batches of an epoch: the length, and which sequences."""
        rng = np.random.default_rng([self.seed, self.epoch])
        of = np.searchsorted(self.buckets, self.lengths)
        batches = []
        for at, length in enumerate(self.buckets):
            rows = np.flatnonzero(of == at)
            rows = rng.permutation(rows) if self.shuffle else rows
            starts = range(0, len(rows), self.batch_size)
            batches += [(length, rows[start : start + self.batch_size]) for start in starts]
        order = rng.permutation(len(batches)) if self.shuffle else range(len(batches))
        drawn = [batches[k] for k in order]
        # On TensorFlow `fit` takes the first two batches for what shapes there are.
        other = next((k for k, (length, _) in enumerate(drawn) if length != drawn[0][0]), None)
        if other is not None:
            drawn[1], drawn[other] = drawn[other], drawn[1]
        return drawn

    def on_epoch_end(self) -> None:
        """Shuffles anew."""
        self.epoch += 1
        self._batches = self._drawn()

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple:
        time, rows = self._batches[index]
        lengths = np.zeros(self.batch_size, np.int32)
        lengths[: len(rows)] = self.lengths[rows]
        x = self._padded(self.sequences, rows, time)
        inputs = (x, lengths) if self.with_lengths else x
        if self.targets is None:
            return (inputs,)
        if self.each_step:
            weights = np.arange(time)[None] < lengths[:, None]
            return inputs, self._padded(self.targets, rows, time), weights.astype("float32")
        y = np.asarray(self.targets)[rows]
        y = np.concatenate([y, np.zeros((self.batch_size - len(rows), *y.shape[1:]), y.dtype)])
        return inputs, y, (np.arange(self.batch_size) < len(rows)).astype("float32")

    def _padded(self, arrays: Sequence[np.ndarray], rows, time: int) -> np.ndarray:
        """The arrays of `rows` in (B, T, ...), zeros behind them."""
        first = arrays[0]
        padded = np.zeros((self.batch_size, time, *first.shape[1:]), first.dtype)
        for k, row in enumerate(rows):
            padded[k, : len(arrays[row])] = arrays[row]
        return padded
