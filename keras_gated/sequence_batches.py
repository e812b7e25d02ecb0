"""What batches of sequences of different lengths have in common: their parts, and the checks."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np


class SequenceBatches(keras.utils.PyDataset):
    """The base of `PaddedBatches` and `PackedBatches`, which say how sequences become batches.

    Attributes:
        inputs, targets, sample_weight: by name, each a list of arrays or one array.
        sequences, lengths: the first input that is a list, and the lengths of its arrays.
        one_input, one_target: whether these were given without names.
        epoch: int, how often the order was drawn before.
    """

    _batches: list  # what `_draw_batches` returned

    def __init__(
        self, sequences, targets, batch_size, shuffle, seed, class_weight, sample_weight, **kwargs
    ):
        super().__init__(**kwargs)
        self.one_input = not isinstance(sequences, Mapping)
        self.inputs = _by_name(list(sequences) if self.one_input else sequences)
        self.sequences = next((x for x in self.inputs.values() if isinstance(x, list)), [])
        self.lengths = np.array([len(sequence) for sequence in self.sequences], np.int32)
        self.batch_size, self.shuffle, self.seed, self.epoch = batch_size, shuffle, seed, 0
        self.one_target = not isinstance(targets, Mapping)
        self.targets = _by_name(targets)
        self.sample_weight = _by_name(sample_weight)
        # With one target its classes are the keys; else the targets are.
        self.class_weight = {"": class_weight} if self.one_target else (class_weight or {})
        self._check_sequences()
        self._check_parts("sequences", self.inputs)
        self._check_parts("targets", self.targets)
        self._check_parts("sample_weight", self.sample_weight)
        self._check_names()

    def _check_sequences(self) -> None:
        """Raises a ValueError if the batch size or the sequences are not valid."""
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

    def _check_parts(self, argument: str, parts: dict) -> None:
        """Raises a ValueError if an input, target or weight does not fit the sequences."""
        for name, part in parts.items():
            of = f" (of {name!r})" if name else ""
            if len(part) != len(self.sequences):
                raise ValueError(
                    f"Argument `{argument}`{of} must have one entry for each sequence. "
                    f"Received: {len(part)} for {len(self.sequences)} sequences."
                )
            steps = [len(t) if t.ndim else 1 for t in part] if isinstance(part, list) else None
            if steps not in (None, self.lengths.tolist()):
                raise ValueError(
                    f"Argument `{argument}`{of}, if it is a list, must have arrays with an entry "
                    f"for each time step. Received: arrays of lengths {steps[:5]} for sequences of "
                    f"{self.lengths[:5].tolist()} time steps. For one entry for each sequence pass "
                    "a NumPy array."
                )

    def _check_names(self) -> None:
        """Raises a ValueError if weights are given for a target that does not exist."""
        weights = {"sample_weight": self.sample_weight, "class_weight": self.class_weight}
        for argument, by_name in weights.items():
            unknown = [
                name for name in by_name if name not in self.targets and by_name[name] is not None
            ]
            if unknown:
                raise ValueError(
                    f"Argument `{argument}` must be for `targets` that are given. Expected: "
                    f"{list(self.targets)}. Received: {unknown}. With several targets pass a "
                    "dictionary by target."
                )

    # Batches

    def _draw_batches(self) -> list:
        """The batches of an epoch, in order."""
        raise NotImplementedError

    def on_epoch_end(self) -> None:
        """Shuffles again."""
        self.epoch += 1
        self._batches = self._draw_batches()

    def __len__(self) -> int:
        return len(self._batches)

    def times_class_weight(self, name: str, weights, y) -> np.ndarray:
        """Returns the weights of a target, times those of its classes.

        Args:
            name: of the target.
            weights: (B,) or (B, T).
            y: the target: classes, or one-hot, in the last axes.
        """
        if of_class := self.class_weight.get(name):
            classes = y if y.ndim == weights.ndim else np.squeeze(y, -1) if y.shape[-1] == 1 else y
            classes = classes.argmax(-1) if classes.ndim > weights.ndim else classes
            weights = weights * np.vectorize(of_class.get, otypes=["float32"])(classes, 1.0)
        return weights


def _by_name(parts: Any) -> dict[str, Any]:
    """Inputs, targets or weights by name, each a list of arrays or one array; "" if there is one.

    Empty for None.
    """
    if isinstance(parts, Mapping):
        return {name: _by_name(part)[""] for name, part in parts.items()}
    if parts is None:
        return {}
    several = isinstance(parts, list | tuple)
    return {"": [np.asarray(part) for part in parts] if several else np.asarray(parts)}
