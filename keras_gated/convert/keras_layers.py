"""One recurrent layer of Keras as the gated layer that computes the same, and the other way.

`keras.layers.LSTM`, `GRU` and `SimpleRNN` are settings of the formula. Gated layers hold their
weights in Keras's order, so that a conversion changes the class and copies all weights as they are.
The layers made here are not built; keras_models.py copies the weights.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from inspect import signature
from typing import Any

import keras

from keras_gated.cell import GatedCell
from keras_gated.convert.layer_copies import copy_layer
from keras_gated.layers import CELL_ARGUMENTS, OWN_ARGUMENTS, GatedGRU, GatedLSTM, GatedRNN
from keras_gated.spec.activations import lookup
from keras_gated.spec.cell_spec import CellSpec
from keras_gated.spec.config import Config
from keras_gated.spec.describe import diff
from keras_gated.spec.normal_form import NormalForm, resolve
from keras_gated.spec.parts import Candidate
from keras_gated.spec.preset_lookup import presets

LAYERS = keras.layers
# For each cell of Keras: the gated layer that computes the same.
GATED_LAYERS: dict[type, Callable[..., GatedRNN]] = {
    LAYERS.LSTMCell: GatedLSTM,
    LAYERS.GRUCell: GatedGRU,
    LAYERS.SimpleRNNCell: partial(GatedRNN, spec="elman"),
}
# For each layer of Keras: its cell, and the preset that computes the same.
KERAS_LAYERS: dict[type, tuple[type, str]] = {
    LAYERS.LSTM: (LAYERS.LSTMCell, "lstm"),
    LAYERS.GRU: (LAYERS.GRUCell, "gru"),
    LAYERS.SimpleRNN: (LAYERS.SimpleRNNCell, "elman"),
}
# Arguments of a `GatedCell` that are stored in its specification, and all others.
IN_SPEC = ("activation", "recurrent_activation", "output_activation", "use_bias", "reset_after")
NOT_IN_SPEC = tuple(name for name in CELL_ARGUMENTS if name not in IN_SPEC)


def gated_layer_of_cell(cell: Any, **arguments: Any) -> GatedRNN | None:
    """Returns an unbuilt gated layer with the settings of a cell, or None if there is none.

    Args:
        cell: any cell. `LSTMCell`, `GRUCell`, `SimpleRNNCell` and `GatedCell` have a gated layer,
            unless an activation is a layer with weights or one that is not built yet.
        **arguments: arguments of the layer. They replace settings of the cell.
    """
    kind = type(cell)
    if kind is GatedCell:
        names, make = NOT_IN_SPEC, GatedRNN
    elif kind in GATED_LAYERS and not _has_weighted_activation(cell):
        names, make = _argument_names(kind), GATED_LAYERS[kind]
    else:
        return None
    settings = {name: getattr(cell, name) for name in names}
    return make(**{**settings, "dtype": cell.dtype_policy, **arguments})


def _has_weighted_activation(cell: Any) -> bool:
    """Whether an activation is a layer that has weights, or may get some when it is built."""
    functions = (getattr(cell, name, None) for name in ("activation", "recurrent_activation"))
    layers: list[Any] = [function for function in functions if isinstance(function, keras.Layer)]
    return any(layer.weights or (cell.built and not layer.built) for layer in layers)


def _argument_names(kind: type) -> list[str]:
    """Names of the arguments of a layer or cell class of Keras. Each is an attribute too."""
    return [name for name in signature(kind).parameters if name not in ("cell", "kwargs")]


def base_arguments(layer: keras.Layer) -> dict[str, Any]:
    """Returns the arguments that every layer has: name, trainable and dtype."""
    return {"name": layer.name, "trainable": layer.trainable, "dtype": layer.dtype_policy}


def _rnn_arguments(layer: keras.layers.RNN) -> dict[str, Any]:
    """The arguments of any recurrent layer, without those of its cell."""
    names = [*_argument_names(LAYERS.RNN), "activity_regularizer"]
    return {name: getattr(layer, name) for name in names} | base_arguments(layer)


def _convert_stack(layer: Any, convert_cell: Callable[[Any], Any]) -> keras.layers.RNN:
    """A layer over several cells, with each cell converted."""
    cells = [convert_cell(cell) for cell in layer.cell.cells]
    stack = LAYERS.StackedRNNCells(cells, **base_arguments(layer.cell))
    return LAYERS.RNN(stack, **_rnn_arguments(layer))


# From Keras to gated layers


def to_gated_layer(layer: Any) -> keras.layers.RNN:
    """Returns the unbuilt gated layer that computes what a recurrent layer of Keras computes."""
    kind: Any = type(layer)
    cell: Any = getattr(layer, "cell", None)
    if kind in (GatedRNN, GatedLSTM, GatedGRU):
        return kind.from_config(layer.get_config())
    if kind not in (LAYERS.RNN, *KERAS_LAYERS):
        raise conversion_error(layer, SUBCLASS)
    if type(cell) is LAYERS.StackedRNNCells:
        return _convert_stack(layer, partial(_to_gated_cell, layer))
    # The cell computes, so its dtype policy is the one that counts.
    gated = _gated_layer(layer, cell, **{**_rnn_arguments(layer), "dtype": cell.dtype_policy})
    gated.cell.trainable = cell.trainable
    return gated


def gated_copy(layer: GatedRNN, **arguments: Any) -> GatedRNN:
    """Returns an unbuilt `GatedRNN` with the settings of a gated layer.

    Args:
        layer: a gated layer.
        **arguments: arguments of the copy that differ.
    """
    own = {name: getattr(layer, name) for name in OWN_ARGUMENTS}
    settings = _rnn_arguments(layer) | own | {"dtype": layer.cell.dtype_policy}
    copy = _gated_layer(layer, layer.cell, **(settings | arguments))
    copy.cell.trainable = layer.cell.trainable
    return copy


def _to_gated_cell(layer: Any, cell: Any) -> GatedCell:
    """The gated cell for one cell of a stack; `layer` is the layer around the stack."""
    of_layer = _gated_layer(layer, cell).cell
    settings = {name: getattr(of_layer, name) for name in NOT_IN_SPEC}
    gated = GatedCell(**settings, **base_arguments(cell))
    if options := gated.options_of_a_layer:
        raise conversion_error(
            layer,
            f"{type(cell).__name__} {cell.name!r} has {_values(options)}, which a GatedCell can "
            "have only in a GatedRNN of its own: make one layer for each cell.",
        )
    return gated


def _gated_layer(layer: Any, cell: Any, **arguments: Any) -> GatedRNN:
    """The result of `gated_layer_of_cell`, or an error that names the layer around the cell."""
    gated = gated_layer_of_cell(cell, **arguments)
    if gated is not None:
        return gated
    advice = "One of its activations has weights: move that activation behind the layer."
    if type(cell) not in GATED_LAYERS:
        advice = (
            f"Its cell is {type(cell).__name__}: write it as a keras_gated.CellSpec, if the "
            "formula allows, and copy the weights with set_block_weights."
        )
    raise conversion_error(layer, advice)


# From gated layers to Keras


def to_keras_layer(layer: Any) -> keras.layers.RNN:
    """Returns the unbuilt layer of Keras that computes what a gated layer computes.

    A layer that is not gated gives a copy.
    """
    kind, cell = type(layer), getattr(layer, "cell", None)
    if type(cell) is LAYERS.StackedRNNCells and kind is LAYERS.RNN:
        return _convert_stack(layer, _to_keras_cell)
    if not isinstance(cell, GatedCell):
        return copy_layer(layer)
    if type(cell) is not GatedCell or kind not in (LAYERS.RNN, GatedRNN, GatedLSTM, GatedGRU):
        raise conversion_error(layer, SUBCLASS)
    make, settings = _keras_layer_of(cell, layer)
    converted = make(**settings, **{**_rnn_arguments(layer), "dtype": cell.dtype_policy})
    converted.cell.trainable = cell.trainable
    return converted


def _to_keras_cell(cell: Any) -> Any:
    if not isinstance(cell, GatedCell):
        return copy_layer(cell)
    kind, settings = _keras_layer_of(cell, cell)
    return KERAS_LAYERS[kind][0](**settings, **base_arguments(cell))


def _keras_layer_of(cell: GatedCell, layer: Any) -> tuple[type, dict[str, Any]]:
    """The class of the Keras layer that computes the same as a cell, and its arguments.

    The nearest preset is given the settings that Keras's layer can have. If the cell then still has
    another normal form, Keras has no such layer.

    Args:
        cell: a gated cell.
        layer: the cell, or the layer around it; for error messages.
    """
    form = cell.form
    kind = _nearest_keras_layer(form)
    cell_class, preset = KERAS_LAYERS[kind]
    spec = _with_keras_settings(presets[preset].spec, form)
    if _without_initial_biases(resolve(spec)) != _without_initial_biases(form):
        difference = diff(cell.spec, spec)
        raise ValueError(
            f"Argument `layer` must have a cell that keras.layers.{kind.__name__} can compute. "
            f"Received: {name_of(layer)}, which cannot become one: it has "
            f"{_quoted(difference.only_first)}, and it lacks {_quoted(difference.only_second)}. "
            "Keep the gated layer, or make one with that layer's gates."
        )
    names = _argument_names(cell_class)
    if more := {name: value for name, value in cell.options().items() if name not in names}:
        raise ValueError(
            "Argument `layer` must not have options that Keras's layers lack. "
            f"Received: {name_of(layer)} with {_values(more)}. Make the layer without them."
        )
    settings = {name: getattr(cell, name) for name in NOT_IN_SPEC} | {
        "activation": _function(form.candidate.activation),
        "recurrent_activation": _function(spec.recurrent_activation),
        "use_bias": form.candidate.use_bias,
        "reset_after": form.reset == "after",
    }
    settings = {name: value for name, value in settings.items() if name in names}
    return kind, settings | _initial_bias(cell, kind, layer)


def _nearest_keras_layer(form: NormalForm) -> type:
    if form.memory == "cell":
        return LAYERS.LSTM
    return LAYERS.GRU if len(form.blocks) > 1 else LAYERS.SimpleRNN


def _with_keras_settings(spec: CellSpec, form: NormalForm) -> CellSpec:
    """`spec` with the settings of `form` that the arguments of Keras's layer can express."""
    candidate = form.candidate
    gates = [block for name, block in form.blocks.items() if name != "candidate"]
    return replace(
        spec,
        candidate=Candidate(activation=candidate.activation, reset_after=form.reset == "after"),
        recurrent_activation=gates[0].activation if gates else spec.recurrent_activation,
        use_bias=candidate.use_bias,
    )


