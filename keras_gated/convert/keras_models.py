"""`from_keras` and `to_keras`: layers, wrappers and whole models, converted with their weights.

keras_layers.py converts a single recurrent layer, layer_copies.py copies the others. This file
walks through wrappers and models, and copies the weights. These keep their order, so they are
copied as one list.
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_gated.convert.comparison import check_same_numbers
from keras_gated.convert.conversion import Conversion
from keras_gated.convert.keras_layers import name_of, to_gated_layer, to_keras_layer
from keras_gated.convert.other_cells import swap_cells
from keras_gated.spec.cell_spec import CellSpec


def from_keras(layer: Any, cells: Mapping[str, str | CellSpec] | None = None) -> Any:
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
        cells: `{name of a recurrent layer: preset or CellSpec}` of layers that get another cell,
            with as many units. Weights that both cells have are taken over; the others are new.
            The numbers of such a model are others, and its optimizer starts anew.

    Returns:
        A `GatedLSTM`, `GatedGRU` or `GatedRNN`. For several cells: a `keras.layers.RNN` over
        `GatedCell`s, with the same states. For a wrapper or a model: a copy with gated layers in
        it, compiled like the original if that is compiled, with the state of its optimizer. A
        gated layer gives a copy.

    Raises:
        TypeError: if `layer` is not a layer of Keras.
        ValueError: if there is no gated layer for it (a subclass, another cell, activations with
            weights), or a model is a subclassed one or not yet built; if a layer of a model cannot
            be copied, or its copy gives other numbers; if `cells` names a layer that is not there.

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
    if cells is not None and not isinstance(cells, Mapping):
        raise ValueError(
            "Argument `cells` must be a dictionary {name of a layer: preset or CellSpec}. "
            f"Received: cells={cells!r}."
        )
    converted = _convert(layer, to_gated_layer)
    return swap_cells(converted, cells) if cells else converted


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
    conversion = Conversion(convert_layer)
    converted = conversion.convert(layer)
    if layer.built:
        if not converted.built:
            converted.build_from_config(layer.get_build_config())
        conversion.carry_state(layer, converted)
    conversion.compile_models()
    if isinstance(layer, keras.Model):
        check_same_numbers(layer, converted)
    return converted
