"""A model as ONNX files: float32, int8 and a stream, each checked and timed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_gated.onnx.errors import ExportError
from keras_gated.speed.timing import medians


@dataclass(frozen=True)
class ExportedFile:
    """One file.

    Attributes:
        path: of the file; None if it could not be written.
        bytes: its size.
        microseconds: median time of a run with one sequence of one time step, on one CPU thread.
        reason: why there is no file; "" if there is one.
    """

    path: Path | None
    bytes: int = 0
    microseconds: float = 0.0
    reason: str = ""


def export_files(model: Any, folder: Path) -> dict[str, ExportedFile]:
    """Writes all files that a model can have; see `SlimResult.export`."""
    from keras_gated.onnx.export import export_onnx
    from keras_gated.onnx.export_streaming import export_streaming
    from keras_gated.onnx.quantize import quantize_onnx

    folder.mkdir(parents=True, exist_ok=True)
    writers: dict[str, tuple[str, Callable]] = {
        "float32": ("model.onnx", export_onnx),
        "int8": ("model-int8.onnx", quantize_onnx),
        "stream": ("stream.onnx", export_streaming),
    }
    files = {key: _write(model, folder / name, write) for key, (name, write) in writers.items()}
    if files["float32"].path is None:
        raise ExportError(files["float32"].reason)
    return files


def _write(model: Any, path: Path, write: Callable) -> ExportedFile:
    try:
        write(model, path)
    except (ExportError, ValueError) as error:
        return ExportedFile(None, reason=str(error))
    return ExportedFile(path, path.stat().st_size, _microseconds(path))


def _microseconds(path: Path) -> float:
    from keras_gated.onnx.errors import require
    from keras_gated.onnx.verify.inputs import input_ports
    from keras_gated.onnx.verify.runners import open_session

    (onnx,) = require("onnx")
    ports = input_ports(onnx.load(str(path), load_external_data=False).graph)
    # Ones, so that a length is not 0.
    feeds = {port.name: np.ones([size or 1 for size in port.shape], port.dtype) for port in ports}
    session = open_session(str(path))
    run = {"run": lambda: session.run(None, feeds)}
    return 1e6 * medians(run, repeats=300, budget=0.3)["run"]
