"""Steps: how one gate of a cell can become smaller, as data.

A step is a new value of one gate: a part is left out, or the gate becomes a constant or is tied.
`GATE_STEPS` is the only list of them. What a step costs is found on data, by `gate_report`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from keras_gated.spec.cell_spec import GATES, CellSpec
from keras_gated.spec.kernels import sees_no_more
from keras_gated.spec.parts import Gate, Tied


@dataclass(frozen=True)
class Step:
    """A new value for one gate.

    Attributes:
        gate: name of the gate ("forget").
        title: what is done, in words.
        becomes: the new value: a `Gate`, a `Tied`, a number, or `MEAN` for the mean of the gate's
            values on the data.
    """

    gate: str
    title: str
    becomes: Any


class _Mean:
    """Stands for a constant that is not known before the gate was seen on data."""

    def __repr__(self) -> str:
        return "MEAN"


MEAN = _Mean()
NO_INPUT = {"kernel": None, "input_activation": None}
NO_STATE = {"recurrent_kernel": None, "recurrent_input_activation": None}
BIAS_ALONE = {**NO_INPUT, **NO_STATE, "peephole": False, "use_bias": True}

# Each turns a gate with weights into a smaller one. The order is that of the weights that remain.
GATE_STEPS: dict[str, Callable[[Gate], Any]] = {
    "no peephole": lambda gate: replace(gate, peephole=False),
    "diagonal recurrent kernel": lambda gate: replace(gate, recurrent_kernel="diagonal"),
    "does not see h": lambda gate: replace(gate, **NO_STATE),
    "does not see x": lambda gate: replace(gate, **NO_INPUT),
    "a constant a unit": lambda gate: replace(gate, **BIAS_ALONE),
    "one constant": lambda gate: MEAN,
    "absent": lambda gate: 1.0,
}


def steps_of(spec: CellSpec) -> list[Step]:
    """Returns all steps that a specification allows, gate by gate."""
    return [step for name in GATES for step in _steps_of_gate(spec, name)]


def after(spec: CellSpec, changes: dict[str, Any]) -> CellSpec:
    """Returns `spec` with new values of gates, by name; `MEAN` counts as 0.5.

    Raises:
        ValueError: if the specification has no meaning then.
    """
    values = {f"{k}_gate": 0.5 if v is MEAN else v for k, v in changes.items()}
    return replace(spec, **values)


def with_defaults_of(new: Gate, old: Gate) -> Gate:
    """Returns a gate with the activation, initializer and so on of another where it names none."""
    names = ["activation", "bias_initializer", "use_bias", "floor"]
    names += ["input_activation"] * (new.kernel is not None)
    names += ["recurrent_input_activation"] * (new.recurrent_kernel is not None)
    unset = [name for name in names if getattr(new, name) is None]
    return replace(new, **{name: getattr(old, name) for name in unset})


def is_part_of(new: Gate, old: Gate) -> bool:
    """Returns whether a gate sees nothing that another one does not see, and is computed alike."""
    kinds = [(new.kernel, old.kernel), (new.recurrent_kernel, old.recurrent_kernel)]
    sees = all(sees_no_more(*pair) for pair in kinds)
    same = ["activation", "floor", *(["input_activation"] if new.kernel else [])]
    same += ["recurrent_input_activation"] if new.recurrent_kernel else []
    alike = all(getattr(new, name) == getattr(old, name) for name in same)
    return sees and alike and new.peephole in (False, old.peephole)


def _steps_of_gate(spec: CellSpec, name: str) -> Iterator[Step]:
    gate = spec.gate(name)
    # A fit knows no trained exponent, and no products that belong to the candidate.
    if not isinstance(gate, Gate) or gate.decay or gate.shares:
        return
    smaller = [(title, change(gate)) for title, change in GATE_STEPS.items()]
    for other in GATES:
        source = spec.gate(other)
        own = isinstance(source, Gate) and not (source.decay or source.shares)
        if own and other not in (name, "output"):
            smaller.append((f"the {other} gate", Tied(other)))
            smaller.append((f"1 - the {other} gate", Tied(other, complement=True)))
    for title, value in smaller:
        if value != gate and _is_smaller(gate, value) and _is_allowed(spec, name, value):
            yield Step(name, title, value)


def is_diagonal(value: Any) -> bool:
    """Returns whether a value is a gate with a diagonal recurrent kernel."""
    return isinstance(value, Gate) and value.recurrent_kernel == "diagonal"


def _is_smaller(gate: Gate, value: Any) -> bool:
    """Whether a recurrent kernel is diagonal only where that is a part of what it was."""
    return not is_diagonal(value) or sees_no_more("diagonal", gate.recurrent_kernel)


def _is_allowed(spec: CellSpec, name: str, value: Any) -> bool:
    try:
        new = after(spec, {name: value})
    except ValueError:
        return False
    # A gate that follows a constant is a constant: that is a step of its own.
    return not isinstance(value, Tied) or new.source(name).constant is None
