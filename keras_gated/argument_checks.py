"""Checks of the arguments of layers and cells: unknown names, with what to write instead."""

import warnings
from difflib import get_close_matches
from inspect import signature
from typing import Any

from keras_gated.layer_arguments import RNNArguments
from keras_gated.spec.cell_spec import GATES, CellSpec
from keras_gated.spec.parts import check_bool

# Keras's own, for any layer, beside those that have types.
OF_ANY_LAYER = {"activity_regularizer", "autocast", "input_shape", "input_dim"}
OF_SPEC = {name for name in signature(CellSpec).parameters if not name.endswith("_gate")}
LAYERS_WITH_GATES = {"GatedLSTM", "GatedGRU"}

# (class, argument) -> what to write instead.
INSTEAD = {
    ("GatedGRU", "forget_gate"): "Write update_gate: it is the forget gate of a GRU.",
    ("GatedGRU", "input_gate"): "In a GRU it is the complement of update_gate: set that one.",
    ("GatedGRU", "output_gate"): "A GRU has none. Use GatedLSTM, or GatedRNN with a CellSpec.",
    ("GatedGRU", "peephole"): "A GRU has no memory cell to look at. Use GatedLSTM.",
    ("GatedGRU", "unit_forget_bias"): (
        "Write update_gate=keras_gated.Gate(bias_initializer='ones')."
    ),
    ("GatedLSTM", "update_gate"): "Write forget_gate, or use GatedGRU.",
    ("GatedLSTM", "reset_gate"): (
        "An LSTM has none. Use GatedRNN(units, keras_gated.CellSpec(reset_gate=True))."
    ),
    ("GatedLSTM", "peepholes"): "Write peephole.",
}


def check_arguments(layer: Any, given: dict[str, Any], taken) -> None:
    """Raises a ValueError if a name is unknown, or an argument that is a bool has another value.

    Args:
        layer: of which these are arguments, a layer or a cell.
        given: the keyword arguments.
        taken: the names that it takes.
    """
    for name, value in given.items():
        if name not in {*taken, *OF_ANY_LAYER}:
            kind = type(layer).__name__
            raise ValueError(
                f"Argument `{name}` of {kind} is unknown. Expected: a documented argument. "
                f"Received: {name}={value!r}. {_advice(type(layer), name, value, taken)}"
            )
        if RNNArguments.__annotations__.get(name) is bool:
            check_bool(value, name)


def warn_of_constants(spec: CellSpec) -> None:
    """Warns of a gate that is constant and not a share, from 0 to 1."""
    for name in GATES:
        value = spec.gate(name)
        if isinstance(value, float) and not 0.0 <= value <= 1.0:
            warnings.warn(
                f"Argument `{name}_gate` should be in [0, 1]: a gate is the share that passes. "
                f"Received: {name}_gate={value}, which is used as it is.",
                stacklevel=2,
            )


def _advice(kind: type, name: str, value: Any, taken) -> str:
    """What to write in place of an argument that `kind` does not take."""
    names = {base.__name__ for base in kind.__mro__}
    for base in names:
        if (base, name) in INSTEAD:
            return INSTEAD[base, name]
    gates = {f"{gate}_gate" for gate in (*GATES, "update")}
    if name in gates or (name in OF_SPEC and names & LAYERS_WITH_GATES):
        return (
            "It belongs to a specification. Write keras_gated.GatedRNN(units, "
            f"keras_gated.CellSpec({name.replace('update', 'forget')}=...)), or use GatedLSTM or "
            "GatedGRU, whose arguments are gates."
        )
    if name == "spec":
        return f"Its gates are its arguments. Write keras_gated.GatedRNN(units, {value!r})."
    if name in OF_SPEC:
        return f"Write dataclasses.replace(spec, {name}=...) and pass the result as spec."
    if name == "time_major":
        return "Keras 3 has none. Write keras.ops.transpose(x, (1, 0, 2)) before the layer."
    if name in RNNArguments.__annotations__:
        return "It belongs to a layer: give it to the layer that the cell is in."
    own = set(signature(kind.__init__).parameters) - {"self", "kwargs"}
    near = get_close_matches(name, sorted({*taken, *own}), n=3, cutoff=0.6)
    return f"Did you mean {' or '.join(near)}?" if near else "Leave it out."
