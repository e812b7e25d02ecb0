"""Sequences of different lengths packed into rows of one length, one behind the other.

Padding a short sequence to the length of a long one wastes most of its row. Packed rows are nearly
full, and `resets` tells the layers where each sequence begins.
"""

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_gated.sequence_batches import SequenceBatches
from keras_gated.spec.parts import check_positive


class PackedBatches(SequenceBatches):
    """Batches of rows that hold several sequences each, one behind the other.

    Each row is filled with whole sequences, and with zeros at its end. All batches have the same
    shape, so a training step is compiled once. With the resets, a gated layer computes for each
    sequence what it computes for it alone. The model must return an output for each time step
    (`return_sequences=True`), and pass the resets to each of its gated layers.

    Conventions: sequences of one length change places, and rows and their sequences are shuffled
    again, before each epoch; the number of batches stays. A last batch that is not full gets rows
    of weight 0. Padding begins with a mark in the resets, too, so that a backward layer does not
    begin in it. It counts in the statistics of batch normalisation. For `fit` and `evaluate`; what
    `predict` returns is in the order of the rows.

    Args:
        sequences: as in `PaddedBatches`; each has at least one time step. An array (N, ...) with a
            value for each sequence is repeated at its time steps.
        targets: as in `PaddedBatches`. A target for each sequence stands at its last time step.
        batch_size: int > 0. Rows in a batch.
        length: int, the time steps of a row; at least those of the longest sequence, and by default
            as many. Longer rows have a smaller share of padding.
        shuffle, seed, class_weight, sample_weight: as in `PaddedBatches`.
        **kwargs: arguments of `keras.utils.PyDataset`: workers, use_multiprocessing,
            max_queue_size.

    Returns:
        Each item is (inputs, targets, weights), or (inputs,) without targets. The inputs are
        (sequences (B, T, ...), resets (B, T)), or a dictionary of them with "resets". The weights
        (B, T) are 0 for what was added, and at all but the last time step of a sequence if it has
        one target; for the rest 1, or the product of `class_weight` and `sample_weight`. Use a loss
        with `reduction="mean_with_sample_weight"`.

    Attributes:
        padding: float, the share of the time steps of all rows that hold no sequence.
        padding_saved: float, the share of the padding that packing removes, compared with one row
            for each sequence, as long as the longest; 1 if none is left. Rows that only fill up a
            batch do not count.

    Raises:
        ValueError: if sequences, targets and length do not fit together.

    Example:
        >>> sequences = [np.ones((n, 8), "float32") for n in (3, 5, 20, 9)]
        >>> batches = kg.PackedBatches(sequences, np.ones((4, 4)), batch_size=2)
        >>> (x, resets), targets, weights = batches[0]
        >>> x.shape, resets.shape, weights.shape, float(weights.sum())
        ((2, 20, 8), (2, 20), (2, 20), 4.0)
        >>> batches.padding, round(batches.padding_saved, 2)
        (0.075, 0.93)
        >>> x, r = keras.Input((None, 8)), keras.Input((None,), dtype="bool")
        >>> model = keras.Model([x, r], kg.GatedGRU(4, return_sequences=True)(x, resets=r))
        >>> model.compile("sgd", keras.losses.MeanSquaredError("mean_with_sample_weight"))
        >>> history = model.fit(batches, verbose=0)
    """

    def __init__(
        self,
        sequences: Sequence[Any] | Mapping[str, Any],
        targets: Any = None,
        *,
        batch_size: int = 32,
        length: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        class_weight: Mapping | None = None,
        sample_weight: Any = None,
        **kwargs,
    ):
        super().__init__(
            sequences, targets, batch_size, shuffle, seed, class_weight, sample_weight, **kwargs
        )
        if not self.one_input and "resets" in self.inputs:
            raise ValueError(
                "Argument `sequences` must have no entry 'resets': that is the name of the marks "
                f"that are added. Received: {sorted(self.inputs)}. Give it another name."
            )
        self.length = self._checked_length(length)
        longest_first = -np.sort(-self.lengths)
        self._rows = pack_rows(longest_first.tolist(), self.length)
        total, steps = int(self.lengths.sum()), len(self._rows) * self.length
        padded = len(self.lengths) * int(self.lengths.max())
        self.padding = (steps - total) / steps
        self.padding_saved = (padded - steps) / (padded - total) if padded > total else 0.0
        self._batches = self._draw_batches()

    def _checked_length(self, length: int | None) -> int:
        """The time steps of a row; raises a ValueError if a sequence is empty or does not fit."""
        if self.lengths.min() < 1:
            raise ValueError(
                "Argument `sequences` must have at least one time step in each sequence. "
                f"Received: {int((self.lengths < 1).sum())} without any. Leave them out."
            )
        longest = int(self.lengths.max())
        length = None if length is None else check_positive(length, "length")
        if length is not None and length < longest:
            raise ValueError(
                "Argument `length` must be at least the number of time steps of the longest "
                f"sequence, {longest}: a sequence stays in one row. Received: length={length}. Cut "
                "long sequences into several first, or give a larger length."
            )
        return length or longest

    def _draw_batches(self) -> list[list[list[int]]]:
        """The batches of an epoch: for each its rows, lists of numbers of sequences."""
        rng, count = np.random.default_rng([self.seed, self.epoch]), len(self.lengths)
        # The layout knows only lengths: any sequence of a length may stand in any of its places.
        ties = rng.random(count) if self.shuffle else np.arange(count)
        longest_first = np.lexsort((ties, -self.lengths))
        rows = [longest_first[places] for places in self._rows]
        if self.shuffle:
            rows = [rng.permutation(rows[k]) for k in rng.permutation(len(rows))]
        rows = [row.tolist() for row in rows]
        return [rows[k : k + self.batch_size] for k in range(0, len(rows), self.batch_size)]

    def __getitem__(self, index: int) -> tuple:
        rows = self._batches[index]
        places = self._places(rows)
        resets = np.zeros((self.batch_size, self.length), bool)
        for k, row in enumerate(rows):
            begins = np.cumsum([0, *self.lengths[row]])  # the last one is where padding begins
            resets[k, begins[begins < self.length]] = True
        inputs: Any = {name: self._packed(part, places) for name, part in self.inputs.items()}
        if self.one_input:
            inputs = inputs[""], resets
        else:
            inputs["resets"] = resets
        if not self.targets:
            return (inputs,)
        y = {name: self._target(part, places) for name, part in self.targets.items()}
        weights = {name: self._weights(name, y[name], places) for name in y}
        return (inputs, y[""], weights[""]) if self.one_target else (inputs, y, weights)

    def _places(self, rows: list[list[int]]) -> list[tuple[int, int, slice]]:
        """For each sequence of a batch its number, its row and its time steps there."""
        found = []
        for k, row in enumerate(rows):
            ends = np.cumsum(self.lengths[row]).tolist()
            begins = [0, *ends[:-1]]
            found += [(n, k, slice(a, b)) for n, a, b in zip(row, begins, ends, strict=True)]
        return found

    def _packed(self, part: list | np.ndarray, places) -> np.ndarray:
        """The entries as one array (B, T, ...), with zeros; one for a sequence at all its steps."""
        first = part[0]
        shape = first.shape[1:] if isinstance(part, list) else first.shape
        packed = np.zeros((self.batch_size, self.length, *shape), first.dtype)
        for number, row, steps in places:
            packed[row, steps] = part[number]
        return packed

    def _target(self, part: list | np.ndarray, places) -> np.ndarray:
        """A target as one array (B, T, ...): one for a sequence stands at its last time step."""
        return self._packed(part, places if isinstance(part, list) else _last_steps(places))

    def _weights(self, name: str, y, places) -> np.ndarray:
        """The weights of a target y: 0 for what was added."""
        places = places if isinstance(self.targets[name], list) else _last_steps(places)
        weights = np.zeros((self.batch_size, self.length), "float32")
        own = self.sample_weight.get(name, np.ones(len(self.lengths)))
        for number, row, steps in places:
            w = own[number]  # of a list one for each time step of the sequence
            weights[row, steps] = w[steps.start - steps.stop :] if isinstance(own, list) else w
        return self.times_class_weight(name, weights, y)


def _last_steps(places: list[tuple[int, int, slice]]) -> list[tuple[int, int, slice]]:
    return [(n, row, slice(steps.stop - 1, steps.stop)) for n, row, steps in places]


def pack_rows(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Packs lengths into rows: each into the fullest row that has room for it (best fit).

    Args:
        lengths: int > 0 and at most `size`, the longest first.
        size: of a row.

    Returns:
        For each row the places of its lengths in the list.
    """
    rows: list[list[int]] = []
    by_room: dict[int, list[int]] = {}  # rows by the room that is left
    rooms: list[int] = []  # its keys, in increasing order
    for place, length in enumerate(lengths):
        if (at := bisect_left(rooms, length)) < len(rooms):
            room = rooms[at]
            row = by_room[room].pop()
            if not by_room[room]:
                del by_room[room], rooms[at]
        else:
            row, room = len(rows), size
            rows.append([])
        rows[row].append(place)
        if room := room - length:
            if room not in by_room:
                insort(rooms, room)
            by_room.setdefault(room, []).append(row)
    return rows
