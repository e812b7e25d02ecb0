"""The difference of two runs of a cell: how large it is, and where it is first too large."""

from collections.abc import Mapping

import numpy as np

from keras_gated.conformance.report import Failed

# The result of a run by name: "outputs" (B, T, U), "state 0" (B, U), "state 1" ...
Run = Mapping[str, np.ndarray]
AXES = {3: ("row", "time step", "unit"), 2: ("row", "unit")}


def states_of(run: Run) -> Run:
    """Returns the last states of a run, without its outputs."""
    return {name: array for name, array in run.items() if name != "outputs"}


def rows_of(run: Run, rows: slice) -> Run:
    """Returns some rows of the batch."""
    return {name: array[rows] for name, array in run.items()}


def difference(actual: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Returns |actual - expected| / max(1, |expected|); infinite where a number is not finite."""
    actual, expected = actual.astype("float64"), expected.astype("float64")
    with np.errstate(invalid="ignore"):
        relative = np.abs(actual - expected) / np.maximum(1.0, np.abs(expected))
    return np.where(np.isfinite(relative), relative, np.inf)


def largest_difference(actual: Run, expected: Run) -> float:
    """Returns the largest difference between two runs of equal shapes."""
    arrays = [difference(actual[name], expected[name]) for name in expected]
    return max(float(array.max(initial=0.0)) for array in arrays)


def compare(actual: Run, expected: Run, tolerance: float, claim: str) -> float:
    """Returns the largest difference between two runs, which must not be above the tolerance.

    Args:
        actual, expected: arrays by name.
        tolerance: the largest difference allowed.
        claim: first words of the message if they differ, e.g. "unrolled and looped differ".

    Raises:
        Failed: if they differ by more. The message names the array and the first place.
    """
    if actual.keys() != expected.keys():
        raise Failed(f"{claim}: {', '.join(actual)} in place of {', '.join(expected)}")
    for name, array in expected.items():
        if actual[name].shape != array.shape:
            raise Failed(f"{claim}: {name} has shape {actual[name].shape}, expected {array.shape}")
        differences = difference(actual[name], array)
        if differences.max(initial=0.0) > tolerance:
            place = first_place(differences > tolerance)
            raise Failed(f"{claim}: {name} by {differences.max():.1e}, first at {place}")
    return largest_difference(actual, expected)


def first_place(wrong: np.ndarray) -> str:
    """Returns where an array of booleans is first True, e.g. "row 0, time step 2, unit 1"."""
    indices = np.argwhere(wrong)[0].tolist()
    names = AXES.get(wrong.ndim) or [f"axis {k}" for k in range(wrong.ndim)]
    return ", ".join(f"{name} {index}" for name, index in zip(names, indices, strict=True))


def difference_text(*differences: float) -> str:
    """Returns the text of a check that passed: the largest of some differences."""
    return f"largest difference {max(differences):.1e}"
