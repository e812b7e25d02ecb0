"""The parts of a specification: gates, ties, the candidate and the input projection.

They are frozen dataclasses: they can be compared, hashed and used as dictionary keys. Each turns
into a JSON-ready configuration and back. This file needs the standard library only.
"""

import math
from collections.abc import Hashable, Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from numbers import Integral, Real
from typing import Any

from keras_gated.spec.config import Config, Part, from_json_value
from keras_gated.spec.kernels import Kernel, check_kernel


@dataclass(frozen=True)
class Gate(Part):
    """A gate with weights of its own, `activation(W x_t + U h_{t-1} + p ⊙ c* + b)`.

    Args:
        kernel: how the gate sees `x_t`: "dense" (every unit sees every input), "diagonal" (unit j
            sees input j, times a weight), "identity" (unit j sees input j unchanged), a `Blocks`
            (n dense blocks on the diagonal) or None (it does not see `x_t`).
        recurrent_kernel: how the gate sees `h_{t-1}`: one of the same.
        use_bias: bool, or None for the layer's `use_bias`.
        peephole: bool, or "previous". Whether each unit also sees its own memory `c*`, times a
            weight. Needs `memory="cell"`. The input and forget gates see `c_{t-1}`, the output gate
            `c_t`, or `c_{t-1}` with "previous" (SRU).
        activation: name or config of the activation; None for the layer's `recurrent_activation`.
        bias_initializer: name or config of an initializer; None for the layer's
            `bias_initializer`.
        input_activation: rare. Name of a function that is applied to `x_t` before the kernel
            (MUT1). Needs `kernel`.
        recurrent_input_activation: rare. The same for `h_{t-1}` (MUT3).
        shares: rare. "candidate", or None. The pre-activation is then the candidate's products with
            `x_t` and `h_{t-1}`, plus the gate's own bias and peephole (FastGRNN); the gate has no
            kernels. There must be no reset gate.
        floor: rare. float in [0, 1), or None for 0: the value of the gate is `floor + (1 - floor)
            v`, where v is that of the activation (HGRN). For activations between 0 and 1.
        decay: rare. float > 0, or None. The value of the gate is then `exp(-decay softplus(λ) v)`,
            where v is the sigmoid of the pre-activation and λ a trained vector (RG-LRU). At first
            λ is such that the gate is between 0.9 and 0.999 where v is 1.

    Raises:
        ValueError: if a kernel is none of these kinds, the floor is not in [0, 1), or `decay` is no
            number > 0.

    Example:
        An LSTM whose forget gate starts open and sees only the input:

        >>> forget = kg.Gate(recurrent_kernel=None, bias_initializer="ones")
        >>> layer = kg.GatedLSTM(32, forget_gate=forget)
        >>> kg.count_parameters("lstm", 8, 32), kg.count_parameters(layer.cell.spec, 8, 32)
        (5248, 4224)
    """

    kernel: str | Kernel | None = "dense"
    recurrent_kernel: str | Kernel | None = "dense"
    use_bias: bool | None = None
    peephole: bool | str = field(default=False, metadata={"formats": {"previous": 2}})
    activation: Hashable = None
    bias_initializer: Hashable = None
    _: KW_ONLY
    input_activation: Hashable = None
    recurrent_input_activation: Hashable = None
    floor: float | None = field(default=None, metadata={"format": 2})
    decay: float | None = field(default=None, metadata={"format": 2})
    shares: str | None = field(default=None, metadata={"format": 2})

    def __post_init__(self):
        _take_products(self)
        check_bools(self)
        _check_peephole(self.peephole)
        _check_kernels(self)
        if self.floor is not None:
            object.__setattr__(self, "floor", _checked_floor(self.floor))
        _check_decay(self)
        freeze(self, "activation", "bias_initializer")
        freeze(self, "input_activation", "recurrent_input_activation")


