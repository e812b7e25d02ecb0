"""How far two runs of a cell are apart, and where."""

from collections.abc import Mapping

import numpy as np

from keras_gated.conformance.report import Failed

# What a run gives, by name: "outputs" (B, T, U), "state 0" (B, U), "state 1" ...
Run = Mapping[str, np.ndarray]
AXES = {3: ("row", "time step", "unit"), 2: ("row", "unit")}


def states_of(run: Run) -> Run:
    """Returns the last states alone."""
    return {name: array for name, array in run.items() if name != "outputs"}


def rows_of(run: Run, rows: slice) -> Run:
    """Returns some rows of the batch."""
    return {name: array[rows] for name, array in run.items()}


def difference(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Returns |found - expected| / max(1, |expected|); infinite where a number is not finite."""
    found, expected = found.astype("float64"), expected.astype("float64")
    with np.errstate(invalid="ignore"):
        apart = np.abs(found - expected) / np.maximum(1.0, np.abs(expected))
    return np.where(np.isfinite(apart), apart, np.inf)


def largest(found: Run, expected: Run) -> float:
    """Returns the largest difference between two runs of equal shapes."""
    pairs = [difference(found[name], expected[name]) for name in expected]
    return max(float(apart.max(initial=0.0)) for apart in pairs)


def compare(found: Run, expected: Run, tolerance: float, about: str) -> float:
    """Returns the largest difference between two runs.

    Args:
        found, expected: arrays by name.
        tolerance: on the difference.
        about: what is said if they differ, e.g. "unrolled and looped differ".

    Raises:
        Failed: if they differ by more; names the quantity and the first place.
    """
    if found.keys() != expected.keys():
        raise Failed(f"{about}: {', '.join(found)} in place of {', '.join(expected)}")
    for name, array in expected.items():
        if found[name].shape != array.shape:
            raise Failed(f"{about}: {name} of shape {found[name].shape}, not {array.shape}")
        apart = difference(found[name], array)
        if apart.max(initial=0.0) > tolerance:
            where = located(apart > tolerance)
            raise Failed(f"{about}: {name} by {apart.max():.1e}, first at {where}")
    return largest(found, expected)


def located(wrong: np.ndarray) -> str:
    """Returns the first place that is marked, e.g. "row 0, time step 2, unit 1"."""
    at = np.argwhere(wrong)[0].tolist()
    names = AXES.get(wrong.ndim) or [f"axis {k}" for k in range(wrong.ndim)]
    return ", ".join(f"{name} {index}" for name, index in zip(names, at, strict=True))


def agreed(*worst: float) -> str:
    """Returns what a check says that found no difference above the tolerance."""
    return f"largest difference {max(worst):.1e}"
