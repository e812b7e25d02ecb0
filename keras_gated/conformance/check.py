"""`check_cell`: runs all checks of a recurrent cell and returns a report."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_gated.conformance import over_time, serialization, training
from keras_gated.conformance.cell_copies import CellCopies
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

CHECKS: dict[str, Callable[[CellCopies], str]] = {
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
# If one of these fails, all others would fail too and say nothing more: they are skipped.
FIRST = ("shapes", "deterministic")
SMALLEST = {"input_dim": 1, "batch_size": 2, "time": 3}


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
    """Checks whether a recurrent cell does all that Keras, XLA and ONNX expect of one.

    It can be any cell that `keras.layers.RNN` takes, also one that you wrote. The checks run copies
    of it, with random weights, inputs and non-zero states; the cell itself is not run and not
    changed. Copies are in float32 unless a check says otherwise. The checks:

    - "shapes": shapes and dtype of outputs and states, at each step.
    - "deterministic": two calls with training=False give the same. If this check or "shapes"
      fails, all others are skipped.
    - "config": `get_config` and `from_config` make an equal cell.
    - "states": the cell reads its initial states; two halves of a sequence, with the states passed
      on, give what the whole sequence gives.
    - "rows": each row of a batch depends on its own inputs and states only.
    - "causal": the last input does not change earlier outputs.
    - "masks": a masked step repeats the last output and leaves the states unchanged.
    - "unrolled": an unrolled layer gives what a loop gives.
    - "compiled": on TensorFlow eager = graph = XLA, on JAX eager = jit; skipped on torch.
    - "bidirectional": `keras.layers.Bidirectional` gives what two layers give.
    - "trainable": every trainable weight gets a gradient, finite and not zero everywhere.
    - "gradients": gradients by weights, inputs and initial states equal central differences: in
      float64 on TensorFlow; elsewhere, where operations of Keras round to float32, within 0.01.
    - "precision": outputs and states have one dtype under mixed_float16 and mixed_bfloat16.
    - "saving": a `.keras` file, loaded in safe mode, gives the same weights and results.
    - "onnx": a file of `export_onnx` passes `check_onnx`; runs on TensorFlow only.

    Args:
        cell: a `keras.Layer` with `state_size` (one integer or several) and call(inputs, states),
            which is copied by its config; or a function without arguments that makes one, e.g. its
            class. Pass a function if the cell's config does not work.
        input_dim: int > 0, features of the inputs. None: as in the cell if it is built, else 3.
        batch_size: int > 1.
        time: int > 2.
        seed: int >= 0. Seed of weights, states and inputs.
        tolerance: float > 0. The largest |difference| / max(1, |y|) allowed.
        checks: names of the checks to run; None runs all.
        raise_on_failure: bool. Whether to raise an error if a check fails.

    Returns:
        A `CellReport`: `passed` is the result, `print` shows all checks.

    Raises:
        CellError: with `raise_on_failure`, if a check failed. The message has the report.
        ValueError: if an argument is not as above.

    Example:
        >>> report = kg.check_cell(keras.layers.GRUCell(4), checks=["shapes", "masks", "saving"])
        >>> report.passed
        True
        >>> print(report)
        GRUCell: passed on ...
    """
    sizes = {"input_dim": input_dim, "batch_size": batch_size, "time": time}
    _check_arguments(sizes, seed, tolerance)
    names = _names_in_order(checks)
    copies = CellCopies(cell, input_dim, batch_size, time, seed, tolerance)
    rows = _run_checks(names, copies)
    outcomes = {row.outcome for row in rows}
    report = CellReport(
        cell=type(copies.example).__name__,
        backend=keras.backend.backend(),
        passed=PASSED in outcomes and FAILED not in outcomes,
        tolerance=tolerance,
        seed=seed,
        checks=tuple(rows),
    )
    if raise_on_failure and not report.passed:
        raise CellError(f"The cell did not pass all checks.\n{report}")
    return report


def _run_checks(names: Sequence[str], copies: CellCopies) -> list[CellCheck]:
    rows, failed_first = [], None
    for name in names:
        if failed_first:
            row = CellCheck(name, SKIPPED, f"not run, because {failed_first!r} failed")
        else:
            row = _run_check(name, copies)
            failed_first = name if name in FIRST and row.outcome == FAILED else None
        rows.append(row)
    return rows


def _run_check(name: str, copies: CellCopies) -> CellCheck:
    """Runs one check. Any exception of the cell is a result: the check failed."""
    try:
        return CellCheck(name, PASSED, CHECKS[name](copies))
    except Skipped as skipped:
        return CellCheck(name, SKIPPED, str(skipped))
    except Failed as failed:
        return CellCheck(name, FAILED, str(failed))
    except Exception as error:  # noqa: BLE001 - as above
        return CellCheck(name, FAILED, f"raises {error_text(error)}")


def _names_in_order(checks: Sequence[str] | None) -> list[str]:
    """The names of the checks to run, in the order of `CHECKS`."""
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
        smallest = SMALLEST[name]
        valid = isinstance(size, int) and not isinstance(size, bool) and size >= smallest
        if not valid and not (name == "input_dim" and size is None):
            raise ValueError(
                f"Argument `{name}` must be an integer >= {smallest}. Received: {name}={size!r}."
            )
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"Argument `seed` must be an integer >= 0. Received: seed={seed!r}.")
    if not tolerance > 0:
        raise ValueError(
            f"Argument `tolerance` must be a number > 0. Received: tolerance={tolerance!r}."
        )
