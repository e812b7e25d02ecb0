"""Exponential gates with a normaliser (sLSTM): large numbers, the stabiliser, what is refused."""

import importlib.util

import keras
import numpy as np
import pytest
from keras import ops

import keras_gated as kg
from keras_gated.spec.activations import ACTIVATIONS, lookup
from keras_gated.spec.rare_parts import HAVE_LOG
from tests.helpers import BACKEND, FINEST, B, F, U, assert_close, case, raises
from tests.reference import run

STEPS, LARGE = 5000, 80.0


def unscaled(w, xs, exponential: bool):
    """sLSTM without a stabiliser, equations 8 to 11 of arXiv:2405.04517, in the widest floats.

    c and n are what they are, not times exp(-m): a check that m changes nothing.
    """
    wide = {b: {k: np.asarray(v, np.longdouble) for k, v in keys.items()} for b, keys in w.items()}
    h = c = n = np.zeros((len(xs), U), np.longdouble)
    outputs = []
    for t in range(xs.shape[1]):
        x = np.asarray(xs[:, t], np.longdouble)
        a = {k: x @ b["kernel"] + h @ b["recurrent_kernel"][0] + b["bias"] for k, b in wide.items()}
        i, o = np.exp(a["input"]), 1 / (1 + np.exp(-a["output"]))
        f = np.exp(a["forget"]) if exponential else 1 / (1 + np.exp(-a["forget"]))
        c, n = f * c + i * np.tanh(a["candidate"]), f * n + i
        h = o * (c / n)
        outputs.append(h)
    return np.stack(outputs, axis=1).astype("float64")


@pytest.mark.parametrize("forget", ["sigmoid", "exp"])
def test_the_plain_formula_gives_the_same(forget):
    """From zero states; the formula has no stabiliser there."""
    this = case("xlstm_slstm", FINEST, forget=forget)
    expected = unscaled(this.weights, this.x, forget == "exp")
    assert_close(this.layer()(this.x), expected, FINEST, forget)


@pytest.mark.skipif(importlib.util.find_spec("xlstm") is None, reason="xlstm is not installed")
def test_equals_the_authors_step():
    import torch
    from xlstm.blocks.slstm.src.vanilla.slstm import slstm_forward_pointwise

    this = case("xlstm_slstm")
    names = ("input", "forget", "candidate", "output")  # the authors' order: i, f, z, o
    states = torch.zeros(4, B, U)
    outputs = []
    for t in range(this.x.shape[1]):
        h = states[0].numpy()
        wx = [this.x[:, t] @ this.weights[k]["kernel"] for k in names]
        ry = [h @ this.weights[k]["recurrent_kernel"][0] for k in names]
        b = np.concatenate([this.weights[k]["bias"] for k in names])
        tensors = (torch.tensor(np.concatenate(part, axis=-1)) for part in (wx, ry))
        states, _ = slstm_forward_pointwise(*tensors, torch.tensor(b), states, {})
        outputs.append(states[0].numpy())
    assert_close(this.layer()(this.x), np.stack(outputs, axis=1), "float32", "xlstm")


def test_h_does_not_depend_on_the_stabilizer():
    """States in another scale: c and n times e^s, m less s."""
    this = case("xlstm_slstm", FINEST)
    layer, (h, c, n, m) = this.layer(return_state=True), this.state
    outputs, *last = layer(this.x, initial_state=[h, c, n, m])
    moved, *scaled = layer(this.x, initial_state=[h, c * np.exp(2), n * np.exp(2), m - 2])
    assert_close(moved, outputs, f"keras {FINEST}", "h")
    ratios = [ops.convert_to_numpy(s[1]) / ops.convert_to_numpy(s[2]) for s in (last, scaled)]
    assert_close(*ratios, f"keras {FINEST}", "c / n")


@pytest.mark.skipif(BACKEND != "tensorflow", reason="float64 on TensorFlow")
def test_the_gradients_of_all_states():
    """Of c, n and m too, which a caller can read: the gradient goes through the stabiliser."""
    cell = kg.GatedCell(U, "xlstm_slstm")
    kg.check_cell(cell, input_dim=F, checks=["gradients"], raise_on_failure=True)


# Large pre-activations --------------------------------------------------------------------------


def large_case(forget: str, dtype: str):
    """A layer with one input for each pre-activation, inputs up to 80, and the witness's outputs.

    The kernels are rows of the identity, so that each gate has the values that are drawn.
    """
    rng, names = np.random.default_rng(3), ("input", "forget", "candidate", "output")
    x = rng.uniform(-LARGE, LARGE, (1, STEPS, len(names) * U)).astype("float32")
    x[..., 2 * U :] /= LARGE  # a candidate of ±80 would be ±1
    rows, zeros = np.split(np.eye(len(names) * U), len(names), axis=1), np.zeros((1, U, U))
    weights = {
        k: {"kernel": w, "recurrent_kernel": zeros, "bias": np.zeros(U)}
        for k, w in zip(names, rows, strict=True)
    }
    layer = kg.GatedRNN(
        U, kg.preset("xlstm_slstm", forget=forget), return_sequences=True, dtype=dtype
    )
    layer.build(x.shape)
    layer.set_block_weights(weights)
    return layer, x, run("xlstm_slstm", weights, x, [np.zeros((1, U))] * 4, forget=forget)[0]


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:invalid value|divide by zero")
@pytest.mark.parametrize("forget", ["sigmoid", "exp"])
def test_large_numbers_over_many_steps(forget):
    layer, x, expected = large_case(forget, "float32")
    difference = np.abs(ops.convert_to_numpy(layer(x)) - expected).max()
    print(f"{forget}: {difference:.1e}")
    assert difference < 1e-4


