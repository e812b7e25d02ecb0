"""A whole training step is one program of XLA, which leaves it for nothing."""

import re

import keras
import numpy as np
import pytest

import keras_gated as kg
from tests.helpers import BACKEND, F, U

pytestmark = pytest.mark.skipif(BACKEND == "torch", reason="torch does not compile by XLA")
ROWS, STEPS = 6, 40
# What a program calls on the host, hands to it, or takes from it; and cuDNN's recurrent layers.
LEAVES = re.compile(r"callback|infeed|outfeed|host|rnn", re.IGNORECASE)


def model(*layers, jit_compile=True, steps=STEPS) -> keras.Model:
    made = keras.Sequential([keras.Input((steps, F)), *layers, keras.layers.Dense(2)])
    made.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit_compile)
    made.optimizer.build(made.trainable_variables)
    return made


def ours() -> list:
    every = {"return_sequences": True}
    both = keras.layers.Bidirectional(kg.GatedLSTM(U, peephole=True, **every))
    return [both, kg.GatedRNN(U, "mgu", **every), kg.GatedGRU(U, dropout=0.1)]


def data(steps: int = STEPS) -> tuple:
    rng = np.random.default_rng(0)
    shapes = ((ROWS, steps, F), (ROWS, 2))
    return tuple(rng.standard_normal(shape, dtype="float32") for shape in shapes)


def program(made: keras.Model) -> str:
    """The compiled training step of `fit`, as XLA prints it."""
    x, y = data(made.input_shape[1])
    if BACKEND == "jax":
        import jax

        parts = (made.trainable_variables, made.non_trainable_variables)
        parts = (*parts, made.optimizer.variables, made.metrics_variables)
        state = tuple([v.value for v in part] for part in parts)
        return jax.jit(made.train_step).lower(state, (x, y)).compile().as_text()
    import tensorflow as tf

    step = tf.function(lambda x, y: made.train_step((x, y)), jit_compile=True)
    x, y = tf.constant(x), tf.constant(y)
    return step.experimental_get_compiler_ir(x, y)(stage="optimized_hlo")


def leaves(text: str) -> list[str]:
    """The instructions with which a program leaves the device or XLA's own loop."""
    targets = re.findall(r'custom_call_target="([^"]*)"', text)
    targets += re.findall(r"= [^=]*? (infeed|outfeed|send|recv)\(", text)
    return [target for target in targets if LEAVES.search(target) or target in ("send", "recv")]


def test_the_training_step_is_one_module():
    text = program(model(*ours()))
    assert len(re.findall(r"^HloModule ", text, re.MULTILINE)) == 1
    assert len(re.findall(r"^ENTRY ", text, re.MULTILINE)) == 1
    loops = len(re.findall(r" while\(", text))
    assert loops >= 8, f"{loops} loops, not one forward and one back for each of four cells"
    assert leaves(text) == []


@pytest.mark.skipif(BACKEND != "jax", reason="XLA refuses it on TensorFlow")
def test_a_call_to_the_host_is_found():
    """Planted: a layer whose numbers Python computes."""
    import jax

    def to_host(x):
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return x + jax.lax.stop_gradient(jax.pure_callback(np.zeros_like, shape, x))

    class Lost(keras.layers.Layer):
        def call(self, x):
            return to_host(jax.lax.stop_gradient(x))

    assert leaves(program(model(Lost(), *ours()))) != []


@pytest.mark.parametrize("name", ["lstm", "gru", "fgr", "min_gru"])
def test_layers_leave_xla_on(name, device):
    layer = kg.GatedRNN(U, name, time_parallel="auto" if name == "min_gru" else False)
    made = model(layer, jit_compile="auto")
    made.fit(*data(), verbose=0)
    assert layer.supports_jit and layer.cell.supports_jit and made.supports_jit
    # Keras's "auto" never compiles on TensorFlow without an accelerator.
    assert made.jit_compile or (BACKEND, device) == ("tensorflow", "cpu")


def test_a_step_of_fit_changes_every_weight():
    made = model(*ours())
    before = made.get_weights()
    made.fit(*data(), batch_size=ROWS, verbose=0)
    pairs = zip(made.weights, before, made.get_weights(), strict=True)
    assert [w.path for w, old, new in pairs if np.array_equal(old, new)] == []


def test_what_is_compiled_does_not_grow_with_time():
    """The loops stay loops, and are as long as the sequence when they run."""
    sizes = []
    for steps in (STEPS, 25 * STEPS, 25 * STEPS + 3):
        made = model(kg.GatedLSTM(U, return_sequences=True), kg.GatedGRU(U), steps=steps)
        sizes.append(len(re.findall(r"^ +\S+ = ", program(made), re.MULTILINE)))
    assert sizes[0] > 100 and sizes[1] <= 1.1 * sizes[0], f"{sizes} instructions"
    # Steps that do not fill a pass have a loop of their own, or stand behind it.
    assert sizes[2] <= 2 * sizes[0], f"{sizes} instructions"


@pytest.mark.skipif(BACKEND != "jax", reason="on TensorFlow XLA has no recurrent layer")
def test_cudnn_runs_where_it_is_asked_for(device):
    layer = kg.GatedLSTM(U, use_cudnn=True)
    if device == "cpu":
        with pytest.raises(ValueError, match="use_cudnn"):
            program(model(layer))
    else:
        assert any("rnn" in target for target in leaves(program(model(layer))))
