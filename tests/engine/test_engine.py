"""The engine, with its gradient placed by hand, against a loop that the backend differentiates.

That loop is asked for as an exporter does, or is Keras's own around the cell. All presets, masks
with holes, initial states, gradients by weights and initial states, from outputs and from the last
states.
"""

import keras
import numpy as np
import pytest
from keras import ops

import keras_gated as kg
from keras_gated.engine.backends.selected import backend
from keras_gated.engine.run import run_by
from tests.helpers import (
    BACKEND,
    FINEST,
    HOLES,
    SHORT,
    B,
    Summed,
    U,
    assert_close,
    case,
    compare,
    gradients,
    run_and_differentiate,
)
from tests.typical import every_preset


def both(name: str, **arguments):
    """The same preset in the engine, and in a loop that the backend differentiates."""
    this = case(name, FINEST).until(SHORT)
    engine, other = (this.layer(**arguments) for _ in range(2))
    assert (engine.cell.automatic_reason is None) == (name != "fgr")
    call = other.call
    other.call = lambda *args, **kwargs: differentiated(lambda: call(*args, **kwargs))
    return this, [engine, other]


def differentiated(run):
    """Lets the backend differentiate the loop of every layer."""
    with run_by(lambda _: None):
        return run()


@pytest.mark.sampled(8)
@every_preset
def test_gradient_under_masks_equals_the_automatic_one(name):
    this, layers = both(name, return_state=True)
    scales = np.random.default_rng(1).normal(size=(5, B, U))
    call = {"states": this.initial_state, "mask": HOLES}
    models = [Summed(layer, scales) for layer in layers]
    compare(*(run_and_differentiate(m, this.x, this.upstream, **call) for m in models), name)


@pytest.mark.sampled(8)
@pytest.mark.skipif(BACKEND != "tensorflow", reason="elsewhere its outputs before a mask are h_0")
@every_preset
def test_the_gradient_equals_that_of_keras_loop_around_the_cell(name):
    this = case(name, FINEST).until(SHORT)
    layer = this.layer(return_state=True)
    if layer.cell.form.window > 1:
        pytest.skip("Keras's loop has one time step at a time")
    keras_layer = keras.layers.RNN(
        layer.cell, return_sequences=True, return_state=True, dtype=FINEST
    )
    scales = np.random.default_rng(2).normal(size=(5, B, U))
    models = [Summed(one, scales) for one in (layer, keras_layer)]
    call = {"states": this.initial_state, "mask": HOLES}
    compare(*(run_and_differentiate(m, this.x, this.upstream, **call) for m in models), name)


@pytest.mark.parametrize("name", ["lstm_peephole", "gru", "gru_cho", "slim_lstm5", "mut3", "t_gru"])
def test_backwards_equals_the_automatic_gradient(name):
    this, layers = both(name, go_backwards=True)
    compare(
        *(gradients(layer, this.x, this.upstream, this.initial_state) for layer in layers), name
    )


@pytest.mark.parametrize("name", ["lstm", "gru", "gru_cho", "mgu", "ind_rnn"])
def test_recurrent_dropout_equals_the_automatic_gradient(name):
    """The mask of h is drawn from a seed, so both layers drop the same."""
    this, layers = both(name, dropout=0.3, recurrent_dropout=0.4, seed=5)
    found = [
        gradients(layer, this.x, this.upstream, this.initial_state, training=True)
        for layer in layers
    ]
    compare(*found, name)
    plain = gradients(layers[0], this.x, this.upstream, this.initial_state)
    assert np.abs(plain[0][0] - found[0][0][0]).max() > 1e-3


@pytest.mark.parametrize("name", ["lstm", "gru_cho"])
def test_only_the_last_output(name):
    this, layers = both(name, return_sequences=False)
    upstream = this.upstream[:, 0]
    compare(*(run_and_differentiate(layer, this.x, upstream) for layer in layers), name)


