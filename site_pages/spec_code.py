"""Writes the Python code that makes a specification."""

from dataclasses import MISSING, fields
from typing import Any

import keras_gated as kg
from keras_gated.spec.config import Config, Part

GATES = {1.0: "False", kg.Gate(): "True"}


def part_as_code(part: Any) -> str:
    """Returns code that makes a part of a specification, without fields that have their default."""
    if not isinstance(part, Part):
        return repr(Config.thaw(part))
    arguments = [f"{name}={_value_as_code(name, value)}" for name, value in _set_fields(part)]
    return f"kg.{type(part).__name__}({', '.join(arguments)})"


def spec_as_code(spec: kg.CellSpec) -> str:
    """Returns code that makes a specification; several arguments get a line each."""
    lines = [f"    {name}={_value_as_code(name, value)}," for name, value in _set_fields(spec)]
    return "\n".join(["kg.CellSpec(", *lines, ")"]) if len(lines) > 1 else part_as_code(spec)


def _value_as_code(name: str, value: Any) -> str:
    return (GATES.get(value) if name.endswith("_gate") else None) or part_as_code(value)


def _set_fields(part: Part) -> list[tuple[str, Any]]:
    """(name, value) of the fields that differ from their defaults."""
    # A default can depend on `memory`; a Tied cannot be made without `to`, nor Blocks without `n`.
    required = {"memory": part.memory} if isinstance(part, kg.CellSpec) else {}
    without = [f.name for f in fields(part) if f.default is MISSING]  # type: ignore[arg-type]
    required |= {name: getattr(part, name) for name in without}
    default = type(part)(**required)
    values = {f.name: getattr(part, f.name) for f in fields(part)}  # type: ignore[arg-type]
    changed = {k: v for k, v in values.items() if v != getattr(default, k)}
    needed = {k: v for k, v in required.items() if (k, v) != ("memory", "cell")}
    return list((needed | changed).items())
