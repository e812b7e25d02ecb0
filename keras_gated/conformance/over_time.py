"""Checks of what a cell computes over time.

Each check is a function of `CellCopies`. It returns a text on what it measured, or raises `Failed`
or `Skipped`. Most compare two runs that must be equal, e.g. with and without a mask.
"""

from typing import Any

import keras
import numpy as np
from keras import tree

from keras_gated.conformance.cell_copies import CellCopies, assign
from keras_gated.conformance.compare import (
    compare,
    difference_text,
    largest_difference,
    rows_of,
    states_of,
)
from keras_gated.conformance.report import Failed, Skipped, error_text
from keras_gated.conformance.run_cell import compilers, over_time, rnn, run, tensors, to_arrays


def shapes(copies: CellCopies) -> str:
    """Outputs and states have the shapes that the cell states, and its dtype, at each step."""
    cell = copies.unbuilt_copy()
    copies.build(cell)
    x, states = tensors(cell, copies.x, copies.states)
    rows, sizes = len(copies.x), copies.sizes
    width = getattr(cell, "output_size", None) or sizes[0]
    for time in range(x.shape[1]):
        output, states = run_step(cell, x[:, time], states)
        if len(states) != len(sizes):
            raise Failed(f"a step returns {len(states)} states; `state_size` has {len(sizes)}")
        _check_shape(output, (rows, width), "the output", "`output_size`, or the first state_size,")
        for k, (state, size) in enumerate(zip(states, sizes, strict=True)):
            _check_shape(state, (rows, size), f"state {k}", "`state_size`")
        dtypes = {keras.backend.standardize_dtype(tensor.dtype) for tensor in (output, *states)}
        if dtypes != {"float32"}:
            raise Failed(f"a step of a float32 cell returns {', '.join(sorted(dtypes))}")
    if hasattr(cell, "get_initial_state"):
        zeros = as_list(cell.get_initial_state(batch_size=2))
        actual, expected = [tuple(z.shape) for z in zeros], [(2, size) for size in sizes]
        if actual != expected:
            raise Failed(f"get_initial_state(2) has shapes {actual}, not {expected}")
    return f"output {width}, states {', '.join(map(str, sizes))}"


def run_step(cell: Any, x, states: list) -> tuple[Any, list]:
    """Runs one time step and returns the output and the list of states."""
    output, new = cell(x, states)
    return output, as_list(new)


def as_list(states: Any) -> list:
    """Returns states as a list; a cell may return a single state without one."""
    return tree.flatten(states)


def _check_shape(tensor: Any, expected: tuple, name: str, source: str) -> None:
    if tuple(tensor.shape) != expected:
        raise Failed(f"{name} of a step has shape {tuple(tensor.shape)}; {source} says {expected}")


def deterministic(copies: CellCopies) -> str:
    """Two calls in inference give the same."""
    cell = copies.copy()
    first, second = run(cell, copies.x, copies.states), run(cell, copies.x, copies.states)
    claim = "two calls with training=False differ"
    return difference_text(compare(second, first, copies.tolerance, claim))


def compiled(copies: CellCopies) -> str:
    """Compiled execution gives what eager execution gives."""
    if not compilers():
        raise Skipped(f"Keras runs eagerly on {keras.backend.backend()}")
    largest = 0.0
    for name, compiler in compilers().items():
        cell = copies.copy()
        expected = run(cell, copies.x, copies.states)
        try:
            call = compiler(over_time(cell))
            actual = to_arrays(call(*tensors(cell, copies.x, copies.states)))
        except Exception as error:
            raise Failed(f"does not run as {name}: {error_text(error)}") from error
        claim = f"{name} and eager execution differ"
        largest = max(largest, compare(actual, expected, copies.tolerance, claim))
    return f"eager, {', '.join(compilers())}: {difference_text(largest)}"


def unrolled(copies: CellCopies) -> str:
    """An unrolled layer gives what a loop gives. Both are compiled if Keras compiles."""
    cell = copies.copy()
    compiler = next(iter(compilers().values()), lambda call: call)
    looped, unrolled = (
        to_arrays(compiler(over_time(cell, unroll=unroll))(*tensors(cell, copies.x, copies.states)))
        for unroll in (False, True)
    )
    claim = "unrolled and looped differ"
    return difference_text(compare(unrolled, looped, copies.tolerance, claim))


def masks(copies: CellCopies) -> str:
    """A masked step repeats the last output and leaves the states unchanged, in each row alone."""
    cell, step = copies.copy(), copies.x.shape[1] // 2
    unmasked = run(cell, copies.x, copies.states)
    return difference_text(
        _mask_whole_row(copies, cell, unmasked),
        _mask_one_step(copies, cell, unmasked, step),
        _mask_end(copies, cell, step),
    )


def _run_masked(copies: CellCopies, cell: Any, rows: Any, times: Any) -> dict:
    """A run with a mask that is False at these rows and time steps."""
    mask = np.ones(copies.x.shape[:2], bool)
    mask[rows, times] = False
    return run(cell, copies.x, copies.states, mask)


def _mask_whole_row(copies: CellCopies, cell: Any, unmasked: dict) -> float:
    """Row 0 is masked: it ends with its initial states, and the other rows do not change."""
    first, rest = slice(0, 1), slice(1, None)
    masked = _run_masked(copies, cell, 0, slice(None))
    initial = {f"state {k}": state for k, state in enumerate(copies.states)}
    claim = "a row without a valid step does not end with its initial states"
    of_first = compare(
        states_of(rows_of(masked, first)), rows_of(initial, first), copies.tolerance, claim
    )
    claim = "a row changes with the mask of another"
    of_rest = compare(rows_of(masked, rest), rows_of(unmasked, rest), copies.tolerance, claim)
    return max(of_first, of_rest)


