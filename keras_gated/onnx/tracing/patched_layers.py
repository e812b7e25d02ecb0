"""Patches Keras's own layers while a model is traced, so that their cells get stubs as well.

A `GatedRNN` asks the tracer to run its cell. Keras's layers do not, so some of their methods are
replaced during the trace. An instance attribute hides the method of the class; deleting it restores
the layer.

- `LSTM`, `GRU`, `SimpleRNN` and `RNN`: `inner_loop`, which runs the cell over time. Their cells are
  settings of the formula, or hold a `GatedCell`; the tracer gets a `CellInLayer` for each. A layer
  over `StackedRNNCells` runs as a stack of layers, one cell after the other.
- `Bidirectional`: `call`. Keras reverses the outputs of the backward layer in time, so that they
  are in the order of the input. An ONNX node that runs backwards gives them in this order already.
  So the backward layer is made to do the same, and Bidirectional reverses nothing. Only then can
  the two directions become one bidirectional node (`graph/stubs.py`).
- `TimeDistributed` and `Dense`: `call`, see `replacement_calls.py`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import ops

from keras_gated.cell import GatedCell
from keras_gated.convert.keras_layers import gated_layer_of_cell
from keras_gated.engine.random_masks import RandomMasks
from keras_gated.layers import GatedRNN
from keras_gated.onnx.tracing.layer_places import places_within
from keras_gated.onnx.tracing.replacement_calls import replacement_call

ABSENT = object()
# A subclass with an `inner_loop` of its own is left alone.
KNOWN_LAYERS = (keras.layers.RNN, keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN)


@dataclass(frozen=True)
class CellInLayer:
    """A cell of one of Keras's layers, with the attributes of a `GatedRNN` that the tracer reads.

    Attributes:
        cell: a `GatedCell` with the weights of Keras's cell.
        layer: Keras's layer.
        names: names that mean this cell in the argument `lowering`, its place in the model first;
            see `recurrent_names`.
        weights_from: the layer or cell that the weights belong to.
        go_backwards, zero_output_for_mask, return_sequences: as in a layer.
        in_time_order: see `graph.recurrent.OperatorCall`.
    """

    cell: GatedCell
    layer: keras.layers.RNN
    names: tuple[str, ...]
    weights_from: keras.Layer
    go_backwards: bool = False
    zero_output_for_mask: bool = False
    return_sequences: bool = True
    in_time_order: bool = False


@contextmanager
def patched_layers(model: keras.Layer, tracer: Any) -> Iterator[None]:
    """Patches Keras's layers within a model for as long as the context is open.

    Args:
        model: a built model.
        tracer: a `Tracer`: called, it runs a cell over time; `loop_reason(layer)` says why Keras's
            own loop must run a `GatedRNN` or `CellInLayer`; `record_keras_loop(...)` notes that
            it does.
    """
    layers = places_within(model)
    patches: dict[Any, dict] = {
        layer: {"call": call} for layer in layers if (call := replacement_call(layer))
    }
    cells: dict[Any, list[CellInLayer]] = {}
    for layer, place in layers.items():
        if isinstance(layer, keras.layers.RNN) and not isinstance(layer, GatedRNN):
            names = (place, layer.name)
            cells[layer] = own = _cells_in(layer, names)
            loop = _traced_loop(layer, own, tracer) if own else _keras_loop(layer, names, tracer)
            patches[layer] = {"inner_loop": loop}
    for layer in layers:
        if _reverses_a_traced_layer(layer, cells, tracer):
            patches[layer] = {"call": _call_without_reversal(layer)}
    # vars() instead of setattr: Keras tracks what is set on a layer.
    before = {
        layer: {name: vars(layer).get(name, ABSENT) for name in new}
        for layer, new in patches.items()
    }
    for layer, new in patches.items():
        vars(layer).update(new)
    try:
        yield
    finally:
        for layer, old in before.items():
            for name, value in old.items():
                vars(layer).pop(name)
                vars(layer).update({} if value is ABSENT else {name: value})


# Bidirectional ------------------------------------------------------------------------------------


def _reverses_a_traced_layer(layer: Any, cells: dict, tracer: Any) -> bool:
    """Whether a layer is a Bidirectional that reverses the outputs of a layer that gets a stub."""
    if type(layer) is not keras.layers.Bidirectional or not layer.return_sequences:
        return False
    forward, backward = layer.forward_layer, layer.backward_layer
    if forward.go_backwards or not backward.go_backwards:
        return False
    if isinstance(backward, GatedRNN):
        return tracer.loop_reason(backward) is None
    if isinstance(backward.cell, keras.layers.StackedRNNCells):
        return False  # a backward stack reverses its input and runs forward, see _traced_loop
    own = cells.get(backward, [])
    return bool(own) and tracer.loop_reason(own[0]) is None


def _call_without_reversal(layer: keras.layers.Bidirectional) -> Callable:
    """Returns a `call` for a Bidirectional whose backward layer gives outputs in time order."""
    backward = layer.backward_layer

    def call(sequences, initial_state=None, mask=None, training=None):
        # In this call Keras reads return_sequences only to decide whether to reverse.
        vars(layer)["return_sequences"] = False
        # Set for this call only: the backward layer may also be called on its own.
        vars(backward)["in_time_order"] = True
        try:
            return type(layer).call(layer, sequences, initial_state, mask, training)
        finally:
            vars(layer)["return_sequences"] = True
            del vars(backward)["in_time_order"]

    return call


# The loop over time -------------------------------------------------------------------------------


def _keras_loop(layer: keras.layers.RNN, names: tuple[str, ...], tracer: Any) -> Callable:
    """Returns an `inner_loop` for a layer over a cell of another kind: Keras's own, recorded."""
    kind, cell = type(layer).__name__, type(layer.cell).__name__
    reason = f"{kind} over {cell} is not a known cell; tf2onnx converts Keras's loop"

    def inner_loop(sequences, initial_state, mask, training=False):
        tracer.record_keras_loop(layer, layer, names, reason)
        return type(layer).inner_loop(layer, sequences, initial_state, mask, training)

    return inner_loop


