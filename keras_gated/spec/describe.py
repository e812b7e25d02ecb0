"""What follows from a specification without running it: equations, counts, differences, text."""

import math
import textwrap
from dataclasses import dataclass
from typing import Any

from keras_gated.spec import equations as notation
from keras_gated.spec.cell_spec import CellSpec
from keras_gated.spec.normal_form import NormalForm, resolve
from keras_gated.spec.onnx_operator import lower
from keras_gated.spec.options import IN_NATIVE_OPERATOR, NO_GATE_RECURRENCE
from keras_gated.spec.parts import positive
from keras_gated.spec.presets import Preset, presets, specification


def equations(spec: str | CellSpec) -> str:
    """Returns the equations of a cell in LaTeX, one line for each quantity.

    Args:
        spec: name of a preset, or a `CellSpec`.
    """
    lines = " \\\\\n".join(line.latex for line in notation.lines(_form(spec)))
    return f"\\begin{{aligned}}\n{lines}\n\\end{{aligned}}"


def count_parameters(spec: str | CellSpec, input_dim: int, units: int) -> int:
    """Returns the number of weights of a cell.

    Args:
        spec: name of a preset, or a `CellSpec`.
        input_dim: int > 0. Features of x_t.
        units: int > 0. Size of the state.

    Raises:
        ValueError: if a number is not positive, or a diagonal or identity kernel does not fit.
    """
    shapes = _form(spec).shapes(positive(input_dim, "input_dim"), positive(units, "units"))
    return sum(math.prod(shape) for shape in shapes.values())


def count_flops(spec: str | CellSpec, input_dim: int, units: int) -> int:
    """Returns the floating-point operations of one time step of one sequence.

    A product with a matrix (a, b) counts 2ab; every elementwise sum, product and activation counts
    one per unit.

    Args and errors: as `count_parameters`.
    """
    form = _form(spec)
    shapes = form.shapes(positive(input_dim, "input_dim"), positive(units, "units"))
    products = sum(2 * math.prod(shapes[weight.name]) for weight in form.weights if weight.rows)
    return products + units * sum(line.right.ops for line in notation.lines(form))


def units_for_budget(spec: str | CellSpec, input_dim: int, parameters: int) -> int:
    """Returns the largest number of units with which a cell has at most `parameters` weights.

    With it cells are compared at equal size, as Chung et al. 2014 (arXiv:1412.3555) did.

    Args:
        spec: name of a preset, or a `CellSpec`.
        input_dim: int > 0. Features of x_t.
        parameters: int. The budget.

    Raises:
        ValueError: if the budget is too small for the smallest such cell.
    """
    form = _form(spec)
    least = form.window * input_dim if form.square else 1  # the only size that fits, if square
    smallest = count_parameters(spec, input_dim, least)
    if smallest > parameters:
        raise ValueError(
            f"Argument `parameters` must be at least {smallest:,}, the weights of this cell with "
            f"{least} units on {input_dim} inputs. Received: parameters={parameters!r}."
        )
    if form.square:
        return least
    low, high = least, least + 1
    while count_parameters(spec, input_dim, high) <= parameters:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        fits = count_parameters(spec, input_dim, middle) <= parameters
        low, high = (middle, high) if fits else (low, middle)
    return low


@dataclass(frozen=True)
class Difference:
    """What two cells have that the other lacks; prints as text.

    Attributes:
        first, second: their names.
        only_first, only_second: weights and equations of the one that the other has not.
    """

    first: str
    second: str
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    def __str__(self) -> str:
        if not (self.only_first or self.only_second):
            return f"{self.first} and {self.second} are the same cell."
        rows = [f"- {self.first}", f"+ {self.second}", ""]
        rows += [f"- {row}" for row in self.only_first]
        return "\n".join(rows + [f"+ {row}" for row in self.only_second])


def diff(first: str | CellSpec, second: str | CellSpec) -> Difference:
    """Returns what one cell has that the other lacks.

    Args:
        first, second: names of presets, or `CellSpec`s.
    """
    ours, theirs = _features(_form(first)), _features(_form(second))
    return Difference(
        _name(first, "first"),
        _name(second, "second"),
        tuple(row for row in ours if row not in theirs),
        tuple(row for row in theirs if row not in ours),
    )


