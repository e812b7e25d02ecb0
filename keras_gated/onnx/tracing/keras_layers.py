"""Keras's own layers, taken over while a model is traced: recurrent ones hold gated cells.

`LSTM`, `GRU` and `SimpleRNN` are settings of the formula; `keras.layers.RNN` may hold a `GatedCell`
or, in a `StackedRNNCells`, several. A stack of cells is a stack of layers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import ops

from keras_gated.cell import GatedCell
from keras_gated.convert.keras_layers import counterpart
from keras_gated.engine.random_masks import RandomMasks
from keras_gated.layers import GatedRNN
from keras_gated.onnx.tracing.layer_calls import replacement_call
from keras_gated.onnx.tracing.model_layers import places_within

MISSING = object()
TAKEN = (keras.layers.RNN, keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN)


@dataclass(frozen=True)
class Run:
    """A cell in a layer that is no `GatedRNN`, with what the tracer and the engine read of one.

    Attributes:
        cell: a `GatedCell` with the layer's weights.
        layer: the layer.
        names: by which the run may be meant, its place in the model first; see `recurrent_names`.
        weights_from: the layer or cell whose weights these are.
        go_backwards, zero_output_for_mask, return_sequences: as in a layer.
        in_time_order: see `native.Call`.
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
def patched_layers(model: keras.Layer, run: Any) -> Iterator[None]:
    """Inside, `run` runs the cells of Keras's own recurrent layers within a model.

    The backward layer of a Bidirectional gives its sequence in the order of the input, and the
    Bidirectional does not turn it round. Some other layers are called in a form that ONNX has.

    Args:
        model: a built model.
        run: a runner as for `keras_gated.engine.run.run_by`, with `refusal(layer)`, a reason to
            leave a layer or `Run` to Keras's loop or None, and `leave(cell, layer, names, reason)`,
            which is told that it is.
    """
    layers = places_within(model)
    changed: dict[Any, dict] = {
        layer: {"call": call} for layer in layers if (call := replacement_call(layer))
    }
    runs: dict[Any, list[Run]] = {}
    for layer, place in layers.items():
        if isinstance(layer, keras.layers.RNN) and not isinstance(layer, GatedRNN):
            names = (place, layer.name)
            runs[layer] = found = _runs(layer, names)
            loop = _loop(layer, found, run) if found else _left_alone(layer, names, run)
            changed[layer] = {"inner_loop": loop}
    for layer in layers:
        if _turns(layer, runs, run):
            changed[layer] = {"call": _not_turned(layer)}
    before = {
        layer: {k: vars(layer).get(k, MISSING) for k in new} for layer, new in changed.items()
    }
    for layer, new in changed.items():
        vars(layer).update(new)
    try:
        yield
    finally:
        for layer, old in before.items():
            for name, value in old.items():
                vars(layer).pop(name)
                vars(layer).update({} if value is MISSING else {name: value})


def _not_turned(layer: keras.layers.Bidirectional) -> Callable:
    """What stands for `layer.call`: it turns nothing round, for its backward layer does."""
    backward = layer.backward_layer

    def call(sequences, initial_state=None, mask=None, training=None):
        vars(layer)["return_sequences"] = False  # then Keras turns nothing
        vars(backward)["in_time_order"] = True
        try:
            return type(layer).call(layer, sequences, initial_state, mask, training)
        finally:
            vars(layer)["return_sequences"] = True
            del vars(backward)["in_time_order"]

    return call


def _turns(layer: Any, runs: dict, run: Any) -> bool:
    """Whether a layer is a Bidirectional that turns round what its backward layer gives."""
    if type(layer) is not keras.layers.Bidirectional or not layer.return_sequences:
        return False
    forward, backward = layer.forward_layer, layer.backward_layer
    if forward.go_backwards or not backward.go_backwards:
        return False
    if isinstance(backward, GatedRNN):
        return run.refusal(backward) is None
    if isinstance(backward.cell, keras.layers.StackedRNNCells):
        return False  # its sequences are turned before the first cell
    found = runs.get(backward, [])
    return bool(found) and run.refusal(found[0]) is None


