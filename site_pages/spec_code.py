"""A specification as the code that makes it."""

from dataclasses import fields
from typing import Any

import keras_gated as kg
from keras_gated.spec.parts import Config, Part

GATES = {1.0: "False", kg.Gate(): "True"}


def written(part: Any) -> str:
    """Returns Python that makes a part of a specification, what is as by default left out."""
    if not isinstance(part, Part):
        return repr(Config.thaw(part))
    given = [f"{name}={_value(name, value)}" for name, value in _given(part).items()]
    return f"kg.{type(part).__name__}({', '.join(given)})"


def weight_layout(spec: kg.CellSpec) -> str:
    """Returns the code of a specification, an argument a line where there are several."""
    given = [f"    {name}={_value(name, value)}," for name, value in _given(spec).items()]
    return "\n".join(["kg.CellSpec(", *given, ")"]) if len(given) > 1 else written(spec)


def _value(name: str, value: Any) -> str:
    return (GATES.get(value) if name.endswith("_gate") else None) or written(value)


def _given(part: Part) -> dict[str, Any]:
    """The fields that differ from the default of their class."""
    first = {"memory": part.memory} if isinstance(part, kg.CellSpec) else {}
    first |= {"to": part.to} if isinstance(part, kg.Tied) else {}
    usual = type(part)(**first)
    values = {f.name: getattr(part, f.name) for f in fields(part)}  # type: ignore[arg-type]
    kept = {k: v for k, v in values.items() if v != getattr(usual, k)}
    needed = {k: v for k, v in first.items() if (k, v) != ("memory", "cell")}
    return needed | kept
