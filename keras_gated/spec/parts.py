"""The parts of a specification: gates, ties, the candidate and the input projection.

They are frozen dataclasses: they can be compared, hashed and used as dictionary keys. Each turns
into a JSON-ready configuration and back. This file needs the standard library only.
"""

import dataclasses
import json
import math
from collections.abc import Hashable, Mapping
from dataclasses import KW_ONLY, dataclass
from numbers import Integral, Real
from typing import Any

KERNEL_KINDS = ("dense", "diagonal", "identity", None)
FORMAT = 1  # of the configs written here; `from_config` refuses a newer format


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
    """Base class of the parts of a specification: to and from a JSON-ready configuration."""

    def to_config(self) -> dict:
        """Returns a JSON-ready dictionary. `from_config` makes an equal object from it."""
        fields = {f.name: to_json_value(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return {"part": type(self).__name__, "format": FORMAT, **fields}

    @classmethod
    def from_config(cls, config: Mapping) -> Any:
        """Returns the object that `to_config` turned into a dictionary.

        Raises:
            ValueError: if the configuration belongs to another class or has a newer format.
        """
        fields = {key: value for key, value in config.items() if key not in ("part", "format")}
        if config.get("part") != cls.__name__ or config.get("format", 0) > FORMAT:
            raise ValueError(
                f"Argument `config` must come from {cls.__name__}.to_config(), in format {FORMAT} "
                f"or older. Received: config={dict(config)!r}. If a newer version of "
                "keras_gated wrote it, upgrade keras_gated."
            )
        return cls(**{key: from_json_value(value) for key, value in fields.items()})

    def _freeze(self, *names: str) -> None:
        """Replaces dictionaries in the fields `names` by hashable `Config` objects."""
        for name in names:
            object.__setattr__(self, name, Config.of(getattr(self, name)))


@dataclass(frozen=True)
class Gate(Part):
    """A gate with weights of its own, `activation(W x_t + U h_{t-1} + p ⊙ c* + b)`.

    Args:
        kernel: how the gate sees `x_t`: "dense" (every unit sees every input), "diagonal" (unit j
            sees input j, times a weight), "identity" (unit j sees input j unchanged) or None (it
            does not see `x_t`).
        recurrent_kernel: how the gate sees `h_{t-1}`: one of the same four.
        use_bias: bool, or None for the layer's `use_bias`.
        peephole: bool. Whether each unit also sees its own memory `c*`, times a weight. Needs
            `memory="cell"`.
        activation: name or config of the activation; None for the layer's `recurrent_activation`.
        bias_initializer: name or config of an initializer; None for the layer's
            `bias_initializer`.
        input_activation: rare. Name of a function that is applied to `x_t` before the kernel
            (MUT1). Needs `kernel`.
        recurrent_input_activation: rare. The same for `h_{t-1}` (MUT3).

    Raises:
        ValueError: if a kernel is none of the four kinds.

    Example:
        An LSTM whose forget gate starts open and sees only the input:

        >>> forget = kg.Gate(recurrent_kernel=None, bias_initializer="ones")
        >>> layer = kg.GatedLSTM(32, forget_gate=forget)
        >>> kg.count_parameters("lstm", 8, 32), kg.count_parameters(layer.cell.spec, 8, 32)
        (5248, 4224)
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
    """A gate that follows another gate and has no weights of its own.

    If the other gate is `activation(a)`, this one is `v = activation(a + offset)`, or `1 - v`.

    Args:
        to: "input", "forget" or "reset": the gate that this one follows.
        complement: bool. Whether the value is `1 - v` in place of `v`.
        offset: float. Added to the pre-activation `a`, before the complement is taken.

    Raises:
        ValueError: if `to` is another name, or `offset` is not a finite number.

    Example:
        Coupled gates: the input gate lets in as much as the forget gate removes.

        >>> spec = kg.CellSpec(input_gate=kg.Tied("forget", complement=True))
        >>> print(kg.diff("lstm", spec).only_second)
        ('iₜ = 1 - fₜ',)
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
    """The candidate: the new content, of which the input gate decides how much is written.

    Args:
        kernel: how the candidate sees `x_t`: "dense", "diagonal", "identity" or None; see `Gate`.
        recurrent_kernel: how it sees `h_{t-1}`: one of the same four.
        use_bias: bool, or None for the layer's `use_bias`.
        activation: name or config of the activation g; None is "linear".
        reset_after: bool. Whether the reset gate multiplies the recurrent product `U h` (True) or
            `h` itself, before the product (False).
        use_recurrent_bias: bool. Whether there is a second bias, which the reset gate multiplies
            too. Counts only with `reset_after=True` and a reset gate that is not constant. As in
            Keras, the gates then have a second bias as well.
        input_activation: rare. Name of a function that is applied to `x_t` before the kernel
            (MUT1). Needs `kernel`.

    Raises:
        ValueError: if a kernel is none of the four kinds.

    Example:
        >>> spec = kg.CellSpec(candidate=kg.Candidate(recurrent_kernel=None, activation="relu"))
        >>> print(kg.diff("lstm", spec).only_second)
        ('c̃ₜ = relu(W_c xₜ + b_c)', 'hₜ = oₜ ⊙ relu(cₜ)')
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
        if self.activation is None:  # in Keras, activation=None is the linear activation
            object.__setattr__(self, "activation", "linear")
        self._freeze("activation", "input_activation")


@dataclass(frozen=True)
class Projection(Part):
    """A projection of the input to `units` features, which the cell sees in place of the input.

    It is `activation(W x_t + b)`.

    Args:
        activation: name or config of the activation.
        use_bias: bool. Whether there is the bias b.

    Example:
        >>> spec = kg.CellSpec(input_projection=kg.Projection("tanh"))
        >>> print(kg.describe(spec).splitlines()[2])
        x̂ₜ = tanh(W_x xₜ + b_x)
    """

    activation: Hashable = "linear"
    use_bias: bool = True

    def __post_init__(self):
        self._freeze("activation")


def as_gate(value: Any, argument: str) -> "Gate | Tied | float":
    """Returns the Gate, the Tied or the constant (a float) that a gate argument stands for.

    Args:
        value: True (a `Gate()`), False (the constant 1, an absent gate), a number, a Gate, a Tied,
            or a config of a Gate or a Tied.
        argument: its name, for the error message.

    Raises:
        TypeError: if `value` is none of these.
    """
    gate = from_json_value(value)
    if isinstance(gate, Gate | Tied):
        return gate
    if isinstance(gate, bool):
        return Gate() if gate else 1.0
    if isinstance(gate, Real) and math.isfinite(gate):
        return float(gate)
    raise TypeError(
        f"Argument `{argument}` must be True (the gate is present), False (it is absent), a finite "
        "number (it is constant), a keras_gated.Gate or a keras_gated.Tied. "
        f"Received: {argument}={value!r}."
    )


def check_positive(value: Any, argument: str) -> int:
    """Returns `value` as an int.

    Args:
        value: an integer > 0.
        argument: its name, for the error message.

    Raises:
        ValueError: if `value` is not an integer > 0.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value <= 0:
        raise ValueError(
            f"Argument `{argument}` must be an integer > 0. Received: {argument}={value!r}."
        )
    return int(value)


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
        parts = {part.__name__: part for part in Part.__subclasses__()}
        return parts.get(value["part"], Part).from_config(value)
    return value


def _check_kernels(part: Gate | Candidate) -> None:
    for argument in ("kernel", "recurrent_kernel"):
        if (kind := getattr(part, argument)) not in KERNEL_KINDS:
            raise ValueError(
                f"Argument `{argument}` must be 'dense' (every unit sees every entry), 'diagonal' "
                "(each unit sees its own entry, times a weight), 'identity' (each unit sees its "
                f"own entry unchanged) or None (no such term). Received: {argument}={kind!r}."
            )
    if part.input_activation is not None and part.kernel is None:
        raise ValueError(
            "Argument `input_activation` needs a kernel: without one, x_t is not used. "
            f"Received: input_activation={part.input_activation!r} with kernel=None. Set a kernel, "
            "or leave out input_activation."
        )