@pytest.mark.parametrize("activation", ["softmax", "gelu", keras.ops.sin])
@pytest.mark.parametrize("ours, theirs", [(kg.GatedLSTM, "LSTM"), (kg.GatedGRU, "GRU")])
def test_any_activation_has_keras_gradient(ours, theirs, activation):
    """What is not known to be elementwise must not run in the engine, which relies on it."""
    rng = np.random.default_rng(0)
    arguments = {"activation": activation, "recurrent_activation": activation, "dtype": FINEST}
    layers = [make(U, **arguments) for make in (ours, getattr(keras.layers, theirs))]
    for layer in layers:
        layer.build((B, SHORT, 3))
    weights = [0.3 * rng.normal(size=w.shape) for w in layers[1].get_weights()]
    x, upstream = rng.normal(size=(B, SHORT, 3)), rng.normal(size=(B, U))
    found = []
    for layer in layers:
        layer.set_weights(weights)
        found.append(gradients(layer, x.astype(FINEST), upstream.astype(FINEST))[0])
    compare(*found, theirs)


def test_a_function_of_h_that_is_not_elementwise_keeps_its_gradient():
    gate = kg.Gate(recurrent_input_activation="softmax")
    layer = kg.GatedRNN(U, kg.CellSpec(input_gate=gate), return_sequences=True)
    assert "elementwise" in layer.cell.automatic_reason


def test_a_stateful_layer_can_be_trained():
    """The gradient needs the states that the layer writes over."""
    rng = np.random.default_rng(0)
    x, upstream = rng.normal(size=(B, SHORT, 3)), rng.normal(size=(B, U))
    layers = [kg.GatedLSTM(U, dtype=FINEST, stateful=stateful) for stateful in (True, False)]
    for layer in layers:
        layer.build((B, SHORT, 3))
    layers[1].set_weights(layers[0].get_weights())
    x, upstream = x.astype(FINEST), upstream.astype(FINEST)
    compare(*(gradients(layer, x, upstream)[0] for layer in layers), "lstm")


@pytest.mark.parametrize("memory", ["cell", "hidden"])
def test_a_cell_that_sees_no_input_runs(memory):
    spec = kg.CellSpec(
        memory=memory,
        forget_gate=0.5,
        input_gate=1.0,
        output_gate=1.0,
        candidate=kg.Candidate(kernel=None),
    )
    layer = kg.GatedRNN(U, spec, return_sequences=True)
    assert layer(np.ones((B, SHORT, 3), "float32")).shape == (B, SHORT, U)


def test_a_wrong_slope_is_found(traced_anew, monkeypatch):
    """Planted: the memory's slope by the first node is half of what it should be."""
    from keras_gated.engine.backward import Cut

    right = Cut.slopes

    def wrong(self, *values):
        slopes = right(self, *values)
        memory = next(
            row for row, piece in zip(slopes, self.pieces, strict=True) if piece.kind == "memory"
        )
        memory[0] = memory[0] * 0.5
        return slopes

    monkeypatch.setattr(Cut, "slopes", wrong)
    with pytest.raises(AssertionError):
        test_gradient_under_masks_equals_the_automatic_one("lstm")


@pytest.mark.skipif(BACKEND != "torch", reason="the others differentiate it again")
def test_second_derivatives_are_refused_by_torch():
    import torch

    layer = kg.GatedRNN(3, "lstm_peephole")
    x = torch.ones((2, 4, 3), requires_grad=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated again.*unroll=True"):
        torch.autograd.grad(layer(x).sum(), x, create_graph=True)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow's graphs")
@pytest.mark.parametrize("jit_compile", [False, True])
def test_time_and_batch_may_be_unknown(jit_compile):
    import tensorflow as tf

    layer = kg.GatedGRU(4, return_sequences=True)
    layer.build((None, None, 3))
    graph = tf.function(
        layer, input_signature=[tf.TensorSpec((None, None, 3))], jit_compile=jit_compile
    )
    for shape in ((2, 5, 3), (1, 1, 3), (3, 8, 3)):
        x = keras.random.normal(shape, seed=3)
        assert_close(graph(x), layer(x), "xla", str(shape))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="by tapes of TensorFlow")
