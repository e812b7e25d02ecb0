"""The activations that cells use: name -> function, LaTeX, ONNX activation. One table."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import keras

from keras_gated.parts import Config


@dataclass(frozen=True)
class Activation:
    """An activation.

    Attributes:
        function: tensor -> tensor.
        latex: how it is written, `{}` standing for the argument, `{g}` for the argument in
            brackets if it is a sum.
        onnx: (name, alpha, beta) of the equal activation of ONNX's recurrent operators; alpha and
            beta are None where it takes none. None if there is no equal one.
    """

    function: Callable[[Any], Any]
    latex: str
    onnx: tuple[str, float | None, float | None] | None = None


def _keras(name: str, latex: str, *onnx) -> Activation:
    """An activation of Keras: its function found when used, so that this table is cheap."""
    return Activation(lambda x: keras.activations.get(name)(x), latex, onnx or None)


ACTIVATIONS: dict[str, Activation] = {
    "linear": Activation(lambda x: x, "{}", ("Affine", 1.0, 0.0)),
    "sigmoid": _keras("sigmoid", r"\sigma({})", "Sigmoid", None, None),
    "tanh": _keras("tanh", r"\tanh({})", "Tanh", None, None),
    "relu": _keras("relu", r"\operatorname{{relu}}({})", "Relu", None, None),
    "hard_sigmoid": _keras(
        "hard_sigmoid", r"\operatorname{{hardsigmoid}}({})", "HardSigmoid", 1 / 6, 0.5
    ),
    "softsign": _keras("softsign", r"\operatorname{{softsign}}({})", "Softsign", None, None),
    "softplus": _keras("softplus", r"\operatorname{{softplus}}({})", "Softplus", None, None),
    "elu": _keras("elu", r"\operatorname{{elu}}({})", "Elu", 1.0, None),
    # The squashing functions of the LSTM of 1997: 4σ(x) - 2 and 2σ(x) - 1.
    "double_half_tanh": Activation(
        lambda x: 2.0 * keras.ops.tanh(0.5 * x),
        r"2 \tanh(\frac{{1}}{{2}} {g})",
        ("ScaledTanh", 2.0, 0.5),
    ),
    "half_tanh": Activation(
        lambda x: keras.ops.tanh(0.5 * x), r"\tanh(\frac{{1}}{{2}} {g})", ("ScaledTanh", 1.0, 0.5)
    ),
    # The gate of the bistable cells: between 0 and 2.
    "one_plus_tanh": Activation(lambda x: 1.0 + keras.ops.tanh(x), r"1 + \tanh({})"),
}


def lookup(identifier: Hashable) -> Activation:
    """Returns the activation that a specification names.

    Args:
        identifier: a name of the table, any other name that Keras knows, a Config or a function.

    Raises:
        ValueError: if nobody knows it.
    """
    if identifier is None:
        return ACTIVATIONS["linear"]
    if isinstance(identifier, str) and identifier in ACTIVATIONS:
        return ACTIVATIONS[identifier]
    try:
        function = keras.activations.get(Config.thaw(identifier))
    except (ValueError, TypeError):
        raise ValueError(
            f"Argument `activation` must be one of {', '.join(ACTIVATIONS)}, another name that "
            f"keras.activations knows, or a function. Received: {identifier!r}."
        ) from None
    name = getattr(function, "__name__", "g").replace("_", "")
    return Activation(function, rf"\operatorname{{{{{name}}}}}({{}})")


def identify(activation: Any) -> Hashable:
    """Returns the name (or Config, or the function itself) by which a specification holds it.

    Args:
        activation: a name, a function, a config or None, as Keras's `activation` arguments take.
    """
    if activation is None:
        return "linear"
    if isinstance(activation, str):
        return activation
    if not callable(activation):
        return Config.of(activation)
    try:
        config = keras.activations.serialize(activation)
    except (ValueError, TypeError, AttributeError, OSError):
        return activation  # of use, though it cannot be saved
    anonymous = isinstance(config, dict) and config.get("class_name") == "__lambda__"
    return activation if anonymous else Config.of(config)