def _without_initial_biases(form: NormalForm) -> NormalForm:
    """`form` without bias initializers: they change no equation."""
    blocks = {n: replace(block, bias_initializer=None) for n, block in form.blocks.items()}
    return replace(form, blocks=blocks)


def _initial_bias(cell: GatedCell, kind: type, layer: Any) -> dict[str, bool]:
    """The argument of Keras's layer for the initial biases of the gates.

    Keras's LSTM has `unit_forget_bias`; there are no arguments for other initial biases. They are
    lost in the conversion, which is harmless if the layer is built: then its weights are copied.
    """
    initializers = {
        block.name: keras.initializers.get(Config.thaw(block.bias_initializer))
        for block in cell.form.blocks.values()
        if block.use_bias and block.bias_initializer is not None
    }
    ones = isinstance(initializers.get("forget"), keras.initializers.Ones)
    unit_forget_bias = set(initializers) == {"forget"} and ones
    expressible = not initializers or (unit_forget_bias and kind is LAYERS.LSTM)
    if not expressible and not cell.built:
        raise ValueError(
            "Argument `layer` must be built if its gates have a bias_initializer for which "
            f"keras.layers.{kind.__name__} has no argument. Received: {name_of(layer)}, not built, "
            f"with a bias_initializer of: {', '.join(initializers)}. Build it first, so that its "
            "weights can be copied."
        )
    return {"unit_forget_bias": unit_forget_bias} if kind is LAYERS.LSTM else {}


def _function(identifier: Any) -> Callable:
    """An activation as a function of Keras, which a file can hold."""
    linear = identifier in (None, "linear")
    return keras.activations.linear if linear else lookup(identifier).function


# Error messages

SUBCLASS = "It is a subclass, which may compute something else: pass a layer of the class itself."


def conversion_error(layer: Any, advice: str) -> ValueError:
    """Returns the error for a layer that cannot be converted. `advice` says why and what to do."""
    return ValueError(
        "Argument `layer` must be a recurrent layer of Keras or keras_gated over their own cells, "
        "whose activations have no weights; a Bidirectional or TimeDistributed around such a "
        "layer; or a Sequential or functional model. "
        f"Received: {name_of(layer)}. {advice}"
    )


def name_of(layer: Any) -> str:
    """Returns the class and the name of a layer, for an error message."""
    return f"{type(layer).__name__} {layer.name!r}"


def _quoted(features: tuple[str, ...]) -> str:
    return ", ".join(f"`{feature}`" for feature in features) or "nothing more"


def _values(options: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items())
