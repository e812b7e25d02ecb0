"""The parts of a specification: gates, ties, the candidate. Pure data, standard library only."""

import dataclasses
import json
import math
from collections.abc import Hashable, Mapping
from dataclasses import KW_ONLY, dataclass
from numbers import Integral, Real
from typing import Any

KINDS = ("dense", "diagonal", "identity", None)
FORMAT = 1  # of the configs written here; a reader refuses a newer one


@dataclass(frozen=True)
class Config:
    """A configuration dictionary that can be hashed and compared, e.g. of a Keras initializer."""

    json: str

    @classmethod
    def of(cls, value: Any) -> Any:
        """Returns `value`, a dictionary turned into a Config."""
        return cls(json.dumps(value, sort_keys=True)) if isinstance(value, Mapping) else value

    @staticmethod
    def thaw(value: Any) -> Any:
        """Returns `value`, a Config turned back into its dictionary."""
        return json.loads(value.json) if isinstance(value, Config) else value


@dataclass(frozen=True)
class Part:
    """Common to the parts of a specification: to and from a JSON-ready configuration."""

    def to_config(self) -> dict:
        """Returns a JSON-ready dictionary from which `from_config` makes an equal object."""
        fields = {f.name: to_plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return {"part": type(self).__name__, "format": FORMAT, **fields}

    @classmethod
    def from_config(cls, config: Mapping) -> Any:
        """Returns the object that `to_config` described.

        Raises:
            ValueError: if the configuration is of another part or of a newer format.
        """
        fields = {key: value for key, value in config.items() if key not in ("part", "format")}
        if config.get("part") != cls.__name__ or config.get("format", 0) > FORMAT:
            raise ValueError(
                f"Argument `config` must be what {cls.__name__}.to_config() of this version "
                f"(format {FORMAT}) or an older one returned. Received: config={dict(config)!r}. "
                "If it was written by a newer keras_gated, upgrade."
            )
        return cls(**{key: from_plain(value) for key, value in fields.items()})

    def _freeze(self, *names: str) -> None:
        """Makes dictionaries in the fields `names` hashable."""
        for name in names:
            object.__setattr__(self, name, Config.of(getattr(self, name)))


@dataclass(frozen=True)
class Gate(Part):
    """A gate with weights of its own, `activation(W x_t + U h_{t-1} + p ⊙ c* + b)`.

    Args:
        kernel: how the gate sees `x_t`: "dense" (every unit sees every input), "diagonal" (unit j
            sees input j, weighted), "identity" (unit j sees input j as it is) or None (not at all).
        recurrent_kernel: how it sees `h_{t-1}`; the same four.
        use_bias: bool, or None for the layer's `use_bias`.
        peephole: bool. Whether each unit sees its own memory cell, weighted (`memory="cell"` only).
        activation: name or config; None for the layer's `recurrent_activation`.
        bias_initializer: name or config; None for the layer's `bias_initializer`.
        input_activation: rare. Name of a function applied to `x_t` first (MUT1); needs `kernel`.
        recurrent_input_activation: rare. The same for `h_{t-1}` (MUT3).

    Raises:
        ValueError: if a kernel is none of the four kinds.
    """

    kernel: str | None = "dense"
    recurrent_kernel: str | None = "dense"
    use_bias: bool | None = None
    peephole: bool = False
    activation: Hashable = None
    bias_initializer: Hashable = None
    _: KW_ONLY
    input_activation: Hashable = None
    recurrent_input_activation: Hashable = None

    def __post_init__(self):
        _check_kernels(self)
        self._freeze("activation", "bias_initializer")
        self._freeze("input_activation", "recurrent_input_activation")


@dataclass(frozen=True)
class Tied(Part):
    """A gate that follows another and has no weights of its own.

    Its value is `v = activation(a + offset)` of the other gate's pre-activation `a`, or `1 - v`.

    Args:
        to: "input", "forget" or "reset": the gate that it follows.
        complement: bool. Whether it is `1 - v`.
        offset: float, added to the pre-activation before the complement is taken.

    Raises:
        ValueError: if `to` names no gate that can be followed.
    """

    to: str
    complement: bool = False
    offset: float = 0.0

    def __post_init__(self):
        if self.to not in ("input", "forget", "reset"):
            raise ValueError(
                "Argument `to` must be 'input', 'forget' or 'reset': the output gate is computed "
                f"after the memory, so no gate can follow it. Received: to={self.to!r}. "
                "Tie the output gate to the other gate instead."
            )
        if not isinstance(self.offset, Real) or not math.isfinite(self.offset):
            raise ValueError(
                "Argument `offset` must be a finite number, added to the pre-activation. "
                f"Received: offset={self.offset!r}."
            )


@dataclass(frozen=True)
class Candidate(Part):
    """The candidate, the new content that the input gate lets in.

    Args:
        kernel: how it sees `x_t`: "dense", "diagonal", "identity" or None; see `Gate`.
        recurrent_kernel: how it sees `h_{t-1}`; the same four.
        use_bias: bool, or None for the layer's `use_bias`.
        activation: name or config of g; None is "linear".
        reset_after: bool. Whether the reset gate acts after the recurrent product.
        use_recurrent_bias: bool. With `reset_after` and a reset gate that is not constant: whether
            there is a second bias inside the reset, as in Keras (where every block carries one).
        input_activation: rare. Name of a function applied to `x_t` first (MUT1); needs `kernel`.

    Raises:
        ValueError: if a kernel is none of the four kinds.
    """

    kernel: str | None = "dense"
    recurrent_kernel: str | None = "dense"
    use_bias: bool | None = None
    activation: Hashable = "tanh"
    reset_after: bool = False
    use_recurrent_bias: bool = True
    _: KW_ONLY
    input_activation: Hashable = None

    def __post_init__(self):
        _check_kernels(self)
        if self.activation is None:  # none, as Keras has it
            object.__setattr__(self, "activation", "linear")
        self._freeze("activation", "input_activation")


@dataclass(frozen=True)
class Projection(Part):
    """A projection of the input to `units` features, `activation(W x_t + b)`, before the cell.

    Args:
        activation: name or config.
        use_bias: bool.
    """

    activation: Hashable = "linear"
    use_bias: bool = True

    def __post_init__(self):
        self._freeze("activation")


def as_gate(value: Any, argument: str) -> "Gate | Tied | float":
    """Returns what `value`, given for `argument`, means: a Gate, a Tied or a constant.

    Raises:
        TypeError: if it is none of True, False, a number, a Gate, a Tied or a config of these.
    """
    if isinstance(value, Mapping):
        value = from_plain(value)
    if isinstance(value, Gate | Tied):
        return value
    if isinstance(value, bool):
        return Gate() if value else 1.0
    if isinstance(value, Real) and math.isfinite(value):
        return float(value)
    raise TypeError(
        f"Argument `{argument}` must be True (present), False (absent), a finite number "
        "(constant), "
        f"a keras_gated.Gate or a keras_gated.Tied. Received: {argument}={value!r}."
    )


def positive(value: Any, argument: str) -> int:
    """Returns `value`, given for `argument`, as an int.

    Raises:
        ValueError: if it is no integer > 0.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value <= 0:
        raise ValueError(
            f"Argument `{argument}` must be an integer > 0. Received: {argument}={value!r}."
        )
    return int(value)


def to_plain(value: Any) -> Any:
    """Returns a field's value as JSON can hold it.

    Raises:
        ValueError: if it is a function or an object rather than a name or a config.
    """
    if isinstance(value, Part):
        return value.to_config()
    value = Config.thaw(value)
    if value is not None and not isinstance(value, bool | int | float | str | dict):
        raise ValueError(
            "A specification that is saved must hold names or configs of activations and "
            f"initializers. Received: {value!r}. Register the function with "
            "keras.saving.register_keras_serializable and pass it to the layer, or give its name."
        )
    return value


def from_plain(value: Any) -> Any:
    """Returns the field's value that `to_plain` wrote."""
    if isinstance(value, Mapping) and "part" in value:
        parts = {part.__name__: part for part in Part.__subclasses__()}
        return parts.get(value["part"], Part).from_config(value)
    return value


def _check_kernels(part: Gate | Candidate) -> None:
    for argument in ("kernel", "recurrent_kernel"):
        if (kind := getattr(part, argument)) not in KINDS:
            raise ValueError(
                f"Argument `{argument}` must be 'dense' (every unit sees every entry), 'diagonal' "
                "(each unit sees its own entry, weighted), 'identity' (each sees its own entry as "
                f"it is) or None (no term). Received: {argument}={kind!r}."
            )
    if part.input_activation is not None and part.kernel is None:
        raise ValueError(
            "Argument `input_activation` needs a kernel, through which x_t is seen. "
            f"Received: input_activation={part.input_activation!r} with kernel=None."
        )
