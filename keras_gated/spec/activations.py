"""The activations that cells use: name -> function, LaTeX, ONNX activation. One table."""

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import keras

from keras_gated.spec.parts import Config


@dataclass(frozen=True)
class Activation:
    """An activation.

    Attributes:
        function: tensor -> tensor.
        latex: how it is written, `{}` standing for the argument, `{g}` for the argument in
            brackets if it is a sum.
        onnx: (name, alpha, beta) of the equal activation of ONNX's recurrent operators; alpha and
            beta are None where it takes none. None if there is no equal one.
        elementwise: whether each entry of the result depends on its own entry alone.
    """

    function: Callable[[Any], Any]
    latex: str
    onnx: tuple[str, float | None, float | None] | None = None
    elementwise: bool = True


def _keras(name: str, latex: str, *onnx) -> Activation:
    """An activation of Keras."""
    return Activation(keras.activations.get(name), latex, onnx or None)


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


# Other names of Keras that are known to be elementwise; of the rest it is not assumed.
ELEMENTWISE = frozenset(
    "celu exponential gelu hard_shrink hard_silu hard_swish hard_tanh leaky_relu log_sigmoid mish "
    "relu6 selu silu soft_shrink sparse_plus sparse_sigmoid squareplus swish tanh_shrink "
    "threshold".split()
)


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
        near = get_close_matches(str(identifier), [*ACTIVATIONS, *ELEMENTWISE], n=3)
        raise ValueError(
            f"An activation must be one of {', '.join(ACTIVATIONS)}, another name that "
            f"keras.activations knows, or a function. Received: {identifier!r}."
            + (f" Did you mean {' or '.join(map(repr, near))}?" if near else "")
        ) from None
    letters = re.sub(r"\W|_", "", getattr(function, "__name__", "")) or "g"
    name = rf"\operatorname{{{{{letters}}}}}({{}})"
    return Activation(function, name, elementwise=identifier in ELEMENTWISE)


def identify(activation: Any) -> Hashable:
    """Returns the name, the Config or the function itself by which a specification holds it.

    A function stays one where its config does not lead back to it; it is of use all the same.

    Args:
        activation: a name, a function, a config or None, as Keras's `activation` arguments take.
    """
    if activation is None:
        return "linear"
    if isinstance(activation, str):
        return activation
    if not callable(activation):
        return Config.of(activation)
    if getattr(activation, "__name__", "") == "<lambda>":
        return activation  # Keras would warn of saving it, which nobody has asked for yet
    try:
        config = keras.activations.serialize(activation)
        keras.activations.get(config)
    except (ValueError, TypeError, AttributeError, OSError):
        return activation
    return Config.of(config)
