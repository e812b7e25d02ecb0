"""Runs a cell over time with `keras.layers.RNN`: eagerly, compiled, and with its gradient.

The checks use nothing else of a backend than what is here.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops, tree


def rnn(cell: Any, **options) -> keras.layers.RNN:
    """Returns a `keras.layers.RNN` over a cell that returns the sequence and the last states."""
    defaults = {"return_sequences": True, "return_state": True, "name": "checked"}
    return keras.layers.RNN(cell, dtype=cell.dtype_policy, **{**defaults, **options})


def over_time(cell: Any, mask: np.ndarray | None = None, **options) -> Callable:
    """Returns a function (x, states) -> [outputs, states ...] on tensors, which runs a cell."""
    layer = rnn(cell, **options)

    def call(x, states):
        tensor = None if mask is None else ops.convert_to_tensor(mask)
        return tree.flatten(layer(x, initial_state=list(states), mask=tensor, training=False))

    return call


def run(cell: Any, x: np.ndarray, states: Sequence[np.ndarray], mask=None) -> dict:
    """Runs a cell eagerly and returns {"outputs": (B, T, U), "state 0": (B, U), ...}."""
    return to_arrays(over_time(cell, mask)(*tensors(cell, x, states)))


def to_arrays(results: Any) -> dict[str, np.ndarray]:
    """Returns the result of a layer, outputs and states, as arrays by name."""
    arrays = [np.asarray(ops.convert_to_numpy(tensor)) for tensor in tree.flatten(results)]
    return {f"state {k - 1}" if k else "outputs": array for k, array in enumerate(arrays)}


def tensors(cell: Any, x: np.ndarray, states: Sequence[np.ndarray]) -> tuple[Any, list]:
    """Returns inputs and states as tensors, in the dtype in which a cell computes."""
    dtype = cell.compute_dtype
    x, *states = (ops.convert_to_tensor(array, dtype=dtype) for array in (x, *states))
    return x, states


def compilers() -> dict[str, Callable]:
    """Returns the compilers of this backend by name: function -> compiled function. torch: none."""
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
        function.get_concrete_function(*args)  # avoids TensorFlow's warning of retracing
        return function(*args)

    return traced


def gradients(cell: Any, loss: Callable, x, states) -> list[np.ndarray | None]:
    """Returns the gradients of loss(x, states): by each trainable weight, by x, by each state.

    Args:
        cell: a built cell, which `loss` runs.
        loss: (x, states) -> scalar tensor.
        x, states: tensors.

    Returns:
        Arrays; None if the loss does not depend on the weight or input.
    """
    by_backend = {"tensorflow": _with_tensorflow, "jax": _with_jax, "torch": _with_torch}
    slopes = by_backend[keras.backend.backend()](cell.trainable_variables, loss, x, states)
    return [None if slope is None else np.asarray(ops.convert_to_numpy(slope)) for slope in slopes]


def _with_tensorflow(variables, loss, x, states):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch([x, *states])
        value = loss(x, states)
    return tape.gradient(value, [*(v.value for v in variables), x, *states])


def _with_jax(variables, loss, x, states):
    import jax

    def value(weights, x, states):
        with keras.StatelessScope(state_mapping=list(zip(variables, weights, strict=True))):
            return loss(x, states)

    by_weight, by_x, by_states = jax.jit(jax.grad(value, argnums=(0, 1, 2)))(
        [v.value for v in variables], x, states
    )
    return [*by_weight, by_x, *by_states]


def _with_torch(variables, loss, x, states):
    import torch

    x, *states = (tensor.detach().requires_grad_() for tensor in (x, *states))
    sources = [*(v.value for v in variables), x, *states]
    return torch.autograd.grad(loss(x, states), sources, allow_unused=True)
