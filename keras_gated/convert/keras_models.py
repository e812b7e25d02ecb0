"""`from_keras` and `to_keras`: layers, wrappers and whole models, converted with their weights.

keras_layers.py converts a single recurrent layer. This file finds such layers inside wrappers and
models, and copies the weights. Weights keep their order, so they are copied as one list.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import keras

from keras_gated.convert.keras_layers import (
    LAYERS,
    base_arguments,
    conversion_error,
    name_of,
    to_gated_layer,
    to_keras_layer,
)


def from_keras(layer: Any) -> Any:
    """Returns the gated layer that computes what a recurrent layer of Keras computes.

    It has the same settings, name and dtype policy and, if the layer is built, the same weights.
    Two things differ: under recurrent_dropout one dropout mask serves all blocks, where Keras draws
    one for each block; and a stateful layer starts with states of zero.

    Args:
        layer: a `keras.layers.LSTM`, `GRU`, `SimpleRNN`, an `RNN` over `LSTMCell`, `GRUCell`,
            `SimpleRNNCell` or `GatedCell`, or over several of them; a `Bidirectional` or
            `TimeDistributed` around one; or a Sequential or functional model, whose other layers
            are copied. It is not changed.

    Returns:
        A `GatedLSTM`, `GatedGRU` or `GatedRNN`. For several cells: a `keras.layers.RNN` over
        `GatedCell`s, with the same states. For a wrapper or a model: a copy with gated layers in
        it, compiled like the original if that is compiled. A gated layer gives a copy.

    Raises:
        TypeError: if `layer` is not a layer of Keras.
        ValueError: if there is no gated layer for it (a subclass, another cell, activations with
            weights), or a model is a subclassed one or not yet built.

    Example:
        >>> x = np.ones((2, 5, 3), "float32")
        >>> lstm = keras.layers.LSTM(4)
        >>> y = keras.ops.convert_to_numpy(lstm(x))
        >>> gated = kg.from_keras(lstm)
        >>> type(gated).__name__
        'GatedLSTM'
        >>> np.allclose(keras.ops.convert_to_numpy(gated(x)), y, atol=1e-5)
        True
    """
    return _convert(layer, to_gated_layer)


def to_keras(layer: Any) -> Any:
    """Returns the layer of Keras that computes what a gated layer computes, if there is one.

    There is one if the cell's normal form is the LSTM without peepholes, the GRU with the reset
    before or after the product, or the tanh RNN, with any activations that Keras's layer can have.
    The result has the same settings, name and dtype policy and, if the layer is built, the same
    weights.

    Args:
        layer: a `GatedLSTM`, `GatedGRU` or `GatedRNN`, a `keras.layers.RNN` over one or several
            `GatedCell`s, a `Bidirectional` or `TimeDistributed` around one, or a Sequential or
            functional model. Layers that are not gated are copied. It is not changed.

    Returns:
        A `keras.layers.LSTM`, `GRU` or `SimpleRNN`. For several cells: an `RNN` over `LSTMCell`s
        and so on. For a wrapper or a model: a copy with these layers in it.

    Raises:
        TypeError: if `layer` is not a layer of Keras.
        ValueError: if Keras has no such layer, with what differs; if its gates have initial biases
            for which Keras has no argument, and there are no weights yet to copy; if the layer is a
            subclass, or the model a subclassed one or not yet built.

    Example:
        >>> layer = kg.to_keras(kg.GatedRNN(32, "gru"))
        >>> type(layer) is keras.layers.GRU
        True
    """
    return _convert(layer, to_keras_layer)


def _convert(layer: Any, convert_layer: Callable) -> Any:
    """Returns a layer or model with its recurrent layers converted and its weights copied."""
    if not isinstance(layer, keras.Layer):
        raise TypeError(
            f"Argument `layer` must be a layer or a model of Keras. Received: {layer!r}."
        )
    if isinstance(layer, keras.Model) and layer.weights and not layer.built:
        raise ValueError(
            "Argument `layer` must be a built model, because some of its layers have weights. "
            f"Received: {name_of(layer)}, not built. Call it on data first."
        )
    converted = _without_weights(layer, convert_layer)
    if layer.built:
        if not converted.built:
            converted.build_from_config(layer.get_build_config())
        converted.set_weights(layer.get_weights())
    return converted


def _without_weights(layer: Any, convert_layer: Callable, in_model: bool = False) -> Any:
    """The converted layer or model, with weights that are not copied yet.

    Args:
        layer: a layer or model.
        convert_layer: function that converts one recurrent layer.
        in_model: whether it is a layer of a model. Then a layer that is not recurrent is copied.
    """
    kind = type(layer)
    if isinstance(layer, keras.Model):
        return _model_without_weights(layer, convert_layer)
    if kind is LAYERS.Bidirectional:
        forward, backward = convert_layer(layer.forward_layer), convert_layer(layer.backward_layer)
        merge = {"merge_mode": layer.merge_mode, "backward_layer": backward}
        return LAYERS.Bidirectional(forward, **merge, **base_arguments(layer))
    if kind is LAYERS.TimeDistributed:
        inner = _without_weights(layer.layer, convert_layer, in_model)
        return LAYERS.TimeDistributed(inner, **base_arguments(layer))
    if isinstance(layer, LAYERS.RNN):
        return convert_layer(layer)
    if in_model:
        return kind.from_config(layer.get_config())
    raise conversion_error(layer, "It is not recurrent: use it as it is.")


def _model_without_weights(model: keras.Model, convert_layer: Callable) -> keras.Model:
    if type(model) not in (keras.Sequential, _functional_class()):
        raise conversion_error(
            model,
            "It is a subclassed model, whose Python code calls its layers and cannot be rewritten: "
            "convert the layers where the model makes them.",
        )
    convert = partial(_without_weights, convert_layer=convert_layer, in_model=True)
    return keras.models.clone_model(model, clone_function=convert, recursive=True)


@lru_cache(maxsize=1)
def _functional_class() -> type:
    """The class of functional models, which has no public name in Keras."""
    x = keras.Input((1,), name="x")
    return type(keras.Model(x, x, name="model"))
