"""What `check_cell` found: a row for each check."""

import re
import textwrap
from dataclasses import dataclass

from keras_gated.onnx.report import format_table
from keras_gated.onnx.verify.differences import short_reason

PASSED, FAILED, SKIPPED = "passed", "FAILED", "skipped"


class CellError(RuntimeError):
    """Raised where a cell does not do what is expected of one."""


class Failed(Exception):
    """Raised within a check, with a sentence that names what is wrong and where."""


class Skipped(Exception):
    """Raised within a check that cannot be made here, with the reason."""


@dataclass(frozen=True)
class CellCheck:
    """One check.

    Attributes:
        name: of the check.
        outcome: "passed", "FAILED" or "skipped".
        text: what was found; of a failure what is wrong and where; else why it was skipped.
    """

    name: str
    outcome: str
    text: str


@dataclass(frozen=True)
class CellReport:
    """What `check_cell` found. Prints as a table.

    Attributes:
        cell: name of the cell's class.
        backend: of Keras.
        passed: whether no check failed and at least one was made.
        tolerance: on the difference relative to max(1, |y|).
        seed: of weights, states and inputs.
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
                *format_table(("check", "outcome", "found"), rows),
            ]
        )


def error_text(error: Exception) -> str:
    """Returns an exception in one line: its type and what it says first, or what is at its root."""
    root = re.findall(r"^Exception encountered: (.+)$", str(error), flags=re.MULTILINE)
    return textwrap.shorten(f"{type(error).__name__}: {(root or [short_reason(error)])[-1]}", 300)
