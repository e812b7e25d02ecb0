"""The only file that patches Keras's layers, while a model is traced for an export.

A `GatedRNN` asks `engine.run`, which gives its call to the tracer. Keras's layers do not, so these
methods are replaced during the trace:

- `LSTM`, `GRU`, `SimpleRNN` and `RNN`: `inner_loop`, which runs the cell over time. Their cells are
  settings of the formula, or hold a `GatedCell`; each becomes a `RecurrentCall`. A layer over
  `StackedRNNCells` runs as a stack of layers, one cell after the other.
- In an export for streams the `inner_loop` of every recurrent layer is wrapped once more, so that
  its states come from the file's inputs (`ModelCall.wrap_loop`). So is the `call` of a convolution,
  whose last inputs are a state as well (`ModelCall.wrap_call`).
- `TimeDistributed`: `call`. Keras loops over the time steps. If time is open, that loop has no ONNX
  form; if a recurrent layer is inside, its stub would be inside the loop. Here all time steps run
  at once, as more rows of the batch: (B, T, ...) becomes (B T, ...).
- `Dense` on sequences (B, T, F): `call`. In TensorFlow's graph it is a reshape, a product and a
  reshape; here it is one product.
- `IntegerLookup`: `call`. Its table has no ONNX form; here the integers are compared with it.
- Any layer: `name`, if TensorFlow does not take it as the name of a scope, e.g. "my layer".

An instance attribute hides the method of the class; deleting it restores the layer. Other threads
may call the model meanwhile: for them a replaced method does what it did before. (But layers of
mixed precision compute in float32 for all threads, and in an export for streams stateful layers
keep no states; see `in_float32` and `stateful_and_unroll_off`.)
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from inspect import signature
from threading import get_ident
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_gated.cell import GatedCell
from keras_gated.convert.keras_layers import gated_layer_of_cell
from keras_gated.engine.call import RandomMasks, RecurrentCall
from keras_gated.layers import GatedRNN
from keras_gated.onnx.errors import require
from keras_gated.onnx.tracing.layer_places import layers_within, places_within, valid_name
from keras_gated.onnx.tracing.tracer import CellPlace, Tracer

ABSENT = object()
# A subclass with an `inner_loop` of its own is left alone.
KNOWN_LAYERS = (keras.layers.RNN, keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN)


@contextmanager
def patched_layers(
    model: keras.Layer, tracer: Tracer, wrap_loop: Callable, wrap_call: Callable
) -> Iterator[None]:
    """Patches Keras's layers within a model for as long as the context is open.

    Args:
        model: a built model.
        tracer: runs the cells over time.
        wrap_loop: (layer, its loop over time) -> the loop to use.
        wrap_call: (layer, what stands for its call, or None) -> what is to stand for it, or None.
    """
    patches = [
        (layer, *patch)
        for layer, place in places_within(model).items()
        for patch in _patches_of(layer, place, tracer, wrap_loop, wrap_call)
    ]
    before = []
    try:
        for layer, name, value in patches:
            attributes: Any = vars(layer)  # not setattr: Keras tracks what is set on a layer
            if callable(value):
                value = _in_this_thread(value, getattr(layer, name))
            before.append((attributes, name, attributes.get(name, ABSENT)))
            attributes[name] = value
        yield
    finally:
        for attributes, name, value in before:
            attributes.pop(name, None)
            attributes.update({} if value is ABSENT else {name: value})


def _patches_of(
    layer: Any, place: str, tracer: Tracer, wrap_loop: Callable, wrap_call: Callable
) -> Iterator[tuple]:
    """Yields the name of each attribute to replace, and what to put in its place."""
    if (valid := valid_name(layer.name)) != layer.name:
        yield "name", valid
    if isinstance(layer, keras.layers.RNN):
        loop = layer.inner_loop
        if not isinstance(layer, GatedRNN):
            loop = partial(_inner_loop, layer, _add_cells(layer, place, tracer), tracer)
        yield "inner_loop", wrap_loop(layer, loop)
    elif call := wrap_call(layer, replacement_call(layer)):
        yield "call", call


def _in_this_thread(method: Callable, otherwise: Callable) -> Callable:
    """Returns a function that is `method` in this thread, and another one in all others."""
    owner = get_ident()

    def patched(*args, **kwargs):
        return (method if get_ident() == owner else otherwise)(*args, **kwargs)

    return patched


def _inner_loop(
    layer: Any,
    places: list[CellPlace],
    tracer: Tracer,
    sequences: Any,
    initial_state: Any,
    mask: Any,
    training: bool = False,
) -> tuple:
    """Lets the tracer run the cells of a layer; if one of them must be a loop, Keras runs all."""
    result = None
    if not places:
        kind, cell = type(layer).__name__, type(layer.cell).__name__
        reason = f"{kind} over {cell} is not a known cell; tf2onnx converts Keras's loop"
        tracer.record_loop(tracer.place_of(layer, layer.cell), reason)
    elif reasons := {place: why for place in places if (why := tracer.loop_reason(place))}:
        _record_loops(tracer, places, *next(iter(reasons.items())))
    else:
        result = _run_cells(layer, places, tracer, sequences, initial_state, _as_step_mask(mask))
    if result is not None:
        return result
    return type(layer).inner_loop(layer, sequences, initial_state, mask, training)


def _run_cells(
    layer: Any, places: list[CellPlace], tracer: Tracer, x: Any, initial_state: Any, mask: Any
) -> tuple | None:
    """Runs the cells of a layer one after the other; None if one of them can be no stub."""
    stacked, states = _is_stack(layer), []
    if stacked and layer.go_backwards:
        # Keras runs the whole stack backwards: reverse once, then all cells run forward.
        x, mask = ops.flip(x, axis=1), None if mask is None else ops.flip(mask, axis=1)
    for place, before in zip(places, initial_state if stacked else [initial_state], strict=True):
        result = tracer(
            RecurrentCall(
                layer=layer,
                cell=place.cell,
                weights=place.cell.tensors,
                sequences=x,
                states=list(before) if isinstance(before, list | tuple) else [before],
                mask=mask,
                drawn=RandomMasks(zoneout=place.cell.zoneout_rates),
                go_backwards=layer.go_backwards and not stacked,
                zero_output_for_mask=layer.zero_output_for_mask and place is places[-1],
            )
        )
        if result is None:
            reason = tracer.records[id(layer), place.names[0]].choice.reason
            _record_loops(tracer, places, place, reason)
            return None
        last, x, after = result
        states.append(after if isinstance(before, list | tuple) else after[0])
    return last, x, states if len(states) > 1 else states[0]


def _as_step_mask(mask: Any) -> Any:
    """Returns a mask (B, T): the first of a list, the first feature of (B, T, F); or None."""
    mask = mask[0] if isinstance(mask, list | tuple) else mask
    return mask[..., 0] if mask is not None and len(mask.shape) == 3 else mask


def _record_loops(tracer: Tracer, places: list[CellPlace], cause: CellPlace, reason: str) -> None:
    """Records that all cells of a stack run in Keras's loop, because one of them must."""
    for place in places:
        rest = f"{cause.names[0]} of the same stack needs Keras's loop"
        tracer.record_loop(place, reason if place is cause else rest)


