"""Checks of what a cell computes over time. Each returns what it found, or raises `Failed`."""

from typing import Any

import keras
import numpy as np
from keras import tree

from keras_gated.conformance.compare import agreed, compare, largest, rows_of, states_of
from keras_gated.conformance.copies import Subject, assign
from keras_gated.conformance.report import Failed, Skipped, error_text
from keras_gated.conformance.run_cell import compilers, named, over_time, rnn, run, tensors


def shapes(s: Subject) -> str:
    """Outputs and states have the shapes and the type that the cell says, at each step."""
    cell = s.plain()
    s.build(cell)
    x, states = tensors(cell, s.x, s.states)
    width = getattr(cell, "output_size", None) or s.sizes[0]
    for time in range(x.shape[1]):
        output, states = stepped(cell, x[:, time], states)
        if len(states) != len(s.sizes):
            raise Failed(f"a step returns {len(states)} states; `state_size` has {len(s.sizes)}")
        _sized(output, (len(s.x), width), "the output", "`output_size`, or the first state_size,")
        for k, (state, size) in enumerate(zip(states, s.sizes, strict=True)):
            _sized(state, (len(s.x), size), f"state {k}", "`state_size`")
        kinds = {keras.backend.standardize_dtype(tensor.dtype) for tensor in (output, *states)}
        if kinds != {"float32"}:
            raise Failed(f"a step of a float32 cell returns {', '.join(sorted(kinds))}")
    if hasattr(cell, "get_initial_state"):
        zeros = flat(cell.get_initial_state(batch_size=2))
        found, expected = [tuple(z.shape) for z in zeros], [(2, size) for size in s.sizes]
        if found != expected:
            raise Failed(f"get_initial_state(2) has shapes {found}, not {expected}")
    return f"output {width}, states {', '.join(map(str, s.sizes))}"


def stepped(cell: Any, x, states: list) -> tuple[Any, list]:
    """One step: the output and the flat list of states."""
    output, new = cell(x, states)
    return output, flat(new)


def flat(states: Any) -> list:
    """States as a list, also where there is one alone."""
    return tree.flatten(states)


def _sized(tensor: Any, expected: tuple, name: str, source: str) -> None:
    if tuple(tensor.shape) != expected:
        raise Failed(f"{name} of a step has shape {tuple(tensor.shape)}; {source} says {expected}")


def deterministic(s: Subject) -> str:
    """Two calls in inference give the same."""
    cell = s.cell()
    first, second = run(cell, s.x, s.states), run(cell, s.x, s.states)
    return agreed(compare(second, first, s.tolerance, "two calls with training=False differ"))


def compiled(s: Subject) -> str:
    """Eager = graph = XLA."""
    if not compilers():
        raise Skipped(f"Keras runs eagerly on {keras.backend.backend()}")
    worst = 0.0
    for name, compiler in compilers().items():
        cell = s.cell()
        expected = run(cell, s.x, s.states)
        try:
            found = named(compiler(over_time(cell))(*tensors(cell, s.x, s.states)))
        except Exception as error:
            raise Failed(f"does not run as {name}: {error_text(error)}") from error
        about = f"{name} and eager execution differ"
        worst = max(worst, compare(found, expected, s.tolerance, about))
    return f"eager, {', '.join(compilers())}: {agreed(worst)}"


def unrolled(s: Subject) -> str:
    """Unrolled = looped, both compiled where Keras compiles."""
    cell = s.cell()
    compiler = next(iter(compilers().values()), lambda call: call)
    looped, unrolled = (
        named(compiler(over_time(cell, unroll=unroll))(*tensors(cell, s.x, s.states)))
        for unroll in (False, True)
    )
    return agreed(compare(unrolled, looped, s.tolerance, "unrolled and looped differ"))


def masks(s: Subject) -> str:
    """A masked step repeats the output and leaves the states, row by row."""
    cell, step = s.cell(), s.x.shape[1] // 2
    plain = run(cell, s.x, s.states)
    return agreed(_no_step(s, cell, plain), _hole(s, cell, plain, step), _tail(s, cell, step))


def _masked(s: Subject, cell: Any, rows: Any, times: Any) -> dict:
    mask = np.ones(s.x.shape[:2], bool)
    mask[rows, times] = False
    return run(cell, s.x, s.states, mask)


def _no_step(s: Subject, cell: Any, plain: dict) -> float:
    """The first row has no valid step."""
    found, first, rest = _masked(s, cell, 0, slice(None)), slice(0, 1), slice(1, None)
    initial = {f"state {k}": state for k, state in enumerate(s.states)}
    about = "a row without a valid step does not end with its initial states"
    worst = compare(states_of(rows_of(found, first)), rows_of(initial, first), s.tolerance, about)
    about = "a row changes with the mask of another"
    return max(worst, compare(rows_of(found, rest), rows_of(plain, rest), s.tolerance, about))


