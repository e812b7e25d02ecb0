"""What stands for the calls of some of Keras's layers while a model is traced.

A TimeDistributed takes its time steps as more rows of the batch, where Keras's own loop over them
has no ONNX form: time is open, or there is a recurrent layer within. A Dense on sequences is one
product, not one between two reshapes.
"""

from collections.abc import Callable
from inspect import signature
from typing import Any

import keras
from keras import ops, tree

from keras_gated.onnx.errors import require
from keras_gated.onnx.tracing.model_layers import layers_within


def replacement_call(layer: Any) -> Callable | None:
    """Returns what stands for `layer.call`; None where the call is as good as any."""
    if type(layer) is keras.layers.TimeDistributed:
        return _folded(layer)
    if type(layer) is keras.layers.Dense and layer.built:
        plain = not (layer.quantization_mode or layer.lora_enabled)
        return _as_one_product(layer) if plain else None
    return None


def _folded(layer: keras.layers.TimeDistributed) -> Callable:
    inner = layer.layer
    takes = signature(inner.call).parameters
    recurrent = any(isinstance(one, keras.layers.RNN) for one in layers_within(inner))

    def call(inputs, training=None, mask=None):
        if inputs.shape[1] is not None and not recurrent:
            return type(layer).call(layer, inputs, training=training, mask=mask)
        time = ops.shape(inputs)[1]
        given = {"training": training, "mask": None if mask is None else _rows(mask)}
        given = {k: v for k, v in given.items() if k in takes and v is not None}
        outputs = inner.call(_rows(inputs), **given)  # as Keras calls it
        return tree.map_structure(lambda y: ops.reshape(y, (-1, time, *ops.shape(y)[1:])), outputs)

    return call


def _rows(x: Any) -> Any:
    """(B, T, ...) as (B T, ...)."""
    return ops.reshape(x, (-1, *ops.shape(x)[2:]))


def _as_one_product(layer: keras.layers.Dense) -> Callable:
    (tf,) = require("tensorflow")

    def call(inputs, training=None):
        if len(inputs.shape) < 3:
            return type(layer).call(layer, inputs, training=training)
        y = tf.linalg.matmul(ops.cast(inputs, layer.compute_dtype), layer.kernel)
        y = y if layer.bias is None else y + layer.bias
        return y if layer.activation is None else layer.activation(y)

    return call
