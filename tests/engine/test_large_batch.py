"""With a large batch the loop makes its products in each step: the same numbers and gradients.

Here every batch is large. What is compared with is the other way, which `test_engine` compares with
a loop that the backend differentiates.
"""

import keras
import numpy as np
import pytest

import keras_gated as kg
from keras_gated.engine import run as ways
from keras_gated.engine.backends.selected import backend
from keras_gated.engine.backward import Cut
from tests.helpers import (
    BACKEND,
    FINEST,
    HOLES,
    QUICK,
    SHORT,
    B,
    Summed,
    U,
    assert_close,
    case,
    compare,
    run_and_differentiate,
)
from tests.reference import WITNESSES

pytestmark = pytest.mark.skipif(BACKEND == "torch", reason="torch does it at no batch")
OPTIONS = {
    "dropout": {"dropout": 0.3, "recurrent_dropout": 0.4},
    "zoneout": {"zoneout": 0.3},
    "zoneout of one state": {"zoneout": (0.0, 0.4)},
    "candidate_dropout": {"candidate_dropout": 0.4},
    "weight_noise": {"weight_noise": 0.2},
    "state_clip": {"state_clip": 0.3},
    "backwards": {"go_backwards": True},
    "zero output": {"zero_output_for_mask": True},
    "no bias": {"use_bias": False},
}


@pytest.fixture
def choices(monkeypatch):
    """What `reads_input` answered in each call."""
    found, right = [], ways.reads_input

    def recorded(call):
        found.append(right(call))
        return found[-1]

    monkeypatch.setattr(ways, "reads_input", recorded)
    return found


@pytest.fixture
def in_steps(choices, monkeypatch):
    """Every batch is large, and each call runs so."""
    monkeypatch.setattr(backend, "LARGE_BATCH", 1)
    yield
    assert choices and all(choices)


@pytest.fixture
def run_both(choices, monkeypatch):
    """A function that runs what it is given in both ways and returns both results."""

    def run_both(run):
        results = []
        for batch in (1, B + 1):
            monkeypatch.setattr(backend, "LARGE_BATCH", batch)
            choices.clear()
            results.append(run())
            assert choices and set(choices) == {batch == 1}
        return results

    return run_both


FEW = ("lstm", "lstm_peephole", "gru", "gru_cho", "mut1", "mut3", "qrnn_ifo", "para_lstm")


@pytest.mark.sampled(4)
@pytest.mark.catalogue
@pytest.mark.parametrize(
    "name", [k if k in FEW else pytest.param(k, marks=pytest.mark.long) for k in kg.presets]
)
def test_gradient_under_masks(name, run_both):
    """Of weights and initial states, from the outputs and from the last states."""
    this = case(name, FINEST).until(SHORT)
    layer = this.layer(return_state=True)
    if "kernel" not in layer.cell.formula.names or layer.cell.automatic_reason:
        pytest.skip("it never runs so")
    model = Summed(layer, np.random.default_rng(1).normal(size=(5, B, U)))
    call = {"states": this.initial_state, "mask": HOLES}
    compare(*run_both(lambda: run_and_differentiate(model, this.x, this.upstream, **call)), name)


@pytest.mark.parametrize("name", ["lstm", "gru", "gru_cho", "mut3"])
def test_the_gradient_of_the_input(name, run_both):
    """Of a layer below: a projection of the inputs."""
    this = case(name, FINEST).until(SHORT)
    features = U if WITNESSES[name].square else this.x.shape[-1]
    dense = keras.layers.Dense(features, activation="tanh", dtype=FINEST)
    model = keras.Sequential([dense, this.layer(), this_again(name)])
    model.build(this.x.shape)
    compare(*run_both(lambda: run_and_differentiate(model, this.x, this.upstream)), name)


def this_again(name: str):
    """A second layer of the same kind, for U inputs."""
    return kg.GatedRNN(U, kg.preset(name), return_sequences=True, dtype=FINEST, seed=3)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", ["lstm", "lstm_peephole"])
def test_options(name, options, run_both):
    this = case(name, FINEST).until(SHORT)
    layer = kg.GatedRNN(U, name, return_sequences=True, dtype=FINEST, seed=5, **options)
    layer.build(this.x.shape)

    def run():
        layer.cell.seed_generator.state.assign([0, 5])
        call = {"states": this.initial_state, "mask": HOLES, "training": True}
        return run_and_differentiate(layer, this.x, this.upstream, **call)

    compare(*run_both(run), name)


