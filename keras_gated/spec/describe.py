"""Functions that count, compare and describe cells without running them.

They are public: `equations`, `count_parameters`, `count_flops`, `units_for_budget`, `diff` and
`describe`. All read the normal form. Counts of operations come from the equations.
"""

import math
import textwrap
from dataclasses import dataclass
from typing import Any

from keras_gated.spec.cell_spec import CellSpec
from keras_gated.spec.equations import build_equations
from keras_gated.spec.normal_form import NormalForm, resolve
from keras_gated.spec.onnx_operator import find_native_operator
from keras_gated.spec.options import NO_GATE_RECURRENCE
from keras_gated.spec.parts import check_positive
from keras_gated.spec.preset_lookup import Preset, as_spec, presets


def equations(spec: str | CellSpec) -> str:
    """Returns the equations of a cell in LaTeX, one line for each quantity.

    Args:
        spec: name of a preset, or a `CellSpec`.

    Example:
        >>> print(kg.equations("elman"))
        \\begin{aligned}
        \\tilde{h}_t &= \\tanh(W_c x_t + U_c h_{t-1} + b_c) \\\\
        h_t &= \\tilde{h}_t
        \\end{aligned}
    """
    lines = " \\\\\n".join(equation.latex for equation in build_equations(_form(spec)))
    return f"\\begin{{aligned}}\n{lines}\n\\end{{aligned}}"


def count_parameters(spec: str | CellSpec, input_dim: int, units: int) -> int:
    """Returns the number of weights of a cell.

    Args:
        spec: name of a preset, or a `CellSpec`.
        input_dim: int > 0. Features of x_t.
        units: int > 0. Size of the state.

    Raises:
        ValueError: if a number is not positive, or a diagonal or identity kernel needs as many
            inputs as units.

    Example:
        >>> kg.count_parameters("lstm", 64, 128), kg.count_parameters("lstm_f", 64, 128)
        (98816, 74112)
    """
    shapes = _shapes(_form(spec), input_dim, units)
    return sum(math.prod(shape) for shape in shapes.values())


def count_flops(spec: str | CellSpec, input_dim: int, units: int) -> int:
    """Returns the floating-point operations of one time step of one sequence.

    A product with a matrix (a, b) counts as 2ab operations. Each elementwise sum, product and
    activation counts as one operation per unit.

    Args:
        spec: name of a preset, or a `CellSpec`.
        input_dim: int > 0. Features of x_t.
        units: int > 0. Size of the state.

    Raises:
        ValueError: as `count_parameters`.

    Example:
        >>> kg.count_flops("lstm", 64, 128)
        198784
    """
    form = _form(spec)
    shapes = _shapes(form, input_dim, units)
    products = sum(w.kernel.flops(shapes[w.name]) for w in form.weights if w.kernel)
    return products + units * sum(equation.right.ops for equation in build_equations(form))


def units_for_budget(spec: str | CellSpec, input_dim: int, parameters: int) -> int:
    """Returns the largest number of units with which a cell has at most `parameters` weights.

    Use it to compare cells of equal size, as Chung et al. 2014 (arXiv:1412.3555) did.

    Args:
        spec: name of a preset, or a `CellSpec`.
        input_dim: int > 0. Features of x_t.
        parameters: int. The budget.

    Raises:
        ValueError: if even the smallest such cell has more weights than the budget.

    Example:
        >>> {name: kg.units_for_budget(name, 88, 18000) for name in ("lstm", "gru", "janet")}
        {'lstm': 36, 'gru': 44, 'janet': 60}
    """
    form = _form(spec)
    # A diagonal or identity kernel fits only one size, kernels of n blocks multiples of n.
    step = form.unit_groups
    least = form.window * input_dim if form.square else step
    smallest = count_parameters(spec, input_dim, least)
    if smallest > parameters:
        raise ValueError(
            f"Argument `parameters` must be at least {smallest:,}, the weights of this cell with "
            f"{least} units on {input_dim} inputs. Received: parameters={parameters!r}."
        )
    if form.square:
        return least
    low, high = 1, 2  # in steps
    while count_parameters(spec, input_dim, high * step) <= parameters:
        low, high = high, 2 * high
    while high - low > 1:  # `low` fits the budget, `high` does not
        middle = (low + high) // 2
        fits = count_parameters(spec, input_dim, middle * step) <= parameters
        low, high = (middle, high) if fits else (low, middle)
    return low * step


