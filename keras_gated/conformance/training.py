"""Checks of a cell's gradients, and of its dtypes under mixed precision.

Each check is a function of `CellCopies`. It returns a text on what it measured, or raises `Failed`.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gated.conformance.cell_copies import CellCopies
from keras_gated.conformance.compare import difference
from keras_gated.conformance.over_time import run_step
from keras_gated.conformance.report import Failed
from keras_gated.conformance.run_cell import gradients, over_time, tensors

# Central differences: dtype, step, and tolerance relative to max(1, |slope|). In float64 their own
# error is about 1e-8; with a longer step they fail for a strongly curved function, such as a
# normalisation. On JAX and torch some operations of Keras round to float32; there the error of the
# differences is about 1e-4.
FINE, COARSE = ("float64", 1e-6, 1e-6), ("float32", 3e-3, 1e-2)


def trainable(copies: CellCopies) -> str:
    """Every trainable weight gets a gradient that is finite and not zero everywhere."""
    cell = copies.copy()
    slopes = gradients(cell, _loss(copies, cell), *copies.tensors(cell))
    weights = cell.trainable_weights
    wrong = [
        f"{weight.path} gets {fault}"
        for weight, slope in zip(weights, slopes, strict=False)  # slopes of inputs follow
        if (fault := _fault(slope))
    ]
    if wrong:
        raise Failed("; ".join(wrong))
    return f"{len(weights)} trainable weights, each with a gradient"


def _fault(slope: np.ndarray | None) -> str | None:
    """What is wrong with a gradient, or None."""
    if slope is None:
        return "no gradient: the outputs do not depend on it"
    if not np.isfinite(slope).all():
        return "a gradient that is not finite"
    return None if slope.any() else "a gradient of zero everywhere"


def derivatives(copies: CellCopies) -> str:
    """Gradients by weights, inputs and initial states equal central differences.

    A gradient is compared in one random direction: there a single difference tests all its entries.
    """
    dtype, step, tolerance = FINE if keras.backend.backend() == "tensorflow" else COARSE
    cell = copies.copy(dtype)
    dtypes = {name: array.dtype.name for name, array in copies.run(cell).items()}
    if set(dtypes.values()) != {dtype}:
        raise Failed(f"a cell of dtype {dtype} does not compute in it: {dtypes}")
    loss = _loss(copies, cell)
    slopes = gradients(cell, loss, *copies.tensors(cell))
    rng, largest = copies.rng("directions"), 0.0
    sources = _sources(copies, cell, loss)
    for (name, array, loss_at), slope in zip(sources, slopes, strict=True):
        direction = rng.standard_normal(array.shape)
        after, before = loss_at(array + step * direction), loss_at(array - step * direction)
        expected = (after - before) / (2 * step)
        actual = np.array(0.0 if slope is None else np.sum(slope * direction))
        error = float(difference(actual, expected))
        if error > tolerance:
            raise Failed(
                f"the gradient by {name} is {float(actual):.6g} along a random direction; central "
                f"differences give {float(expected):.6g}"
            )
        largest = max(largest, error)
    return f"{len(slopes)} gradients in {dtype}, largest difference {largest:.1e}"


def _loss(copies: CellCopies, cell: Any) -> Callable:
    """A random linear function of outputs and last states: (x, states) -> scalar."""
    call, rng = over_time(cell), copies.rng("loss")
    shapes = [array.shape for array in copies.run(cell).values()]
    factors = [ops.convert_to_tensor(rng.standard_normal(z), dtype="float32") for z in shapes]

    def loss(x, states):
        total: Any = 0.0
        for result, factor in zip(call(x, states), factors, strict=True):
            total += ops.sum(result * ops.cast(factor, result.dtype))
        return total

    return loss


def _sources(copies: CellCopies, cell: Any, loss: Callable) -> list[tuple]:
    """(name, array, function array -> loss) of each trainable weight, of x, and of each state.

    The order is that of `run_cell.gradients`.
    """

    def value(x, states):
        return np.array(ops.convert_to_numpy(loss(*tensors(cell, x, states))))

    def of_weight(weight):
        array = np.array(ops.convert_to_numpy(weight))

        def loss_at(changed):
            weight.assign(changed)
            try:
                return value(copies.x, copies.states)
            finally:
                weight.assign(array)

        return weight.path, array, loss_at

    def of_state(k):
        before, after = copies.states[:k], copies.states[k + 1 :]
        return (
            f"initial state {k}",
            copies.states[k],
            lambda changed: value(copies.x, [*before, changed, *after]),
        )

    of_x = "the inputs", copies.x, lambda changed: value(changed, copies.states)
    weights = map(of_weight, cell.trainable_weights)
    return [*weights, of_x, *map(of_state, range(len(copies.states)))]


def precision(copies: CellCopies) -> str:
    """Under mixed precision outputs and states have the same dtype at every step."""
    for policy in ("mixed_float16", "mixed_bfloat16"):
        cell = copies.copy(policy)
        x, states = copies.tensors(cell)
        for time in range(x.shape[1]):
            output, new = run_step(cell, x[:, time], states)
            for k, (state, before) in enumerate(zip(new, states, strict=True)):
                _check_dtype(state, before, f"state {k}", time, policy)
            _check_dtype(output, x, "the output", time, policy)
            states = new
        for name, array in copies.run(cell).items():
            if not np.isfinite(array.astype("float64")).all():
                raise Failed(f"{name} not finite under {policy}")
    return "mixed_float16, mixed_bfloat16: one type throughout"


def _check_dtype(tensor: Any, before: Any, name: str, time: int, policy: str) -> None:
    dtype, expected = (keras.backend.standardize_dtype(each.dtype) for each in (tensor, before))
    if dtype != expected:
        raise Failed(f"{name} is {dtype} and not {expected} after time step {time} under {policy}")
