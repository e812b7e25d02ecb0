"""Checks of what a cell learns and in which types it computes."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gated.conformance.compare import difference
from keras_gated.conformance.copies import Subject
from keras_gated.conformance.over_time import flat
from keras_gated.conformance.report import Failed
from keras_gated.conformance.run_cell import gradients, over_time, run, tensors

# Central differences: type, step, and tolerance relative to max(1, |slope|). Their own error is
# about 1e-8 in float64; a longer step fails where a normalisation bends much. Off TensorFlow
# operations of Keras round to float32: there it is about 1e-4.
FINE, COARSE = ("float64", 1e-6, 1e-6), ("float32", 3e-3, 1e-2)


def trainable(s: Subject) -> str:
    """Every trainable weight gets a gradient."""
    cell = s.cell()
    loss = _loss(s, cell)
    slopes = gradients(cell, loss, *tensors(cell, s.x, s.states))
    weights = cell.trainable_weights
    wrong = [
        f"{weight.path} gets {fault}"
        for weight, slope in zip(weights, slopes, strict=False)
        if (fault := _fault(slope))
    ]
    if wrong:
        raise Failed("; ".join(wrong))
    return f"{len(weights)} trainable weights, each with a gradient"


def _fault(slope: np.ndarray | None) -> str | None:
    if slope is None:
        return "no gradient: nothing leads from it to the outputs"
    if not np.isfinite(slope).all():
        return "a gradient that is not finite"
    return None if slope.any() else "a gradient of zero everywhere"


def derivatives(s: Subject) -> str:
    """Gradients by weights, inputs and initial states equal central differences."""
    dtype, step, tolerance = FINE if keras.backend.backend() == "tensorflow" else COARSE
    cell = s.cell(dtype)
    kinds = {name: array.dtype.name for name, array in run(cell, s.x, s.states).items()}
    if set(kinds.values()) != {dtype}:
        raise Failed(f"a cell of dtype {dtype} does not compute in it: {kinds}")
    loss = _loss(s, cell)
    slopes = gradients(cell, loss, *tensors(cell, s.x, s.states))
    rng, worst = s.rng("directions"), 0.0
    for (name, array, at), slope in zip(_sources(s, cell, loss), slopes, strict=True):
        way = rng.standard_normal(array.shape)
        expected = (at(array + step * way) - at(array - step * way)) / (2 * step)
        found = np.array(0.0 if slope is None else np.sum(slope * way))
        apart = float(difference(found, expected))
        if apart > tolerance:
            raise Failed(
                f"the gradient by {name} is {float(found):.6g} along a random direction; central "
                f"differences give {float(expected):.6g}"
            )
        worst = max(worst, apart)
    return f"{len(slopes)} gradients in {dtype}, largest difference {worst:.1e}"


def _loss(s: Subject, cell: Any) -> Callable:
    """A random linear function of outputs and last states."""
    call, rng = over_time(cell), s.rng("loss")
    shapes = [array.shape for array in run(cell, s.x, s.states).values()]
    upstream = [ops.convert_to_tensor(rng.standard_normal(z), dtype="float32") for z in shapes]

    def loss(x, states):
        total: Any = 0.0
        for result, up in zip(call(x, states), upstream, strict=True):
            total += ops.sum(result * ops.cast(up, result.dtype))
        return total

    return loss


def _sources(s: Subject, cell: Any, loss: Callable) -> list[tuple[str, np.ndarray, Callable]]:
    """(name, array, array -> loss) of trainable weights, inputs and states."""

    def value(x, states):
        return np.array(ops.convert_to_numpy(loss(*tensors(cell, x, states))))

    def by_weight(weight):
        array = np.array(ops.convert_to_numpy(weight))

        def at(changed):
            weight.assign(changed)
            try:
                return value(s.x, s.states)
            finally:
                weight.assign(array)

        return weight.path, array, at

    def by_state(k):
        return (
            f"initial state {k}",
            s.states[k],
            lambda changed: value(s.x, [*s.states[:k], changed, *s.states[k + 1 :]]),
        )

    by_x = "the inputs", s.x, lambda changed: value(changed, s.states)
    return [
        *map(by_weight, cell.trainable_weights),
        by_x,
        *map(by_state, range(len(s.states))),
    ]


def precision(s: Subject) -> str:
    """Under mixed precision outputs and states keep one type from step to step."""
    for policy in ("mixed_float16", "mixed_bfloat16"):
        cell = s.cell(policy)
        x, states = tensors(cell, s.x, s.states)
        for time in range(x.shape[1]):
            output, new = cell(x[:, time], states)
            new = flat(new)
            for k, (state, before) in enumerate(zip(new, states, strict=True)):
                _same_type(state, before, f"state {k}", time, policy)
            _same_type(output, x, "the output", time, policy)
            states = new
        for name, array in run(cell, s.x, s.states).items():
            if not np.isfinite(array.astype("float64")).all():
                raise Failed(f"{name} not finite under {policy}")
    return "mixed_float16, mixed_bfloat16: one type throughout"


def _same_type(tensor: Any, before: Any, name: str, time: int, policy: str) -> None:
    kind, wanted = (keras.backend.standardize_dtype(each.dtype) for each in (tensor, before))
    if kind != wanted:
        raise Failed(f"{name} is {kind} and not {wanted} after time step {time} under {policy}")