@pytest.mark.long
@pytest.mark.parametrize("forget", ["sigmoid", "exp"])
def test_bfloat16_over_many_steps(forget):
    """The inputs are rounded to 8 bits: at 80 by up to 0.25, and a gate is e to that power.

    So the cell is also compared with the witness at the rounded inputs.
    """
    layer, x, wide = large_case(forget, "mixed_bfloat16")
    rounded = ops.convert_to_numpy(ops.cast(ops.cast(x, "bfloat16"), "float32"))
    weights = {k: {n: np.array(v) for n, v in b.items()} for k, b in _blocks(layer).items()}
    states = [np.zeros((1, U))] * 4
    expected = run("xlstm_slstm", weights, rounded, states, forget=forget)[0]
    found = ops.convert_to_numpy(ops.cast(layer(x), "float32"))
    difference = np.abs(found - expected).max()
    print(f"{forget}: {difference:.1e}; at inputs not rounded {np.abs(found - wide).max():.1e}")
    assert difference < 1e-2 and np.abs(found - wide).max() < 0.1


@pytest.mark.parametrize("forget", ["sigmoid", "exp"])
def test_states_of_16_bits_keep_their_scale(forget):
    """c and n are stored in the scale of the m that is stored, not of the one before rounding."""
    layer, x, _ = large_case(forget, "mixed_bfloat16")
    ends = {"return_state": True, **layer.get_config()} | {"return_state": True}
    parts = kg.GatedRNN.from_config(ends)
    parts.build(x.shape)
    parts.set_weights(layer.get_weights())
    x, states, found = x[:, :200], None, []
    for k in range(0, 200, 10):
        y, *states = parts(x[:, k : k + 10], initial_state=states)
        found.append(ops.convert_to_numpy(ops.cast(y, "float32")))
    whole = ops.convert_to_numpy(ops.cast(layer(x), "float32"))
    assert np.abs(np.concatenate(found, axis=1) - whole).max() < 0.03


def _blocks(layer):
    blocks = layer.block_weights()
    return {k: {n: ops.convert_to_numpy(v) for n, v in b.items()} for k, b in blocks.items()}


@pytest.mark.skipif(BACKEND != "tensorflow", reason="by tapes of TensorFlow")
@pytest.mark.parametrize("forget", ["sigmoid", "exp"])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_gradients_of_large_numbers_are_finite(forget, sign):
    import tensorflow as tf

    layer = kg.GatedRNN(U, kg.preset("xlstm_slstm", forget=forget), return_sequences=True)
    layer.build((B, 6, F))
    layer.set_weights([sign * 40.0 * np.ones(w.shape) for w in layer.get_weights()])
    x = tf.constant(np.random.default_rng(0).uniform(-1, 1, (B, 6, F)).astype("float32"))
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x) ** 2)
    slopes = tape.gradient(loss, [x, *(w.value for w in layer.trainable_weights)])
    assert all(np.isfinite(slope).all() for slope in slopes)


def test_which_activations_have_a_logarithm():
    assert {name for name, known in ACTIVATIONS.items() if known.log} == set(HAVE_LOG)
    for name in HAVE_LOG:
        x = ops.convert_to_tensor(np.linspace(-5.0, 5.0, 11, dtype="float32"))
        log = lookup(lookup(name).log).function(x)
        assert_close(ops.exp(log), lookup(name).function(x), "float32", name)


# What is refused --------------------------------------------------------------------------------


def normalized(**parts) -> kg.CellSpec:
    gate = kg.Gate(activation="exp")
    return kg.CellSpec(**({"input_gate": gate, "normalizer": True} | parts))


def test_errors_of_the_specification():
    for wrong in (
        {"memory": "hidden", "output_gate": None},
        {"memory_activation": "tanh"},
        {"carry_activation": "tanh"},
        {"gate_recurrence": True},
    ):
        raises(lambda wrong=wrong: normalized(**wrong), "`normalizer`...normalizer=True with")
    raises(
        lambda: normalized(output_gate=kg.Gate(peephole=True)), "`peephole`...peephole=True with"
    )
    for name, wrong in (
        ("input_gate", kg.Gate(activation="tanh")),
        ("input_gate", 0.0),
        ("input_gate", kg.Tied("forget", complement=True)),
        ("forget_gate", kg.Gate(activation="hard_sigmoid")),
    ):
        raises(
            lambda name=name, wrong=wrong: normalized(**{name: wrong}),
            f"`{name}`...'exp'...normalizer=True...{name}=",
        )


@pytest.mark.parametrize("option", [{"zoneout": 0.1}, {"state_clip": 1.0}])
def test_options_that_would_see_the_scale(option):
    (name, value), *_ = option.items()
    raises(
        lambda: kg.GatedRNN(U, "xlstm_slstm", **option), f"`{name}`...{name}={value}...normalizer"
    )


def test_time_steps_do_not_run_at_once():
    gate = kg.Gate(recurrent_kernel=None)
    free = kg.Candidate(recurrent_kernel=None)
    spec = normalized(
        input_gate=kg.Gate(recurrent_kernel=None, activation="exp"),
        forget_gate=gate,
        output_gate=gate,
        candidate=free,
    )
    raises(lambda: kg.GatedRNN(U, spec, time_parallel=True), "`time_parallel`...")


def test_keras_has_no_such_layer():
    layer = kg.GatedRNN(U, normalized(input_gate=True))
    raises(lambda: kg.to_keras(keras.Sequential([keras.Input((3, F)), layer])), "cannot become one")
