"""Several time steps in one pass of the loop, as on an accelerator: the same numbers."""

import re

import numpy as np
import pytest

import keras_gated as kg
from keras_gated.engine.backends.selected import backend
from tests.helpers import (
    BACKEND,
    FINEST,
    HOLES,
    SHORT,
    B,
    F,
    Summed,
    U,
    assert_close,
    case,
    compare,
    run_and_differentiate,
)

pytestmark = pytest.mark.skipif(BACKEND == "torch", reason="torch has no loop")
tensorflow_only = pytest.mark.skipif(BACKEND != "tensorflow", reason="JAX's own scan does it")


@pytest.fixture
def take(traced_anew, monkeypatch):
    """A function that sets how many steps a pass takes, as on an accelerator."""
    monkeypatch.setattr(backend, "accelerated", lambda: True)
    return lambda together: monkeypatch.setattr(backend, "STEPS_TOGETHER", together)


# That divide time, that do not, more than there are.
@pytest.mark.parametrize("together", [3, 4, 16])
@pytest.mark.parametrize("name", ["lstm_peephole", "gru"])
def test_numbers_and_gradients_are_those_of_single_steps(name, together, take):
    assert SHORT == 6
    this, found = case(name, FINEST).until(SHORT), []
    scales = np.random.default_rng(1).normal(size=(5, B, U))
    call = {"states": this.initial_state, "mask": HOLES}
    for steps in (together, 1):
        take(steps)
        layer = Summed(this.layer(return_state=True), scales)
        found.append(run_and_differentiate(layer, this.x, this.upstream, **call))
    compare(*found, name)


@pytest.mark.skipif(BACKEND != "jax", reason="of JAX's scan")
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("name", ["lstm_peephole", "gru_cho"])
def test_series_that_are_joined(name, policy, take, monkeypatch):
    """The same numbers; a loop has one series for each type to read, and one to write."""
    import jax

    scan, counts = jax.lax.scan, []

    def counted(step, carry, xs, **how):
        result = scan(step, carry, xs, **how)
        counts.append((len(xs), len(result[1])))
        return result

    monkeypatch.setattr(jax.lax, "scan", counted)
    take(4)
    this, found = case(name).until(SHORT), []
    scales = np.random.default_rng(1).normal(size=(5, B, U))
    call = {"states": this.initial_state, "mask": HOLES}
    for joined in (False, True):
        monkeypatch.setattr(backend, "JOIN_SERIES", joined)
        layer = Summed(this.layer(return_state=True, dtype=policy), scales)
        counts.clear()
        found.append(run_and_differentiate(layer, this.x, this.upstream, **call))
        assert len(counts) >= 2
        types = 2 if policy == "mixed_bfloat16" else 1
        assert all(n <= types for pair in counts for n in pair) == joined, counts
    compare(*found, name)


@pytest.mark.skipif(BACKEND != "jax", reason="of JAX's scan")
def test_jax_is_told(take):
    import jax

    take(4)
    this = case("gru")
    assert "unroll=4" in str(jax.make_jaxpr(this.layer())(this.x))


def ready(name: str):
    """A layer with weights, and a function: x -> outputs and gradients."""
    import tensorflow as tf

    layer = case(name).layer()

    def slopes(x):
        with tf.GradientTape() as tape:
            y = layer(x)
            value = tf.reduce_sum(tf.sin(y))
        return [y, *tape.gradient(value, layer.trainable_variables)]

    return slopes


@tensorflow_only
@pytest.mark.parametrize(
    ("jit_compile", "lengths"),
    [
        pytest.param(False, (1, 4, 8, 11), id="graph"),
        pytest.param(True, (11,), id="xla"),  # which compiles each length anew
        pytest.param(True, (1, 4, 8), id="xla, other lengths", marks=pytest.mark.long),
    ],
)
def test_a_length_that_is_not_known(jit_compile, lengths, take):
    """One graph runs a length without a pass, of whole passes, and with a rest."""
    import tensorflow as tf

    slopes = ready("lstm_peephole")
    spec = tf.TensorSpec((None, None, F))
    graph = tf.function(slopes, input_signature=[spec], jit_compile=jit_compile)
    take(4)
    found = {}
    x = np.random.default_rng(0).normal(size=(B, max(lengths), F)).astype("float32")
    for time in lengths:
        found[time] = graph(tf.constant(x[:, :time]))
    take(1)
    single = tf.function(slopes, reduce_retracing=True)
    for time, results in found.items():
        for one, other in zip(results, single(tf.constant(x[:, :time])), strict=True):
            assert_close(one, other, "xla", f"{time} time steps")


def compiled(time: int) -> str:
    """The training step of an LSTM, as XLA prints it."""
    layer = kg.GatedLSTM(U, return_sequences=True)
    layer.build((B, time, F))
    x = np.zeros((B, time, F), "float32")
    if BACKEND == "jax":
        import jax

        weights, rest = (
            [v.value for v in part]
            for part in (layer.trainable_variables, layer.non_trainable_variables)
        )

        def loss(weights):
            return layer.stateless_call(weights, rest, x)[0].sum()

        return jax.jit(jax.grad(loss)).lower(weights).compile().as_text()
    import tensorflow as tf

    def step(x):
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(layer(x))
        return tape.gradient(value, layer.trainable_variables)

    graph = tf.function(step, jit_compile=True)
    return graph.experimental_get_compiler_ir(tf.constant(x))(stage="optimized_hlo")


def size(text: str) -> int:
    """The number of instructions of a program."""
    return len(re.findall(r"^ +\S+ = ", text, re.MULTILINE))


def test_what_is_compiled_does_not_grow_with_time(take):
    """A length that is no multiple has one more loop, or what is left over behind it."""
    take(1)
    single = size(compiled(12))
    take(3)
    sizes = {time: size(compiled(time)) for time in (12, 300, 301)}
    assert 1.5 * single < sizes[12], "a pass takes one step"
    assert sizes[300] <= 1.1 * sizes[12], f"{sizes} instructions"
    assert sizes[301] <= 2 * sizes[12], f"{sizes} instructions"


@tensorflow_only
def test_what_is_recorded_for_a_file_takes_one_step(take):
    """A file must not depend on the device that it was written on."""
    import tensorflow as tf

    from keras_gated.engine.run import run_by

    layer, sizes = kg.GatedRNN(U, "lstm_peephole"), []
    layer.build((B, None, F))
    for together in (1, 8):
        take(together)
        with run_by(lambda _: None):
            graph = tf.function(layer).get_concrete_function(tf.TensorSpec((None, None, F)))
        nodes = [f.node_def for f in graph.graph.as_graph_def().library.function]
        sizes.append(sum(map(len, nodes)))
    assert sizes[0] == sizes[1]
