"""The report of `check_cell`, with a row for each check, and the exceptions that checks raise."""

import re
import textwrap
from dataclasses import dataclass

from keras_gated.onnx.report import format_table
from keras_gated.onnx.verify.differences import short_reason

PASSED, FAILED, SKIPPED = "passed", "FAILED", "skipped"


class CellError(RuntimeError):
    """Raised by `check_cell(..., raise_on_failure=True)` if a check fails."""


class Failed(Exception):
    """Raised by a check that fails. The message says what is wrong and where."""


class Skipped(Exception):
    """Raised by a check that cannot run here. The message is the reason."""


@dataclass(frozen=True)
class CellCheck:
    """The result of one check.

    Attributes:
        name: name of the check.
        outcome: "passed", "FAILED" or "skipped".
        text: what was measured; after a failure what is wrong and where; or why it was skipped.
    """

    name: str
    outcome: str
    text: str


@dataclass(frozen=True)
class CellReport:
    """The result of `check_cell`. It prints as a table.

    Attributes:
        cell: name of the cell's class.
        backend: Keras's backend.
        passed: whether no check failed and at least one ran.
        tolerance: the largest difference allowed, relative to max(1, |y|).
        seed: seed of weights, states and inputs.
        checks: a `CellCheck` for each check, in order.
    """

    cell: str
    backend: str
    passed: bool
    tolerance: float
    seed: int
    checks: tuple[CellCheck, ...]

    @property
    def failures(self) -> tuple[CellCheck, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.outcome == FAILED)

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "FAILED"
        skipped = sum(check.outcome == SKIPPED for check in self.checks)
        counts = f"{len(self.checks)} checks, {len(self.failures)} failed, {skipped} skipped"
        rows = [(check.name, check.outcome, check.text) for check in self.checks]
        return "\n".join(
            [
                f"{self.cell}: {verdict} on {self.backend} at tolerance {self.tolerance:.1e}, "
                f"seed {self.seed}: {counts}",
                *format_table(("check", "outcome", "result"), rows),
            ]
        )


def error_text(error: Exception) -> str:
    """Returns an exception in one line: its type, and its first sentence or that of its cause."""
    # Keras wraps the exception of a layer into a long text that quotes it.
    causes = re.findall(r"^Exception encountered: (.+)$", str(error), flags=re.MULTILINE)
    return textwrap.shorten(f"{type(error).__name__}: {(causes or [short_reason(error)])[-1]}", 300)
