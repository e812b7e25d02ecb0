"""A layer as functions without arguments: a training step, an inference, compilation.

A training step is the gradient of a weighted sum of all outputs by all weights.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras

BACKEND = keras.backend.backend()


class Contender(NamedTuple):
    """One of those compared; `compile` returns the training step compiled anew, where XLA does."""

    train: Callable[[], None]
    infer: Callable[[], None]
    compile: Callable[[], Any] | None = None


def compiled(function: Callable, *tensors) -> Callable[[], Any]:
    """Returns a call of `function` on tensors, compiled by XLA, that waits for the result."""
    if BACKEND == "jax":
        import jax

        fast = jax.jit(function)
        return lambda: jax.block_until_ready(fast(*tensors))
    import tensorflow as tf

    return _awaited(tf.function(function, jit_compile=True), *tensors)


def _awaited(function, *tensors) -> Callable[[], Any]:
    """The same of a function of TensorFlow, whose results a GPU still computes on return."""
    import tensorflow as tf

    def run():
        result = function(*tensors)
        tf.test.experimental.sync_devices()
        return result

    return run


def on_tensorflow(layer, x, weights) -> Contender:
    """As `adapted`, on TensorFlow."""
    import tensorflow as tf

    # Keras's layers say no where they run on cuDNN.
    @tf.function(jit_compile=layer.supports_jit)
    def train(x, weights):
        with tf.GradientTape() as tape:
            y = layer(x)
            loss = tf.reduce_sum(y * tf.cast(weights, y.dtype))
        return tape.gradient(loss, layer.trainable_variables)

    infer = tf.function(lambda x: layer(x), jit_compile=layer.supports_jit)
    return Contender(
        _awaited(train, x, weights),
        _awaited(infer, x),
        lambda: train.experimental_get_compiler_ir(x, weights)(stage="optimized_hlo"),
    )


def on_jax(layer, x, weights) -> Contender:
    """As `adapted`, on JAX."""
    import jax

    trained = [v.value for v in layer.trainable_variables]
    others = [v.value for v in layer.non_trainable_variables]

    def outputs(trained, x):
        return layer.stateless_call(trained, others, x)[0]

    # Data are arguments: what a function closes over would be a constant of the program.
    train = jax.jit(jax.grad(lambda trained, x, weights: (outputs(trained, x) * weights).sum()))
    return Contender(
        lambda: jax.block_until_ready(train(trained, x, weights)),
        compiled(outputs, trained, x),
        lambda: train.lower(trained, x, weights).compile(),
    )


def on_torch(layer, x, weights) -> Contender:
    """As `adapted`, of a layer of Keras on torch or a module of torch itself."""
    import torch

    dtype = next(layer.parameters()).dtype
    x, weights = (torch.as_tensor(v, dtype=dtype) for v in (x, weights))
    wait = torch.cuda.synchronize if x.is_cuda else lambda: None

    def train():
        for parameter in layer.parameters():
            parameter.grad = None
        (layer(x) * weights).sum().backward()
        wait()

    def infer():
        with torch.no_grad():
            layer(x)
        wait()

    return Contender(train, infer)


def adapted(layer: Any, x: Any, weights: Any) -> Contender:
    """Returns a layer as a contender, compiled by XLA where the backend and the layer have it.

    Args:
        layer: a built recurrent layer that returns sequences.
        x: tensor (B, T, F), the input.
        weights: tensor (B, T, U), those of the outputs in the sum.

    Raises:
        ValueError: if Keras runs on a backend that trains nothing.
    """
    by = {"tensorflow": on_tensorflow, "jax": on_jax, "torch": on_torch}
    if BACKEND not in by:
        raise ValueError(
            f"Layers are measured on Keras's backends {', '.join(by)}. Received: {BACKEND!r}. "
            "Set KERAS_BACKEND before keras is imported."
        )
    return by[BACKEND](layer, x, weights)
