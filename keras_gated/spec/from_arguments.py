"""A specification with a layer's arguments in it, and in the form in which a file can hold it.

A `CellSpec` stores activations and initializers as names or configs. Users of a layer also pass
functions and initializer objects; these functions translate them.
"""

from dataclasses import fields, replace
from typing import Any

import keras

from keras_gated.spec.activations import identify
from keras_gated.spec.cell_spec import CellSpec
from keras_gated.spec.config import Config, Part


def spec_with_arguments(spec: CellSpec, *, activation, reset_after, **arguments) -> CellSpec:
    """Returns `spec` with a layer's arguments in place of its own fields.

    Args:
        spec: a specification.
        activation, reset_after: fields of its candidate; None leaves the field as it is.
        **arguments: other fields of `spec`; None leaves the field as it is.
    """
    of_candidate = _without_none({"activation": activation, "reset_after": reset_after})
    candidate = replace(spec.candidate, **of_candidate)
    return _with_identifiers(replace(spec, candidate=candidate, **_without_none(arguments)))


def _without_none(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def _with_identifiers(value: Any) -> Any:
    """`value` with names or Configs in place of functions and initializers, in all its parts."""
    if isinstance(value, Part):
        return _in_all_fields(value, _with_identifiers)
    if isinstance(value, keras.initializers.Initializer):
        return Config.of(keras.initializers.serialize(value))
    return identify(value) if callable(value) else value


def serializable_spec(value: Any) -> Any:
    """Returns a specification, or the value of a field, with Configs in place of all functions."""
    if isinstance(value, Part):
        return _in_all_fields(value, serializable_spec)
    return Config.of(keras.activations.serialize(value)) if callable(value) else value


def _in_all_fields(part: Part, change) -> Part:
    return replace(part, **{f.name: change(getattr(part, f.name)) for f in fields(part)})
