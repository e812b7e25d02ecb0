"""How far what a file gives is from what the model gives, and the report on it."""

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_gated.onnx.report import counted, table

TOLERANCE = 1e-5  # on |difference| / max(1, |y|)


@dataclass(frozen=True)
class OutputParity:
    """One output at one shape: the largest absolute difference, and relative to max(1, |y|)."""

    output: str
    shape: str
    absolute: float
    relative: float


@dataclass(frozen=True)
class ParityReport:
    """What `check_onnx` found. Prints as a table.

    Attributes:
        path: of the file.
        passed: whether every output agreed at every shape.
        tolerance: on the difference relative to max(1, |y|).
        outputs: an `OutputParity` for each output and shape.
        problems: what went wrong otherwise, and outputs that differ.
        notes: shapes that Keras itself refuses, which were left out.
        operators: number of nodes for each ONNX operator.
    """

    path: str
    passed: bool
    tolerance: float
    outputs: tuple[OutputParity, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    operators: Mapping[str, int]

    @property
    def largest_difference(self) -> float:
        """The largest difference relative to max(1, |y|)."""
        return max((found.relative for found in self.outputs), default=float("nan"))

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "FAILED"
        rows = [
            (found.output, found.shape, f"{found.absolute:.1e}", f"{found.relative:.1e}")
            for found in self.outputs
        ]
        head = ("output", "inputs", "absolute", "relative")
        return "\n".join(
            [
                f"{self.path}: {verdict} at tolerance {self.tolerance:.1e}",
                f"nodes: {counted(self.operators) or 'none'}",
                *(table(head, rows, right=(2, 3)) if rows else []),
                *(f"note: {note}" for note in self.notes),
                *(f"problem: {problem}" for problem in self.problems),
            ]
        )


class Findings:
    """What a comparison has found so far.

    Attributes:
        outputs: an `OutputParity` for each output and shape.
        problems: what went wrong otherwise.
        notes: what was left out.
    """

    def __init__(self):
        self.outputs: list[OutputParity] = []
        self.problems: list[str] = []
        self.notes: list[str] = []
        self._finite: dict[str, bool] = {}  # by output: whether Keras gave any finite number

    def compare(self, output: str, shape: str, y: np.ndarray, found: np.ndarray) -> None:
        """Compares one output at one shape; y is Keras's."""
        if y.shape != found.shape:
            self.problems.append(
                f"Output {output!r} at {shape} has shape {found.shape}. Keras gives {y.shape}."
            )
            return
        if not _same_type(y.dtype, found.dtype):
            self.problems.append(
                f"Output {output!r} at {shape} is {found.dtype}. Keras gives {y.dtype}."
            )
        y, found = y.astype(np.float64), found.astype(np.float64)
        self.outputs.append(OutputParity(output, shape, *_largest_differences(y, found)))
        some = bool(np.isfinite(y).any()) or not y.size
        self._finite[output] = self._finite.get(output, False) or some

    def uncompared(self) -> list[str]:
        """Returns what is wrong where no number could be compared."""
        if not self._finite and not self.problems:
            return ["No shape could be compared."]
        return [
            f"Output {name!r} has no finite number at any shape, so nothing was compared."
            for name, finite in self._finite.items()
            if not finite
        ]

    def wrong(self, tolerance: float) -> list[str]:
        """Returns all that is wrong, in words."""
        differing = [f for f in self.outputs if not f.relative <= tolerance]  # so that a NaN fails
        return [
            *self.problems,
            *(
                f"Output {f.output!r} differs at {f.shape} by {f.absolute:.2e}, "
                f"relative {f.relative:.2e}."
                for f in differing
            ),
            *self.uncompared(),
        ]

    def report(self, path: str, tolerance: float, operators: Mapping[str, int]) -> ParityReport:
        """Returns the report on a file."""
        problems = self.wrong(tolerance)
        return ParityReport(
            path=path,
            passed=not problems,
            tolerance=tolerance,
            outputs=tuple(self.outputs),
            problems=tuple(problems),
            notes=tuple(self.notes),
            operators=operators,
        )


def _largest_differences(y: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """The largest |difference|, and relative to max(1, |y|); equal infinities and NaNs are 0."""
    with np.errstate(invalid="ignore"):
        same = (y == found) | (np.isnan(y) & np.isnan(found))
        difference = np.where(same, 0.0, np.abs(y - found))
        relative = np.where(same, 0.0, difference / np.maximum(1.0, np.abs(y)))
    return float(difference.max(initial=0.0)), float(relative.max(initial=0.0))


def _same_type(ours: np.dtype, theirs: np.dtype) -> bool:
    """Whether a file gives what Keras gives; elsewhere Keras may lack 64 bits."""
    exact = keras.backend.backend() == "tensorflow"
    return ours == theirs if exact else ours.kind == theirs.kind


def on_cpu() -> AbstractContextManager[Any]:
    """Inside, Keras computes on the CPU, as onnxruntime does beside it.

    A graphics card may multiply float32 numbers in TF32, 11 bits of each: the difference would be
    its, not the file's. On torch weights stay where they are and would meet inputs elsewhere; by
    default it multiplies matrices in full float32 on any device.
    """
    return nullcontext() if keras.backend.backend() == "torch" else keras.device("cpu")


def reason_of(error: Exception) -> str:
    """Returns the first line that says why Keras refuses, without colours and kernels' names."""
    text = re.sub(r"\x1b\[\d*m|{{.*?}} *", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [repr(error)]
    wrapped = lines[0].startswith("Exception encountered when calling") and len(lines) > 1
    return " ".join(lines[: 1 + wrapped])
