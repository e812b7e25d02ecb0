"""A model rebuilt with other recurrent layers: wrappers and models are walked through.

The caller says what becomes of one recurrent layer. All other layers are copied, and the weights
are carried over.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import keras

from keras_gated.convert.comparison import inputs_of
from keras_gated.convert.keras_layers import LAYERS, base_arguments, conversion_error
from keras_gated.convert.layer_copies import (
    assign_copies,
    carry_seeds,
    compile_like,
    copy_layer,
    parts_within,
)
from keras_gated.convert.same_mask import same_mask


class Conversion:
    """One conversion of a layer or model.

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
            return self.copy(layer)
        raise conversion_error(layer, "It is not recurrent: use it as it is.")

    def copy(self, layer: Any) -> Any:
        """The copy of a layer of a model that is not recurrent."""
        return copy_layer(layer)

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
        self.carry_weights(layer, converted)
        for old, new in reversed(self.pairs()):  # setting it changes what is inside
            if new.trainable != old.trainable:
                new.trainable = old.trainable
        for old, new in self.pairs():
            if len(old.weights) == len(new.weights):
                _carry_trainable(old.weights, new.weights)
        for old, new in self.pairs():
            if isinstance(old, LAYERS.RNN):
                _carry_states(old, new)
            else:
                carry_seeds(old, new)

    def carry_weights(self, layer: Any, converted: Any) -> None:
        """Gives the converted layer or model the weights of the original, in the same order."""
        for old, new in self.pairs():
            if len(old.weights) != len(new.weights):
                raise conversion_error(
                    old,
                    f"Its copy has {len(new.weights)} weights, and not {len(old.weights)}: layers "
                    "that share a weight, or hold another layer of the model, cannot be copied.",
                )
        converted.set_weights(layer.get_weights())

    def compile_models(self) -> None:
        """Compiles the copies of models that are compiled."""
        for old, new in self.pairs():
            if isinstance(old, keras.Model) and old.compiled:
                compile_like(old, new)

    def pairs(self) -> list[tuple[Any, Any]]:
        """Each layer that was converted or copied, with the result."""
        return [
            (old, new)
            for old, new in self.copies.items()
            if old is not new and isinstance(old, keras.Layer)
        ]


def inner_layers(layer: Any) -> list:
    """Returns the layers directly inside a model or a wrapper."""
    if isinstance(layer, LAYERS.Bidirectional):
        return [layer.forward_layer, layer.backward_layer]
    if isinstance(layer, LAYERS.TimeDistributed):
        return [layer.layer]
    return list(layer.layers) if isinstance(layer, keras.Model) else []


def _carry_trainable(old: list, new: list) -> None:
    """Freezes and unfreezes weights as others are."""
    for source, target in zip(old, new, strict=True):
        if target.trainable != source.trainable:
            target.trainable = source.trainable


def _carry_states(old: Any, new: Any) -> None:
    """Gives a stateful layer the states of another one, if it has the same."""
    if old.stateful and old.states is not None and new.states is not None:
        states = [keras.tree.flatten(layer.states) for layer in (new, old)]
        if [s.shape for s in states[0]] == [s.shape for s in states[1]]:
            assign_copies(*states)


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
