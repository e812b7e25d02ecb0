"""Runs of a model in which a function of ours runs each gated layer over time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

from keras_gated.engine.call import RecurrentCall
from keras_gated.engine.run import Runner, run_by


@contextmanager
def recorded_by(runner: Runner) -> Iterator[None]:
    """Inside this context, `runner` runs gated layers; stateful ones then get their states back.

    Args:
        runner: see `run_by`.
    """
    before: dict[int, tuple] = {}

    def run(call: RecurrentCall) -> tuple | None:
        for variable in call.layer.states if getattr(call.layer, "stateful", False) else ():
            before.setdefault(id(variable), (variable, ops.copy(variable)))
        return runner(call)

    try:
        with run_by(run):
            yield
    finally:
        for variable, value in before.values():
            variable.assign(value)


def run_once(model_or_layer: Any, x: Any) -> None:
    """Calls a model for its runner's sake: eagerly, even if it is compiled.

    Args:
        model_or_layer: a Keras model, or one layer.
        x: an input, or a list or dictionary of inputs.
    """
    # Only `predict` and the like use a graph.
    model_or_layer(keras.tree.map_structure(ops.convert_to_tensor, x), training=False)


def by_layer_name(runs: list[tuple[Any, Any]]) -> dict[str, Any]:
    """Returns what was recorded by the name of the layer, or by its path if names are not unique.

    Args:
        runs: for each call of a layer the layer, and what was recorded. If a layer ran several
            times, the later keys end in " (2)" and so on.
    """
    layers = {id(layer): layer for layer, _ in runs}.values()
    names = [layer.name for layer in layers]
    found: dict[str, Any] = {}
    for layer, recorded in runs:
        name = layer.name if names.count(layer.name) == 1 else layer.path
        earlier = sum(key == name or key.startswith(f"{name} (") for key in found)
        found[f"{name} ({earlier + 1})" if earlier else name] = recorded
    return found
