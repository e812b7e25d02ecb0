"""What `slim` returns: the models on the path from the full one to the smallest that is as good."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Point:
    """A model on the path.

    Attributes:
        title: the step that led to it, in words.
        changes: that step, as `reduce_gates` takes it.
        weights: number of weights of the model.
        values: the monitored value, for each seed.
        accepted: whether it is within the tolerance.
        model: the model, trained with the first seed; None if it was not accepted.
    """

    title: str
    changes: dict[str, dict[str, Any]]
    weights: int
    values: tuple[float, ...]
    accepted: bool
    model: Any = field(repr=False, compare=False)

    @property
    def value(self) -> float:
        """The median of the values."""
        return float(np.median(self.values))


@dataclass(frozen=True)
class SlimResult:
    """The result of `slim`.

    Attributes:
        path: the models that were accepted, from the one given to the smallest.
        rejected: the steps that were tried and not accepted.
        control: the model given, trained for as many epochs as all steps on the path.
        monitor: name of the monitored value.
        limit: the worst value that was accepted.
        sign: 1 if less is better, -1 if more is.
        untried: how many steps of the last model were not tried, since before training they cost
            far more than the tolerance.
    """

    path: tuple[Point, ...]
    rejected: tuple[Point, ...]
    control: Point
    monitor: str
    limit: float
    sign: float = 1.0
    untried: int = 0

    @property
    def model(self) -> Any:
        """The smallest model: the last on the path."""
        return self.path[-1].model

    @property
    def front(self) -> tuple[Point, ...]:
        """The Pareto front: models on the path to which no smaller one is at least as good."""
        return tuple(
            point
            for i, point in enumerate(self.path)
            if all(
                self.sign * point.value < self.sign * other.value for other in self.path[i + 1 :]
            )
        )

    def __str__(self) -> str:
        first, last = self.path[0], self.path[-1]
        gone = 1.0 - last.weights / first.weights
        head = f"{first.weights:,} -> {last.weights:,} weights ({-gone:.0%}), {self.monitor} "
        head += f"{first.value:.4f} -> {last.value:.4f}, at most {self.limit:.4f} was accepted"
        if len(self.path) == 1:
            head = f"Nothing smaller is as good: {self.monitor} {first.value:.4f} at most "
            head = f"{head}{self.limit:.4f}, {len(self.rejected)} steps tried"
        rows = [*(("accepted", p) for p in self.path), *(("rejected", p) for p in self.rejected)]
        rows.append(("control", self.control))
        width = max(len(point.title) for _, point in rows)
        lines = [
            f"{what:<9} {point.title:<{width}} {point.weights:>10,}  {_values(point)}"
            for what, point in rows
        ]
        rest = (
            f"not tried {self.untried} steps that cost far more than the tolerance before training"
        )
        return "\n".join([head, *lines[:-1], *([rest] if self.untried else []), lines[-1]])

    def plot(self) -> Any:
        """Returns a figure of matplotlib: the monitored value against the weights of each model.

        Raises:
            ImportError: if matplotlib is missing.
        """
        from keras_gated.reduction.figures import plot_result

        return plot_result(self)

    def export(self, folder: str | os.PathLike) -> "dict[str, Any]":
        """Writes the smallest model as ONNX files, each checked, and times them in onnxruntime.

        Args:
            folder: for `model.onnx` (float32), `model-int8.onnx`, and `stream.onnx`, which takes
                one time step and keeps its states, where the model can be streamed.

        Returns:
            `{"float32": ..., "int8": ..., "stream": ...}`: for each file its path, its bytes and
            the microseconds of a run with one time step, or the reason why there is none: see
            `reduction.files.ExportedFile`.

        Raises:
            ExportError: if no file can be written.
            ImportError: if a package of the extra "onnx" is missing.
        """
        from keras_gated.reduction.files import export_files

        return export_files(self.model, Path(folder))


def _values(point: Point) -> str:
    if len(point.values) == 1:
        return f"{point.value:.4f}"
    return f"{point.value:.4f} ({min(point.values):.4f} to {max(point.values):.4f})"
