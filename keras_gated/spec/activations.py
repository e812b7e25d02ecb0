"""Activations: each name with its function, its LaTeX and the equal activation of ONNX.

`ACTIVATIONS` is the only table. `lookup` also takes any other activation that Keras knows.
Keras is imported only when a function is needed: importing it takes seconds, and equations and
counts do without.
"""

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from keras_gated.spec.config import Config


@dataclass(frozen=True)
class Activation:
    """One activation function.

    Attributes:
        source: function, tensor -> tensor, or the name of Keras's activation.
        latex: format string: `{}` stands for the argument, `{g}` for the argument with brackets
            around it if it is a sum.
        onnx: (name, alpha, beta) of the equal activation of ONNX's recurrent operators; alpha or
            beta is None if the activation has no such parameter. None if no activation is equal.
        elementwise: whether each entry of the result depends only on the same entry of the input.
        slope: its derivative as a function of its value, tensor -> tensor, where that is simple.
        log: names the activation that is its logarithm, as `lookup` takes it, computed without
            overflow; "" if there is none.
        ops: elementwise operations that count for it.
    """

    source: Callable[[Any], Any] | str
    latex: str
    onnx: tuple[str, float | None, float | None] | None = None
    elementwise: bool = True
    slope: Callable[[Any], Any] | None = None
    log: Hashable = ""
    ops: int = 1

    @property
    def function(self) -> Callable[[Any], Any]:
        """The function, tensor -> tensor."""
        return _get(self.source)


def _get(identifier: Any) -> Callable[[Any], Any]:
    """Returns Keras's activation of that name or config; a function as it is."""
    import keras

    return keras.activations.get(identifier)


def _tanh(x: Any) -> Any:
    import keras

    return keras.ops.tanh(x)


def _log(x: Any) -> Any:
    import keras

    return keras.ops.log(x)


def _exp(x: Any) -> Any:
    import keras

    return keras.ops.exp(x)


def _expm1(x: Any) -> Any:
    import keras

    return keras.ops.expm1(x)


def _positive_linear(x: Any) -> Any:
    import keras

    return keras.ops.where(x >= 0, x + 0.5, keras.ops.sigmoid(x))


def _keras(name: str, latex: str, *onnx, **more) -> Activation:
    """Returns the entry of an activation that Keras has under the same name."""
    return Activation(name, latex, onnx or None, **more)


ACTIVATIONS: dict[str, Activation] = {
    "linear": _keras("linear", "{}", "Affine", 1.0, 0.0),
    "sigmoid": _keras(
        "sigmoid",
        r"\sigma({})",
        "Sigmoid",
        None,
        None,
        slope=lambda v: v * (1.0 - v),
        log="log_sigmoid",
    ),
    "tanh": _keras("tanh", r"\tanh({})", "Tanh", None, None, slope=lambda v: (1.0 - v) * (1.0 + v)),
    "relu": _keras("relu", r"\operatorname{{relu}}({})", "Relu", None, None),
    "hard_sigmoid": _keras(
        "hard_sigmoid", r"\operatorname{{hardsigmoid}}({})", "HardSigmoid", 1 / 6, 0.5
    ),
    "softsign": _keras("softsign", r"\operatorname{{softsign}}({})", "Softsign", None, None),
    "softplus": _keras("softplus", r"\operatorname{{softplus}}({})", "Softplus", None, None),
    "elu": _keras("elu", r"\operatorname{{elu}}({})", "Elu", 1.0, None),
    "silu": _keras("silu", r"\operatorname{{silu}}({})"),
    # The candidate of minGRU and minLSTM that is never negative: x + 1/2 for x >= 0, else σ(x).
    "positive_linear": Activation(_positive_linear, r"\operatorname{{positivelinear}}({})"),
    "log_sigmoid": _keras("log_sigmoid", r"\log(\sigma({}))", slope=lambda v: -_expm1(v)),
    "exp": Activation("exponential", r"\exp({})", slope=lambda v: v, log="linear"),
    # The two squashing functions of the LSTM of 1997, 4σ(x) - 2 and 2σ(x) - 1, written with tanh.
    "double_half_tanh": Activation(
        lambda x: 2.0 * _tanh(0.5 * x),
        r"2 \tanh(\frac{{1}}{{2}} {g})",
        ("ScaledTanh", 2.0, 0.5),
        slope=lambda v: (1.0 - 0.5 * v) * (1.0 + 0.5 * v),
    ),
    "half_tanh": Activation(
        lambda x: _tanh(0.5 * x),
        r"\tanh(\frac{{1}}{{2}} {g})",
        ("ScaledTanh", 1.0, 0.5),
        slope=lambda v: 0.5 * (1.0 - v) * (1.0 + v),
    ),
    # The reset gate of the bistable cells; its values lie between 0 and 2.
    "one_plus_tanh": Activation(
        lambda x: 1.0 + _tanh(x), r"1 + \tanh({})", slope=lambda v: v * (2.0 - v)
    ),
}