def _hole(s: Subject, cell: Any, plain: dict, step: int) -> float:
    """A step is masked in every other row."""
    odd, even = slice(1, None, 2), slice(0, None, 2)
    found = _masked(s, cell, odd, step)
    held, before = (found["outputs"][odd, t : t + 1] for t in (step, step - 1))
    about = f"the output of masked time step {step} is not that of the step before"
    worst = compare({"outputs": held}, {"outputs": before}, s.tolerance, about)
    about = "a row changes with the mask of another"
    worst = max(worst, compare(rows_of(found, even), rows_of(plain, even), s.tolerance, about))
    found["outputs"] = np.delete(found["outputs"], step, axis=1)
    without = run(cell, np.delete(s.x, step, axis=1), s.states)
    about = f"masking time step {step} and leaving it out differ"
    return max(worst, compare(rows_of(found, odd), rows_of(without, odd), s.tolerance, about))


def _tail(s: Subject, cell: Any, step: int) -> float:
    """All steps from one on are masked."""
    found, shorter = (
        _masked(s, cell, slice(None), slice(step, None)),
        run(cell, s.x[:, :step], s.states),
    )
    found["outputs"] = found["outputs"][:, :step]
    about = f"a tail masked from time step {step} on and the shorter sequence differ"
    return compare(found, shorter, s.tolerance, about)


def states(s: Subject) -> str:
    """Initial states are read, and two halves with the states passed on equal the whole."""
    cell, half = s.cell(), s.x.shape[1] // 2
    whole, rng = run(cell, s.x, s.states), s.rng("other states")
    for k, state in enumerate(s.states):
        other = [*s.states[:k], rng.standard_normal(state.shape), *s.states[k + 1 :]]
        if largest(run(cell, s.x, other), whole) <= s.tolerance:
            raise Failed(
                f"another initial state {k} gives the same outputs and last states: the cell does "
                f"not read states[{k}]"
            )
    first = run(cell, s.x[:, :half], s.states)
    second = run(cell, s.x[:, half:], list(states_of(first).values()))
    second["outputs"] = np.concatenate([first["outputs"], second["outputs"]], axis=1)
    return agreed(compare(second, whole, s.tolerance, "two halves and the whole differ"))


def rows(s: Subject) -> str:
    """The rows of a batch do not know of one another."""
    cell, first, rest = s.cell(), slice(0, 1), slice(1, None)
    plain = run(cell, s.x, s.states)
    changed = s.x.copy()
    changed[first] += 1.0
    found = rows_of(run(cell, changed, s.states), rest)
    about = "other rows change with the inputs of row 0"
    worst = [compare(found, rows_of(plain, rest), s.tolerance, about)]
    turned = run(cell, s.x[::-1], [state[::-1] for state in s.states])
    turned, about = rows_of(turned, slice(None, None, -1)), "rows in another order differ"
    worst.append(compare(turned, plain, s.tolerance, about))
    alone, about = (
        run(cell, s.x[first], [state[first] for state in s.states]),
        "row 0 alone differs",
    )
    worst.append(compare(alone, rows_of(plain, first), s.tolerance, about))
    return agreed(*worst)


def causal(s: Subject) -> str:
    """What comes last does not change what comes before."""
    cell, changed = s.cell(), s.x.copy()
    changed[:, -1] += 1.0
    found, plain = run(cell, changed, s.states), run(cell, s.x, s.states)
    before, expected = ({"outputs": each["outputs"][:, :-1]} for each in (found, plain))
    about = "earlier outputs change with the last input"
    return agreed(compare(before, expected, s.tolerance, about))


def bidirectional(s: Subject) -> str:
    """`Bidirectional` equals its two directions by hand."""
    cell = s.cell()
    layer = keras.layers.Bidirectional(
        rnn(cell, return_state=False), dtype=cell.dtype_policy, name="both"
    )
    x, initial = tensors(cell, s.x, [*s.states, *(-state for state in s.states)])
    layer(x, initial_state=initial)
    one, other = layer.forward_layer.cell, layer.backward_layer.cell  # copies, by the config
    assign(one, cell.get_weights())
    assign(other, s.draw(other, "backward"))
    found = named(layer(x, initial_state=initial, training=False))
    forward = run(one, s.x, s.states)["outputs"]
    backward = run(other, s.x[:, ::-1], [-state for state in s.states])["outputs"][:, ::-1]
    expected = {"outputs": np.concatenate([forward, backward], axis=-1)}
    about = "Bidirectional and the two directions by hand differ"
    return agreed(compare(found, expected, s.tolerance, about))
