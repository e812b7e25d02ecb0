"""What the engine needs of JAX: a loop over time, a custom gradient, derivatives."""

from functools import lru_cache, partial
from itertools import accumulate
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from keras import ops

from keras_gated.spec.operator_weights import functions_of, pack_block

# Whether slopes are taken for all time steps before the loop back; XLA fuses them into that loop.
SLOPES_AHEAD = False

# The least batch at which the loop makes its products in each step, see `loop_plan`. Measured with
# 1 to 256 inputs and 32 to 512 units: from 64 on, a training step of an LSTM or GRU takes 0.4 to
# 0.95 of the time of the other way, at 32 0.7 to 1.2, and below up to twice as long.
LARGE_BATCH = 64

# Whether it has operators that compute a recurrent cell whole, see `fused`.
FUSED = False

# Time steps in one pass of the loop on an accelerator. A step is a few short kernels, and
# starting them seems to take most of its time. docs/gpu.md has what a longer pass gains.
STEPS_TOGETHER = 8

# Whether a step on an accelerator reads and writes the time series of one type as one tensor, which
# takes fewer kernels. Not measured yet: `python -m benchmarks.gpu` does, see docs/gpu.md.
JOIN_SERIES = False


def accelerated() -> bool:
    """Returns whether this backend computes on an accelerator, such as a GPU."""
    return jax.default_backend() != "cpu"


def loop(step, carry, xs, reverse: bool = False, together: int | None = None):
    """Returns the last carry and the stacked ys of `step(carry, x) -> carry, ys` over axis 0.

    Args:
        step, carry, xs, reverse: as of `jax.lax.scan`.
        together: int > 0, time steps in one pass; by default `STEPS_TOGETHER` on an accelerator,
            else 1.
    """
    together = together or (STEPS_TOGETHER if accelerated() else 1)
    scan = partial(jax.lax.scan, reverse=reverse, unroll=together)
    if not (JOIN_SERIES and accelerated()):
        return scan(step, list(carry), list(xs))
    read, written = _SideBySide(xs), []

    def joined_step(carry, joined):
        carry, ys = step(carry, read.split(joined))
        written[:] = [_SideBySide(ys)]
        return carry, written[0].join(ys)

    carry, found = scan(joined_step, list(carry), read.join(xs))
    return carry, written[0].split(found)


class _SideBySide:
    """Tensors (..., n) as one tensor for each type, side by side in the last axis."""

    def __init__(self, tensors: list):
        self._types = [str(x.dtype) for x in tensors]
        self._widths = [x.shape[-1] for x in tensors]

    def join(self, tensors: list) -> dict:
        """Returns the tensors by type."""
        groups: dict[str, list] = {}
        for kind, x in zip(self._types, tensors, strict=True):
            groups.setdefault(kind, []).append(x)
        return {kind: jnp.concatenate(group, axis=-1) for kind, group in groups.items()}

    def split(self, joined: dict) -> list:
        """Returns the tensors again."""
        parts = {}
        for kind, x in joined.items():
            pairs = zip(self._types, self._widths, strict=True)
            ends = list(accumulate(n for one, n in pairs if one == kind))
            parts[kind] = iter(jnp.split(x, ends[:-1], axis=-1))
        return [next(parts[kind]) for kind in self._types]


# Of a graph that becomes a file: the same with and without an accelerator.
recorded_loop = partial(loop, together=1)


def ops_with_sums_in(dtype, of):
    """Returns `keras.ops`, whose matrix products of type `of` are sums of type `dtype` if wider.

    By itself JAX rounds them to the type of the factors.
    """
    return _OpsWithSums(dtype) if jnp.promote_types(dtype, of) == dtype else ops


class _OpsWithSums:
    """`keras.ops` with another matrix product."""

    def __init__(self, dtype):
        self.matmul = partial(jnp.matmul, preferred_element_type=dtype)

    def __getattr__(self, name: str):
        return getattr(ops, name)


def values_on_host(x):
    """Returns the values of a tensor as an array if they are known and on the processor."""
    known = not isinstance(x, Tracer) and not accelerated()
    return np.asarray(x) if known else None


def traced_for_one_length() -> bool:
    """Returns False: a loop over time is recorded as a loop."""
    return False


def is_exporting() -> bool:
    """Returns False: what records a layer for a file runs it by a runner of its own."""
    return False


def why_not_cudnn(native, call) -> str | None:
    """Returns why cuDNN cannot run a call of an operator's cell; None if it can."""
    tensors = [call.sequences, *call.states, *call.weights.values()]
    types = sorted({str(x.dtype) for x in tensors})
    if native.operator != "LSTM":
        return f"on JAX cuDNN can run only an LSTM, and this cell is a {native.operator}"
    if types != ["float32"]:
        return f"JAX has cuDNN's LSTM in float32 alone, and the tensors are {', '.join(types)}"
    if 0 in [n for n in call.sequences.shape if isinstance(n, int)]:  # others are symbols
        return "there is no time step or no sequence"
    if call.mask is not None and call.go_backwards:
        return "the layer runs backwards, where the padding comes first"
    if call.mask is not None and not call.masked_at_end:
        return "a mask may mask other time steps than the last: pass `lengths` in its place"
    return _why_no_gpu()