def _left_alone(layer: keras.layers.RNN, names: tuple[str, ...], run: Any) -> Callable:
    """What stands for `layer.inner_loop` where Keras's own loop stays."""
    kind, cell = type(layer).__name__, type(layer.cell).__name__
    reason = f"{kind} over {cell} is no setting known; as tf2onnx converts it"

    def inner_loop(sequences, initial_state, mask, training=False):
        run.leave(layer, layer, names, reason)
        return type(layer).inner_loop(layer, sequences, initial_state, mask, training)

    return inner_loop


def _loop(layer: keras.layers.RNN, runs: list[Run], run: Callable) -> Callable:
    """What stands for `layer.inner_loop`."""
    stacked = isinstance(layer.cell, keras.layers.StackedRNNCells)

    def inner_loop(sequences, initial_state, mask, training=False):
        if refusal := next(filter(None, map(run.refusal, runs)), None):
            for one in runs:
                run.leave(one.cell, one.layer, one.names, refusal)
            return type(layer).inner_loop(layer, sequences, initial_state, mask, training)
        mask = mask[0] if isinstance(mask, list | tuple) else mask
        if mask is not None and len(mask.shape) == 3:
            mask = mask[..., 0]
        x, seen, states = sequences, mask, []
        if stacked and layer.go_backwards:
            x = ops.flip(x, axis=1)
            seen = None if mask is None else ops.flip(mask, axis=1)
        given = initial_state if stacked else [initial_state]
        for one, before in zip(runs, given, strict=True):
            flat = list(before) if isinstance(before, list | tuple) else [before]
            one = replace(one, in_time_order=vars(layer).get("in_time_order", False))
            result = run(one, x, flat, seen, RandomMasks(zoneout=one.cell.zoneout_rates))
            if result is None:  # then none of the stack leaves but as Keras's loop
                for other in runs:
                    if other.names != one.names:
                        reason = f"{one.names[0]} of the same stack needs Keras's loop"
                        run.leave(other.cell, other.layer, other.names, reason)
                return type(layer).inner_loop(layer, sequences, initial_state, mask, training)
            last, x, after = result
            states.append(after if isinstance(before, list | tuple) else after[0])
        return last, x, states if len(states) > 1 else states[0]

    return inner_loop


def _runs(layer: Any, names: tuple[str, ...]) -> list[Run]:
    """The cells of a layer as gated ones; none where there is one that is not."""
    if not layer.built or type(layer).inner_loop not in {kind.inner_loop for kind in TAKEN}:
        return []
    several = isinstance(layer.cell, keras.layers.StackedRNNCells)
    cells = layer.cell.cells if several else [layer.cell]
    gated = [gated_cell(cell) for cell in cells]
    if None in gated:
        return []
    runs = []
    for k, (cell, twin) in enumerate(zip(cells, gated, strict=True)):
        own = (f"{names[0]}/cell_{k + 1}", *names) if several else names
        runs.append(Run(twin, layer, own, cell if several else layer))
    way = {"go_backwards": layer.go_backwards and not several}
    return [*runs[:-1], replace(runs[-1], zero_output_for_mask=layer.zero_output_for_mask, **way)]


def gated_cell(cell: Any) -> GatedCell | None:
    """Returns a `GatedCell` with the weights of a built cell of Keras, or None if there is none."""
    if isinstance(cell, GatedCell):
        plain = type(cell).call is GatedCell.call and cell.form.window == 1
        return cell if plain else None
    quick = {"kernel_initializer": "zeros", "recurrent_initializer": "zeros"}  # set right after
    layer = counterpart(cell, **quick) if cell.built else None
    if layer is None:
        return None
    twin = layer.cell
    twin.build((None, cell.kernel.shape[0]))
    twin.set_weights(cell.get_weights())
    return twin