def _traced_loop(layer: keras.layers.RNN, cells: list[CellInLayer], tracer: Any) -> Callable:
    """Returns an `inner_loop` in which the tracer runs the cells, one after the other."""
    stacked = isinstance(layer.cell, keras.layers.StackedRNNCells)

    def inner_loop(sequences, initial_state, mask, training=False):
        def run_keras_loop():
            return type(layer).inner_loop(layer, sequences, initial_state, mask, training)

        if reason := next(filter(None, map(tracer.loop_reason, cells)), None):
            for one in cells:
                tracer.record_keras_loop(one.cell, one.layer, one.names, reason)
            return run_keras_loop()
        x, step_mask, states = sequences, _as_step_mask(mask), []
        if stacked and layer.go_backwards:
            # Keras runs the whole stack backwards: reverse once, then all cells run forward.
            x = ops.flip(x, axis=1)
            step_mask = None if step_mask is None else ops.flip(step_mask, axis=1)
        initial = initial_state if stacked else [initial_state]
        for one, before in zip(cells, initial, strict=True):
            flat = list(before) if isinstance(before, list | tuple) else [before]
            one = replace(one, in_time_order=vars(layer).get("in_time_order", False))
            at_inference = RandomMasks(zoneout=one.cell.zoneout_rates)  # nothing is drawn
            result = tracer(one, x, flat, step_mask, at_inference)
            if result is None:  # it showed only now that this cell can be no Scan
                _record_rest_of_stack(tracer, cells, one)
                return run_keras_loop()
            last, x, after = result
            states.append(after if isinstance(before, list | tuple) else after[0])
        return last, x, states if len(states) > 1 else states[0]

    return inner_loop


def _as_step_mask(mask: Any) -> Any:
    """Returns a mask (B, T): the first of a list, the first feature of (B, T, F); or None."""
    mask = mask[0] if isinstance(mask, list | tuple) else mask
    return mask[..., 0] if mask is not None and len(mask.shape) == 3 else mask


def _record_rest_of_stack(tracer: Any, cells: list[CellInLayer], cause: CellInLayer) -> None:
    """Records that all cells of a stack run in Keras's loop, because one of them must."""
    for other in cells:
        if other.names != cause.names:
            reason = f"{cause.names[0]} of the same stack needs Keras's loop"
            tracer.record_keras_loop(other.cell, other.layer, other.names, reason)


# Cells --------------------------------------------------------------------------------------------


def _cells_in(layer: Any, names: tuple[str, ...]) -> list[CellInLayer]:
    """Returns the cells of a layer as gated cells; none if one of them cannot be."""
    if not layer.built or type(layer).inner_loop not in {kind.inner_loop for kind in KNOWN_LAYERS}:
        return []
    stacked = isinstance(layer.cell, keras.layers.StackedRNNCells)
    cells = layer.cell.cells if stacked else [layer.cell]
    gated = [to_gated_cell(cell) for cell in cells]
    if None in gated:
        return []
    in_layer = []
    for k, (cell, twin) in enumerate(zip(cells, gated, strict=True)):
        own_names = (f"{names[0]}/cell_{k + 1}", *names) if stacked else names
        in_layer.append(CellInLayer(twin, layer, own_names, cell if stacked else layer))
    last = replace(
        in_layer[-1],
        zero_output_for_mask=layer.zero_output_for_mask,
        go_backwards=layer.go_backwards and not stacked,
    )
    return [*in_layer[:-1], last]


def to_gated_cell(cell: Any) -> GatedCell | None:
    """Returns a `GatedCell` with the weights of a built cell of Keras; None if there is none.

    A `GatedCell` is returned as it is, unless a subclass has a `call` of its own or the cell needs
    more than one time step of the input.
    """
    if isinstance(cell, GatedCell):
        plain = type(cell).call is GatedCell.call and cell.form.window == 1
        return cell if plain else None
    # The weights are set right after: do not draw random ones first.
    no_draw = {"kernel_initializer": "zeros", "recurrent_initializer": "zeros"}
    layer = gated_layer_of_cell(cell, **no_draw) if cell.built else None
    if layer is None:
        return None
    twin = layer.cell
    twin.build((None, cell.kernel.shape[0]))
    twin.set_weights(cell.get_weights())
    return twin