@pytest.mark.parametrize("features", [1, 2, 20])
@pytest.mark.parametrize("make", [kg.GatedLSTM, kg.GatedGRU])
def test_few_and_many_inputs_and_the_last_output(make, features, run_both):
    layer = make(U, dtype=FINEST, bias_initializer="normal")
    layer.build((B, SHORT, features))
    rng = np.random.default_rng(0)
    x, upstream = rng.normal(size=(B, SHORT, features)), rng.normal(size=(B, U))
    compare(*run_both(lambda: run_and_differentiate(layer, x.astype(FINEST), upstream)), "last")


def test_an_input_activation_and_a_projection_of_the_input(run_both):
    spec = kg.CellSpec(
        input_gate=kg.Gate(input_activation="tanh"),
        forget_gate=kg.Gate(kernel=None),
        candidate=kg.Candidate(kernel="dense"),
        input_projection=kg.Projection(activation="sigmoid"),
    )
    layer = kg.GatedRNN(U, spec, return_sequences=True, dtype=FINEST)
    this = case("lstm", FINEST).until(SHORT)
    layer.build(this.x.shape)
    call = {"states": this.initial_state, "mask": HOLES}
    compare(*run_both(lambda: run_and_differentiate(layer, this.x, this.upstream, **call)), "spec")


@pytest.mark.sampled(1)
@pytest.mark.skipif(BACKEND != "tensorflow", reason="JAX compiles all of these tests")
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_compiled_equals_eager(name, in_steps):
    import tensorflow as tf

    layer = case(name).layer()
    x = tf.constant(case(name).x)

    def step():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(layer(x) ** 2)
        return tape.gradient(y, [x, *(w.value for w in layer.trainable_weights)])

    for a, b in zip(tf.function(step, jit_compile=True)(), step(), strict=True):
        assert_close(a, b, "xla", name)


@pytest.mark.parametrize("wrong", ["x", "weight"])
def test_a_wrong_gradient_is_found(wrong, run_both, traced_anew, monkeypatch):
    """Planted: what a step adds to one weight, or passes on to x, is half of what it should be."""
    right = Cut.step_gradients

    def halved(self, *args):
        of_x, (first, *others) = right(self, *args)
        return (of_x / 2, [first, *others]) if wrong == "x" else (of_x, [first / 2, *others])

    monkeypatch.setattr(Cut, "step_gradients", halved)
    with pytest.raises(AssertionError, match="differs by"):
        test_the_gradient_of_the_input("lstm", run_both)


# When ---------------------------------------------------------------------------------------------


def chosen(choices, batch: int, cell: str = "lstm", **arguments) -> bool:
    """What was chosen for a layer in a call with a batch."""
    layer = kg.GatedRNN(2, cell, **QUICK, **arguments)
    layer(np.ones((batch, 1, 2), "float32"), training=True)
    return choices[-1]


def test_a_large_batch_and_one_wide_type(choices):
    large = backend.LARGE_BATCH
    assert chosen(choices, large) and not chosen(choices, large - 1)
    assert chosen(choices, large, "gru", dropout=0.5, zoneout=0.1)
    assert not chosen(choices, large, "li_gru", batch_norm=True)
    for dtype in ("mixed_bfloat16", "bfloat16"):
        assert not chosen(choices, large, dtype=dtype)
    no_matrix = kg.Candidate(kernel="identity")
    gates = {"memory": "hidden", "input_gate": 1.0, "forget_gate": 0.5, "output_gate": 1.0}
    assert not chosen(choices, large, kg.CellSpec(candidate=no_matrix, **gates))


def test_not_on_an_accelerator(choices, monkeypatch):
    monkeypatch.setattr(backend, "accelerated", lambda: True)
    assert not chosen(choices, backend.LARGE_BATCH)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow's graphs")
def test_an_unknown_batch_is_not_large(choices):
    import tensorflow as tf

    layer = kg.GatedLSTM(U)
    layer.build((None, SHORT, 3))
    tf.function(layer).get_concrete_function(tf.TensorSpec((None, SHORT, 3)))
    assert choices == [False]
