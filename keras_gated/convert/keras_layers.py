"""Which gated layer a recurrent layer of Keras is, and which of Keras's a gated one.

`keras.layers.LSTM`, `GRU` and `SimpleRNN` are settings of the formula, and weights lie in Keras's
order, so that a conversion is a change of class and nothing else.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from inspect import signature
from typing import Any

import keras

from keras_gated.cell import GatedCell
from keras_gated.layers import CELL_ARGUMENTS, GatedGRU, GatedLSTM, GatedRNN
from keras_gated.spec.activations import lookup
from keras_gated.spec.cell_spec import CellSpec
from keras_gated.spec.describe import diff
from keras_gated.spec.normal_form import NormalForm, resolve
from keras_gated.spec.options import DRAWN, OPTIONS
from keras_gated.spec.parts import Candidate, Config
from keras_gated.spec.presets import presets

LAYERS = keras.layers
# A cell of Keras, and the gated layer that is one.
FACES: dict[type, Callable[..., GatedRNN]] = {
    LAYERS.LSTMCell: GatedLSTM,
    LAYERS.GRUCell: GatedGRU,
    LAYERS.SimpleRNNCell: partial(GatedRNN, spec="elman"),
}
# A layer of Keras, its cell and the preset that it is.
STOCK: dict[type, tuple[type, str]] = {
    LAYERS.LSTM: (LAYERS.LSTMCell, "lstm"),
    LAYERS.GRU: (LAYERS.GRUCell, "gru"),
    LAYERS.SimpleRNN: (LAYERS.SimpleRNNCell, "elman"),
}
# Arguments of a cell beside its specification, which holds the five left out.
IN_SPEC = ("activation", "recurrent_activation", "output_activation", "use_bias", "reset_after")
BESIDE = tuple(name for name in CELL_ARGUMENTS if name not in IN_SPEC)


def counterpart(cell: Any, **given: Any) -> GatedRNN | None:
    """Returns an unbuilt gated layer that is set as a cell is, or None if there is none.

    Args:
        cell: any cell; `LSTMCell`, `GRUCell`, `SimpleRNNCell` and `GatedCell` have one unless an
            activation has weights, or may yet have.
        **given: arguments of the layer, in place of the cell's or beside them.
    """
    kind = type(cell)
    if kind is GatedCell:
        names, make = BESIDE, GatedRNN
    elif kind in FACES and not _has_weighted_activation(cell):
        names, make = _parameters(kind), FACES[kind]
    else:
        return None
    own = {name: getattr(cell, name) for name in names}
    return make(**{**own, "dtype": cell.dtype_policy, **given})


def _has_weighted_activation(cell: Any) -> bool:
    functions = (getattr(cell, name, None) for name in ("activation", "recurrent_activation"))
    layers: list[Any] = [one for one in functions if isinstance(one, keras.Layer)]
    return any(one.weights or (cell.built and not one.built) for one in layers)


def _parameters(kind: type) -> list[str]:
    """Names of the arguments of a layer or cell of Keras; each is an attribute of it too."""
    return [name for name in signature(kind).parameters if name not in ("cell", "kwargs")]


def base(layer: keras.Layer) -> dict[str, Any]:
    """Returns the arguments of any layer."""
    return {"name": layer.name, "trainable": layer.trainable, "dtype": layer.dtype_policy}


def _over_time(layer: keras.layers.RNN) -> dict[str, Any]:
    """The arguments of any recurrent layer, those of its cell left out."""
    own = {name: getattr(layer, name) for name in _parameters(LAYERS.RNN)}
    return {**own, "activity_regularizer": layer.activity_regularizer, **base(layer)}


def _stack(layer: Any, make: Callable[[Any], Any]) -> keras.layers.RNN:
    """A layer over several cells, each of them made anew."""
    cells = LAYERS.StackedRNNCells([make(cell) for cell in layer.cell.cells], **base(layer.cell))
    return LAYERS.RNN(cells, **_over_time(layer))


# Keras's to gated ones


def gated(layer: Any) -> keras.layers.RNN:
    """Returns the gated layer that a recurrent layer of Keras is, unbuilt."""
    kind: Any = type(layer)
    cell: Any = getattr(layer, "cell", None)
    if kind in (GatedRNN, GatedLSTM, GatedGRU):
        return kind.from_config(layer.get_config())
    if kind not in (LAYERS.RNN, *STOCK):
        raise refused(layer, "A subclass may compute something else: give the layer that it is.")
    if type(cell) is LAYERS.StackedRNNCells:
        return _stack(layer, partial(_gated_cell, layer))
    # The numbers are in the types of the cell.
    given = {**_over_time(layer), "dtype": cell.dtype_policy}
    twin = counterpart(cell, **given)
    if twin is None:
        raise _no_counterpart(layer, cell)
    twin.cell.trainable = cell.trainable
    return twin


def _gated_cell(layer: Any, cell: Any) -> GatedCell:
    twin = counterpart(cell)
    if twin is None:
        raise _no_counterpart(layer, cell)
    if given := twin.cell.options(DRAWN):
        raise refused(
            layer,
            f"{type(cell).__name__} {cell.name!r} has {_values(given)}, which a GatedCell has in a "
            "GatedRNN alone: make a layer of each cell.",
        )
    return GatedCell(**{name: getattr(twin.cell, name) for name in BESIDE}, **base(cell))


def _no_counterpart(layer: Any, cell: Any) -> ValueError:
    if type(cell) in FACES:
        return refused(layer, "An activation of it has weights: put that behind the layer.")
    return refused(
        layer,
        f"Its cell is {type(cell).__name__}: say it as a keras_gated.CellSpec, if the formula can, "
        "and set the weights with set_block_weights.",
    )


# Gated ones to Keras's


def stock(layer: Any) -> keras.layers.RNN:
    """Returns the layer of Keras that a gated layer is, unbuilt; of one not gated a copy."""
    kind, cell = type(layer), getattr(layer, "cell", None)
    if type(cell) is LAYERS.StackedRNNCells and kind is LAYERS.RNN:
        return _stack(layer, _stock_cell)
    if not isinstance(cell, GatedCell):
        return kind.from_config(layer.get_config())
    if type(cell) is not GatedCell or kind not in (LAYERS.RNN, GatedRNN, GatedLSTM, GatedGRU):
        raise refused(layer, "A subclass may compute something else: give the layer that it is.")
    make, settings = _stock_of(cell, layer)
    twin = make(**settings, **{**_over_time(layer), "dtype": cell.dtype_policy})
    twin.cell.trainable = cell.trainable
    return twin


def _stock_cell(cell: Any) -> Any:
    if not isinstance(cell, GatedCell):
        return type(cell).from_config(cell.get_config())
    kind, settings = _stock_of(cell, cell)
    return STOCK[kind][0](**settings, **base(cell))


def _stock_of(cell: GatedCell, layer: Any) -> tuple[type, dict[str, Any]]:
    """The layer of Keras that a cell is one of, and its arguments; `layer` is whose it is."""
    form = cell.form
    kind = _kind(form)
    of_cell, preset = STOCK[kind]
    spec = _set_as(presets[preset].spec, form)
    if _plain(resolve(spec)) != _plain(form):
        found = diff(cell.spec, spec)
        raise ValueError(
            f"Argument `layer` must be a cell that keras.layers.{kind.__name__} is, to become one. "
            f"Received: {what(layer)}, which has {_listed(found.only_first)} and lacks "
            f"{_listed(found.only_second)}. Keep it, or give it that layer's gates."
        )
    if more := cell.options(name for name in OPTIONS if name not in _parameters(of_cell)):
        raise ValueError(
            "Argument `layer` must have no option that Keras's layers lack, to become one. "
            f"Received: {what(layer)} with {_values(more)}. Make "
            "it without."
        )
    settings = {name: getattr(cell, name) for name in _parameters(of_cell) if name in BESIDE}
    settings["activation"] = _function(form.candidate.activation)
    settings["use_bias"] = form.candidate.use_bias
    if kind is not LAYERS.SimpleRNN:
        settings["recurrent_activation"] = _function(spec.recurrent_activation)
    if kind is LAYERS.GRU:
        settings["reset_after"] = form.reset == "after"
    return kind, settings | _initial_bias(cell, kind, layer)


def _kind(form: NormalForm) -> type:
    """The layer of Keras that a cell is nearest to."""
    if form.memory == "cell":
        return LAYERS.LSTM
    return LAYERS.GRU if len(form.blocks) > 1 else LAYERS.SimpleRNN


def _set_as(spec: CellSpec, form: NormalForm) -> CellSpec:
    """`spec` with what its layer in Keras can have otherwise as `form` has it."""
    candidate = form.candidate
    gates = [block for name, block in form.blocks.items() if name != "candidate"]
    return replace(
        spec,
        candidate=Candidate(activation=candidate.activation, reset_after=form.reset == "after"),
        recurrent_activation=gates[0].activation if gates else spec.recurrent_activation,
        use_bias=candidate.use_bias,
    )


def _plain(form: NormalForm) -> NormalForm:
    """`form` without its initial biases, which are no part of what a cell computes."""
    blocks = {name: replace(one, bias_initializer=None) for name, one in form.blocks.items()}
    return replace(form, blocks=blocks)


def _initial_bias(cell: GatedCell, kind: type, layer: Any) -> dict[str, bool]:
    """The argument for the gates' own initial biases; where there is none, weights must be."""
    blocks = cell.form.blocks.values()
    own = {block.name: Config.thaw(block.bias_initializer) for block in blocks if block.use_bias}
    own = {name: keras.initializers.get(given) for name, given in own.items() if given is not None}
    forget = set(own) == {"forget"} and isinstance(own["forget"], keras.initializers.Ones)
    sayable = not own or (forget and kind is LAYERS.LSTM)
    if not sayable and not cell.built:
        raise ValueError(
            f"Argument `layer` must be built where gates start at biases of their own that "
            f"keras.layers.{kind.__name__} has no argument for. Received: {what(layer)}, not "
            f"built, with a bias_initializer of: {', '.join(own)}. Build it first, so that its "
            "weights can be copied."
        )
    return {"unit_forget_bias": forget} if kind is LAYERS.LSTM else {}


def _function(identifier: Any) -> Callable:
    """An activation as Keras itself has it, so that a file can hold it."""
    linear = identifier in (None, "linear")
    return keras.activations.linear if linear else lookup(identifier).function


def _listed(rows: tuple[str, ...]) -> str:
    return ", ".join(f"`{row}`" for row in rows) or "nothing more"


def _values(options: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items())


def refused(layer: Any, advice: str) -> ValueError:
    """Returns the error for what cannot be converted."""
    return ValueError(
        "Argument `layer` must be a recurrent layer of Keras or keras_gated over cells of theirs "
        "whose activations have no weights, a Bidirectional or TimeDistributed around one, or a "
        f"Sequential or functional model of layers. Received: {what(layer)}. {advice}"
    )


def what(layer: Any) -> str:
    """Returns how an error calls a layer."""
    return f"{type(layer).__name__} {layer.name!r}"
