"""A specification as a layer holds it and as a file can hold it."""

from dataclasses import fields, replace
from typing import Any

import keras

from keras_gated.spec.activations import identify
from keras_gated.spec.cell_spec import CellSpec
from keras_gated.spec.parts import Config, Part


def replaced(spec: CellSpec, *, activation, reset_after, **given) -> CellSpec:
    """Returns `spec` with the layer's arguments in place of its own where they are given."""
    inner = {"activation": activation, "reset_after": reset_after}
    inner = {name: value for name, value in inner.items() if value is not None}
    given = {name: value for name, value in given.items() if value is not None}
    return _named(replace(spec, candidate=replace(spec.candidate, **inner), **given))


def _named(value: Any) -> Any:
    """What can be saved: functions and initializers held by name or config, in all parts."""
    if isinstance(value, Part):
        return replace(value, **{f.name: _named(getattr(value, f.name)) for f in fields(value)})
    if isinstance(value, keras.initializers.Initializer):
        return Config.of(keras.initializers.serialize(value))
    return identify(value) if callable(value) else value


def saved(value: Any) -> Any:
    """Returns what a file can hold: functions without a name as Keras serializes them."""
    if isinstance(value, Part):
        return replace(value, **{f.name: saved(getattr(value, f.name)) for f in fields(value)})
    return Config.of(keras.activations.serialize(value)) if callable(value) else value
