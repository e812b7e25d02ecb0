"""Keras's own layers, taken over while a model is traced: recurrent ones hold gated cells.

`LSTM`, `GRU` and `SimpleRNN` are settings of the formula; `keras.layers.RNN` may hold a `GatedCell`
or, in a `StackedRNNCells`, several. A stack of cells is a stack of layers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import ops, tree

from keras_gated.cell import GatedCell
from keras_gated.export.errors import require
from keras_gated.export.layers_within import layers_within, places_within
from keras_gated.layers import GatedGRU, GatedLSTM, GatedRNN

MISSING = object()
TAKEN = (keras.layers.RNN, keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN)


@dataclass(frozen=True)
class Run:
    """A cell in a layer that is no `GatedRNN`, with what the tracer and the engine read of one.

    Attributes:
        cell: a `GatedCell` with the layer's weights.
        place, name: of the layer; the place tells the cell too, where it is one of several.
        weights_from: the layer or cell whose weights these are.
        go_backwards, zero_output_for_mask, return_sequences: as in a layer.
        in_time_order: see `native.Call`.
    """

    cell: GatedCell
    place: str
    name: str
    weights_from: keras.Layer
    go_backwards: bool = False
    zero_output_for_mask: bool = False
    return_sequences: bool = True
    in_time_order: bool = False


@contextmanager
def taken_over(model: keras.Layer, run: Any) -> Iterator[None]:
    """Inside, `run` runs the cells of Keras's own recurrent layers within a model.

    The backward layer of a Bidirectional gives its sequence in the order of the input, and the
    Bidirectional does not turn it round. A TimeDistributed around a recurrent layer takes its time
    steps as more rows of the batch: Keras's own loop over them has no ONNX form. A Dense on
    sequences is one product, not one between two reshapes.

    Args:
        model: a built model.
        run: a runner as for `keras_gated.recurrence.run_by`, with `takes(layer, cell) -> bool`.
    """
    layers = places_within(model)
    runs = {layer: found for layer, place in layers.items() if (found := _runs(layer, place))}
    turned = [layer for layer in layers if _turns(layer, runs, run)]
    changed = {layer: {"inner_loop": _loop(layer, found, run)} for layer, found in runs.items()}
    for layer in turned:
        changed.setdefault(layer.backward_layer, {})["in_time_order"] = True
        changed[layer] = {"return_sequences": False, "compute_mask": _mask_of(layer)}
    changed |= {layer: {"call": _folded(layer)} for layer in layers if _repeats(layer)}
    changed |= {layer: {"call": _plain(layer)} for layer in layers if _is_plain(layer)}
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


def _mask_of(layer: keras.layers.Bidirectional) -> Callable:
    """What stands for `layer.compute_mask` while the layer hides that it returns sequences."""

    def compute_mask(inputs, mask=None):
        vars(layer)["return_sequences"] = True
        try:
            return type(layer).compute_mask(layer, inputs, mask)
        finally:
            vars(layer)["return_sequences"] = False

    return compute_mask


def _turns(layer: Any, runs: dict, run: Any) -> bool:
    """Whether a layer is a Bidirectional that turns round what its backward layer gives."""
    if type(layer) is not keras.layers.Bidirectional or not layer.return_sequences:
        return False
    forward, backward = layer.forward_layer, layer.backward_layer
    if forward.go_backwards or not backward.go_backwards:
        return False
    if isinstance(backward, GatedRNN):
        return run.takes(backward, backward.cell)
    return len(runs.get(backward, [])) == 1 and run.takes(backward, runs[backward][0].cell)


def _repeats(layer: Any) -> bool:
    """Whether a layer is a TimeDistributed with a recurrent layer in it."""
    within = layers_within(layer) if type(layer) is keras.layers.TimeDistributed else []
    return any(isinstance(inner, keras.layers.RNN) for inner in within)


def _folded(layer: keras.layers.TimeDistributed) -> Callable:
    """What stands for `layer.call`, without its mask."""

    def call(inputs, training=None, mask=None):
        if mask is not None:
            return type(layer).call(layer, inputs, training=training, mask=mask)
        shape = ops.shape(inputs)
        outputs = layer.layer(ops.reshape(inputs, (-1, *shape[2:])), training=training)
        return tree.map_structure(
            lambda y: ops.reshape(y, (-1, shape[1], *ops.shape(y)[1:])), outputs
        )

    return call


def _is_plain(layer: Any) -> bool:
    """Whether a layer is a Dense that does no more than its formula."""
    plain = type(layer) is keras.layers.Dense and layer.built
    return plain and not (layer.quantization_mode or layer.lora_enabled)


def _plain(layer: keras.layers.Dense) -> Callable:
    """What stands for `layer.call`."""
    (tf,) = require("tensorflow")

    def call(inputs, training=None):
        if len(inputs.shape) < 3:
            return type(layer).call(layer, inputs, training=training)
        y = tf.linalg.matmul(inputs, layer.kernel)
        y = y if layer.bias is None else y + layer.bias
        return y if layer.activation is None else layer.activation(y)

    return call


def _loop(layer: keras.layers.RNN, runs: list[Run], run: Callable) -> Callable:
    """What stands for `layer.inner_loop`."""
    stacked = isinstance(layer.cell, keras.layers.StackedRNNCells)

    def inner_loop(sequences, initial_state, mask, training=False):
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
            result = run(one, x, flat, seen, None)
            if result is None:
                return type(layer).inner_loop(layer, sequences, initial_state, mask, training)
            last, x, after = result
            states.append(after if isinstance(before, list | tuple) else after[0])
        return last, x, states if len(states) > 1 else states[0]

    return inner_loop


def _runs(layer: Any, place: str) -> list[Run]:
    """The cells of a layer as gated ones; none where there is one that is not."""
    if type(layer) not in TAKEN or not layer.built:
        return []
    several = isinstance(layer.cell, keras.layers.StackedRNNCells)
    cells = layer.cell.cells if several else [layer.cell]
    gated = [gated_cell(cell) for cell in cells]
    if None in gated:
        return []
    runs = []
    for k, (cell, twin) in enumerate(zip(cells, gated, strict=True)):
        suffix = f"/cell_{k + 1}" if several else ""
        run = Run(twin, place + suffix, layer.name, cell if several else layer)
        runs.append(run)
    way = {"go_backwards": layer.go_backwards and not several}
    return [*runs[:-1], replace(runs[-1], zero_output_for_mask=layer.zero_output_for_mask, **way)]


def gated_cell(cell: Any) -> GatedCell | None:
    """Returns a `GatedCell` with the weights of a built cell of Keras, or None if there is none."""
    if isinstance(cell, GatedCell):
        return cell if cell.form.window == 1 else None
    layer = _layer_like(cell)
    if layer is None or not cell.built:
        return None
    twin = layer.cell
    twin.build((None, cell.kernel.shape[0]))
    twin.set_weights(cell.get_weights())
    return twin


def _layer_like(cell: Any) -> GatedRNN | None:
    """A gated layer that is set as Keras's cell is."""
    kind = type(cell)
    if kind not in (keras.layers.LSTMCell, keras.layers.GRUCell, keras.layers.SimpleRNNCell):
        return None
    quick = {"kernel_initializer": "zeros", "recurrent_initializer": "zeros"}  # set right after
    same = {"dtype": cell.dtype_policy, **quick}
    names = ("activation", "use_bias")
    face: type[GatedRNN]
    if kind is keras.layers.LSTMCell:
        names, face = (*names, "recurrent_activation"), GatedLSTM
    elif kind is keras.layers.GRUCell:
        names, face = (*names, "recurrent_activation", "reset_after"), GatedGRU
    else:
        face, same = GatedRNN, same | {"spec": "elman"}
    return face(cell.units, **same, **{name: getattr(cell, name) for name in names})