def _mask_one_step(copies: CellCopies, cell: Any, unmasked: dict, step: int) -> float:
    """One step is masked in the odd rows: there it is as if the step were not in the sequence."""
    odd, even = slice(1, None, 2), slice(0, None, 2)
    masked = _run_masked(copies, cell, odd, step)
    repeated, before = (masked["outputs"][odd, t : t + 1] for t in (step, step - 1))
    claim = f"the output of masked time step {step} is not that of the step before"
    of_step = compare({"outputs": repeated}, {"outputs": before}, copies.tolerance, claim)
    claim = "a row changes with the mask of another"
    of_even = compare(rows_of(masked, even), rows_of(unmasked, even), copies.tolerance, claim)
    masked["outputs"] = np.delete(masked["outputs"], step, axis=1)
    without = run(cell, np.delete(copies.x, step, axis=1), copies.states)
    claim = f"masking time step {step} and leaving it out differ"
    of_odd = compare(rows_of(masked, odd), rows_of(without, odd), copies.tolerance, claim)
    return max(of_step, of_even, of_odd)


def _mask_end(copies: CellCopies, cell: Any, step: int) -> float:
    """All steps from `step` on are masked, which equals a shorter sequence."""
    masked = _run_masked(copies, cell, slice(None), slice(step, None))
    masked["outputs"] = masked["outputs"][:, :step]
    shorter = run(cell, copies.x[:, :step], copies.states)
    claim = f"a tail masked from time step {step} on and the shorter sequence differ"
    return compare(masked, shorter, copies.tolerance, claim)


def states(copies: CellCopies) -> str:
    """The cell reads its initial states. Two halves, with the states passed on, are the whole."""
    cell, half = copies.copy(), copies.x.shape[1] // 2
    whole, rng = run(cell, copies.x, copies.states), copies.rng("other states")
    for k, state in enumerate(copies.states):
        other = [*copies.states[:k], rng.standard_normal(state.shape), *copies.states[k + 1 :]]
        if largest_difference(run(cell, copies.x, other), whole) <= copies.tolerance:
            raise Failed(
                f"another initial state {k} gives the same outputs and last states: the cell does "
                f"not read states[{k}]"
            )
    first = run(cell, copies.x[:, :half], copies.states)
    second = run(cell, copies.x[:, half:], list(states_of(first).values()))
    second["outputs"] = np.concatenate([first["outputs"], second["outputs"]], axis=1)
    claim = "two halves and the whole differ"
    return difference_text(compare(second, whole, copies.tolerance, claim))


def rows(copies: CellCopies) -> str:
    """Each row of a batch depends on its own inputs and states only."""
    cell, x, states = copies.copy(), copies.x, copies.states
    first, rest = slice(0, 1), slice(1, None)
    expected = run(cell, x, states)
    changed = x.copy()
    changed[first] += 1.0
    others = rows_of(run(cell, changed, states), rest)
    claim = "other rows change with the inputs of row 0"
    of_others = compare(others, rows_of(expected, rest), copies.tolerance, claim)
    reversed_rows = run(cell, x[::-1], [state[::-1] for state in states])
    back = rows_of(reversed_rows, slice(None, None, -1))
    of_order = compare(back, expected, copies.tolerance, "rows in another order differ")
    alone = run(cell, x[first], [state[first] for state in states])
    of_first = compare(alone, rows_of(expected, first), copies.tolerance, "row 0 alone differs")
    return difference_text(of_others, of_order, of_first)


def causal(copies: CellCopies) -> str:
    """The last input does not change earlier outputs."""
    cell, changed = copies.copy(), copies.x.copy()
    changed[:, -1] += 1.0
    runs = run(cell, changed, copies.states), run(cell, copies.x, copies.states)
    actual, expected = ({"outputs": each["outputs"][:, :-1]} for each in runs)
    claim = "earlier outputs change with the last input"
    return difference_text(compare(actual, expected, copies.tolerance, claim))


def bidirectional(copies: CellCopies) -> str:
    """`Bidirectional` gives what two layers give, one of them on the reversed sequence."""
    cell = copies.copy()
    layer = keras.layers.Bidirectional(
        rnn(cell, return_state=False), dtype=cell.dtype_policy, name="both"
    )
    backward_states = [-state for state in copies.states]
    x, initial = tensors(cell, copies.x, [*copies.states, *backward_states])
    layer(x, initial_state=initial)  # builds both cells, which Keras copied by the config
    forward_cell, backward_cell = layer.forward_layer.cell, layer.backward_layer.cell
    assign(forward_cell, cell.get_weights())
    assign(backward_cell, copies.random_weights(backward_cell, "backward"))
    actual = to_arrays(layer(x, initial_state=initial, training=False))
    forward = run(forward_cell, copies.x, copies.states)["outputs"]
    backward = run(backward_cell, copies.x[:, ::-1], backward_states)["outputs"][:, ::-1]
    expected = {"outputs": np.concatenate([forward, backward], axis=-1)}
    claim = "Bidirectional and the two directions by hand differ"
    return difference_text(compare(actual, expected, copies.tolerance, claim))