def _why_no_gpu() -> str | None:
    platform = jax.default_backend()
    return None if platform == "gpu" else f"JAX computes on {platform!r} here"


def run_fused(native, blocks, x, states, mask):
    """Runs an LSTM on cuDNN.

    Args:
        native: the `NativeOperator`, which `fused.find_fused_operator` found.
        blocks: the weights in the structure of `GatedCell.block_weights`.
        x: (B, T, I).
        states: the first ones, h and c (B, U).
        mask: bool (B, T) with masked time steps at the end, or None.

    Returns:
        h of all time steps (B, T, U), zeros where masked, and the last states.
    """
    from jax.experimental import rnn

    (batch, time, inputs), units = x.shape, states[0].shape[-1]
    functions = functions_of(jnp, dtype=x.dtype)
    rows = [pack_block(functions, letter, native, blocks, inputs, units) for letter in "ifco"]
    weights = [row[key].ravel() for key in ("W", "R", "Wb", "Rb") for row in rows]
    # cuDNN may not take sequences without a time step: here they have one, and it is not used.
    count = jnp.full(batch, time) if mask is None else mask.sum(axis=1)
    lengths = jnp.maximum(count, 1).astype("int32")
    layout = (inputs, units, 1, 0.0, False)  # one layer, no dropout, one direction
    first = [state[None] for state in states]
    found: Any = rnn.lstm(x, *first, jnp.concatenate(weights), lengths, *layout, _precision())
    h, *last = found
    empty = (count == 0)[:, None]
    pairs = zip(states, last, strict=True)
    return h, [jnp.where(empty, before, after[0]) for before, after in pairs]


_MATMUL_PRECISION = "jax_default_matmul_precision"


def _precision() -> jax.lax.Precision:
    """Whether cuDNN may use TF32, as JAX's products; JAX's own "default" is an error there."""
    exact = getattr(jax.config, _MATMUL_PRECISION) in ("highest", "float32", "F32_F32_F32")
    return jax.lax.Precision.HIGHEST if exact else jax.lax.Precision.HIGH


def is_recorded() -> bool:
    """Returns False: where a value decides what is computed, both ways are recorded."""
    return False


def with_gradient(plan, tensors):
    """Returns the outputs of `plan.forward`, a list, with `plan.backward` as their gradient.

    Args:
        plan: `forward`: (*tensors, keep) -> (outputs, residuals), two lists of tensors.
            `backward`: (tensors, residuals, gradients of the outputs) -> gradients of the tensors.
            Equal plans are traced once.
        tensors: what the gradient is taken by.
    """
    make = _function if plan.formula.repeatable else _make_function
    try:
        return make(plan)(*tensors)
    except TypeError as error:
        if "forward-mode" not in str(error):
            raise
        raise TypeError(
            "A gated layer cannot be differentiated in forward mode (jax.jvp, jax.jacfwd), since "
            "it has a gradient of its own. Received: a call inside such a transform. Use jax.vjp "
            "or jacrev, or give the layer unroll=True: JAX itself then differentiates the loop."
        ) from error


def _make_function(plan):
    """The forward pass of a plan, with its gradient."""
    forward, backward = jax.jit(plan.forward), jax.jit(plan.backward)
    function = jax.custom_vjp(jax.jit(lambda *tensors: plan.forward(*tensors, keep=False)[0]))

    def with_residuals(*tensors):
        outputs, residuals = forward(*tensors)
        return outputs, (tensors, residuals)

    function.defvjp(with_residuals, lambda saved, upstream: tuple(backward(*saved, upstream)))
    return function


_function = lru_cache(maxsize=256)(_make_function)


def partials(function, inputs):
    """Returns the derivative of each output of an elementwise function by each input, or None."""
    outputs, back = jax.vjp(function, *inputs)
    depends = _dependence(function, inputs)
    found = []
    for at, sees in enumerate(depends):
        ones = [jnp.full_like(y, float(j == at)) for j, y in enumerate(outputs)]
        slopes = back(ones)
        found.append([d if i in sees else None for i, d in enumerate(slopes)])
    return found


def _dependence(function, inputs) -> list[set[int]]:
    """For each output, the inputs that it may depend on."""
    jaxpr = jax.make_jaxpr(function)(*inputs).jaxpr
    sees = {id(v): {i} for i, v in enumerate(jaxpr.invars)}
    for equation in jaxpr.eqns:
        reads = set().union(*(sees.get(id(v), set()) for v in equation.invars))
        sees |= {id(v): reads for v in equation.outvars}
    return [sees.get(id(v), set()) for v in jaxpr.outvars]


def vjp(function, inputs, upstream):
    """Returns the gradient of `function` by each input for the outputs' gradients `upstream`."""
    _, back = jax.vjp(function, *inputs)
    return back(list(upstream))
