"""What every cell can have beside its formula, and what excludes what."""

from collections.abc import Sequence
from numbers import Real
from typing import Any

from keras_gated.spec.normal_form import NormalForm, Weight
from keras_gated.spec.parts import positive

# In training these need the whole sequence, which a GatedRNN has.
DRAWN = (
    "dropout",
    "recurrent_dropout",
    "candidate_dropout",
    "zoneout",
    "weight_noise",
    "batch_norm",
)
# What at inference is exact in a native ONNX operator, or beside it.
IN_NATIVE_OPERATOR = {
    "batch_norm": "batch_norm in its weights",
    "projection_units": "projection_units as one product behind it",
}
OPTIONS = (*DRAWN, "state_clip", "layer_norm", "projection_units")
STEPWISE = ("zoneout", "state_clip", "layer_norm")  # at inference they change each time step
NO_GATE_RECURRENCE = "the engine has no gate recurrence"
IN_KERAS_LOOP = ("layer_norm", "projection_units")  # more than the engine's gradient knows


def option_weights(
    form: NormalForm, layer_norm: bool, projection_units: int | None
) -> tuple[Weight, ...]:
    """Returns the weights that come to those of the normal form."""
    found = []
    if layer_norm:
        dense = {weight.name: weight.blocks for weight in form.weights}
        found = [
            Weight(gain, (gain,), dense.get(kernel, ()))
            for kernel, gain in (("kernel", "kernel_gain"), ("recurrent_kernel", "recurrent_gain"))
        ]
        memory = ("memory",) if form.memory == "cell" else ()
        found += [Weight(f"memory_{key}", (key,), memory) for key in ("gain", "shift")]
    if projection_units:
        name = "output_projection"
        found.append(Weight(f"{name}_kernel", ("kernel",), (name,), "state"))
    return tuple(weight for weight in found if weight.blocks)


def check_options(form: NormalForm, given: dict[str, Any]) -> None:
    """Raises a ValueError if options exclude each other, or a cell has nothing for one to act on.

    Args:
        form: of the cell.
        given: the options that act, by name.
    """
    dense = {weight.name for weight in form.weights}
    if {"layer_norm", "batch_norm"} <= set(given):
        raise ValueError(
            "Arguments `layer_norm` and `batch_norm` exclude each other: both normalise the "
            "input's product. Received: layer_norm=True, batch_norm=True. Use one."
        )
    if "batch_norm" in given and "kernel" not in dense:
        raise ValueError(
            "Argument `batch_norm` needs a dense kernel, whose product it normalises. "
            "Received: batch_norm=True with a cell that has none."
        )
    if "layer_norm" in given and not option_weights(form, True, None):
        raise ValueError(
            "Argument `layer_norm` needs a dense kernel or a memory cell to normalise. "
            "Received: layer_norm=True with a cell that has neither."
        )
    if "weight_noise" in given and not any(weight.rows for weight in form.weights):
        raise ValueError(
            "Argument `weight_noise` needs a dense kernel to add noise to. "
            f"Received: weight_noise={given['weight_noise']} with a cell that has none."
        )
    if "projection_units" in given:
        _check_projection(form, given["projection_units"])


def _check_projection(form: NormalForm, size: int) -> None:
    if form.memory == "hidden":
        raise ValueError(
            "Argument `projection_units` needs memory='cell': with memory='hidden' the output is "
            f"the memory itself. Received: projection_units={size} with memory='hidden'. Put a "
            "keras.layers.Dense behind the layer."
        )
    kinds = ("diagonal", "identity")
    narrow = [name for name, block in form.blocks.items() if block.recurrent_kernel in kinds]
    if narrow:
        raise ValueError(
            "Argument `projection_units` needs dense recurrent kernels: a unit cannot see its own "
            f"output where there are fewer. Received: projection_units={size} with a diagonal or "
            f"identity recurrent kernel of: {', '.join(narrow)}."
        )
    resets = form.reset == "before" and form.gates["reset"].constant is None
    if resets and form.candidate.recurrent_kernel:
        raise ValueError(
            "Argument `projection_units` needs a reset gate that acts after the recurrent product: "
            "it has a value for each unit, and there are fewer outputs. Received: "
            f"projection_units={size} with a reset gate before the product. Give the specification "
            "candidate=keras_gated.Candidate(reset_after=True)."
        )


def zoneout_rates_of(zoneout: Any, states: tuple[str, ...]) -> tuple[float | None, ...]:
    """Returns the rate of each state, None where it is 0; a number is that of h and c."""
    count = min(2, len(states))
    rates = [zoneout] * count if isinstance(zoneout, Real) else zoneout
    valid = isinstance(rates, Sequence) and len(rates) == count and all(map(_is_rate, rates))
    if not valid:
        raise ValueError(
            f"Argument `zoneout` must be a number in [0, 1), or {count} of them, for "
            f"{', '.join(states[:count])}. Received: zoneout={zoneout!r}."
        )
    return tuple(float(rate) or None for rate in rates) if any(rates) else ()


def _is_rate(rate: Any) -> bool:
    return _is_number(rate) and 0.0 <= rate < 1.0


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def rate(value: Any, name: str) -> float:
    """Returns a share in [0, 1)."""
    if not _is_rate(value):
        raise ValueError(f"Argument `{name}` must be in [0, 1). Received: {name}={value!r}.")
    return float(value)


def not_negative(value: Any, name: str) -> float:
    """Returns a number >= 0."""
    if not (_is_number(value) and value >= 0):
        raise ValueError(f"Argument `{name}` must be a number >= 0. Received: {name}={value!r}.")
    return float(value)


def positive_or_none(value: Any, name: str) -> int | None:
    """Returns an int > 0, or None."""
    return None if value is None else positive(value, name)


def bound(value: Any, name: str) -> float | None:
    """Returns a number > 0, or None."""
    if value is not None and not (_is_number(value) and value > 0):
        raise ValueError(
            f"Argument `{name}` must be a number > 0, or None. Received: {name}={value!r}."
        )
    return None if value is None else float(value)
