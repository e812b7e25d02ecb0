"""Weights from and to Keras: layers, what is wrapped around them, and whole models."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import keras

from keras_gated.convert.keras_layers import LAYERS, base, gated, refused, stock, what


def from_keras(layer: Any) -> Any:
    """Returns the gated layer that computes what a recurrent layer of Keras does.

    It has the same settings, name and dtype policy and, if the layer is built, the same weights.
    Under recurrent_dropout one mask serves all blocks, where Keras draws one for each; a stateful
    layer starts at zero. Numbers are those of Keras in all else.

    Args:
        layer: a `keras.layers.LSTM`, `GRU`, `SimpleRNN`, an `RNN` over `LSTMCell`, `GRUCell`,
            `SimpleRNNCell` or `GatedCell`, or over several of them; a `Bidirectional` or
            `TimeDistributed` around one; or a Sequential or functional model, whose other layers
            are copied. Nothing is changed in it.

    Returns:
        A `GatedLSTM`, `GatedGRU` or `GatedRNN`; for several cells a `keras.layers.RNN` over
        `GatedCell`s, with the same states; a wrapper or a model with these in it, compiled anew
        where the model is compiled. A gated layer gives a copy.

    Raises:
        TypeError: if it is no layer of Keras.
        ValueError: if a recurrent layer has no counterpart (a subclass, another cell, activations
            with weights), or a model is a subclassed one or not yet built.

    Example:
        >>> fast = kg.from_keras(keras.models.load_model("lstm.keras"))
    """
    return _converted(layer, gated)


def to_keras(layer: Any) -> Any:
    """Returns the layer of Keras that computes what a gated layer does, where there is one.

    That is so if its cell resolves to the LSTM without peepholes, the GRU with the reset before
    or after the product, or the tanh RNN, with any activations that Keras's layer can have. It has
    the same settings, name and dtype policy and, if the layer is built, the same weights.

    Args:
        layer: a `GatedLSTM`, `GatedGRU` or `GatedRNN`, a `keras.layers.RNN` over one or several
            `GatedCell`s, a `Bidirectional` or `TimeDistributed` around one, or a Sequential or
            functional model. What is not gated is copied. Nothing is changed in it.

    Returns:
        A `keras.layers.LSTM`, `GRU` or `SimpleRNN`, or what was given with these in it, for several
        cells an `RNN` over `LSTMCell`s and so on.

    Raises:
        TypeError: if it is no layer of Keras.
        ValueError: if the cell is another one, with what differs; if its gates start at biases of
            their own that Keras has no argument for and there are no weights yet to copy; if the
            layer is a subclass, or the model a subclassed one or not yet built.

    Example:
        >>> keras_lstm = kg.to_keras(kg.GatedRNN(32, "lstm"))
    """
    return _converted(layer, stock)


def _converted(layer: Any, convert: Callable) -> Any:
    if not isinstance(layer, keras.Layer):
        raise TypeError(
            f"Argument `layer` must be a layer or a model of Keras. Received: {layer!r}."
        )
    if isinstance(layer, keras.Model) and layer.weights and not layer.built:
        raise ValueError(
            "Argument `layer` must be a model that is built, since some of its layers have "
            f"weights. Received: {what(layer)}, not built. Call it on data first."
        )
    twin = _twin(layer, convert)
    if layer.built:
        if not twin.built:
            twin.build_from_config(layer.get_build_config())
        twin.set_weights(layer.get_weights())
    return twin


def _twin(layer: Any, convert: Callable, inside: bool = False) -> Any:
    """A layer or model converted, without its weights."""
    kind = type(layer)
    if isinstance(layer, keras.Model):
        return _twin_of_model(layer, convert)
    if kind is LAYERS.Bidirectional:
        forward, backward = convert(layer.forward_layer), convert(layer.backward_layer)
        merge = {"merge_mode": layer.merge_mode, "backward_layer": backward}
        return LAYERS.Bidirectional(forward, **merge, **base(layer))
    if kind is LAYERS.TimeDistributed:
        return LAYERS.TimeDistributed(_twin(layer.layer, convert, inside), **base(layer))
    if isinstance(layer, LAYERS.RNN):
        return convert(layer)
    if inside:
        return kind.from_config(layer.get_config())
    raise refused(layer, "It is not recurrent: use it as it is.")


def _twin_of_model(model: keras.Model, convert: Callable) -> keras.Model:
    if type(model) not in (keras.Sequential, _functional()):
        raise refused(
            model,
            "How a subclassed model calls its layers stands in its code, which cannot be "
            "rewritten: convert the layers where it makes them.",
        )
    one = partial(_twin, convert=convert, inside=True)
    return keras.models.clone_model(model, clone_function=one, recursive=True)


@lru_cache(maxsize=1)
def _functional() -> type:
    """The class of functional models, which has no public name."""
    x = keras.Input((1,), name="x")
    return type(keras.Model(x, x, name="model"))
