"""Writes an onnx.ModelProto to a file, or to two: protobuf takes at most 2 GiB in one file."""

import math
from pathlib import Path
from typing import Any

from keras_gated.onnx.errors import require

LARGEST_FILE = 2_000_000_000  # bytes of weights; a little less than protobuf takes


def write_model(model: Any, path: Path) -> None:
    """Writes a model to a file; weights of more than 2 GB go to the file `<path>.data` beside it.

    Args:
        model: an onnx.ModelProto. If its weights go to the second file, they leave the model.
        path: of the file.
    """
    (onnx,) = require("onnx")
    if sum(map(_size_of, model.graph.initializer)) <= LARGEST_FILE:
        path.write_bytes(model.SerializeToString())
        return
    onnx.save_model(model, path, save_as_external_data=True, location=f"{path.name}.data")


def size_on_disk(path: Path) -> int:
    """Returns the bytes of a file that `write_model` wrote, its weights included."""
    data = path.with_name(f"{path.name}.data")
    return path.stat().st_size + (data.stat().st_size if data.exists() else 0)


def _size_of(tensor: Any) -> int:
    (onnx,) = require("onnx")
    itemsize = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return math.prod(tensor.dims) * itemsize