@dataclass(frozen=True)
class Difference:
    """What each of two cells has that the other lacks. `diff` returns it; it prints as text.

    Attributes:
        first, second: names of the two cells.
        only_first, only_second: states, weights and equations that only this cell has.

    Example:
        >>> difference = kg.diff("lstm", "lstm_f")
        >>> difference.only_second
        ('cₜ = cₜ₋₁ + iₜ ⊙ c̃ₜ',)
        >>> print(kg.diff("lstm", "np"))
        lstm and np are the same cell.
    """

    first: str
    second: str
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    def __str__(self) -> str:
        if not (self.only_first or self.only_second):
            return f"{self.first} and {self.second} are the same cell."
        lines = [f"- {self.first}", f"+ {self.second}", ""]
        lines += [f"- {feature}" for feature in self.only_first]
        return "\n".join(lines + [f"+ {feature}" for feature in self.only_second])


def diff(first: str | CellSpec, second: str | CellSpec) -> Difference:
    """Returns what each of two cells has that the other lacks: states, weights and equations.

    Args:
        first, second: names of presets, or `CellSpec`s.

    Example:
        >>> print(kg.diff("lstm", "lstm_f"))
        - lstm
        + lstm_f
        <BLANKLINE>
        - forget kernel
        - forget recurrent_kernel
        - forget bias
        - fₜ = σ(W_f xₜ + U_f hₜ₋₁ + b_f)
        - cₜ = fₜ ⊙ cₜ₋₁ + iₜ ⊙ c̃ₜ
        + cₜ = cₜ₋₁ + iₜ ⊙ c̃ₜ
    """
    of_first, of_second = _features(_form(first)), _features(_form(second))
    return Difference(
        _name(first, "first"),
        _name(second, "second"),
        tuple(feature for feature in of_first if feature not in of_second),
        tuple(feature for feature in of_second if feature not in of_first),
    )


def describe(spec: Any, input_dim: int | None = None, units: int | None = None) -> str:
    """Returns a text about a cell: its equations, states, weights, counts, paper and notes.

    For a layer the text also says which options are in use and what runs the layer over time.

    Args:
        spec: name of a preset, a `CellSpec`, or a `GatedRNN` or `GatedCell`.
        input_dim: int > 0, or None. Features of x_t. With `units` the text has counts.
        units: int > 0, or None. Size of the state.

    Example:
        >>> print(kg.describe("elman", input_dim=64, units=128))
        elman: tanh RNN, no gate at all
        <BLANKLINE>
          h̃ₜ = tanh(W_c xₜ + U_c hₜ₋₁ + b_c)
          hₜ = h̃ₜ
        <BLANKLINE>
        States        h
        Weights       candidate: kernel, recurrent_kernel, bias
        Parameters    24,704 with 64 inputs and 128 units
        FLOPs         49,536 per time step with 64 inputs and 128 units
        ONNX          RNN
        Paper         Elman 1990, Finding structure in time. Cognitive Science 14
        ...
    """
    cell = getattr(spec, "cell", spec)
    unrolled = getattr(spec, "unroll", False)
    cell, spec = (cell, cell.spec) if hasattr(cell, "automatic_reason") else (None, spec)
    form = _form(spec)
    known = presets[spec] if isinstance(spec, str) else None
    window = [f"the last {form.window - 1} inputs"] if form.window > 1 else []
    rows = [("States", ", ".join([*form.states, *window])), ("Weights", "; ".join(_weights(form)))]
    if input_dim is not None and units is not None:
        rows += _counts(spec, input_dim, units)
    rows += _how_it_runs(form, cell, unrolled)
    rows += _about_preset(known) if known else []
    head = f"{known.name}: {known.title}" if known else "custom cell"
    body = "\n".join(f"  {equation.text}" for equation in build_equations(form))
    return "\n".join([head, "", body, "", *(_row(name, text) for name, text in rows)])


