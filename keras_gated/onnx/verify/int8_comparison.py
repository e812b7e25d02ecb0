"""Runs a float32 file and its int8 file on the same inputs and measures the difference.

`quantize_onnx` uses this: int8 rounds, so there is no tolerance that must hold; the report says how
large the difference is. A file that fails, or gives numbers that are not finite, is an error.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_gated.onnx.errors import ExportError, require
from keras_gated.onnx.verify.inputs import describe_shapes
from keras_gated.onnx.verify.shapes import try_shapes
from keras_gated.onnx.verify.values import Feed

# {output: (of the float32 file, of the int8 file)}
Result = dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class OutputDifference:
    """How much one output of the int8 file differs from that of the float32 file, y.

    Attributes:
        output: its name.
        largest, mean: of |difference|.
        magnitude: the largest |y|.
    """

    output: str
    largest: float
    mean: float
    magnitude: float


class FilePair:
    """A float32 file and its int8 file, which run on the same inputs.

    Args:
        float32, int8: an onnxruntime session of each.
    """

    def __init__(self, float32: Any, int8: Any):
        self._float32, self._int8 = float32, int8
        (onnxruntime,) = require("onnxruntime")
        self._run_options = onnxruntime.RunOptions()
        self._run_options.log_severity_level = 4  # a failure raises; it need not be printed too

    def run_on_random(self, make_feed: Callable[[int, int], Feed]) -> tuple[list[Result], list]:
        """Runs both files at several shapes; returns the results, and notes on shapes left out.

        A shape is left out if the float32 file itself does not take it.

        Args:
            make_feed: (batch, time) -> inputs.
        """
        results, notes = [], []

        def run(batch: int, time: int) -> bool:
            try:
                results.append(self._run(make_feed(batch, time)))
            except _InputRefused as refusal:
                notes.append(f"the float32 file itself refuses {refusal}")
                return False
            return True

        try_shapes(run)
        return results, notes

    def run_on_samples(self, feeds: list[Feed]) -> list[Result]:
        """Runs both files on the user's samples.

        Raises:
            ValueError: if the float32 file does not take one of them.
        """
        try:
            return [self._run(feed) for feed in feeds]
        except _InputRefused as refusal:
            raise ValueError(
                "Argument `samples` must be inputs that the float32 model takes. "
                f"Received: {refusal}."
            ) from refusal

    def _run(self, feed: Feed) -> Result:
        try:
            expected = self._float32.run(None, feed, self._run_options)
        except Exception as error:  # noqa: BLE001 - onnxruntime has many classes of errors
            raise _InputRefused(f"{describe_shapes(feed)}: {str(error).splitlines()[0]}") from error
        if not all(np.size(y) for y in expected):
            raise _InputRefused(f"{describe_shapes(feed)}: an output would be empty")
        try:
            actual = self._int8.run(None, feed, self._run_options)
        except Exception as error:  # noqa: BLE001 - as above
            raise ExportError(f"The int8 file fails at {describe_shapes(feed)}: {error}") from error
        names = [port.name for port in self._float32.get_outputs()]
        for name, y, other in zip(names, expected, actual, strict=True):
            if np.isfinite(y).all() and not np.isfinite(other).all():
                raise ExportError(
                    f"Output {name!r} of the int8 file is not finite at {describe_shapes(feed)}, "
                    "and the float32 file's is."
                )
        return dict(zip(names, zip(expected, actual, strict=True), strict=True))


class _InputRefused(Exception):
    """Raised if the float32 file does not take an input. The message says which shape and why."""


def output_differences(results: list[Result]) -> tuple[OutputDifference, ...]:
    """Returns the difference of each output, over all results of a `FilePair` together."""
    rows = []
    for name in results[0]:
        pairs = [result[name] for result in results]
        y = np.concatenate([np.ravel(a) for a, _ in pairs]).astype(np.float64)
        actual = np.concatenate([np.ravel(b) for _, b in pairs]).astype(np.float64)
        difference = np.abs(y - actual)
        largest, mean, magnitude = difference.max(), difference.mean(), np.abs(y).max()
        rows.append(OutputDifference(name, largest, mean, magnitude))
    return tuple(rows)
