"""A plain recurrent cell, and others with one thing wrong in each, for tests of `check_cell`."""

import keras
import numpy as np
from keras import ops

register = keras.saving.register_keras_serializable("faulty_cells")


@register
class Plain(keras.Layer):
    """h = tanh(W x + U h + b)."""

    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = units

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], self.units), name="kernel")
        self.recurrent_kernel = self.add_weight((self.units, self.units), name="recurrent_kernel")
        self.bias = self.add_weight((self.units,), "zeros", name="bias")

    def step(self, inputs, h):
        return ops.tanh(inputs @ self.kernel + h @ self.recurrent_kernel + self.bias)

    def call(self, inputs, states):
        h = self.step(inputs, states[0])
        return h, [h]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@register
class ForgetsArgument(Plain):
    def __init__(self, units=3, leak=1.0, **kwargs):
        super().__init__(units, **kwargs)
        self.leak = leak

    def step(self, inputs, h):
        return self.leak * super().step(inputs, h)


@register
class ForgetsNumber(Plain):
    """What it draws when it is made is in no file."""

    def __init__(self, units=3, **kwargs):
        super().__init__(units, **kwargs)
        self._scale = float(np.random.default_rng().uniform(0.2, 0.8))

    def step(self, inputs, h):
        return self._scale * super().step(inputs, h)


@register
class NoConfig(Plain):
    def __init__(self, units, **kwargs):
        super().__init__(units, **kwargs)

    def get_config(self):
        return keras.Layer.get_config(self)


class Unregistered:
    """Of no module, so no file can name it."""

    def __new__(cls, units=3):
        return type("Local", (Plain,), {"__module__": "nowhere"})(units)


@register
class WrongSize(Plain):
    def call(self, inputs, states):
        h = self.step(inputs, states[0][:, : self.units])
        return h, [ops.concatenate([h, h], axis=-1)]


@register
class OneStateMore(Plain):
    def call(self, inputs, states):
        h = self.step(inputs, states[0])
        return h, [h, h]


@register
class Counts(Plain):
    """Python keeps a state that Keras knows nothing of."""

    def call(self, inputs, states):
        self.__dict__["calls"] = self.__dict__.get("calls", 0) + 1
        h = self.step(inputs, states[0]) / self.__dict__["calls"]
        return h, [h]


@register
class Noisy(Plain):
    def step(self, inputs, h):
        return super().step(inputs, h) + 0.1 * keras.random.normal(h.shape, dtype=h.dtype)


@register
class ForgetsState(Plain):
    def step(self, inputs, h):
        return super().step(inputs, ops.zeros_like(h) + ops.mean(self.recurrent_kernel))


@register
class MixesRows(Plain):
    def step(self, inputs, h):
        h = super().step(inputs, h)
        return h - ops.mean(h, axis=0, keepdims=True)


@register
class EagerOnly(Plain):
    def step(self, inputs, h):
        return super().step(ops.convert_to_tensor(ops.convert_to_numpy(inputs)), h)


@register
class NotForXla(Plain):
    def step(self, inputs, h):
        import tensorflow as tf

        there = tf.numpy_function(lambda a: a, [inputs], inputs.dtype)
        return super().step(tf.ensure_shape(there, inputs.shape), h)


@register
class Stops(Plain):
    def step(self, inputs, h):
        kernel = ops.stop_gradient(self.recurrent_kernel)
        return ops.tanh(inputs @ self.kernel + h @ kernel + self.bias)


@register
class Unread(Plain):
    def build(self, input_shape):
        super().build(input_shape)
        self.peephole = self.add_weight((self.units,), name="peephole")


@ops.custom_gradient
def straight(z):
    """tanh with the gradient of the identity."""

    def grad(*args, upstream=None):
        return args[0] if upstream is None else upstream

    return ops.tanh(z), grad


@register
class WrongGradient(Plain):
    def step(self, inputs, h):
        return straight(inputs @ self.kernel + h @ self.recurrent_kernel + self.bias)


@register
class Widens(Plain):
    """Its state is float32 whatever it computes in."""

    def call(self, inputs, states):
        h = self.step(inputs, states[0])
        return h, [ops.cast(h, "float32")]


@register
class NotInOnnx(Plain):
    def step(self, inputs, h):
        return super().step(inputs, ops.erfinv(0.5 * h))
