"""Finds the layers within a model and gives them names."""

import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

import keras

from keras_gated.onnx.errors import ExportError

ONE_AT_A_TIME = RLock()


def places_within(model: keras.Layer) -> dict[keras.Layer, str]:
    """Returns the place of each layer in a model, e.g. "bidirectional/forward_lstm".

    Layers are found through the attributes of the model and of its layers, also in lists and
    dictionaries. The model itself comes first, under its name; an outer layer comes before those
    that it holds. A layer that is held in several places has the first one.

    Unlike `layer.path`, which depends on how a layer was built, a place is the same after saving
    and loading.
    """
    places: dict[keras.Layer, str] = {}
    waiting: deque[tuple[Any, str]] = deque([(model, "")])
    seen: set[int] = set()
    while waiting:
        thing, prefix = waiting.popleft()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, keras.Layer):
            places[thing] = prefix + thing.name
            prefix = "" if thing is model else f"{places[thing]}/"
            held: Any = vars(thing).values()
        elif isinstance(thing, dict):
            held = thing.values()
        else:
            held = thing if isinstance(thing, list | tuple | set) else ()
        waiting.extend((part, prefix) for part in held)
    return places


def layers_within(model: keras.Layer) -> list[keras.Layer]:
    """Returns the model and every layer in it, at any depth, each once."""
    return list(places_within(model))


def recurrent_names(model: keras.Layer) -> list[str]:
    """Returns the names that the argument `lowering` may hold for a model.

    For each recurrent layer these are its name and its place; for each cell of a stack,
    "<place of the layer>/cell_1" and so on.
    """
    names: set[str] = set()
    for layer, place in places_within(model).items():
        if isinstance(layer, keras.layers.RNN):
            cells = getattr(layer.cell, "cells", ())
            names |= {layer.name, place, *(f"{place}/cell_{k + 1}" for k in range(len(cells)))}
    return sorted(names)


def check_stateless(model: keras.Layer) -> None:
    """Raises an ExportError if a layer has stateful=True."""
    names = [layer.name for layer in layers_within(model) if getattr(layer, "stateful", False)]
    if names:
        raise ExportError(
            "Argument `model` must not hold layers with stateful=True: an ONNX file keeps nothing "
            f"between two runs, so their states would be lost silently. Received: {names}. Rebuild "
            "them with stateful=False. For a stream, use keras_gated.export_streaming(model, "
            "path), whose file takes the states in and gives them out; or pass the states yourself "
            "(initial_state, return_state=True)."
        )


@contextmanager
def in_float32(model: keras.Layer) -> Iterator[None]:
    """Makes layers of mixed precision compute in float32 for as long as the context is open.

    A file is exported, and compared with the model, in this precision. Two exports at the same
    time, in two threads, would change a model under each other: the second waits for the first.

    Raises:
        ExportError: if a layer has weights in a 16 bit format.
    """
    with ONE_AT_A_TIME:
        yield from _in_float32(layers_within(model))


def _in_float32(layers: list) -> Iterator[None]:
    for layer in layers:
        if layer.variable_dtype in ("float16", "bfloat16"):
            raise ExportError(
                "Argument `model` must have float32 (or float64) weights; policies "
                "'mixed_float16' and 'mixed_bfloat16' are fine. Received: layer "
                f"{layer.name!r} with {layer.variable_dtype} weights. Rebuild the model under "
                "keras.config.set_dtype_policy('float32') and copy the weights with set_weights."
            )
    mixed = [layer for layer in layers if layer.dtype_policy.name.startswith("mixed_")]
    policies = [layer.dtype_policy for layer in mixed]
    try:
        for layer in mixed:
            layer.dtype_policy = "float32"
        yield
    finally:
        for layer, policy in zip(mixed, policies, strict=True):
            layer.dtype_policy = policy


def valid_name(name: str) -> str:
    """Returns a name in which ONNX and TensorFlow take every character, e.g. "my_x" for "my x"."""
    name = re.sub(r"[^A-Za-z0-9_./-]", "_", name) or "tensor"
    return name if name[0].isascii() and name[0].isalnum() else f"t{name}"


class UniqueNames:
    """Makes names valid for ONNX and TensorFlow, and different from each other.

    The first "enc" stays "enc", the second becomes "enc_2".
    """

    def __init__(self):
        self._taken: set[str] = set()

    def __call__(self, wanted: str) -> str:
        wanted = name = valid_name(wanted)
        count = 1
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name)
        return name
