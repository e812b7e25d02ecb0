"""What the tests share: tolerances, comparison, a preset beside its witness, gradients."""

import re
import zlib
from dataclasses import dataclass, field, replace

import keras
import numpy as np
import pytest
from keras import ops

import keras_gated as kg
from tests.reference import WITNESSES, draw, gradient, run, valid_states

U, F, T, B = 5, 3, 9, 4  # units, features, time, batch: all different, so nothing fits by accident
BACKEND = keras.backend.backend()
# For weights that are set right after: drawing orthogonal ones takes most of the time of a test.
QUICK = {"kernel_initializer": "zeros", "recurrent_initializer": "zeros"}
# Elsewhere keras.ops gives float32 back for float64 (keras.ops.tanh, to name one).
FINEST = "float64" if BACKEND == "tensorflow" else "float32"

SHORT = 6  # time steps, where a loop runs eagerly
HOLES = np.ones((B, SHORT), bool)  # which of them are valid:
HOLES[0, 2:4] = HOLES[1, :2] = HOLES[2, 4:] = False  # holes, left, right; the last row is whole
# Where sequences begin: at the first step, at the last one, two in a row, at masked steps; nowhere.
RESETS = np.zeros((B, SHORT), bool)
RESETS[0, [0, 3]] = RESETS[1, [1, 5]] = RESETS[2, [2, 3, 4]] = True

# By what is compared, relative to max(1, |expected|). Each is at least ten times the worst that a
# correct cell shows; no test has a tolerance of its own.
TOLERANCE = {
    "float32": 1e-5,  # against the witness in float64
    "float64": 1e-12,  # the same
    "gradient float64": 1e-7,  # against central differences (their own error is about 1e-9)
    "gradient float32": 1e-5,
    "keras float32": 1e-5,  # numbers and gradients of Keras's own layer
    "keras float64": 1e-12,
    "mixed_float16": 1e-2,  # against float32, products in 11 bits: some ten roundings of 5e-4
    "mixed_bfloat16": 8e-2,  # the same, products in 8 bits: 4e-3
    "xla": 1e-5,  # compiled against eager
    "chunks": 1e-6,  # one long call against several, in float32
    "reload": 0.0,
}


def assert_close(actual, expected, kind: str, name: str) -> None:
    """Raises where `actual` differs from `expected` by more than TOLERANCE[kind]; prints it.

    The error is relative to max(1, |expected|).
    """
    actual, expected = (np.asarray(ops.convert_to_numpy(a), "float64") for a in (actual, expected))
    assert actual.shape == expected.shape, f"{name}: shape {actual.shape}, not {expected.shape}"
    assert np.isfinite(expected).all(), f"{name}: the expected values are not finite"
    error = np.abs(actual - expected) / np.maximum(1.0, np.abs(expected))
    worst = float(error.max(initial=0.0))
    print(f"{name}: {worst:.1e} ({kind})")
    # "not <=" also refuses nan
    assert not error.size or worst <= TOLERANCE[kind], (
        f"{name}: differs by {worst:.3e}, more than {TOLERANCE[kind]:.0e} ({kind}), first at "
        f"{np.argwhere(~(error <= TOLERANCE[kind]))[0].tolist()}"
    )


def compare(ours, theirs, name: str) -> None:
    """Raises where what `run_and_differentiate` or `gradients` returned differs."""
    flat = [
        [t for part in parts for t in (part if isinstance(part, list) else [part])]
        for parts in (ours, theirs)
    ]
    for index, (a, b) in enumerate(zip(*flat, strict=True)):
        assert_close(a, b, f"keras {FINEST}", f"{name}: tensor {index}")


def apart(one, other) -> float:
    """The greatest absolute difference."""
    return float(np.abs(ops.convert_to_numpy(one) - ops.convert_to_numpy(other)).max())


def largest(x) -> float:
    """The greatest absolute value."""
    return float(np.abs(ops.convert_to_numpy(x)).max())


def raises(make, text: str, kind=ValueError) -> None:
    """Asserts that `make()` raises `kind` with the parts of `text` in its message, in this order.

    `...` stands between parts: "`units`...units=0" asks for the argument and for what was received,
    and leaves the wording to the message.
    """
    with pytest.raises(kind, match=_pattern(text)):
        make()


