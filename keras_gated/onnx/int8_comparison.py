"""A float32 file and its int8 file run beside each other, and how far their outputs are apart."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_gated.onnx.errors import ExportError, require
from keras_gated.onnx.verify.inputs import Feed, at_shapes, describe_shapes


@dataclass(frozen=True)
class OutputDifference:
    """How far an output is from the float32 file's y: at most, on average; and max |y|."""

    output: str
    largest: float
    mean: float
    magnitude: float


class Pair:
    """The float32 file and the int8 file, run beside each other."""

    def __init__(self, before: Any, after: Any):
        self._before, self._after = before, after
        (onnxruntime,) = require("onnxruntime")
        self._quiet = onnxruntime.RunOptions()
        self._quiet.log_severity_level = 4  # failures raise; they need not be printed too

    def at_random(self, feed: Callable[[int, int], Feed]) -> tuple[list, list[str]]:
        """Results at the shapes that the float32 file takes, and notes on those that it refuses.

        Args:
            feed: gives inputs at a batch and a time length.
        """
        results, notes = [], []

        def run(batch: int, time: int) -> bool:
            try:
                results.append(self._run(feed(batch, time)))
            except _Refused as refusal:
                notes.append(f"the float32 file itself refuses {refusal}")
                return False
            return True

        at_shapes(run)
        return results, notes

    def on_samples(self, feeds: list[Feed]) -> list:
        """Results on samples.

        Raises:
            ValueError: if the float32 file does not take one.
        """
        try:
            return [self._run(feed) for feed in feeds]
        except _Refused as refusal:
            raise ValueError(
                "Argument `samples` must be inputs that the float32 model takes. "
                f"Received: {refusal}."
            ) from refusal

    def _run(self, feed: Feed) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """By output: what the float32 file gives, and what the int8 file gives."""
        try:
            expected = self._before.run(None, feed, self._quiet)
        except Exception as error:  # noqa: BLE001 - onnxruntime has many
            raise _Refused(f"{describe_shapes(feed)}: {str(error).splitlines()[0]}") from error
        if not all(np.size(y) for y in expected):
            raise _Refused(f"{describe_shapes(feed)}: an output would be empty")
        try:
            found = self._after.run(None, feed, self._quiet)
        except Exception as error:  # noqa: BLE001 - as above
            raise ExportError(f"The int8 file fails at {describe_shapes(feed)}: {error}") from error
        names = [port.name for port in self._before.get_outputs()]
        for name, y, other in zip(names, expected, found, strict=True):
            if np.isfinite(y).all() and not np.isfinite(other).all():
                raise ExportError(
                    f"Output {name!r} of the int8 file is not finite at {describe_shapes(feed)}, "
                    "and the float32 file's is."
                )
        return dict(zip(names, zip(expected, found, strict=True), strict=True))


class _Refused(Exception):
    """Raised where the float32 file does not take an input."""


def differences(results: list[dict]) -> tuple[OutputDifference, ...]:
    """Returns the difference of each output over all results of a `Pair`."""
    rows = []
    for name in results[0] if results else ():
        pairs = [result[name] for result in results]
        y = np.concatenate([np.ravel(a) for a, _ in pairs]).astype(np.float64)
        found = np.concatenate([np.ravel(b) for _, b in pairs]).astype(np.float64)
        difference = np.abs(y - found)
        rows.append(
            OutputDifference(
                name,
                difference.max(initial=0.0),
                difference.mean() if len(y) else 0.0,
                np.abs(y).max(initial=0.0),
            )
        )
    return tuple(rows)
