"""Data as users have them: arrays, tf.data, a PyDataset, or any iterable of batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import keras
import numpy as np

BATCH = 64
BATCHES = 64  # as many are read to see what gates do


def input_batches(x: Any, seed: int = 0) -> Iterator[Any]:
    """Yields at most 64 batches of inputs.

    Args:
        x: an array, or a list or dictionary of arrays: at most 4,096 rows are drawn. Or batches
            (x, y, ...) or x, of which the first are taken: a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, a torch DataLoader.
        seed: int, of the draw.
    """
    if is_arrays(x):
        count = len(keras.tree.flatten(x)[0])
        rows = np.random.default_rng(seed).permutation(count)[: BATCH * BATCHES]
        for i in range(0, len(rows), BATCH):
            part = rows[i : i + BATCH]
            yield keras.tree.map_structure(lambda a, part=part: np.asarray(a)[part], x)
    elif isinstance(x, dict | list | tuple) or not hasattr(x, "__iter__") and not _has_items(x):
        raise ValueError(
            "Argument `x` must be an array, a list or dictionary of arrays, or a dataset of "
            f"batches. Received: {type(x).__name__}. Make it an array with numpy.asarray."
        )
    else:
        batches = map(x.__getitem__, range(len(x))) if _has_items(x) else iter(x)
        for batch in islice(batches, BATCHES):
            # A list is (x, y, ...) too, as for `model.fit`: a DataLoader of torch makes lists.
            yield batch[0] if isinstance(batch, tuple | list) else batch


def is_arrays(x: Any) -> bool:
    """Returns whether data are arrays, and not batches of them."""
    parts = keras.tree.flatten(x) if isinstance(x, dict | list | tuple) else [x]
    return bool(parts) and all(hasattr(p, "shape") and hasattr(p, "__len__") for p in parts)


def _has_items(x: Any) -> bool:
    return isinstance(x, keras.utils.PyDataset)


@dataclass(frozen=True)
class Data:
    """Inputs and targets, to train on or to evaluate.

    Attributes:
        inputs: what the model is called with, or batches.
        fit: arguments of `model.fit` and `model.evaluate`.
        given: the data as they were given: what `validation_data` takes.
    """

    inputs: Any
    fit: dict[str, Any]
    given: Any

    @property
    def shuffled_by_keras(self) -> bool:
        """Whether Keras can shuffle the data. Others, such as a `tf.data.Dataset`, do it alone."""
        return "y" in self.fit or _has_items(self.given)

    @classmethod
    def of(cls, data: Any, argument: str) -> "Data":
        """Returns what a user's data are.

        Args:
            data: (x, y) or (x, y, sample_weight), or a dataset of such batches.
            argument: name of the argument, for the error message.

        Raises:
            ValueError: if `data` is something else, or an iterator, which can be read only once.
        """
        if isinstance(data, tuple) and 2 <= len(data) <= 3:
            names = ("x", "y", "sample_weight")
            return cls(data[0], dict(zip(names, data, strict=False)), data)
        if not isinstance(data, dict | list | tuple) and not is_arrays(data):
            if hasattr(data, "__iter__") and not hasattr(data, "__next__") or _has_items(data):
                return cls(data, {"x": data}, data)
        raise ValueError(
            f"Argument `{argument}` must be (x, y) or (x, y, sample_weight), or a dataset of such "
            "batches that can be read again: a tf.data.Dataset, a PyDataset or a DataLoader. "
            f"Received: {type(data).__name__}."
        )