def describe(spec: Any, input_dim: int | None = None, units: int | None = None) -> str:
    """Returns a cell in words and numbers: equations, states, weights, counts, paper, notes.

    Of a layer also its options, and what runs it over time.

    Args:
        spec: name of a preset, a `CellSpec`, or a `GatedRNN` or `GatedCell`.
        input_dim: int > 0, or None. Features of x_t, for the counts.
        units: int > 0, or None. Size of the state, for the counts.
    """
    cell = getattr(spec, "cell", spec)
    unrolled = getattr(spec, "unroll", False)
    layer, spec = (cell, cell.spec) if hasattr(cell, "loop_reason") else (None, spec)
    form = _form(spec)
    known = presets[spec] if isinstance(spec, str) else None
    window = [f"the last {form.window - 1} inputs"] if form.window > 1 else []
    rows = [("States", ", ".join([*form.states, *window])), ("Weights", "; ".join(_weights(form)))]
    if input_dim is not None and units is not None:
        rows += _counts(spec, input_dim, units)
    rows += _running(form, layer, unrolled)
    rows += _about(known) if known else []
    head = f"{known.name}: {known.title}" if known else "custom cell"
    body = "\n".join(f"  {line.text}" for line in notation.lines(form))
    return "\n".join([head, "", body, "", *(_row(name, text) for name, text in rows)])


def _form(spec: Any) -> NormalForm:
    return resolve(specification(spec))


def _name(spec: str | CellSpec, otherwise: str) -> str:
    return spec if isinstance(spec, str) else otherwise


def _weights(form: NormalForm) -> list[str]:
    """The weights of each block, e.g. "forget: kernel (dense), bias"."""
    parts: dict[str, list[str]] = {}
    for weight in form.weights:
        kind = " (diagonal)" if "diagonal" in weight.name else ""
        for name in weight.blocks:
            parts.setdefault(name, []).extend(key + kind for key in weight.keys)
    return [f"{name}: {', '.join(keys)}" for name, keys in parts.items()]


def _features(form: NormalForm) -> list[str]:
    states = [f"state {name}" for name in form.states]
    weights = [
        f"{row.partition(':')[0]} {key.strip()}" for row in _weights(form) for key in _keys(row)
    ]
    return [*states, *weights, *(line.text for line in notation.lines(form))]


def _keys(row: str) -> list[str]:
    return row.partition(":")[2].split(",")


def _counts(spec: str | CellSpec, input_dim: int, units: int) -> list[tuple[str, str]]:
    size = f"with {input_dim} inputs and {units} units"
    parameters = f"{count_parameters(spec, input_dim, units):,} {size}"
    flops = f"{count_flops(spec, input_dim, units):,} per time step {size}"
    return [("Parameters", parameters), ("FLOPs", flops)]


def _running(form: NormalForm, cell: Any, unrolled: bool) -> list[tuple[str, str]]:
    """What a cell has beside the formula, what runs it over time, and what it is in ONNX."""
    lowering, rows = lower(form), []
    loop, stepwise_option = NO_GATE_RECURRENCE if form.gate_recurrence else None, None
    if cell is not None:
        acting = ", ".join(f"{name}={value}" for name, value in cell.options().items())
        rows, stepwise_option = [("Options", acting or "none")], cell.stepwise_option
        loop = "unroll=True" if unrolled else cell.loop_reason
    if loop:
        rows.append(("Loop", f"Keras's own: {loop}"))
    if stepwise_option or lowering.operator is None:
        return [*rows, ("ONNX", f"Scan, since {stepwise_option or lowering.reason}")]
    more = (
        [IN_NATIVE_OPERATOR[name] for name in cell.options(IN_NATIVE_OPERATOR)]
        if cell is not None
        else []
    )
    return [*rows, ("ONNX", "; ".join([lowering.operator, *more]))]


def _about(known: Preset) -> list[tuple[str, str]]:
    source = known.paper if known.confirmed else f"{known.paper} (formula recalled)"
    rows = [("Paper", source), ("Initial bias", known.initial_bias)]
    if known.arguments:
        rows.append(("Arguments", ", ".join(f"{k}={v!r}" for k, v in known.arguments.items())))
    return rows + ([("Notes", known.notes)] if known.notes else [])


def _row(name: str, text: str) -> str:
    return textwrap.fill(text, 96, initial_indent=f"{name:<14}", subsequent_indent=" " * 14)
