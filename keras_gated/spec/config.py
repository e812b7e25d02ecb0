"""Parts of a specification as JSON-ready configurations, and back.

A configuration names the class and its format, and only the fields that differ from their defaults:
so a version of this package can read what a later one wrote, as long as nothing new is used in it.
This file needs the standard library only.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FORMAT = 2  # the newest that this version reads


@dataclass(frozen=True)
class Config:
    """A configuration dictionary as JSON text, so that it can be hashed.

    Keras describes an initializer by a dictionary, which a frozen dataclass cannot hash.
    """

    json: str

    @classmethod
    def of(cls, value: Any) -> Any:
        """Returns a `Config` if `value` is a dictionary, else `value` itself."""
        return cls(json.dumps(value, sort_keys=True)) if isinstance(value, Mapping) else value

    @staticmethod
    def thaw(value: Any) -> Any:
        """Returns the dictionary if `value` is a `Config`, else `value` itself."""
        return json.loads(value.json) if isinstance(value, Config) else value


@dataclass(frozen=True)
class Part:
    """Base class of the parts of a specification: to and from a JSON-ready configuration.

    A field that came with a later format says so: `field(default=..., metadata={"format": 2})`. Of
    one some of whose values came later, the metadata are `{"formats": {value: 2}}`.
    """

    def to_config(self) -> dict:
        """Returns a JSON-ready dictionary. `from_config` makes an equal object from it."""
        defaults = self._defaults()
        new = [f for f in dataclasses.fields(self) if _differs(self, defaults, f.name)]
        oldest = max((_format_of(f, getattr(self, f.name)) for f in new), default=1)
        fields = {f.name: to_json_value(getattr(self, f.name)) for f in new}
        return {"part": type(self).__name__, "format": oldest, **fields}

    @classmethod
    def from_config(cls, config: Mapping) -> Any:
        """Returns the object that `to_config` turned into a dictionary.

        Raises:
            ValueError: if the configuration belongs to another class or has a newer format.
        """
        fields = {key: value for key, value in config.items() if key not in ("part", "format")}
        known = {f.name for f in dataclasses.fields(cls)}
        same = config.get("part") == cls.__name__ and config.get("format", 0) <= FORMAT
        if not same or not fields.keys() <= known:
            raise ValueError(
                f"Argument `config` must come from {cls.__name__}.to_config(), in format {FORMAT} "
                f"or older. Received: config={dict(config)!r}. If a newer version of "
                "keras_gated wrote it, upgrade keras_gated."
            )
        return cls(**{key: from_json_value(value) for key, value in fields.items()})

    def _defaults(self) -> dict:
        """Returns the values that fields have if they are not given; not those that must be."""
        fields = dataclasses.fields(self)
        required = [f.name for f in fields if f.default is dataclasses.MISSING]
        part = type(self)(**{name: getattr(self, name) for name in required})
        return {f.name: getattr(part, f.name) for f in fields if f.name not in required}


def _format_of(field: dataclasses.Field, value: Any) -> int:
    """The oldest format that has a value of a field."""
    by_value = field.metadata.get("formats", {})
    return by_value.get(value, 1) if by_value else field.metadata.get("format", 1)


def _differs(part: Part, defaults: dict, name: str) -> bool:
    """Whether a field must be written: it differs from the default, or has none."""
    value = getattr(part, name)
    if name not in defaults:
        return True
    return value != defaults[name] or type(value) is not type(defaults[name])


def to_json_value(value: Any) -> Any:
    """Returns the value of a part's field in a form that JSON can hold.

    Raises:
        ValueError: if it is a function or another object, in place of a name or a config.
    """
    if isinstance(value, Part):
        return value.to_config()
    value = Config.thaw(value)
    if value is not None and not isinstance(value, bool | int | float | str | dict):
        raise ValueError(
            "A specification can be saved only if its activations and initializers are names or "
            f"configs. Received: {value!r}. Register the function with "
            "keras.saving.register_keras_serializable and pass it to the layer, or give its name."
        )
    return value


def from_json_value(value: Any) -> Any:
    """Returns the value of a part's field from what `to_json_value` returned."""
    if isinstance(value, Mapping) and "part" in value:
        parts = {part.__name__: part for part in _classes_under(Part)}
        return parts.get(value["part"], Part).from_config(value)
    return value


def _classes_under(kind: type) -> list[type]:
    direct = kind.__subclasses__()
    return [*direct, *(part for one in direct for part in _classes_under(one))]
