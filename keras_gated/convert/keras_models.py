"""`from_keras` and `to_keras`: layers, wrappers and whole models, converted with their weights.

keras_layers.py converts a single recurrent layer, layer_copies.py copies the others. This file
walks through wrappers and models, and copies the weights. These keep their order, so they are
copied as one list.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import keras

from keras_gated.convert.comparison import check_same_numbers, inputs_of
from keras_gated.convert.keras_layers import (
    LAYERS,
    base_arguments,
    conversion_error,
    name_of,
    to_gated_layer,
    to_keras_layer,
)
from keras_gated.convert.layer_copies import (
    assign_copies,
    carry_seeds,
    compile_like,
    copy_layer,
    parts_within,
)
from keras_gated.convert.same_mask import same_mask


def from_keras(layer: Any) -> Any:
    """Returns the gated layer that computes what a recurrent layer of Keras computes.

    It has the same settings, name and dtype policy and, if the layer is built, the same weights.
    One thing differs: under recurrent_dropout one dropout mask serves all blocks, where Keras draws
    one for each block. In a model a layer that is called with `initial_state` ignores the mask of
    its inputs, as Keras's layer does. A model and its copy are compared on random inputs.

    Args:
        layer: a `keras.layers.LSTM`, `GRU`, `SimpleRNN`, an `RNN` over `LSTMCell`, `GRUCell`,
            `SimpleRNNCell` or `GatedCell`, or over several of them; a `Bidirectional` or
            `TimeDistributed` around one; or a Sequential or functional model, whose other layers
            are copied with their state. It is not changed.

    Returns:
        A `GatedLSTM`, `GatedGRU` or `GatedRNN`. For several cells: a `keras.layers.RNN` over
        `GatedCell`s, with the same states. For a wrapper or a model: a copy with gated layers in
        it, compiled like the original if that is compiled, with the state of its optimizer. A
        gated layer gives a copy.

    Raises:
        TypeError: if `layer` is not a layer of Keras.
        ValueError: if there is no gated layer for it (a subclass, another cell, activations with
            weights), or a model is a subclassed one or not yet built; if a layer of a model cannot
            be copied, or its copy gives other numbers.

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
    """Returns a layer or model with its recurrent layers converted and its state copied."""
    if not isinstance(layer, keras.Layer):
        raise TypeError(
            f"Argument `layer` must be a layer or a model of Keras. Received: {layer!r}."
        )
    if isinstance(layer, keras.Model) and layer.weights and not layer.built:
        raise ValueError(
            "Argument `layer` must be a built model, because some of its layers have weights. "
            f"Received: {name_of(layer)}, not built. Call it on data first."
        )
    conversion = _Conversion(convert_layer)
    converted = conversion.convert(layer)
    if layer.built:
        if not converted.built:
            converted.build_from_config(layer.get_build_config())
        conversion.carry_state(layer, converted)
    conversion.compile_models()
    if isinstance(layer, keras.Model):
        check_same_numbers(layer, converted)
    return converted


