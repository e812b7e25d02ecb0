"""Data as users have them: arrays, tf.data, a PyDataset, or any iterable of batches."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

BATCH = 64


def input_batches(x: Any) -> Iterator[Any]:
    """Yields batches of inputs.

    Args:
        x: an array, a list or dictionary of arrays, or batches (x, y, ...) or x: a
            `tf.data.Dataset`, a `keras.utils.PyDataset`, a torch DataLoader.
    """
    if isinstance(x, keras.utils.PyDataset):
        yield from (_inputs_of(x[i]) for i in range(len(x)))
    elif is_arrays(x):
        count = len(keras.tree.flatten(x)[0])
        for i in range(0, count, BATCH):
            yield keras.tree.map_structure(lambda a, i=i: np.asarray(a)[i : i + BATCH], x)
    else:
        yield from map(_inputs_of, x)


def is_arrays(x: Any) -> bool:
    """Returns whether data are arrays, and not batches of them."""
    parts = keras.tree.flatten(x) if isinstance(x, dict | list | tuple) else [x]
    return bool(parts) and all(
        hasattr(part, "shape") and hasattr(part, "__len__") for part in parts
    )


def _inputs_of(batch: Any) -> Any:
    return batch[0] if isinstance(batch, tuple) else batch
