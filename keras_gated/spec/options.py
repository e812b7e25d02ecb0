"""Options: what a cell can have in addition to its formula, and which options exclude each other.

`TABLE` has a row for each option and says where it works. All other lists are derived from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from keras_gated.spec.normal_form import NormalForm, Weight
from keras_gated.spec.parts import check_positive


@dataclass(frozen=True)
class Option:
    """Where one option works.

    Attributes:
        name: argument of the layer.
        needs_layer: whether training needs the whole sequence, which a `GatedRNN` has and a
            `GatedCell` in another layer has not.
        stepwise: whether it changes each time step at inference, so that no native ONNX operator
            computes the cell and its time steps cannot run in parallel.
        needs_keras_loop: whether Keras's loop must run the cell: the engine has no gradient for it.
        in_native_operator: how a native ONNX operator includes it; None if there is nothing to say.
    """

    name: str
    needs_layer: bool = False
    stepwise: bool = False
    needs_keras_loop: bool = False
    in_native_operator: str | None = None


BATCH_NORM, PROJECTION = (
    "batch_norm folded into its weights",
    "projection_units as a matrix product after it",
)
TABLE = (
    Option("dropout", needs_layer=True),
    Option("recurrent_dropout", needs_layer=True),
    Option("candidate_dropout", needs_layer=True),
    Option("zoneout", needs_layer=True, stepwise=True),
    Option("weight_noise", needs_layer=True),
    Option("batch_norm", needs_layer=True, in_native_operator=BATCH_NORM),
    Option("state_clip", stepwise=True),
    Option("layer_norm", stepwise=True, needs_keras_loop=True),
    Option("projection_units", needs_keras_loop=True, in_native_operator=PROJECTION),
)
OPTIONS = tuple(option.name for option in TABLE)
NEED_LAYER = tuple(option.name for option in TABLE if option.needs_layer)
STEPWISE = tuple(option.name for option in TABLE if option.stepwise)
NEED_KERAS_LOOP = tuple(option.name for option in TABLE if option.needs_keras_loop)
IN_NATIVE_OPERATOR = {o.name: o.in_native_operator for o in TABLE if o.in_native_operator}
NO_GATE_RECURRENCE = "the engine has no gate recurrence"


def option_weights(
    form: NormalForm, layer_norm: bool, projection_units: int | None
) -> tuple[Weight, ...]:
    """Returns the weights that options add to those of the normal form.

    Args:
        form: normal form of the cell.
        layer_norm: whether the cell has layer_norm.
        projection_units: size of the projected output, or None.
    """
    added = []
    if layer_norm:
        dense = {weight.name: weight.blocks for weight in form.weights}
        added = [
            Weight(gain, (gain,), dense.get(kernel, ()))
            for kernel, gain in (("kernel", "kernel_gain"), ("recurrent_kernel", "recurrent_gain"))
        ]
        memory = ("memory",) if form.memory == "cell" else ()
        added += [Weight(f"memory_{key}", (key,), memory) for key in ("gain", "shift")]
    if projection_units:
        name = "output_projection"
        added.append(Weight(f"{name}_kernel", ("kernel",), (name,), "state"))
    return tuple(weight for weight in added if weight.blocks)


def check_options(form: NormalForm, options: dict[str, Any]) -> None:
    """Raises a ValueError if two options exclude each other or one has nothing to act on.

    Args:
        form: normal form of the cell.
        options: the values of the options that are in use, by name.
    """
    names = {weight.name for weight in form.weights}
    if {"layer_norm", "batch_norm"} <= set(options):
        raise ValueError(
            "Arguments `layer_norm` and `batch_norm` exclude each other: both normalise the "
            "product of the input. Received: layer_norm=True, batch_norm=True. Use one of them."
        )
    if "batch_norm" in options and "kernel" not in names:
        raise ValueError(
            "Argument `batch_norm` needs a dense kernel, because it normalises the product with "
            "it. Received: batch_norm=True with a cell that has no dense kernel."
        )
    if "layer_norm" in options and not option_weights(form, True, None):
        raise ValueError(
            "Argument `layer_norm` needs a dense kernel or memory='cell', because it normalises "
            "the products and the memory. Received: layer_norm=True with a cell that has neither."
        )
    if "weight_noise" in options and not any(weight.rows for weight in form.weights):
        raise ValueError(
            "Argument `weight_noise` needs a dense kernel to add noise to. "
            f"Received: weight_noise={options['weight_noise']} with a cell that has none."
        )
    if "projection_units" in options:
        _check_projection(form, options["projection_units"])


def _check_projection(form: NormalForm, size: int) -> None:
    if form.memory == "hidden":
        raise ValueError(
            "Argument `projection_units` needs memory='cell': with memory='hidden' the output is "
            f"the memory itself. Received: projection_units={size} with memory='hidden'. Put a "
            "keras.layers.Dense after the layer."
        )
    kinds = ("diagonal", "identity")
    narrow = [name for name, block in form.blocks.items() if block.recurrent_kernel in kinds]
    if narrow:
        raise ValueError(
            "Argument `projection_units` needs dense recurrent kernels. With a diagonal or "
            "identity kernel each unit sees its own output, and a projection has fewer outputs "
            f"than units. Received: projection_units={size} with such a kernel in: "
            f"{', '.join(narrow)}."
        )
    resets = form.reset == "before" and form.gates["reset"].constant is None
    if resets and form.candidate.recurrent_kernel:
        raise ValueError(
            "Argument `projection_units` needs a reset gate that acts after the recurrent product: "
            "the gate has a value for each unit, and a projection has fewer outputs than units. "
            f"Received: projection_units={size} with a reset gate before the product. Set "
            "candidate=keras_gated.Candidate(reset_after=True) in the specification."
        )


def zoneout_rates_of(zoneout: Any, states: tuple[str, ...]) -> tuple[float | None, ...]:
    """Returns the zoneout rate of each state, with None for 0; empty if all rates are 0.

    Args:
        zoneout: a number, which is the rate of h and of c, or a rate for each of them.
        states: names of the cell's states.

    Raises:
        ValueError: if a rate is not in [0, 1), or the number of rates is wrong.
    """
    count = min(2, len(states))
    rates = [zoneout] * count if isinstance(zoneout, Real) else zoneout
    valid = isinstance(rates, Sequence) and len(rates) == count and all(map(_is_rate, rates))
    if not valid:
        raise ValueError(
            f"Argument `zoneout` must be a number in [0, 1), or {count} of them, for "
            f"{', '.join(states[:count])}. Received: zoneout={zoneout!r}."
        )
    return tuple(float(rate) or None for rate in rates) if any(rates) else ()


def _is_rate(value: Any) -> bool:
    return _is_number(value) and 0.0 <= value < 1.0


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


# Each check returns the value as a number, or raises a ValueError that names the argument.


def check_rate(value: Any, name: str) -> float:
    """Returns `value` as a float; it must be in [0, 1)."""
    if not _is_rate(value):
        raise ValueError(
            f"Argument `{name}` must be a number in [0, 1). Received: {name}={value!r}."
        )
    return float(value)


def check_not_negative(value: Any, name: str) -> float:
    """Returns `value` as a float; it must be a number >= 0."""
    if not (_is_number(value) and value >= 0):
        raise ValueError(f"Argument `{name}` must be a number >= 0. Received: {name}={value!r}.")
    return float(value)


def check_positive_or_none(value: Any, name: str) -> int | None:
    """Returns `value` as an int, or None; it must be an integer > 0, or None."""
    return None if value is None else check_positive(value, name)


def check_positive_number(value: Any, name: str) -> float | None:
    """Returns `value` as a float, or None; it must be a number > 0, or None."""
    if value is not None and not (_is_number(value) and value > 0):
        raise ValueError(
            f"Argument `{name}` must be a number > 0, or None. Received: {name}={value!r}."
        )
    return None if value is None else float(value)
