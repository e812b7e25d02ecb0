"""Options: what a cell can have in addition to its formula.

`TABLE` has a row for each option. The row says what training draws for it, whether it acts in each
step, who has its gradient, what it is in ONNX, and what it excludes and why. All that depends on
the list of options is derived.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from keras_gated.spec.kernels import DENSE
from keras_gated.spec.normal_form import NormalForm, Weight
from keras_gated.spec.parts import check_bool, check_positive

Check = Callable[[Any, str], Any]
Conflict = Callable[[NormalForm, dict[str, Any]], None]


# Each check returns the value as the cell holds it, or raises a ValueError that names the argument.


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_rate(value: Any) -> bool:
    return _is_number(value) and 0.0 <= value < 1.0


def check_rate(value: Any, name: str) -> float:
    """Returns `value` as a float; it must be in [0, 1)."""
    if not _is_rate(value):
        raise ValueError(
            f"Argument `{name}` must be a number in [0, 1). Received: {name}={value!r}."
        )
    return float(value)


def clip_rate(value: Any, name: str) -> float:
    """Returns the number `value`, at least 0 and at most 1, as Keras does with dropout rates."""
    if not _is_number(value):
        raise ValueError(
            f"Argument `{name}` must be a number in [0, 1). Received: {name}={value!r}."
        )
    return min(1.0, max(0.0, value))


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


def as_rates(value: Any, name: str) -> Any:
    """Returns a rate as a float, or several as a tuple; `zoneout_rates_of` has checked them."""
    return float(value) if isinstance(value, Real) else tuple(map(float, value))


# Each of these raises a ValueError if an option has nothing to act on, or excludes another one.


def _no_scaled_memory(form: NormalForm, options: dict[str, Any]) -> None:
    if form.normalizer:
        name = next(name for name in ("zoneout", "state_clip") if name in options)
        raise ValueError(
            f"Argument `{name}` needs a cell without a normaliser: with one, c and n are stored in "
            f"a scale that differs from step to step. Received: {name}={options[name]!r} with "
            "normalizer=True. Remove one of the two."
        )


def _batch_norm_conflict(form: NormalForm, options: dict[str, Any]) -> None:
    if "layer_norm" in options:
        raise ValueError(
            "Arguments `layer_norm` and `batch_norm` exclude each other: both normalise the "
            "product of the input. Received: layer_norm=True, batch_norm=True. Use one of them."
        )
    if not any(weight.name == "kernel" for weight in form.weights):
        raise ValueError(
            "Argument `batch_norm` needs a dense kernel, because it normalises the product with "
            "it. Received: batch_norm=True with a cell that has no dense kernel. Use layer_norm."
        )
    if any(block.kernel and block.kernel.is_stack for block in form.blocks.values()):
        raise ValueError(
            "Argument `batch_norm` needs a cell without kernels of blocks for the input: it "
            "normalises the product with a dense kernel alone. Received: batch_norm=True with such "
            "a cell. Use layer_norm, which normalises both."
        )


def _nothing_to_normalize(form: NormalForm, options: dict[str, Any]) -> None:
    if not option_weights(form, True, None):
        raise ValueError(
            "Argument `layer_norm` needs a kernel that is a matrix or memory='cell', because it "
            "normalises the products and the memory. Received: layer_norm=True with a cell that "
            "has neither."
        )


def _no_matrix(form: NormalForm, options: dict[str, Any]) -> None:
    if not any(weight.is_matrix for weight in form.weights):
        raise ValueError(
            "Argument `weight_noise` needs a kernel that is a matrix to add noise to. "
            f"Received: weight_noise={options['weight_noise']} with a cell that has none."
        )


def _projection_conflict(form: NormalForm, options: dict[str, Any]) -> None:
    size = options["projection_units"]
    if form.memory == "hidden":
        raise ValueError(
            "Argument `projection_units` needs memory='cell': with memory='hidden' the output is "
            f"the memory itself. Received: projection_units={size} with memory='hidden'. Put a "
            "keras.layers.Dense after the layer."
        )
    kernels = {name: block.recurrent_kernel for name, block in form.blocks.items()}
    narrow = [name for name, kernel in kernels.items() if kernel and not kernel.mixes_units]
    if narrow:
        raise ValueError(
            "Argument `projection_units` needs dense recurrent kernels. With a diagonal or "
            "identity kernel each unit sees its own output, and a projection has fewer outputs "
            f"than units. Received: projection_units={size} with such a kernel in: "
            f"{', '.join(narrow)}."
        )
    if size % (groups := form.groups("recurrent_kernel")):
        raise ValueError(
            f"Argument `projection_units` must be a multiple of {groups} for this cell, because "
            "its recurrent kernels have so many blocks on the diagonal. "
            f"Received: projection_units={size}. Take a multiple of {groups}."
        )
    resets = form.reset == "before" and form.gates["reset"].constant is None
    if resets and form.candidate.recurrent_kernel:
        raise ValueError(
            "Argument `projection_units` needs a reset gate that acts after the recurrent product: "
            "the gate has a value for each unit, and a projection has fewer outputs than units. "
            f"Received: projection_units={size} with a reset gate before the product. Set "
            "candidate=keras_gated.Candidate(reset_after=True) in the specification."
        )


@dataclass(frozen=True)
class Option:
    """One option of a cell.

    Attributes:
        name: argument of the cell and of the layers.
        check: (value, name) -> the value as the cell holds it; raises if it is none.
        default: the value with which the option is off.
        drawn: what training draws for a batch, or takes from it; "" for nothing. Then training
            needs the whole sequence, which a `GatedRNN` has and a `GatedCell` alone has not.
        stepwise: whether it changes each time step at inference, so that no native ONNX operator
            computes the cell and its time steps cannot run in parallel.
        automatic: whether the loop is differentiated automatically, since the engine's own gradient
            does not know the option.
        in_native_operator: how a native ONNX operator includes it; None if there is nothing to say.
        conflict: (normal form, the options that are on) raises if the option cannot be on.
    """

    name: str
    check: Check
    default: Any = 0.0
    drawn: str = ""
    stepwise: bool = False
    automatic: bool = False
    in_native_operator: str | None = None
    conflict: Conflict | None = None


TABLE = (
    Option("dropout", clip_rate, drawn="a mask of the inputs of a sequence"),
    Option("recurrent_dropout", clip_rate, drawn="a mask of h for a sequence"),
    Option("candidate_dropout", check_rate, drawn="a mask of the candidate for a sequence"),
    Option(
        "zoneout",
        as_rates,
        drawn="which units keep their states in a step",
        stepwise=True,
        conflict=_no_scaled_memory,
    ),
    Option("weight_noise", check_not_negative, drawn="noise of kernels", conflict=_no_matrix),
    Option(
        "batch_norm",
        check_bool,
        default=False,
        drawn="the statistics of the batch",
        in_native_operator="batch_norm folded into its weights",
        conflict=_batch_norm_conflict,
    ),
    Option(
        "state_clip",
        check_positive_number,
        default=None,
        stepwise=True,
        conflict=_no_scaled_memory,
    ),
    Option(
        "layer_norm",
        check_bool,
        default=False,
        stepwise=True,
        automatic=True,
        conflict=_nothing_to_normalize,
    ),
    Option(
        "projection_units",
        check_positive_or_none,
        default=None,
        automatic=True,
        in_native_operator="projection_units as a matrix product after it",
        conflict=_projection_conflict,
    ),
)
OPTIONS = {option.name: option for option in TABLE}
NO_GATE_RECURRENCE = "the engine has no gradient of gate_recurrence"


def check_options(form: NormalForm, options: dict[str, Any]) -> None:
    """Raises a ValueError if two options exclude each other or one has nothing to act on.

    Args:
        form: normal form of the cell.
        options: the values of the options that are on, by name.
    """
    for name in options:
        if conflict := OPTIONS[name].conflict:
            conflict(form, options)


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
        memory = ("memory",) if form.memory == "cell" else ()
        added = [
            Weight("kernel_gain", ("kernel_gain",), _mixing(form, "kernel"), "input"),
            Weight("recurrent_gain", ("recurrent_gain",), _mixing(form, "recurrent_kernel")),
            Weight("memory_gain", ("gain",), memory),
            Weight("memory_shift", ("shift",), memory),
        ]
    if projection_units:
        name = "output_projection"
        added.append(Weight(f"{name}_kernel", ("kernel",), (name,), "state", DENSE))
    return tuple(weight for weight in added if weight.blocks)


def _mixing(form: NormalForm, key: str) -> tuple[str, ...]:
    """The blocks with a kernel whose product mixes units."""
    kernels = {name: getattr(block, key) for name, block in form.blocks.items()}
    return tuple(name for name, kernel in kernels.items() if kernel and kernel.mixes_units)


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
