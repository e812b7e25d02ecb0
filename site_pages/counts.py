"""Numbers of weights and shapes as formulas in the number of inputs m and of units n."""

from collections.abc import Callable

import keras_gated as kg
from keras_gated.spec.normal_form import NormalForm, Weight

Count = Callable[..., int]


def count_formula(count: Count, spec: str | kg.CellSpec, square: bool = False) -> str:
    """Returns a count of a cell in LaTeX, a sum of multiples of m n, n², n and 1.

    Args:
        count: `keras_gated.count_parameters` or `count_flops`.
        spec: name of a preset, or a `CellSpec`.
        square: whether the cell has as many inputs as units.

    The coefficients follow from the counts of four small cells.
    """

    def at(inputs: int, units: int) -> int:
        return count(spec, input_dim=units if square else inputs, units=units)

    one, both = at(1, 1), at(2, 1) - at(1, 1)
    squares = (at(1, 3) - 2 * at(1, 2) + one) // 2
    if square:
        both = 0
    units = at(1, 2) - one - both - 3 * squares
    terms = {"m n": both, "n^2": squares, "n": units, "": one - both - squares - units}
    return " + ".join(f"{'' if k == 1 and of else k} {of}".strip() for of, k in terms.items() if k)


def shape_formula(weight: Weight, form: NormalForm) -> str:
    """Returns the shape of a weight, e.g. "(m, 4n)"."""
    inputs = _times(form.window, "m")
    if form.projection and weight.name != "projection_kernel":
        inputs = "n"
    columns = str(len(weight.blocks)) if weight.one_number else _times(len(weight.blocks), "n")
    if weight.kernel and weight.kernel.is_stack:
        n, rows = weight.kernel.groups, inputs if weight.sees == "input" else "n"
        part = f" / {n}" if n > 1 else ""
        return f"({n}, {rows}{part}, {columns}{part})"
    if weight.is_matrix:
        return f"({ {'input': inputs, 'state': 'n', 'gates': '3n'}[weight.sees] }, {columns})"
    return f"({len(weight.keys)}, {columns})" if len(weight.keys) > 1 else f"({columns},)"


def _times(count: int, letter: str) -> str:
    return letter if count == 1 else f"{count}{letter}"