def _form(spec: Any) -> NormalForm:
    return resolve(as_spec(spec))


def _shapes(form: NormalForm, input_dim: int, units: int) -> dict[str, tuple[int, ...]]:
    """The shapes of all weights, for arguments of a public function."""
    return form.shapes(check_positive(input_dim, "input_dim"), check_positive(units, "units"))


def _name(spec: str | CellSpec, otherwise: str) -> str:
    return spec if isinstance(spec, str) else otherwise


def _weights(form: NormalForm) -> list[str]:
    """The weights of each block, e.g. "forget: kernel, bias"."""
    return [f"{name}: {', '.join(keys)}" for name, keys in _weights_by_block(form).items()]


def _weights_by_block(form: NormalForm) -> dict[str, list[str]]:
    """The weights of each block by its name; those of kernels that are not dense say so."""
    blocks: dict[str, list[str]] = {}
    for weight in form.weights:
        kernel = weight.kernel
        kind = f" ({kernel.label})" if kernel and kernel.label else ""
        for name in weight.blocks:
            blocks.setdefault(name, []).extend(key + kind for key in weight.keys)
    return blocks


def _features(form: NormalForm) -> list[str]:
    """What `diff` compares: states, weights and equations as lines of text."""
    states = [f"state {name}" for name in form.states]
    weights = [f"{name} {key}" for name, keys in _weights_by_block(form).items() for key in keys]
    return [*states, *weights, *(equation.text for equation in build_equations(form))]


def _counts(spec: str | CellSpec, input_dim: int, units: int) -> list[tuple[str, str]]:
    size = f"with {input_dim} inputs and {units} units"
    parameters = f"{count_parameters(spec, input_dim, units):,} {size}"
    flops = f"{count_flops(spec, input_dim, units):,} per time step {size}"
    return [("Parameters", parameters), ("FLOPs", flops)]


def _how_it_runs(form: NormalForm, cell: Any, unrolled: bool) -> list[tuple[str, str]]:
    """Rows on the options in use, on what runs the cell over time, and on its form in ONNX."""
    lowering, rows = find_native_operator(form), []
    automatic = NO_GATE_RECURRENCE if form.gate_recurrence else None
    stepwise_option, native_options = None, []
    if cell is not None:
        options = ", ".join(f"{name}={value}" for name, value in cell.options().items())
        rows.append(("Options", options or "none"))
        automatic = "unroll=True" if unrolled else cell.automatic_reason
        stepwise_option, native_options = cell.stepwise_option, cell.native_options
    if automatic:
        rows.append(("Gradient", f"automatic: {automatic}"))
    if stepwise_option or lowering.operator is None:
        return [*rows, ("ONNX", f"Scan, since {stepwise_option or lowering.reason}")]
    return [*rows, ("ONNX", "; ".join([lowering.operator, *native_options]))]


def _about_preset(known: Preset) -> list[tuple[str, str]]:
    source = known.paper if known.confirmed else f"{known.paper} (formula recalled)"
    rows = [("Paper", source), ("Initial bias", known.initial_bias)]
    if known.arguments:
        rows.append(("Arguments", ", ".join(f"{k}={v!r}" for k, v in known.arguments.items())))
    return rows + ([("Notes", known.notes)] if known.notes else [])


def _row(name: str, text: str) -> str:
    return textwrap.fill(text, 96, initial_indent=f"{name:<14}", subsequent_indent=" " * 14)
