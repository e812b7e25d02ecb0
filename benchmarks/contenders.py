"""What is measured, as functions without arguments: a training step, an inference, compilation.

A training step is the gradient of a weighted sum of all outputs by all weights.
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np

import keras_gated as kg
from benchmarks.sizes import Size

BACKEND = keras.backend.backend()
GENERIC = "keras RNN(GatedCell lstm)"


class Contender(NamedTuple):
    """One of those compared; `compile` traces and compiles the training step, where XLA does."""

    train: Callable[[], None]
    infer: Callable[[], None]
    compile: Callable[[], None] | None = None


def layers(size: Size, ablations: tuple[str, ...]) -> dict[str, keras.layers.Layer]:
    """Returns Keras's layers and ours, by name."""
    units, every = size.units, {"return_sequences": True}
    found = {
        "keras LSTM": keras.layers.LSTM(units, **every),
        "keras GRU": keras.layers.GRU(units, **every),
        "GatedLSTM": kg.GatedLSTM(units, **every),
        "GatedGRU": kg.GatedGRU(units, **every),
        GENERIC: keras.layers.RNN(kg.GatedCell(units, "lstm"), **every),
    }
    return found | {name: kg.GatedRNN(units, name, **every) for name in ablations}


def contenders(size: Size, seed: int, ablations: tuple[str, ...] = ()) -> dict[str, Contender]:
    """Returns all that can be measured here, by name."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size.batch, size.time, size.inputs)).astype("float32")
    weights = rng.normal(size=(size.batch, size.time, size.units)).astype("float32")
    adapt = {"tensorflow": _on_tensorflow, "jax": _on_jax, "torch": _on_torch}[BACKEND]
    found = {}
    for name, layer in layers(size, ablations).items():
        layer.build(x.shape)
        found[name] = adapt(layer, x, weights)
    return found | _others(size, x, weights)


def _on_tensorflow(layer, x, weights) -> Contender:
    import tensorflow as tf

    x, weights = tf.constant(x), tf.constant(weights)

    @tf.function(jit_compile=True)
    def train(x, weights):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x) * weights)
        return tape.gradient(loss, layer.trainable_variables)

    infer = tf.function(lambda x: layer(x), jit_compile=True)
    return Contender(
        lambda: [g.numpy() for g in train(x, weights)],
        lambda: infer(x).numpy(),
        lambda: train.experimental_get_compiler_ir(x, weights)(stage="optimized_hlo"),
    )


def _on_jax(layer, x, weights) -> Contender:
    import jax

    trained = [v.value for v in layer.trainable_variables]
    others = [v.value for v in layer.non_trainable_variables]

    def outputs(trained, x):
        return layer.stateless_call(trained, others, x)[0]

    train = jax.jit(jax.grad(lambda trained, x: (outputs(trained, x) * weights).sum()))
    infer = jax.jit(outputs)
    wait = jax.block_until_ready
    return Contender(
        lambda: wait(train(trained, x)),
        lambda: wait(infer(trained, x)),
        lambda: train.lower(trained, x).compile(),
    )


def _on_torch(layer, x, weights) -> Contender:
    import torch

    x, weights = torch.tensor(x), torch.tensor(weights)

    def train():
        for parameter in layer.parameters():
            parameter.grad = None
        (layer(x) * weights).sum().backward()

    def infer():
        with torch.no_grad():
            layer(x)

    return Contender(train, infer)


def _others(size: Size, x, weights) -> dict[str, Contender]:
    """torch's and flax's own layers, and the bare products, where they can run."""
    found = {}
    for add in (_torch_layers, _flax_layers, _bare_products):
        try:
            found |= add(size, x, weights)
        except ImportError:
            continue
    return found


def _torch_layers(size: Size, x, weights) -> dict[str, Contender]:
    import torch

    class First(torch.nn.Module):
        def __init__(self, kind):
            super().__init__()
            self.layer = kind(size.inputs, size.units, batch_first=True)

        def forward(self, x):
            return self.layer(x)[0]

    kinds = {"torch LSTM": torch.nn.LSTM, "torch GRU": torch.nn.GRU}
    return {name: _on_torch(First(kind), x, weights) for name, kind in kinds.items()}


def _flax_layers(size: Size, x, weights) -> dict[str, Contender]:
    import jax
    from flax import linen

    model = linen.RNN(linen.OptimizedLSTMCell(size.units))
    trained = model.init(jax.random.key(0), x)
    train = jax.jit(jax.grad(lambda trained, x: (model.apply(trained, x) * weights).sum()))
    infer = jax.jit(model.apply)
    wait = jax.block_until_ready
    return {
        "flax LSTM": Contender(lambda: wait(train(trained, x)), lambda: wait(infer(trained, x)))
    }


def _bare_products(size: Size, x, weights) -> dict[str, Contender]:
    """The matrix products of an LSTM alone, under XLA, each used by its largest element only."""
    if BACKEND != "tensorflow":
        return {}
    import tensorflow as tf

    rng = np.random.default_rng(0)
    kernel, recurrent = (
        tf.constant(rng.normal(size=(n, 4 * size.units), scale=0.01), "float32")
        for n in (size.inputs, size.units)
    )
    inputs, outputs = (tf.reshape(v, (size.batch * size.time, -1)) for v in (x, weights))
    h = tf.constant(weights[:, 0])

    def loop(step):
        count = size.time
        return tf.while_loop(lambda t, h: t < count, lambda t, h: (t + 1, step(h)), (0, h))[1]

    def largest(h):
        return tf.reduce_max(tf.reshape(tf.matmul(h, recurrent), (-1, 4, size.units)), axis=1)

    def projected():
        return [tf.matmul(inputs, part) for part in tf.split(kernel, 4, axis=1)]

    def forward():
        return [*(tf.reduce_max(z) for z in projected()), loop(largest)]

    def backward():
        back = loop(lambda h: tf.matmul(tf.tile(h, (1, 4)), recurrent, transpose_b=True))
        products = [
            tf.matmul(v, z, transpose_a=True) for z in projected() for v in (inputs, outputs)
        ]
        return [*forward(), back, *products]

    train, infer = (tf.function(f, jit_compile=True) for f in (backward, forward))
    return {
        "bare products": Contender(
            lambda: [y.numpy() for y in train()], lambda: [y.numpy() for y in infer()]
        )
    }
