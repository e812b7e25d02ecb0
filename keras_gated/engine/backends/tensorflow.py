"""What the engine needs of TensorFlow: a loop over time, a custom gradient, derivatives."""

from functools import lru_cache, partial

import tensorflow as tf
from keras import ops

# Whether slopes are taken for all time steps before the loop back; XLA fuses them into that loop.
SLOPES_AHEAD = False

# The least batch at which the loop makes its products in each step, see `loop_plan`. Measured with
# 1 to 256 inputs and 32 to 512 units: from 128 on, a training step of an LSTM or GRU takes 0.65 to
# 1 of the time of the other way, at 64 0.9 to 1.15, and below up to 1.7 of it.
LARGE_BATCH = 128

# Whether it has operators that compute a recurrent cell whole, see `fused`.
FUSED = False

# Time steps in one pass of the loop on an accelerator, as on JAX.
STEPS_TOGETHER = 8


def accelerated() -> bool:
    """Returns whether this backend computes on an accelerator, such as a GPU."""
    return any(x.device_type in ("GPU", "TPU") for x in tf.config.list_logical_devices())


def loop(step, carry, xs, reverse: bool = False, together: int | None = None):
    """Returns the last carry and the stacked ys of `step(carry, x) -> carry, ys` over axis 0.

    Args:
        step, carry, xs, reverse: as of `jax.lax.scan`.
        together: int > 0, time steps in one pass; by default `STEPS_TOGETHER` on an accelerator,
            else 1. A second loop takes the steps that do not fill a pass one by one.
    """
    together = together or (STEPS_TOGETHER if accelerated() else 1)
    static, length = xs[0].shape[0], tf.shape(xs[0])[0]
    length = length if static is None else static
    arrays = [tf.TensorArray(x.dtype, length).unstack(x) for x in xs]
    shapes = [(x.dtype, x.shape) for x in _example(step, carry, xs)]
    out = [tf.TensorArray(dtype, length, element_shape=shape) for dtype, shape in shapes]

    def one_step(t, carry, out):
        at = length - 1 - t if reverse else t
        carry, ys = step(carry, [array.read(at) for array in arrays])
        out = [array.write(at, y) for array, y in zip(out, ys, strict=True)]
        return t + 1, carry, out

    def several_steps(*state):
        for _ in range(together):
            state = one_step(*state)
        return state

    state, rest, done = (0, list(carry), out), length, 0
    if together > 1 and static not in range(together):
        passes = length // together
        done = passes * together
        rest = length - done
        state = tf.while_loop(
            lambda t, *_: t < done, several_steps, state, maximum_iterations=passes
        )
    if static is None or rest or not done:
        state = tf.while_loop(lambda t, *_: t < length, one_step, state, maximum_iterations=rest)
    _, carry, out = state
    return carry, [array.stack() for array in out]


# Of a graph that becomes a file: the same with and without an accelerator.
recorded_loop = partial(loop, together=1)


def _example(step, carry, xs):
    """The ys of one step, for their types and shapes; the graph drops the operations."""
    return step(list(carry), [x[0] for x in xs])[1]


def ops_with_sums_in(dtype, of):
    """Returns `keras.ops`: TensorFlow's products have the type of their factors."""
    return ops


def values_on_host(x):
    """Returns the values of a tensor as an array if they are known and on the processor."""
    known = tf.executing_eagerly() and "CPU" in x.device
    return x.numpy() if known else None


def traced_for_one_length() -> bool:
    """Returns False: a loop over time is recorded as a loop."""
    return False


def is_exporting() -> bool:
    """Returns False: what records a layer for a file runs it by a runner of its own."""
    return False


def why_not_cudnn(native, call) -> str:
    """Returns why cuDNN cannot run a call."""
    return "on TensorFlow the layers run under XLA, which has no recurrent layer of cuDNN"


def is_recorded() -> bool:
    """Returns False: where a value decides what is computed, both ways are recorded."""
    return False


def with_gradient(plan, tensors):
    """Returns the outputs of `plan.forward`, a list, with `plan.backward` as their gradient.

    Args:
        plan: `forward`: (*tensors) -> (outputs, residuals), two lists of tensors; without a
            gradient the graph drops the residuals. `backward`: (tensors, residuals, gradients of
            the outputs) -> gradients of the tensors. In a graph, equal plans are traced once.
        tensors: what the gradient is taken by.
    """
    forward, backward = plan.forward, plan.backward
    if plan.formula.repeatable and not tf.executing_eagerly():
        forward, backward = _functions(plan)

    @tf.custom_gradient
    def function(*tensors):
        outputs, residuals = forward(*tensors)
        return outputs, lambda *upstream: backward(tensors, residuals, upstream)

    return function(*(tf.identity(x) for x in tensors))  # variables as tensors


@lru_cache(maxsize=256)
def _functions(plan):
    """The two functions of a plan, as TensorFlow functions."""
    return [tf.function(f, autograph=False) for f in (plan.forward, plan.backward)]


def partials(function, inputs):
    """Returns the derivative of each output of an elementwise function by each input, or None."""
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        outputs = function(*inputs)
    return [tape.gradient(y, inputs) for y in outputs]


def vjp(function, inputs, upstream):
    """Returns the gradient of `function` by each input for the outputs' gradients `upstream`."""
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = function(*inputs)
    zero = tf.UnconnectedGradients.ZERO
    return tape.gradient(outputs, inputs, upstream, unconnected_gradients=zero)
