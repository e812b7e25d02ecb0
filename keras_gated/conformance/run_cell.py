"""A cell run over time by `keras.layers.RNN`: at once, compiled, and its gradient."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops, tree


def rnn(cell: Any, **options) -> keras.layers.RNN:
    """Returns a layer that gives the sequence of outputs and the last states of a cell."""
    every = {"return_sequences": True, "return_state": True, "name": "checked"}
    return keras.layers.RNN(cell, dtype=cell.dtype_policy, **{**every, **options})


def over_time(cell: Any, mask: np.ndarray | None = None, **options) -> Callable:
    """Returns (x, states) -> [outputs, states ...], all tensors."""
    layer = rnn(cell, **options)

    def call(x, states):
        seen = None if mask is None else ops.convert_to_tensor(mask)
        return tree.flatten(layer(x, initial_state=list(states), mask=seen, training=False))

    return call


def run(cell: Any, x: np.ndarray, states: Sequence[np.ndarray], mask=None, **options) -> dict:
    """Returns {"outputs": (B, T, U), "state 0": (B, U), ...}, computed eagerly."""
    return named(over_time(cell, mask, **options)(*tensors(cell, x, states)))


def named(results: Any) -> dict[str, np.ndarray]:
    """Returns what a layer gave as arrays by name."""
    arrays = [np.asarray(ops.convert_to_numpy(tensor)) for tensor in tree.flatten(results)]
    return {f"state {k - 1}" if k else "outputs": array for k, array in enumerate(arrays)}


def tensors(cell: Any, x: np.ndarray, states: Sequence[np.ndarray]) -> tuple[Any, list]:
    """Returns inputs and states as tensors of the type that a cell computes in."""
    kind = cell.compute_dtype
    given = [ops.convert_to_tensor(array, dtype=kind) for array in (x, *states)]
    return given[0], given[1:]


def compilers() -> dict[str, Callable]:
    """Returns how a function is compiled on this backend, by name; none on torch."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return {"graph": _traced, "XLA": partial(_traced, jit_compile=True)}
    if backend == "jax":
        import jax

        return {"jit": jax.jit}
    return {}


def _traced(call: Callable, **options) -> Callable:
    import tensorflow as tf

    function = tf.function(call, autograph=False, **options)

    def traced(*args):
        function.get_concrete_function(*args)  # traced so, TensorFlow warns of no retracing
        return function(*args)

    return traced


def gradients(cell: Any, loss: Callable, x, states) -> list[np.ndarray | None]:
    """Returns the gradient of loss(x, states) by the trainable weights, by x and by each state.

    Args:
        cell: a built cell that `loss` runs.
        loss: (x, states) -> scalar tensor.
        x, states: tensors.

    Returns:
        Arrays, None where nothing leads from the weight or input to the loss.
    """
    by = {"tensorflow": _by_tensorflow, "jax": _by_jax, "torch": _by_torch}
    found = by[keras.backend.backend()](cell.trainable_variables, loss, x, states)
    return [None if slope is None else np.asarray(ops.convert_to_numpy(slope)) for slope in found]


def _by_tensorflow(variables, loss, x, states):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch([x, *states])
        value = loss(x, states)
    return tape.gradient(value, [*(v.value for v in variables), x, *states])


def _by_jax(variables, loss, x, states):
    import jax

    def value(weights, x, states):
        with keras.StatelessScope(state_mapping=list(zip(variables, weights, strict=True))):
            return loss(x, states)

    by_weight, by_x, by_states = jax.jit(jax.grad(value, argnums=(0, 1, 2)))(
        [v.value for v in variables], x, states
    )
    return [*by_weight, by_x, *by_states]


def _by_torch(variables, loss, x, states):
    import torch

    given = [tensor.detach().requires_grad_() for tensor in (x, *states)]
    sources = [*(v.value for v in variables), *given]
    return torch.autograd.grad(loss(given[0], given[1:]), sources, allow_unused=True)
