"""Checks of what a cell computes over time.

Each check is a function of `CellCopies`. It returns a text on what it measured, or raises `Failed`
or `Skipped`. Most compare two runs that must be equal, e.g. with and without a mask.
"""

from typing import Any

import keras
import numpy as np
from keras import tree

from keras_gated.conformance.cell_copies import CellCopies, assign
from keras_gated.conformance.compare import difference_text, largest_difference, rows_of, states_of
from keras_gated.conformance.report import Failed, Skipped, error_text
from keras_gated.conformance.run_cell import compilers, over_time, rnn, tensors, to_arrays

OTHER_ROWS_CHANGE = "a row changes with the mask of another"


def shapes(copies: CellCopies) -> str:
    """Outputs and states have the shapes that the cell states, and its dtype, at each step."""
    cell = copies.unbuilt_copy()
    copies.build(cell)
    x, states = copies.tensors(cell)
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
        zeros = tree.flatten(cell.get_initial_state(batch_size=2))
        actual, expected = [tuple(z.shape) for z in zeros], [(2, size) for size in sizes]
        if actual != expected:
            raise Failed(f"get_initial_state(2) has shapes {actual}, not {expected}")
    return f"output {width}, states {', '.join(map(str, sizes))}"


def run_step(cell: Any, x, states: list) -> tuple[Any, list]:
    """Runs one time step and returns the output and the list of states."""
    output, new = cell(x, states)
    return output, tree.flatten(new)  # a cell may return a single state without a list


def _check_shape(tensor: Any, expected: tuple, name: str, source: str) -> None:
    if tuple(tensor.shape) != expected:
        raise Failed(f"{name} of a step has shape {tuple(tensor.shape)}; {source} says {expected}")


def deterministic(copies: CellCopies) -> str:
    """Two calls in inference give the same."""
    cell = copies.copy()
    first, second = copies.run(cell), copies.run(cell)
    return difference_text(copies.compare(second, first, "two calls with training=False differ"))


def compiled(copies: CellCopies) -> str:
    """Compiled execution gives what eager execution gives."""
    if not compilers():
        raise Skipped(f"Keras runs eagerly on {keras.backend.backend()}")
    differences = []
    for name, compiler in compilers().items():
        cell = copies.copy()
        expected = copies.run(cell)
        try:
            actual = to_arrays(compiler(over_time(cell))(*copies.tensors(cell)))
        except Exception as error:
            raise Failed(f"does not run as {name}: {error_text(error)}") from error
        claim = f"{name} and eager execution differ"
        differences.append(copies.compare(actual, expected, claim))
    return f"eager, {', '.join(compilers())}: {difference_text(*differences)}"


def unrolled(copies: CellCopies) -> str:
    """An unrolled layer gives what a loop gives. Both are compiled if Keras compiles."""
    cell = copies.copy()
    compiler = next(iter(compilers().values()), lambda call: call)
    looped, unrolled = (
        to_arrays(compiler(over_time(cell, unroll=unroll))(*copies.tensors(cell)))
        for unroll in (False, True)
    )
    return difference_text(copies.compare(unrolled, looped, "unrolled and looped differ"))


def masks(copies: CellCopies) -> str:
    """A masked step repeats the last output and leaves the states unchanged, in each row alone."""
    cell, step = copies.copy(), copies.x.shape[1] // 2
    unmasked = copies.run(cell)
    return difference_text(
        _mask_whole_row(copies, cell, unmasked),
        _mask_one_step(copies, cell, unmasked, step),
        _mask_end(copies, cell, step),
    )


def _run_masked(copies: CellCopies, cell: Any, rows: Any, times: Any) -> dict:
    """A run with a mask that is False at these rows and time steps."""
    mask = np.ones(copies.x.shape[:2], bool)
    mask[rows, times] = False
    return copies.run(cell, mask=mask)


def _mask_whole_row(copies: CellCopies, cell: Any, unmasked: dict) -> float:
    """Row 0 is masked: it ends with its initial states, and the other rows do not change."""
    first, rest = slice(0, 1), slice(1, None)
    masked = _run_masked(copies, cell, 0, slice(None))
    initial = {f"state {k}": state for k, state in enumerate(copies.states)}
    claim = "a row without a valid step does not end with its initial states"
    of_first = copies.compare(states_of(masked), initial, claim, first)
    return max(of_first, copies.compare(masked, unmasked, OTHER_ROWS_CHANGE, rest))


