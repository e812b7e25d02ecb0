"""What decides the numbers of a run and is not its own setting: the cell, the data, the machine.

A run is identified by its settings and by these texts. If one differs, it is another run: no result
of a cell, of data or of a setting that has changed since is ever used again.
"""

import hashlib
import json
import os
from functools import lru_cache

import keras
import numpy as np

import keras_gated as kg
from study import THREADS
from study.task import Task

SCORED = 4  # sequences of the validation set on which a score is compared


def spec_text(cell: str) -> str:
    """Returns the specification of a preset, as it is registered now, as JSON text.

    Fields with their default value are left out: defaults never change, since `.keras` files
    leave them out too.
    """
    return json.dumps(kg.preset(cell).to_config(), sort_keys=True)


def spec_from(text: str) -> kg.CellSpec:
    """Returns the specification of which `spec_text` returned the text."""
    return kg.CellSpec.from_config(json.loads(text))


@lru_cache(maxsize=64)
def data_text(task: Task) -> str:
    """Returns a hash of all numbers of a task, and of what its score gives for fixed predictions.

    The score is called, because code that it calls can change while its own code stays the same.
    """
    found = hashlib.sha256(repr((task.outputs, task.accuracy, _scores(task))).encode())
    for part in (task.train, task.valid, task.test):
        for arrays in (part.sequences, part.targets):
            found.update(str(len(arrays)).encode())
            for array in map(np.asarray, arrays):
                found.update(f"{array.shape}{array.dtype}".encode())
                found.update(np.ascontiguousarray(array).tobytes())
    found.update(np.asarray(task.shares, float).tobytes())
    return found.hexdigest()[:16]


def _scores(task: Task) -> list[str]:
    """Returns the scores of fixed predictions, with four digits: processors differ in the last."""
    part, found = task.valid.first(SCORED), []
    rng = np.random.default_rng(0)
    for x, y in zip(part.sequences, part.targets, strict=True):
        shape = (len(x), task.outputs) if task.each_step else (task.outputs,)
        guess = rng.normal(size=(1, *shape)).astype(np.float32)
        each = task.score(np.asarray(y)[None], guess)
        found.append(f"{np.mean(keras.ops.convert_to_numpy(each)):.4g}")
    return found


def surroundings() -> dict[str, str]:
    """Returns settings of this process on which numbers depend, as fields of `Run`."""
    threads = dict.fromkeys(os.environ.get(name, "") for name in THREADS)
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") == "-1"
    return {
        "backend": keras.backend.backend(),
        "dtype": keras.config.dtype_policy().name,
        "device": "cpu" if hidden else "any",
        "threads": ",".join(threads),
    }