# Other activations of Keras that are elementwise. The rest (softmax, ...) count as not elementwise.
ELEMENTWISE = frozenset(
    "celu exponential gelu hard_shrink hard_silu hard_swish hard_tanh leaky_relu mish relu6 selu "
    "silu soft_shrink sparse_plus sparse_sigmoid squareplus swish tanh_shrink threshold".split()
)


@dataclass(frozen=True)
class Floored:
    """The activation of a gate with a floor: `floor + (1 - floor) v`.

    Attributes:
        activation: the one that computes v, as `lookup` takes it.
        floor: float in (0, 1).
    """

    activation: Hashable
    floor: float

    def __str__(self) -> str:
        return f"{self.activation} with a floor of {self.floor:.12g}"

    def resolve(self) -> Activation:
        """Returns it as an `Activation`."""
        base, floor, rest = lookup(self.activation), self.floor, 1.0 - self.floor
        slope, inner = base.slope, "{g}" if base.latex == "{}" else base.latex
        inner = f"({inner})" if "+" in inner else inner
        return Activation(
            lambda x: floor + rest * base.function(x),
            rf"{floor:.12g} + {rest:.12g} \, {inner}",
            elementwise=base.elementwise,
            slope=None if slope is None else lambda v: rest * slope((v - floor) / rest),
            log=LogFloored(self.activation, floor),
            ops=base.ops + 2,
        )


@dataclass(frozen=True)
class LogFloored(Floored):
    """The logarithm of such an activation, which is finite: the floor is above 0."""

    def resolve(self) -> Activation:
        """Returns it as an `Activation`."""
        base = super().resolve()
        slope = base.slope
        return Activation(
            lambda x: _log(base.function(x)),
            rf"\log({base.latex})",
            elementwise=base.elementwise,
            slope=None if slope is None else lambda v: slope(_exp(v)) / _exp(v),
            ops=base.ops + 1,
        )


def is_own(identifier: Hashable) -> bool:
    """Returns whether an activation is made of those in `ACTIVATIONS` alone."""
    if isinstance(identifier, Floored):
        return is_own(identifier.activation)
    return identifier is None or identifier in ACTIVATIONS


def lookup(identifier: Hashable) -> Activation:
    """Returns the activation that a specification names.

    Args:
        identifier: a name in `ACTIVATIONS`, any other name that Keras knows, a Config, a function,
            a `Floored`, or None ("linear").

    Raises:
        ValueError: if Keras does not know it.
    """
    if identifier is None:
        return ACTIVATIONS["linear"]
    if isinstance(identifier, Floored):
        return identifier.resolve()
    if isinstance(identifier, str) and identifier in ACTIVATIONS:
        return ACTIVATIONS[identifier]
    try:
        function = _get(Config.thaw(identifier))
    except (ValueError, TypeError):
        near = get_close_matches(str(identifier), [*ACTIVATIONS, *ELEMENTWISE], n=3)
        raise ValueError(
            f"An activation must be one of {', '.join(ACTIVATIONS)}, another name in "
            f"keras.activations, or a function. Received: {identifier!r}."
            + (f" Did you mean {' or '.join(map(repr, near))}?" if near else "")
        ) from None
    letters = re.sub(r"\W|_", "", getattr(function, "__name__", "")) or "g"
    latex = rf"\operatorname{{{{{letters}}}}}({{}})"
    return Activation(function, latex, elementwise=identifier in ELEMENTWISE)


def identify(activation: Any) -> Hashable:
    """Returns what a specification stores for an activation: a name, a Config or the function.

    A function becomes a Config if Keras can serialize it and read it back. If not, the function
    itself is stored: the cell works, and only saving it to a file fails.

    Args:
        activation: a name, a function, a config or None: what Keras's `activation` arguments take.
    """
    if activation is None:
        return "linear"
    if isinstance(activation, str):
        return activation
    if not callable(activation):
        return Config.of(activation)
    if getattr(activation, "__name__", "") == "<lambda>":
        return activation  # serializing a lambda warns, and nothing is saved yet
    import keras

    try:
        config = keras.activations.serialize(activation)
        keras.activations.get(config)
    except (ValueError, TypeError, AttributeError, OSError):
        return activation
    return Config.of(config)
