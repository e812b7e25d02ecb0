"""Compares the outputs of a file with those of the model, and reports the differences."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import keras
import numpy as np

from keras_gated.engine.fused import without_cudnn
from keras_gated.onnx.report import format_counts, format_runtimes, format_table
from keras_gated.onnx.verify.values import Feed, with_one_nan

USUAL = "onnxruntime"
TOLERANCE = 1e-5  # the largest |difference| / max(1, |y|) allowed
NAN_ADVICE = (
    "The LSTM and GRU of onnxruntime turn NaN into numbers: look for NaN before the file runs."
)
Run = Callable[[Feed], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class OutputParity:
    """The largest difference of one output at one shape.

    Attributes:
        output: its name.
        shape: names and shapes of the inputs, as text.
        absolute: the largest |difference|.
        relative: the largest |difference| / max(1, |y|), where y is Keras's output.
        runtime: in which the file was run.
    """

    output: str
    shape: str
    absolute: float
    relative: float
    runtime: str = USUAL


@dataclass(frozen=True)
class ParityReport:
    """What `check_onnx` found. `str()` is a table.

    Attributes:
        path: of the file.
        passed: whether there are no problems.
        tolerance: the largest relative difference allowed.
        outputs: an `OutputParity` for each output and shape.
        problems: outputs that differ by more than the tolerance, and everything else that is wrong.
        notes: shapes and values that were left out, because Keras itself refuses them; and what
            the file does with a NaN, if Keras does something else.
        operators: how many nodes the file has of each ONNX operator.
        tried: which values each input had. The shapes are in `outputs`.
        runtimes: {runtime in which the file was run: its version}.
    """

    path: str
    passed: bool
    tolerance: float
    outputs: tuple[OutputParity, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    operators: Mapping[str, int]
    tried: tuple[str, ...] = ()
    runtimes: Mapping[str, str] = field(default_factory=dict)

    @property
    def largest_difference(self) -> float:
        """The largest difference relative to max(1, |y|)."""
        return max((row.relative for row in self.outputs), default=float("nan"))

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "FAILED"
        rows = [
            (row.output, _at(row), f"{row.absolute:.1e}", f"{row.relative:.1e}")
            for row in self.outputs
        ]
        head = ("output", "inputs", "absolute", "relative")
        return "\n".join(
            [
                f"{self.path}: {verdict} at tolerance {self.tolerance:.1e}",
                f"nodes: {format_counts(self.operators) or 'none'}",
                *format_runtimes(self.runtimes),
                *(format_table(head, rows, right=(2, 3)) if rows else []),
                *(f"tried: {values}" for values in self.tried),
                *(f"note: {note}" for note in self.notes),
                *(f"problem: {problem}" for problem in self.problems),
            ]
        )


class Findings:
    """Collects what a comparison of a file with a model finds.

    Attributes:
        outputs: an `OutputParity` for each output and shape.
        problems: what is wrong, apart from differences of outputs.
        notes: what was left out, and why.
        tried: which values each input had.
    """

    def __init__(self):
        self.tried: list[str] = []
        self.outputs: list[OutputParity] = []
        self.problems: list[str] = []
        self.notes: list[str] = []
        self._finite: dict[str, bool] = {}  # {output: whether Keras gave any finite number}

    def compare(
        self, output: str, shape: str, y: np.ndarray, actual: np.ndarray, runtime: str = USUAL
    ) -> None:
        """Compares one output at one shape.

        Args:
            output: its name.
            shape: of the inputs, as text.
            y: Keras's output.
            actual: the file's output.
            runtime: that gave it.
        """
        shape_text = shape if runtime == USUAL else f"{shape} in {runtime}"
        if y.shape != actual.shape:
            self.problems.append(
                f"Output {output!r} at {shape_text} has shape {actual.shape}. "
                f"Keras gives {y.shape}."
            )
            return
        if not _same_dtype(y.dtype, actual.dtype):
            self.problems.append(
                f"Output {output!r} at {shape_text} is {actual.dtype}. Keras gives {y.dtype}."
            )
        y, actual = y.astype(np.float64), actual.astype(np.float64)
        largest = _largest_differences(y, actual)
        self.outputs.append(OutputParity(output, shape, *largest, runtime))
        any_finite = bool(np.isfinite(y).any()) or not y.size
        self._finite[output] = self._finite.get(output, False) or any_finite

    def all_problems(self, tolerance: float) -> list[str]:
        """Returns all problems as sentences: outputs that differ included.

        Args:
            tolerance: the largest relative difference allowed.
        """
        differing = [
            f"Output {f.output!r} differs at {_at(f)} by {f.absolute:.2e}, "
            f"relative {f.relative:.2e}."
            for f in self.outputs
            if not f.relative <= tolerance  # not `relative > tolerance`, which is False for NaN
        ]
        return [*self.problems, *differing, *self._without_comparison()]

    def _without_comparison(self) -> list[str]:
        """Returns a problem for each output of which no number was compared.

        Without this, a comparison that compares nothing would pass.
        """
        if not self._finite and not self.problems:
            return ["No shape could be compared."]
        return [
            f"Output {name!r} has no finite number at any shape, so nothing was compared."
            for name, finite in self._finite.items()
            if not finite
        ]

    def report(
        self,
        path: str,
        tolerance: float,
        operators: Mapping[str, int],
        runtimes: Mapping[str, str],
    ) -> ParityReport:
        """Returns the report on a file."""
        problems = self.all_problems(tolerance)
        return ParityReport(
            path=path,
            passed=not problems,
            tolerance=tolerance,
            outputs=tuple(self.outputs),
            problems=tuple(problems),
            notes=tuple(self.notes),
            operators=operators,
            tried=tuple(self.tried),
            runtimes=runtimes,
        )


def _at(row: OutputParity) -> str:
    return row.shape if row.runtime == USUAL else f"{row.shape} in {row.runtime}"


def compare_nan(findings: Findings, feed: Feed, run_keras: Run, run_file: Run) -> None:
    """Runs the model and the file with one NaN among the inputs, and says what comes out.

    A file that does not do what Keras does gets a note, and does not fail.

    Args:
        findings: where the result goes.
        feed: inputs that the model takes.
        run_keras, run_file: inputs -> outputs by name.
    """
    changed = with_one_nan(feed)
    if changed is None:
        return
    try:
        expected, actual = run_keras(changed), run_file(changed)
    except Exception as error:  # noqa: BLE001 - a model need not take a NaN
        findings.tried.append(f"one NaN: refused, {short_reason(error)}")
        return
    ours = {name: np.isnan(y) for name, y in expected.items()}
    theirs = {name: np.isnan(actual[name]) for name in expected}
    if all(np.array_equal(ours[name], theirs[name]) for name in expected):
        findings.tried.append("one NaN: the file's outputs are NaN where Keras's are")
        return
    count, other = (int(sum(map(np.sum, found.values()))) for found in (ours, theirs))
    findings.notes.append(
        f"One NaN among the inputs makes {count} numbers of Keras's outputs NaN, and {other} of "
        f"the file's. {NAN_ADVICE if other < count else ''}"
    )


def _largest_differences(y: np.ndarray, actual: np.ndarray) -> tuple[float, float]:
    """Returns the largest |difference|, and the largest relative to max(1, |y|).

    Two equal infinities, or two NaNs, do not differ.
    """
    with np.errstate(invalid="ignore"):
        same = (y == actual) | (np.isnan(y) & np.isnan(actual))
        difference = np.where(same, 0.0, np.abs(y - actual))
        relative = np.where(same, 0.0, difference / np.maximum(1.0, np.abs(y)))
    return float(difference.max(initial=0.0)), float(relative.max(initial=0.0))


def _same_dtype(ours: np.dtype, theirs: np.dtype) -> bool:
    """Whether the dtypes agree; on JAX and torch, where Keras may lack 64 bits, only their kind."""
    exact = keras.backend.backend() == "tensorflow"
    return ours == theirs if exact else ours.kind == theirs.kind


@contextmanager
def on_cpu() -> Iterator[None]:
    """Makes Keras compute on the CPU, as onnxruntime does, for as long as the context is open.

    A GPU may multiply float32 numbers in TF32, with 11 bits of each. The difference would be the
    GPU's and not the file's. On torch this context does nothing: weights stay on their device and
    could not be multiplied with inputs on another, and torch uses full float32 by default.
    Layers with use_cudnn=True run as others: cuDNN computes on no CPU.
    """
    on_torch = keras.backend.backend() == "torch"
    with without_cudnn(), nullcontext() if on_torch else keras.device("cpu"):
        yield


def short_reason(error: Exception) -> str:
    """Returns the line of Keras's error that says why, without colours and names of kernels."""
    text = re.sub(r"\x1b\[\d*m|{{.*?}} *", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [repr(error)]
    # After "Exception encountered when calling ...", the reason is in the next line.
    wrapped = lines[0].startswith("Exception encountered when calling") and len(lines) > 1
    return " ".join(lines[: 1 + wrapped])
