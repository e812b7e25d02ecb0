"""The input shown beside the memory, and a peephole of the output gate before the step (SRU)."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_gated as kg
from tests.helpers import FINEST, B, F, T, U, assert_close, compare, raises, run_and_differentiate

FREE = kg.Gate(recurrent_kernel=None)
PROJECTED = kg.Projection()


def highway(**parts) -> kg.CellSpec:
    """The SRU without peepholes: its memory is linear."""
    candidate = kg.Candidate(recurrent_kernel=None, activation="linear")
    return kg.CellSpec(
        **{"forget_gate": FREE, "output_gate": FREE, "input_gate": kg.Tied("forget", True)}
        | {"candidate": candidate, "output_activation": "tanh", "input_skip": True}
        | parts
    )


def test_a_closed_output_gate_shows_the_input():
    layer = kg.GatedRNN(F, highway(output_gate=0.0), return_sequences=True)
    x = np.random.default_rng(0).normal(size=(B, T, F)).astype("float32")
    assert_close(layer(x), x, "reload", "x")


PEEPHOLE = {"output_gate": kg.Gate(recurrent_kernel=None, peephole="previous")}


@pytest.mark.parametrize(
    "parts", [{}, {"input_projection": PROJECTED}, PEEPHOLE], ids=["plain", "projected", "peephole"]
)
def test_time_steps_at_once_equal_the_loop(parts):
    """By a scan; with a peephole at the memory before the step by Newton's method."""
    spec = highway(**parts)
    units, rng = U if "input_projection" in parts else F, np.random.default_rng(1)
    x, upstream = rng.normal(size=(B, T, F)), rng.normal(size=(B, T, units))
    mask, found, weights = rng.random((B, T)) < 0.7, [], None
    for time_parallel in (True, False):
        layer = kg.GatedRNN(
            units, spec, return_sequences=True, time_parallel=time_parallel, dtype=FINEST
        )
        layer.build(x.shape)
        weights = weights or [rng.normal(size=w.shape) for w in layer.get_weights()]
        layer.set_weights(weights)
        states = [np.zeros((B, units), FINEST)] * 2
        found.append(run_and_differentiate(layer, x.astype(FINEST), upstream, states, mask=mask))
    compare(*found, "skip")


def test_dropout_of_the_input_drops_what_is_shown():
    layer = kg.GatedRNN(F, highway(output_gate=0.0), dropout=0.5, seed=1, return_sequences=True)
    outputs = ops.convert_to_numpy(layer(np.ones((B, T, F), "float32"), training=True))
    assert set(np.unique(outputs)) == {0.0, 2.0}


def test_errors():
    raises(
        lambda: kg.CellSpec(memory="hidden", input_skip=True),
        "`input_skip`...input_skip=True with memory='hidden'",
    )
    raises(
        lambda: kg.CellSpec(output_gate=1.0, input_skip=True),
        "`input_skip`...input_skip=True with output_gate=1.0",
    )
    raises(lambda: kg.Gate(peephole="next"), "`peephole`...'previous'...peephole='next'")
    raises(lambda: kg.count_parameters("sru", 3, 4), "`units`...units=4, input features=3")
    raises(lambda: kg.count_parameters(highway(), 3, 4), "`units`...input_skip...input features=3")
    layer = kg.GatedRNN(F, kg.CellSpec(input_skip=True))
    raises(lambda: kg.to_keras(keras.Sequential([keras.Input((3, F)), layer])), "cannot become one")