@dataclass(frozen=True)
class Tied(Part):
    """A gate that follows another gate and has no weights of its own.

    If the other gate is `activation(a)`, this one is `v = activation(a + offset)`, or `1 - v`.

    Args:
        to: "input", "forget" or "reset": the gate that this one follows.
        complement: bool. Whether the value is `1 - v` in place of `v`.
        offset: float. Added to the pre-activation `a`, before the complement is taken.
        trained: rare. bool. Whether the value u, which is `v` or `1 - v`, becomes `σ(ζ) u + σ(ν)`
            with two trained numbers ζ and ν for all units (FastGRNN). They start at 1 and -4.

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
    trained: bool = field(default=False, metadata={"format": 2})

    def __post_init__(self):
        check_bools(self)
        if self.to not in ("input", "forget", "reset"):
            raise ValueError(
                "Argument `to` must be 'input', 'forget' or 'reset': the output gate is computed "
                f"after the memory, so no gate can follow it. Received: to={self.to!r}. "
                f"{_other_tie(self.to)}"
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
        kernel: how the candidate sees `x_t`: "dense", "diagonal", "identity", a `Blocks` or None;
            see `Gate`.
        recurrent_kernel: how it sees `h_{t-1}`: one of the same.
        use_bias: bool, or None for the layer's `use_bias`.
        activation: name or config of the activation g; None is "linear".
        reset_after: bool. Whether the reset gate multiplies the recurrent product `U h` (True) or
            `h` itself, before the product (False).
        use_recurrent_bias: bool. Whether there is a second bias, which the reset gate multiplies
            too. Counts only with `reset_after=True` and a reset gate that is not constant. As in
            Keras, the gates then have a second bias as well.
        input_activation: rare. Name of a function that is applied to `x_t` before the kernel
            (MUT1). Needs `kernel`.
        reset_all: rare. bool. Whether the reset gate multiplies the whole pre-activation, `g(r ⊙
            (W x_t + U h_{t-1} + b))` (DreamerV3). Excludes `reset_after=True`.

    Raises:
        ValueError: if a kernel is none of these kinds, or the reset gate is to act in two places.

    Example:
        >>> spec = kg.CellSpec(candidate=kg.Candidate(recurrent_kernel=None, activation="relu"))
        >>> print(kg.diff("lstm", spec).only_second)
        ('c̃ₜ = relu(W_c xₜ + b_c)', 'hₜ = oₜ ⊙ relu(cₜ)')
    """

    kernel: str | Kernel | None = "dense"
    recurrent_kernel: str | Kernel | None = "dense"
    use_bias: bool | None = None
    activation: Hashable = "tanh"
    reset_after: bool = False
    use_recurrent_bias: bool = True
    _: KW_ONLY
    input_activation: Hashable = None
    reset_all: bool = field(default=False, metadata={"format": 2})

    def __post_init__(self):
        check_bools(self)
        _check_kernels(self)
        if self.reset_all and self.reset_after:
            raise ValueError(
                "Arguments `reset_all` and `reset_after` exclude each other: the reset gate "
                "multiplies the whole pre-activation, or the recurrent product alone. Received: "
                "reset_all=True, reset_after=True. Leave out one of them."
            )
        if self.activation is None:  # in Keras, activation=None is the linear activation
            object.__setattr__(self, "activation", "linear")
        freeze(self, "activation", "input_activation")


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
        check_bools(self)
        freeze(self, "activation")


def freeze(part: Part, *names: str) -> None:
    """Replaces dictionaries in the fields `names` of a part by hashable `Config` objects."""
    for name in names:
        if isinstance(value := getattr(part, name), Mapping):
            object.__setattr__(part, name, Config.of(value))


def check_bools(part: Part) -> None:
    """Raises a ValueError if a field of a part that is a bool has another value."""
    for one in fields(part):
        value = getattr(part, one.name)
        if one.type is bool or (one.type == (bool | None) and value is not None):
            check_bool(value, one.name)


