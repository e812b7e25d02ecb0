"""Gates that share the candidate's products, and ties with trained numbers (FastGRNN)."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_gated as kg
from tests.helpers import BACKEND, FINEST, F, U, assert_close, case, compare, gradients, raises

SHARED = kg.Gate(shares="candidate")


def test_it_is_a_gate_with_the_candidates_kernels():
    """Numbers, and gradients that add up, are those of a cell with copied kernels."""
    shared = kg.CellSpec(forget_gate=SHARED, output_gate=SHARED, output_activation="tanh")
    this = case("lstm", FINEST)
    layers = [kg.GatedRNN(U, s, return_sequences=True, dtype=FINEST) for s in (shared, "lstm")]
    for layer in layers:
        layer.build(this.x.shape)
    blocks = {k: dict(block) for k, block in this.weights.items()}
    kernels = {k: blocks["candidate"][k] for k in ("kernel", "recurrent_kernel")}
    full = blocks | {k: blocks[k] | kernels for k in ("forget", "output")}
    less = blocks | {k: {"bias": blocks[k]["bias"]} for k in ("forget", "output")}
    for layer, weights in zip(layers, (less, full), strict=True):
        layer.set_block_weights(weights)
    assert_close(layers[0](this.x), layers[1](this.x), FINEST, "shared")
    found = []
    for layer in layers:
        of_weights, of_states = gradients(layer, this.x, this.upstream, this.state)
        layer.set_weights(of_weights)
        of_blocks = layer.block_weights()
        names = ("candidate", "forget", "output") if layer is layers[1] else ("candidate",)
        sums = [sum(of_blocks[k][key] for k in names) for key in kernels]
        found.append([sums, [of_blocks[k]["bias"] for k in blocks], of_states])
    compare(*found, "shared")


@pytest.mark.skipif(BACKEND == "torch", reason="torch does it at no batch")
def test_products_in_each_step_of_the_loop(monkeypatch):
    """As with a large batch."""
    from keras_gated.engine import run as engine_run

    this = case("fast_grnn", FINEST)
    found = []
    for in_step in (True, False):
        monkeypatch.setattr(engine_run, "reads_input", lambda call, value=in_step: value)
        found.append(gradients(this.layer(), this.x, this.upstream, this.initial_state))
    compare(*found, "fast_grnn")


def test_the_first_numbers_are_those_of_the_authors():
    layer = kg.GatedRNN(U, "fast_grnn")
    layer.build((None, None, F))
    numbers = layer.block_weights()["input"]
    assert [float(ops.convert_to_numpy(numbers[k])[0]) for k in ("scale", "shift")] == [1.0, -4.0]


def test_reports_leave_its_gates_out():
    from keras_gated.reduction.steps import steps_of

    assert steps_of(kg.preset("fast_grnn")) == []


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the numbers are the same elsewhere")
def test_units_of_a_trained_tie_stay():
    layer = kg.GatedRNN(U, "fast_grnn", return_sequences=True, name="fast")
    model = keras.Sequential([keras.Input((4, F)), layer, keras.layers.Dense(1)])
    x = np.zeros((2, 4, F), "float32")
    raises(lambda: kg.reduce_gates(model, {"fast": {"units": 3}}, x), "trained tie")


def test_errors():
    raises(lambda: kg.Gate(shares="input"), "`shares`...'candidate'...shares='input'")
    raises(lambda: kg.Gate(kernel="diagonal", shares="candidate"), "`shares`...kernel='diagonal'")
    raises(
        lambda: kg.CellSpec(forget_gate=SHARED, reset_gate=True),
        "`shares`...shares='candidate' with reset_gate=",
    )
    alone = kg.Candidate(kernel=None, recurrent_kernel=None)
    raises(lambda: kg.CellSpec(forget_gate=SHARED, candidate=alone), "`shares`...candidate=")
    trained = kg.Tied("forget", trained=True)
    raises(
        lambda: kg.CellSpec(input_gate=trained, forget_gate=0.5),
        "`trained`...input_gate=Tied",
    )
    raises(lambda: kg.CellSpec(reset_gate=trained), "`trained`...reset_gate=Tied")
    raises(
        lambda: kg.CellSpec(input_gate=trained, output_gate=kg.Tied("input")),
        "`to`...output_gate=Tied",
    )
    for parts in ({"normalizer": True}, {"input_scale": "root"}):
        raises(
            lambda parts=parts: kg.CellSpec(forget_gate=kg.Tied("input", trained=True), **parts),
            "`forget_gate`...forget_gate=Tied",
        )
    raises(lambda: kg.Tied("forget", trained="yes"), "`trained`...trained='yes'")