def says(message: str, text: str) -> bool:
    """Whether a message has the parts of `text`, as `raises` reads it."""
    return re.search(_pattern(text), message) is not None


def _pattern(text: str) -> str:
    return "(?s)" + ".*".join(re.escape(part) for part in text.split("..."))


@dataclass
class Case:
    """A preset beside its witness: the same weights, inputs and initial states for both."""

    name: str
    dtype: str
    weights: dict
    x: np.ndarray
    state: list
    upstream: np.ndarray
    constants: dict = field(default_factory=dict)

    @property
    def expected(self):
        """The witness's outputs and final states."""
        return run(self.name, self.weights, self.x, self.state, **self.constants)

    @property
    def initial_state(self) -> list:
        """The layer's: the witness's and, with a window, zeros before the first input."""
        behind = self.constants.get("window", WITNESSES[self.name].window) - 1
        before = np.zeros((len(self.x), behind * self.x.shape[-1]), self.dtype)
        return [*self.state, before] if behind else list(self.state)

    def until(self, time: int) -> "Case":
        """The first time steps alone."""
        return replace(self, x=self.x[:, :time], upstream=self.upstream[:, :time])

    def layer(self, **arguments):
        """The preset with the case's weights."""
        arguments = {"return_sequences": True, "dtype": self.dtype, **QUICK, **arguments}
        layer = kg.GatedRNN(U, kg.preset(self.name, **self.constants), **arguments)
        layer.build(self.x.shape)
        layer.set_block_weights(self.weights)
        return layer


def case(name: str, dtype: str = "float32", **constants) -> Case:
    """Random weights and random non-zero states, the same in every run; constants of the preset."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    features = U if WITNESSES[name].square else F
    sizes = {key: constants[key] for key in ("window", "blocks") if key in constants}
    sizes |= {"blocks": constants["heads"]} if "heads" in constants else {}
    drawn = draw(name, features, U, rng, **sizes)
    # Rounded to dtype first, so that the witness has exactly the layer's numbers.
    weights = {b: {k: v.astype(dtype) for k, v in keys.items()} for b, keys in drawn.items()}

    def normal(*shape):
        return rng.standard_normal(shape).astype(dtype)

    state = [0.7 * normal(B, U) for _ in range(WITNESSES[name].states)]
    state = valid_states(name, state)
    return Case(name, dtype, weights, normal(B, T, features), state, normal(B, T, U), constants)


def check_forward(name: str, dtype: str, **constants) -> None:
    """Raises where outputs or final states differ from the witness's."""
    this = case(name, dtype, **constants)
    layer = this.layer(return_state=True)
    outputs, *states = layer(this.x, initial_state=this.initial_state)
    expected, final = this.expected
    assert_close(outputs, expected, dtype, f"{name}: outputs")
    for label, mine, other in zip(layer.cell.form.states, states, final, strict=False):
        assert_close(mine, other, dtype, f"{name}: final {label}")


def check_gradient(name: str, **constants) -> dict:
    """Raises where the gradient differs from the witness's central differences.

    Returns the layer's own, as `gradient_of` nests it.
    """
    this, kind = case(name, FINEST, **constants).until(4), f"gradient {FINEST}"
    by_block, by_state = gradient_of(this)
    expected = gradient(name, this.weights, this.x, this.state, this.upstream, **constants)
    states = expected.pop("state")
    for block, keys in expected.items():
        for key, slope in keys.items():
            assert_close(by_block[block][key], slope, kind, f"{block} {key}")
    for (label, slope), mine in zip(states.items(), by_state, strict=False):
        assert_close(mine, slope, kind, f"{name}: initial {label}")
    return by_block


def gradient_of(this: Case) -> tuple[dict, list]:
    """The gradient of sum(upstream * outputs), nested as `block_weights`, and by initial states."""
    layer = this.layer()
    by_weight, by_state = gradients(layer, this.x, this.upstream, this.initial_state)
    layer.set_weights(by_weight)  # lays the gradient out as block_weights lays out weights
    return numpy_blocks(layer), by_state