@pytest.mark.parametrize("large", [1, 3], ids=["products in each step", "over all time steps"])
def test_second_derivative_against_differences(large, monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(backend, "LARGE_BATCH", large)

    layer = kg.GatedLSTM(3, dtype="float64")
    x = tf.Variable(np.random.default_rng(0).normal(size=(2, 4, 3)))
    direction = np.random.default_rng(1).normal(size=x.shape)

    def slope(value):
        with tf.GradientTape() as tape:
            tape.watch(value)
            y = tf.reduce_sum(layer(value) ** 2)
        return tf.reduce_sum(tape.gradient(y, value) * direction)

    with tf.GradientTape() as tape:
        once = slope(x)
    twice = ops.convert_to_numpy(tape.gradient(once, x))
    step = 1e-6
    ahead, behind = (slope(tf.constant(x.numpy() + s * direction)) for s in (step, -step))
    expected = float(ahead - behind) / (2 * step)
    assert abs(float((twice * direction).sum()) - expected) <= 1e-7 * max(1.0, abs(expected))


# Plans that equal layers share --------------------------------------------------------------------


def trace(model, batch: int) -> None:
    """Records a model for sequences of one shape, on backends that record."""
    x = np.ones((batch, SHORT, U), "float32")
    if BACKEND == "jax":
        import jax

        jax.make_jaxpr(lambda x: model(x))(x)
    else:
        import tensorflow as tf

        tf.function(lambda x: model(x)).get_concrete_function(x)


@pytest.mark.skipif(BACKEND == "torch", reason="torch records nothing")
def test_equal_layers_are_traced_once(monkeypatch):
    from keras_gated.engine.formula import Formula

    def stack(count):
        layers = [kg.GatedRNN(U, "mgu", return_sequences=True) for _ in range(count)]
        return keras.Sequential([keras.Input((SHORT, U)), *layers])

    models, steps, step = [stack(1), stack(3)], [], Formula.step
    monkeypatch.setattr(Formula, "step", lambda *args: steps.append(1) or step(*args))
    counts = []
    for batch, model in zip((21, 22), models, strict=True):  # shapes that no other test has
        steps.clear()
        trace(model, batch)
        counts.append(len(steps))
    assert counts[0] == counts[1] > 0


@pytest.mark.skipif(BACKEND == "torch", reason="torch records nothing")
def test_a_function_of_the_users_is_called_at_each_trace():
    calls = []

    def activation(x):
        calls.append(1)
        return ops.tanh(x)

    layers = [kg.GatedLSTM(U, activation=activation, return_sequences=True) for _ in range(2)]
    for layer in layers:
        layer.build((None, SHORT, U))
    counts = []
    for layer in layers:
        calls.clear()
        trace(layer, 23)
        counts.append(len(calls))
    assert counts[0] == counts[1] > 0


def test_a_function_registered_anew_is_used():
    """A layer that is made later has the later function, though it has the same name."""

    def layer(factor):
        function = keras.saving.register_keras_serializable("anew", "scaled")(
            lambda x: factor * ops.tanh(x)
        )
        return kg.GatedLSTM(U, activation=function, return_sequences=True, seed=1)

    x, found = np.ones((B, SHORT, U), "float32"), []
    for factor in (1.0, 3.0):
        found.append(ops.convert_to_numpy(layer(factor)(x)))
    assert np.abs(found[0] - found[1]).max() > 1e-2


def test_a_candidate_without_a_term_of_its_own_learns():
    spec = kg.CellSpec(
        memory="hidden",
        forget_gate=kg.Gate(),
        input_gate=kg.Tied("forget", complement=True),
        reset_gate=kg.Gate(),
        output_gate=1.0,
        candidate=kg.Candidate(kernel=None, use_bias=False, reset_after=True),
    )
    this = case("gru", FINEST).until(SHORT)
    engine, other = (
        kg.GatedRNN(U, spec, return_sequences=True, dtype=FINEST, seed=2, unroll=unroll)
        for unroll in (False, True)
    )
    for layer in (engine, other):
        layer.build(this.x.shape)
    other.set_weights(engine.get_weights())
    found = [gradients(one, this.x, this.upstream, this.initial_state) for one in (engine, other)]
    compare(*found, "no term")