class _Conversion:
    """One call of `from_keras` or `to_keras`.

    Args:
        convert_layer: function that converts one recurrent layer.
    """

    def __init__(self, convert_layer: Callable):
        self.convert_layer = convert_layer
        self.copies: dict[Any, Any] = {}  # by original; a layer inside another one comes first

    def convert(self, layer: Any, in_model: bool = False) -> Any:
        """The converted layer or model, with weights that are not copied yet.

        Args:
            layer: a layer or model.
            in_model: whether it is in a model. Then a layer that is not recurrent is copied.
        """
        if layer not in self.copies:
            self.copies[layer] = self._convert(layer, in_model)
        return self.copies[layer]

    def _convert(self, layer: Any, in_model: bool) -> Any:
        kind = type(layer)
        if kind is keras.Sequential:
            return self._sequential(layer)
        if kind is _functional_class():
            return self._functional(layer)
        if kind is LAYERS.Bidirectional:
            return self._bidirectional(layer)
        if kind is LAYERS.TimeDistributed:
            inner = self.convert(layer.layer, in_model)
            return LAYERS.TimeDistributed(inner, **base_arguments(layer))
        if isinstance(layer, LAYERS.RNN):
            return self.convert_layer(layer)
        if isinstance(layer, keras.Model) and not (in_model and _without_recurrence(layer)):
            raise conversion_error(
                layer,
                "It is a subclassed model, whose Python code calls its layers and cannot be "
                "rewritten: convert the layers where the model makes them.",
            )
        if in_model:
            return copy_layer(layer)
        raise conversion_error(layer, "It is not recurrent: use it as it is.")

    def _bidirectional(self, layer: Any) -> Any:
        backward = self.convert_layer(layer.backward_layer)
        merge = {"merge_mode": layer.merge_mode, "backward_layer": backward}
        forward = self.convert_layer(layer.forward_layer)
        wrapper = LAYERS.Bidirectional(forward, **merge, **base_arguments(layer))
        # It makes layers of its own from these two.
        self.copies[layer.forward_layer] = wrapper.forward_layer
        self.copies[layer.backward_layer] = wrapper.backward_layer
        return wrapper

    def _sequential(self, model: Any) -> keras.Sequential:
        layers = [self.convert(layer, in_model=True) for layer in model.layers]
        try:
            layers.insert(0, _input_like(inputs_of(model)))
        except (AttributeError, ValueError):  # it has not been called, and has no Input
            pass
        return keras.Sequential(layers, name=model.name)

    def _functional(self, model: Any) -> keras.Model:
        # A model over the same layers that is not compiled: clone_model would compile the clone.
        bare = keras.Model(model.input, model.output, name=model.name)
        return keras.models.clone_model(
            bare,
            input_tensors=keras.tree.map_structure(_input_like, model.input),
            clone_function=lambda layer: self.convert(layer, in_model=True),
            call_function=self._call,
        )

    def _call(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls a converted layer with the arguments of the original, and with its mask."""
        original = next((old for old, new in self.copies.items() if new is layer), None)
        return layer(*args, **same_mask(original, layer, args, kwargs))

    def carry_state(self, layer: Any, converted: Any) -> None:
        """Gives the converted layer or model the state of the original."""
        for old, new in self._pairs():
            if len(old.weights) != len(new.weights):
                raise conversion_error(
                    old,
                    f"Its copy has {len(new.weights)} weights, and not {len(old.weights)}: layers "
                    "that share a weight, or hold another layer of the model, cannot be copied.",
                )
        converted.set_weights(layer.get_weights())
        for old, new in reversed(self._pairs()):  # setting it changes what is inside
            if new.trainable != old.trainable:
                new.trainable = old.trainable
        for old, new in zip(layer.weights, converted.weights, strict=True):
            if new.trainable != old.trainable:
                new.trainable = old.trainable
        for old, new in self._pairs():
            if isinstance(old, LAYERS.RNN):
                _carry_states(old, new)
            else:
                carry_seeds(old, new)

    def compile_models(self) -> None:
        """Compiles the copies of models that are compiled."""
        for old, new in self._pairs():
            if isinstance(old, keras.Model) and old.compiled:
                compile_like(old, new)

    def _pairs(self) -> list[tuple[Any, Any]]:
        """Each layer that was converted or copied, with the result."""
        return [
            (old, new)
            for old, new in self.copies.items()
            if old is not new and isinstance(old, keras.Layer)
        ]


def _carry_states(old: Any, new: Any) -> None:
    """Gives a stateful layer the states of another."""
    if old.stateful and old.states is not None and new.states is not None:
        assign_copies(keras.tree.flatten(new.states), keras.tree.flatten(old.states))


def _without_recurrence(model: Any) -> bool:
    return not any(isinstance(part, LAYERS.RNN) for part in parts_within(model))


def _input_like(tensor: Any) -> Any:
    return keras.Input(
        batch_shape=tensor.shape, dtype=tensor.dtype, sparse=tensor.sparse, name=tensor.name
    )


@lru_cache(maxsize=1)
def _functional_class() -> type:
    """The class of functional models, which has no public name in Keras."""
    x = keras.Input((1,), name="x")
    # Keras before 3.14 takes no model whose output is its input.
    return type(keras.Model(x, LAYERS.Identity(name="y")(x), name="model"))