def numpy_blocks(layer) -> dict:
    """`layer.block_weights()` as arrays."""
    blocks = layer.block_weights()
    return {b: {k: ops.convert_to_numpy(v) for k, v in keys.items()} for b, keys in blocks.items()}


def dead_blocks(by_block: dict, share: float = 0.9) -> list[str]:
    """Names of the weights whose gradient is not zero in fewer than `share` of the entries."""
    return [
        f"{block} {key}"
        for block, keys in by_block.items()
        for key, slope in keys.items()
        if np.mean(np.abs(slope) > 1e-9) < share
    ]


# Gradients --------------------------------------------------------------------------------------


def gradients(layer, x, upstream, states=None, **call) -> tuple[list, list]:
    """The gradient of sum(upstream * outputs) by trainable weights, and by initial states."""
    return run_and_differentiate(layer, x, upstream, states, **call)[1:]


def run_and_differentiate(layer, x, upstream, states=None, **call) -> tuple[list, list, list]:
    """What one call of the layer returns, and the gradients as `gradients` has them."""
    states = [] if states is None else states

    def objective(states):
        results = layer(x, **({"initial_state": states} if states else {}), **call)
        results = list(results) if isinstance(results, list | tuple) else [results]
        scaled = results[0] * ops.convert_to_tensor(upstream, dtype=results[0].dtype)
        return ops.sum(scaled), results

    by = {"tensorflow": _by_tensorflow, "jax": _by_jax, "torch": _by_torch}[BACKEND]
    return tuple([ops.convert_to_numpy(a) for a in part] for part in by(layer, objective, states))


class Summed(keras.layers.Layer):
    """Outputs and last states of a layer in one tensor, so that the gradient comes from both."""

    def __init__(self, layer, scales):
        super().__init__(dtype=FINEST)
        self.layer, self.scales = layer, scales
        self.supports_masking = True

    def call(self, x, initial_state=None, mask=None):
        outputs, *states = self.layer(x, initial_state=initial_state, mask=mask)
        states = states[: len(self.layer.cell.state_size)]  # without a window
        scales = [ops.convert_to_tensor(u, dtype=self.compute_dtype) for u in self.scales]
        last = [s * u for s, u in zip(states, scales, strict=False)]
        return outputs + sum(last[1:], start=last[0])[:, None]


class Joined(keras.layers.Layer):
    """Outputs and last states of a layer one after the other, (B, T + number of states, U)."""

    def __init__(self, layer):
        super().__init__(dtype=layer.dtype_policy)
        self.layer, self.supports_masking = layer, True

    def call(self, x, initial_state=None, mask=None, resets=None, training=False):
        call = {"initial_state": initial_state, "mask": mask, "resets": resets}
        outputs, *states = self.layer(x, training=training, **call)
        if self.layer.go_backwards:  # in the order of the inputs
            outputs = ops.flip(outputs, axis=1)
        states = states[: len(self.layer.cell.state_size)]  # without a window
        return ops.concatenate([outputs, *(s[:, None] for s in states)], axis=1)


def _by_tensorflow(layer, objective, states):
    import tensorflow as tf

    states = [tf.constant(s) for s in states]
    with tf.GradientTape() as tape:
        tape.watch(states)
        value, results = objective(states)
    weights = [v.value for v in layer.trainable_weights]
    return results, *tape.gradient(value, (weights, states), unconnected_gradients="zero")


def _by_jax(layer, objective, states):
    import jax

    variables = layer.trainable_variables

    def value(weights, states):
        with keras.StatelessScope(state_mapping=list(zip(variables, weights, strict=True))):
            return objective(states)

    # One compilation, not one per operation.
    slopes, results = jax.jit(jax.grad(value, argnums=(0, 1), has_aux=True))(
        [v.value for v in variables], list(map(np.asarray, states))
    )
    return results, *slopes


def _by_torch(layer, objective, states):
    import torch

    states = [torch.tensor(s, requires_grad=True) for s in states]
    weights = [v.value for v in layer.trainable_weights]
    value, results = objective(states)
    found = torch.autograd.grad(
        value, [*weights, *states], allow_unused=True, materialize_grads=True
    )
    return results, found[: len(weights)], found[len(weights) :]