# Cells --------------------------------------------------------------------------------------------


def _is_stack(layer: Any) -> bool:
    return isinstance(layer.cell, keras.layers.StackedRNNCells)


def _add_cells(layer: Any, place: str, tracer: Tracer) -> list[CellPlace]:
    """Tells the tracer where the cells of a layer are; none if one of them is no gated cell."""
    if not layer.built or type(layer).inner_loop not in {kind.inner_loop for kind in KNOWN_LAYERS}:
        return []
    names, stacked = (place, layer.name), _is_stack(layer)
    cells = layer.cell.cells if stacked else [layer.cell]
    gated = [to_gated_cell(cell) for cell in cells]
    if None in gated:
        return []
    places = []
    for k, (cell, twin) in enumerate(zip(cells, gated, strict=True)):
        own_names = (f"{place}/cell_{k + 1}", *names) if stacked else names
        places.append(CellPlace(layer, twin, own_names, cell if stacked else layer))
        tracer.add(places[-1])
    return places


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


# Calls --------------------------------------------------------------------------------------------


def replacement_call(layer: Any) -> Callable | None:
    """Returns a function to use in place of `layer.call`, or None if the layer's own is fine."""
    if type(layer) is keras.layers.TimeDistributed:
        return _call_with_time_as_batch(layer)
    if type(layer) is keras.layers.Dense and layer.built:
        plain = not (layer.quantization_mode or layer.lora_enabled)
        return _call_as_one_product(layer) if plain else None
    if type(layer) is keras.layers.IntegerLookup:
        plain = layer.output_mode == "int" and layer.num_oov_indices == 1 and not layer.invert
        return _call_as_comparisons(layer) if plain else None
    return None


def _call_with_time_as_batch(layer: keras.layers.TimeDistributed) -> Callable:
    inner = layer.layer
    parameters = signature(inner.call).parameters
    recurrent = any(isinstance(one, keras.layers.RNN) for one in layers_within(inner))

    def call(inputs, training=None, mask=None):
        if inputs.shape[1] is not None and not recurrent:
            return type(layer).call(layer, inputs, training=training, mask=mask)
        time = ops.shape(inputs)[1]
        arguments = {
            "training": training,
            "mask": None if mask is None else _merge_batch_and_time(mask),
        }
        arguments = {k: v for k, v in arguments.items() if k in parameters and v is not None}
        # Keras's TimeDistributed, too, runs `inner.call` and not `inner`.
        outputs = inner.call(_merge_batch_and_time(inputs), **arguments)
        return tree.map_structure(lambda y: ops.reshape(y, (-1, time, *ops.shape(y)[1:])), outputs)

    return call


def _merge_batch_and_time(x: Any) -> Any:
    """Reshapes (B, T, ...) to (B T, ...)."""
    return ops.reshape(x, (-1, *ops.shape(x)[2:]))


def _call_as_one_product(layer: keras.layers.Dense) -> Callable:
    (tf,) = require("tensorflow")

    def call(inputs, training=None):
        if len(inputs.shape) < 3:
            return type(layer).call(layer, inputs, training=training)
        y = tf.linalg.matmul(ops.cast(inputs, layer.compute_dtype), layer.kernel)
        y = y if layer.bias is None else y + layer.bias
        return y if layer.activation is None else layer.activation(y)

    return call


def _call_as_comparisons(layer: keras.layers.IntegerLookup) -> Callable:
    vocabulary = np.array(layer.get_vocabulary(include_special_tokens=False), "int64")
    unknown = 0 if layer.mask_token is None else 1
    places = np.arange(len(vocabulary), dtype="int64") + unknown + 1

    def call(inputs):
        x = ops.cast(inputs, "int64")
        equal = ops.equal(x[..., None], vocabulary)
        place = ops.sum(ops.where(equal, places, 0), axis=-1)
        place = ops.where(ops.any(equal, axis=-1), place, unknown)
        return place if unknown == 0 else ops.where(ops.equal(x, layer.mask_token), 0, place)

    return call