def _mask_one_step(copies: CellCopies, cell: Any, unmasked: dict, step: int) -> float:
    """One step is masked in the odd rows: there it is as if the step were not in the sequence."""
    odd, even = slice(1, None, 2), slice(0, None, 2)
    masked = _run_masked(copies, cell, odd, step)
    repeated, before = (masked["outputs"][odd, t : t + 1] for t in (step, step - 1))
    claim = f"the output of masked time step {step} is not that of the step before"
    of_step = copies.compare({"outputs": repeated}, {"outputs": before}, claim)
    of_even = copies.compare(masked, unmasked, OTHER_ROWS_CHANGE, even)
    masked["outputs"] = np.delete(masked["outputs"], step, axis=1)
    without = copies.run(cell, np.delete(copies.x, step, axis=1))
    claim = f"masking time step {step} and leaving it out differ"
    return max(of_step, of_even, copies.compare(masked, without, claim, odd))


def _mask_end(copies: CellCopies, cell: Any, step: int) -> float:
    """All steps from `step` on are masked, which equals a shorter sequence."""
    masked = _run_masked(copies, cell, slice(None), slice(step, None))
    masked["outputs"] = masked["outputs"][:, :step]
    shorter = copies.run(cell, copies.x[:, :step])
    claim = f"a tail masked from time step {step} on and the shorter sequence differ"
    return copies.compare(masked, shorter, claim)


def states(copies: CellCopies) -> str:
    """The cell reads its initial states. Two halves, with the states passed on, are the whole."""
    cell, half = copies.copy(), copies.x.shape[1] // 2
    whole, rng = copies.run(cell), copies.rng("other states")
    for k, state in enumerate(copies.states):
        other = [*copies.states[:k], rng.standard_normal(state.shape), *copies.states[k + 1 :]]
        if largest_difference(copies.run(cell, states=other), whole) <= copies.tolerance:
            raise Failed(
                f"another initial state {k} gives the same outputs and last states: the cell does "
                f"not read states[{k}]"
            )
    first = copies.run(cell, copies.x[:, :half])
    second = copies.run(cell, copies.x[:, half:], [*states_of(first).values()])
    second["outputs"] = np.concatenate([first["outputs"], second["outputs"]], axis=1)
    return difference_text(copies.compare(second, whole, "two halves and the whole differ"))


def rows(copies: CellCopies) -> str:
    """Each row of a batch depends on its own inputs and states only."""
    cell, x, states = copies.copy(), copies.x, copies.states
    first, rest = slice(0, 1), slice(1, None)
    expected, changed = copies.run(cell), x.copy()
    changed[first] += 1.0
    claim = "other rows change with the inputs of row 0"
    of_others = copies.compare(copies.run(cell, changed), expected, claim, rest)
    reversed_rows = copies.run(cell, x[::-1], [state[::-1] for state in states])
    back = rows_of(reversed_rows, slice(None, None, -1))
    of_order = copies.compare(back, expected, "rows in another order differ")
    alone = copies.run(cell, x[first], [state[first] for state in states])
    of_first = copies.compare(alone, expected, "row 0 alone differs", first)
    return difference_text(of_others, of_order, of_first)


def causal(copies: CellCopies) -> str:
    """The last input does not change earlier outputs."""
    cell, changed = copies.copy(), copies.x.copy()
    changed[:, -1] += 1.0
    runs = copies.run(cell, changed), copies.run(cell)
    actual, expected = ({"outputs": each["outputs"][:, :-1]} for each in runs)
    claim = "earlier outputs change with the last input"
    return difference_text(copies.compare(actual, expected, claim))


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
    forward = copies.run(forward_cell)["outputs"]
    backward = copies.run(backward_cell, copies.x[:, ::-1], backward_states)["outputs"][:, ::-1]
    expected = {"outputs": np.concatenate([forward, backward], axis=-1)}
    claim = "Bidirectional and the two directions by hand differ"
    return difference_text(copies.compare(actual, expected, claim))
