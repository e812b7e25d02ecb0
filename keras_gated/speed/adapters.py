"""Makes functions without arguments from a layer, so that it can be timed on any backend.

There are three: a training step (the gradients of a weighted sum of all outputs with respect to all
weights), inference, and compilation. Each waits until the device has finished.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras

BACKEND = keras.backend.backend()


class Contender(NamedTuple):
    """A layer that is compared with others, as functions without arguments.

    Attributes:
        train: runs a training step.
        infer: runs inference.
        compile: compiles the training step anew with XLA; None if there is nothing to compile.
    """

    train: Callable[[], None]
    infer: Callable[[], None]
    compile: Callable[[], Any] | None = None


def compiled(function: Callable, *tensors) -> Callable[[], Any]:
    """Returns a function without arguments: `function(*tensors)`, compiled by XLA.

    It returns when the device has finished. For TensorFlow and JAX.
    """
    if BACKEND == "jax":
        import jax

        fast = jax.jit(function)
        return lambda: jax.block_until_ready(fast(*tensors))
    import tensorflow as tf

    return _waiting(tf.function(function, jit_compile=True), *tensors)


def _waiting(function, *tensors) -> Callable[[], Any]:
    """Returns `function(*tensors)` as a function that waits until the GPU has finished."""
    import tensorflow as tf

    def run():
        result = function(*tensors)
        tf.test.experimental.sync_devices()
        return result

    return run


def tensorflow_contender(layer, x, weights) -> Contender:
    """Returns a layer as a contender on TensorFlow; arguments as in `make_contender`."""
    import tensorflow as tf

    # On cuDNN XLA cannot compile Keras's layers; then their supports_jit is False.
    @tf.function(jit_compile=layer.supports_jit)
    def train(x, weights):
        with tf.GradientTape() as tape:
            y = layer(x)
            loss = tf.reduce_sum(y * tf.cast(weights, y.dtype))
        return tape.gradient(loss, layer.trainable_variables)

    infer = tf.function(lambda x: layer(x), jit_compile=layer.supports_jit)
    return Contender(
        _waiting(train, x, weights),
        _waiting(infer, x),
        lambda: train.experimental_get_compiler_ir(x, weights)(stage="optimized_hlo"),
    )


def jax_contender(layer, x, weights) -> Contender:
    """Returns a layer as a contender on JAX; arguments as in `make_contender`."""
    import jax

    trained = [v.value for v in layer.trainable_variables]
    others = [v.value for v in layer.non_trainable_variables]

    def outputs(trained, x):
        return layer.stateless_call(trained, others, x)[0]

    def compile_anew():
        jax.clear_caches()  # or JAX returns what it compiled before
        return train.lower(trained, x, weights).compile()

    # x and weights are arguments: in a closure they would be constants of the compiled program.
    train = jax.jit(jax.grad(lambda trained, x, weights: (outputs(trained, x) * weights).sum()))
    return Contender(
        lambda: jax.block_until_ready(train(trained, x, weights)),
        compiled(outputs, trained, x),
        compile_anew,
    )


def torch_contender(layer, x, weights) -> Contender:
    """Returns a layer of Keras on torch, or a module of torch, as a contender.

    Arguments are as in `make_contender`.
    """
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


def make_contender(layer: Any, x: Any, weights: Any) -> Contender:
    """Returns a layer as a contender, compiled by XLA if the backend and the layer support it.

    Args:
        layer: a built recurrent layer with return_sequences=True.
        x: tensor (B, T, F), the input.
        weights: tensor (B, T, U), the weights of the outputs in the sum.

    Raises:
        ValueError: if Keras runs on a backend that cannot train.
    """
    makers = {"tensorflow": tensorflow_contender, "jax": jax_contender, "torch": torch_contender}
    if BACKEND not in makers:
        raise ValueError(
            f"Layers are measured on Keras's backends {', '.join(makers)}. Received: {BACKEND!r}. "
            "Set KERAS_BACKEND before keras is imported."
        )
    return makers[BACKEND](layer, x, weights)