def check_bool(value: Any, argument: str) -> bool:
    """Returns `value` as a bool; it must be one, or 0 or 1."""
    if not isinstance(value, Hashable) or value not in (False, True):
        raise ValueError(
            f"Argument `{argument}` must be True or False. Received: {argument}={value!r}."
        )
    return bool(value)


def as_gate(value: Any, argument: str) -> "Gate | Tied | float":
    """Returns the Gate, the Tied or the constant (a float) that a gate argument stands for.

    Args:
        value: True (a `Gate()`), False (the constant 1, an absent gate), a number, a Gate, a Tied,
            or a config of a Gate or a Tied.
        argument: its name, for the error message.

    Raises:
        TypeError: if `value` is none of these.
    """
    if isinstance(value, bool):
        return Gate() if value else 1.0
    if isinstance(value, Real) and math.isfinite(value):
        return float(value)
    gate = from_json_value(value) if isinstance(value, Mapping) else value
    if isinstance(gate, Gate | Tied):
        return gate
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


def _other_tie(to: Any) -> str:
    if to in ("update", "update_gate"):
        return "The update gate of a GRU is its forget gate: write Tied('forget')."
    if to in ("output", "output_gate"):
        return "Tie the output gate to the other gate instead."
    return "Write the name of a gate without `_gate`."


def _take_products(gate: Gate) -> None:
    """Leaves out the kernels of a gate that shares the candidate's products."""
    if gate.shares is None:
        return
    own = {gate.kernel, gate.recurrent_kernel} - {"dense", None}
    before = (gate.input_activation, gate.recurrent_input_activation)
    if gate.shares != "candidate" or own or before != (None, None):
        raise ValueError(
            "Argument `shares` must be 'candidate' or None, and a gate that shares the products of "
            "the candidate has no kernels and no input activations of its own. "
            f"Received: shares={gate.shares!r} with kernel={gate.kernel!r}, "
            f"recurrent_kernel={gate.recurrent_kernel!r}, input activations {before}. "
            "Write Gate(shares='candidate')."
        )
    object.__setattr__(gate, "kernel", None)
    object.__setattr__(gate, "recurrent_kernel", None)


def _check_peephole(value: Any) -> None:
    if not isinstance(value, Hashable) or value not in (False, True, "previous"):
        raise ValueError(
            "Argument `peephole` must be True, False or 'previous' (the output gate sees the "
            f"memory before the step). Received: peephole={value!r}. Use one of these."
        )


def _checked_floor(value: Any) -> float:
    if not isinstance(value, Real) or isinstance(value, bool) or not 0.0 <= float(value) < 1.0:
        raise ValueError(
            "Argument `floor` must be a number in [0, 1), the smallest value of the gate, or None. "
            f"Received: floor={value!r}. For a constant gate pass a number in its place."
        )
    return float(value)


def _check_decay(gate: Gate) -> None:
    value = gate.decay
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Real) or not 0.0 < value < math.inf:
        raise ValueError(
            "Argument `decay` must be a number > 0, by which the trained exponent of the gate is "
            f"multiplied, or None. Received: decay={value!r}. The authors of the RG-LRU use 8."
        )
    if gate.floor:
        raise ValueError(
            "Arguments `floor` and `decay` exclude each other: both say how small the gate can be. "
            f"Received: floor={gate.floor}, decay={value!r}. Use one of them."
        )
    object.__setattr__(gate, "decay", float(value))


def _check_kernels(part: Gate | Candidate) -> None:
    for argument in ("kernel", "recurrent_kernel"):
        check_kernel(getattr(part, argument), argument)
    if part.input_activation is not None and part.kernel is None:
        raise ValueError(
            "Argument `input_activation` needs a kernel: without one, x_t is not used. "
            f"Received: input_activation={part.input_activation!r} with kernel=None. Set a kernel, "
            "or leave out input_activation."
        )
