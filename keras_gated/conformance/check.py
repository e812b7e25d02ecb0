"""check_cell: is a recurrent cell fit for Keras, XLA, mixed precision, files and ONNX?"""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_gated.conformance import over_time, serialization, training
from keras_gated.conformance.copies import Subject
from keras_gated.conformance.report import (
    FAILED,
    PASSED,
    SKIPPED,
    CellCheck,
    CellError,
    CellReport,
    Failed,
    Skipped,
    error_text,
)

CHECKS: dict[str, Callable[[Subject], str]] = {
    "shapes": over_time.shapes,
    "deterministic": over_time.deterministic,
    "config": serialization.config,
    "states": over_time.states,
    "rows": over_time.rows,
    "causal": over_time.causal,
    "masks": over_time.masks,
    "unrolled": over_time.unrolled,
    "compiled": over_time.compiled,
    "bidirectional": over_time.bidirectional,
    "trainable": training.trainable,
    "gradients": training.derivatives,
    "precision": training.precision,
    "saving": serialization.saving,
    "onnx": serialization.onnx,
}
FIRST = ("shapes", "deterministic")  # where one fails, what comes after it says nothing
LEAST = {"input_dim": 1, "batch_size": 2, "time": 3}


def check_cell(
    cell: Any,
    *,
    input_dim: int | None = None,
    batch_size: int = 3,
    time: int = 5,
    seed: int = 0,
    tolerance: float = 1e-5,
    checks: Sequence[str] | None = None,
    raise_on_failure: bool = False,
) -> CellReport:
    """Checks whether a recurrent cell does all that is expected of one.

    The cell may be anybody's: what `keras.layers.RNN` takes. Copies of it get random weights,
    inputs and non-zero states; the cell itself is neither run nor changed. Copies are in float32
    unless a check says otherwise. The checks:

    - "shapes": of outputs and states, and their type, at each step.
    - "deterministic": two calls with training=False give the same. Where this check or the one
      before fails, those after it are skipped.
    - "config": `get_config` and `from_config` make an equal cell.
    - "states": initial states are read; two halves with the states passed on are the whole.
    - "rows": rows of a batch do not know of one another.
    - "causal": what comes last does not change what comes before.
    - "masks": a masked step repeats the output and leaves the states.
    - "unrolled": unrolled = looped.
    - "compiled": eager = graph = XLA on TensorFlow, eager = jit on JAX; skipped on torch.
    - "bidirectional": `keras.layers.Bidirectional` = the two directions by hand.
    - "trainable": every trainable weight gets a gradient, finite and not zero throughout.
    - "gradients": by weights, inputs and initial states = central differences; in float64 on
      TensorFlow, elsewhere, where Keras's operations round to float32, to a hundredth.
    - "precision": one type throughout under mixed_float16 and mixed_bfloat16.
    - "saving": a `.keras` file, loaded in safe mode, gives the same weights and numbers.
    - "onnx": a file of `export_onnx` passes `check_onnx`; skipped but on TensorFlow.

    Args:
        cell: a `keras.Layer` with `state_size` (one integer or several) and call(inputs, states),
            which is copied by its config; or a function without arguments that makes one, e.g.
            its class, which is needed where the config does not.
        input_dim: int > 0, features of x_t. None: those that a built cell has, 3 for another.
        batch_size: int > 1.
        time: int > 2.
        seed: int >= 0, of weights, states and inputs.
        tolerance: float > 0, on |difference| / max(1, |y|).
        checks: names of the checks to make; None is all.
        raise_on_failure: bool. Whether a cell that does not pass raises.

    Returns:
        A `CellReport`; its `passed` tells, its str() explains.

    Raises:
        CellError: with `raise_on_failure`, if a check failed: names what is wrong and where.
        ValueError: if an argument is not as above.

    Example:
        >>> print(kg.check_cell(MyCell(8)))
    """
    sizes = {"input_dim": input_dim, "batch_size": batch_size, "time": time}
    _check_arguments(sizes, seed, tolerance)
    names = _chosen(checks)
    subject = Subject(cell, input_dim, batch_size, time, seed, tolerance)
    rows = _made(names, subject)
    outcomes = {row.outcome for row in rows}
    report = CellReport(
        cell=type(subject.example).__name__,
        backend=keras.backend.backend(),
        passed=PASSED in outcomes and FAILED not in outcomes,
        tolerance=tolerance,
        seed=seed,
        checks=tuple(rows),
    )
    if raise_on_failure and not report.passed:
        raise CellError(f"The cell does not do what is expected of one.\n{report}")
    return report


def _made(names: Sequence[str], subject: Subject) -> list[CellCheck]:
    rows, wrong = [], None
    for name in names:
        if wrong:
            row = CellCheck(name, SKIPPED, f"not made, since {wrong!r} failed")
        else:
            row = _one(name, subject)
            wrong = name if name in FIRST and row.outcome == FAILED else None
        rows.append(row)
    return rows


def _one(name: str, subject: Subject) -> CellCheck:
    """One check; whatever it raises is its finding."""
    try:
        return CellCheck(name, PASSED, CHECKS[name](subject))
    except Skipped as skipped:
        return CellCheck(name, SKIPPED, str(skipped))
    except Failed as failed:
        return CellCheck(name, FAILED, str(failed))
    except Exception as error:  # noqa: BLE001 - as above
        return CellCheck(name, FAILED, f"raises {error_text(error)}")


def _chosen(checks: Sequence[str] | None) -> list[str]:
    names = list(CHECKS) if checks is None else [checks] if isinstance(checks, str) else [*checks]
    unknown = [name for name in names if name not in CHECKS]
    if unknown or not names:
        raise ValueError(
            f"Argument `checks` must be None or names among {', '.join(map(repr, CHECKS))}. "
            f"Received: checks={checks!r}."
        )
    return [name for name in CHECKS if name in names]


def _check_arguments(sizes: dict[str, Any], seed: Any, tolerance: Any) -> None:
    for name, size in sizes.items():
        whole = isinstance(size, int) and not isinstance(size, bool) and size >= LEAST[name]
        if not whole and not (name == "input_dim" and size is None):
            raise ValueError(
                f"Argument `{name}` must be an integer >= {LEAST[name]}. Received: {name}={size!r}."
            )
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"Argument `seed` must be an integer >= 0. Received: seed={seed!r}.")
    if not tolerance > 0:
        raise ValueError(
            f"Argument `tolerance` must be a number > 0. Received: tolerance={tolerance!r}."
        )
