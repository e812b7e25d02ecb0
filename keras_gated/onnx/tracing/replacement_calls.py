"""Other ways to call two of Keras's layers while a model is traced, with the same results.

Keras calls these layers in forms that ONNX or the later steps cannot take:

- TimeDistributed loops over the time steps. If time is open, that loop has no ONNX form; if a
  recurrent layer is inside, its stub would be inside the loop. Here all time steps run at once, as
  more rows of the batch: (B, T, ...) becomes (B T, ...).
- Dense on sequences (B, T, F) is, in TensorFlow's graph, a reshape, a product and a reshape. Here
  it is one product.
"""

from collections.abc import Callable
from inspect import signature
from typing import Any

import keras
from keras import ops, tree

from keras_gated.onnx.errors import require
from keras_gated.onnx.tracing.layer_places import layers_within


def replacement_call(layer: Any) -> Callable | None:
    """Returns a function to use in place of `layer.call`, or None if the layer's own is fine."""
    if type(layer) is keras.layers.TimeDistributed:
        return _call_with_time_as_batch(layer)
    if type(layer) is keras.layers.Dense and layer.built:
        plain = not (layer.quantization_mode or layer.lora_enabled)
        return _call_as_one_product(layer) if plain else None
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
