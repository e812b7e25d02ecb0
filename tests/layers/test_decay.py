"""Gates with a trained decay, and the scale of what is written (RG-LRU)."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_gated as kg
from tests.helpers import BACKEND, FINEST, B, T, U, assert_close, case, gradients, raises


def recurrentgemma(w, xs, first_is_one: bool):
    """The RG-LRU of recurrentgemma over a sequence, from a zero state.

    Args:
        w: the layer's weights by block.
        xs: (B, T, U).
        first_is_one: whether the first step has the factor 1, as in that code.
    """
    softplus = np.logaddexp(0.0, w["forget"]["decay"])
    h, outputs = np.zeros((len(xs), U)), []
    for t in range(xs.shape[1]):
        gate_x, gate_a = (
            1.0 / (1.0 + np.exp(-(xs[:, t] @ w[k]["kernel"][0] + w[k]["bias"])))
            for k in ("input", "forget")
        )
        log_a = -8.0 * gate_a * softplus
        multiplier = np.sqrt(1.0 - np.exp(2.0 * log_a))
        if first_is_one and t == 0:
            multiplier = 1.0
        h = np.exp(log_a) * h + multiplier * (gate_x * xs[:, t])
        outputs.append(h)
    return np.stack(outputs, axis=1)


@pytest.mark.parametrize("time_parallel", [False, True])
def test_equals_recurrentgemma_but_for_its_first_step(time_parallel):
    this = case("rg_lru", FINEST)
    found = ops.convert_to_numpy(this.layer(time_parallel=time_parallel)(this.x))
    assert_close(found, recurrentgemma(this.weights, this.x, False), FINEST, "rg_lru")
    theirs = recurrentgemma(this.weights, this.x, True)
    assert np.abs(found - theirs).max() > 1e-2
    # From the second step on, theirs is the same recurrence from another state.
    later = this.layer()(this.x[:, 1:], initial_state=[theirs[:, 0].astype(FINEST)])
    assert_close(later, theirs[:, 1:], FINEST, "rg_lru")


def test_the_first_decays_are_those_of_the_paper():
    layer = kg.GatedRNN(500, "rg_lru", seed=0)
    layer.build((None, None, 500))
    vector = ops.convert_to_numpy(layer.block_weights()["forget"]["decay"])
    largest = np.exp(-8.0 * np.logaddexp(0.0, vector.astype("float64")))
    assert 0.9 <= largest.min() < 0.91 and 0.99 < largest.max() <= 0.9991


@pytest.mark.parametrize("vector", [-40.0, -120.0])
def test_the_gradient_is_finite_where_the_gate_is_one(vector):
    """There 1 - f² is 1e-16, and 0 where softplus(λ) is."""
    this = case("rg_lru")
    layer = this.layer()
    this.weights["forget"]["decay"] = np.full(U, vector, "float32")
    layer.set_block_weights(this.weights)
    outputs = ops.convert_to_numpy(layer(this.x, initial_state=this.initial_state))
    assert np.abs(outputs - this.state[0][:, None]).max() < 1e-6  # nothing is forgotten or written
    of_weights, of_states = gradients(layer, this.x, this.upstream, this.initial_state)
    assert all(np.isfinite(slope).all() for slope in (*of_weights, *of_states))
    bound = 1000.0 * 2.0 * 8.0 * B * T * np.abs(this.x).max() * np.abs(this.upstream).sum()
    assert max(np.abs(slope).max() for slope in of_weights) < bound


def test_a_small_rest_is_exact():
    """√(1 - f²) of f = 1 - 1e-9, which float32 cannot hold: by log f."""
    from keras_gated.engine.gate_tensors import _root_of_rest

    log_f = ops.convert_to_tensor(np.array([-1e-9, -1e-3, -1.0], "float32"))
    expected = np.sqrt(-np.expm1(2.0 * np.array([-1e-9, -1e-3, -1.0])))
    np.testing.assert_allclose(ops.convert_to_numpy(_root_of_rest(log_f)), expected, rtol=1e-6)


def test_errors():
    for wrong in (0, -1.0, "8", True, float("inf")):
        raises(lambda wrong=wrong: kg.Gate(decay=wrong), f"`decay`...decay={wrong!r}")
    raises(
        lambda: kg.CellSpec(forget_gate=kg.Gate(decay=8, activation="tanh")),
        "`activation` of `forget_gate`...activation='tanh' with decay=8.0",
    )
    raises(lambda: kg.CellSpec(input_scale="square"), "`input_scale`...input_scale='square'")
    for wrong in (1.5, -0.1, kg.Gate(activation="exp"), kg.Tied("input", complement=True)):
        raises(
            lambda wrong=wrong: kg.CellSpec(forget_gate=wrong, input_scale="root"),
            "`forget_gate`...input_scale='root'...forget_gate=",
        )
    raises(
        lambda: kg.CellSpec(
            input_gate=kg.Gate(activation="exp"), input_scale="root", normalizer=True
        ),
        "`input_scale` and `normalizer`...input_scale='root', normalizer=True",
    )


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the numbers are the same elsewhere")
def test_no_step_makes_a_decay_smaller():
    """A fit of a smaller gate knows no trained exponent, so the report leaves these gates out."""
    from keras_gated.reduction.steps import steps_of

    assert {step.gate for step in steps_of(kg.preset("rg_lru"))} == {"input"}
    layer = kg.GatedRNN(U, "rg_lru", return_sequences=True, name="rg")
    model = keras.Sequential([keras.Input((T, U)), layer, keras.layers.Dense(1)])
    x = np.zeros((B, T, U), "float32")
    raises(
        lambda: kg.reduce_gates(model, {"rg": {"forget_gate": 0.5}}, x), "`changes`...decay...'rg'"
    )
