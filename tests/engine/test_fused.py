"""Cells that torch's own operators compute, against the loop that torch differentiates."""

from dataclasses import replace

import keras
import numpy as np
import pytest

import keras_gated as kg
from keras_gated.engine.fused import find_fused_operator, runs_fused
from keras_gated.spec.normal_form import resolve
from tests.helpers import BACKEND, B, F, T, U, case, compare, gradients

torch_only = pytest.mark.skipif(BACKEND != "torch", reason="only torch has such operators")
FUSED = {  # preset or specification: the operator
    "lstm": "LSTM",
    "gru": "GRU",
    "elman": "RNN",
    "slim_lstm3": "LSTM",
    "ugrnn": "GRU",
    "nbrc": "GRU",
}
OTHERS = ["lstm_peephole", "gru_cho", "nog", "minimal_rnn", "t_lstm", "fgr", "cifg"]
ENDS = np.arange(T) < np.array([[T], [T - 3], [1], [4]])[:B]


@pytest.mark.parametrize("name", FUSED)
def test_the_operator(name):
    assert find_fused_operator(resolve(kg.preset(name))).operator == FUSED[name]


@pytest.mark.parametrize("name", OTHERS)
def test_no_operator(name):
    assert find_fused_operator(resolve(kg.preset(name))) is None


@pytest.fixture
def ran(monkeypatch):
    """The calls that an operator of torch ran."""
    from keras_gated.engine import run

    calls = []

    def counted(call):
        calls.append(runs_fused(call))
        return calls[-1]

    monkeypatch.setattr(run, "runs_fused", counted)
    return calls


@torch_only
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", FUSED)
def test_gradients_are_those_of_the_loop(name, masked, ran):
    this = case(name)
    mask = ENDS if masked else None
    found = [
        gradients(this.layer(unroll=unroll), this.x, this.upstream, this.initial_state, mask=mask)
        for unroll in (False, True)
    ]
    compare(*found, name)
    assert ran[0] and not ran[-1]


@torch_only
@pytest.mark.parametrize(
    ("arguments", "call"),
    [
        ({}, {"mask": np.arange(T) % 3 > 0}),
        ({"go_backwards": True}, {"mask": ENDS}),
        ({"recurrent_dropout": 0.5}, {"training": True}),
        ({"zoneout": 0.1}, {}),
        ({"state_clip": 1.0}, {}),
        ({"layer_norm": True}, {}),
        ({"batch_norm": True}, {}),
        ({"projection_units": 3}, {}),
        ({"dtype": "mixed_float16"}, {}),
    ],
)
def test_what_the_operator_lacks_runs_in_the_loop(arguments, call, ran):
    if "mask" in call:
        call = {"mask": np.broadcast_to(call["mask"], (B, T))}
    kg.GatedLSTM(U, **arguments)(case("lstm").x, **call)
    assert ran == [False]


@torch_only
def test_dropout_of_the_input_and_a_stack_of_states(ran):
    layer = kg.GatedGRU(U, dropout=0.5, stateful=True, return_state=True)
    layer(np.ones((B, T, F), "float32"), training=True)
    assert ran == [True]


@torch_only
def test_a_layer_learns(ran):
    model = keras.Sequential([keras.Input((None, F)), kg.GatedLSTM(8), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(64, 5, F)).astype("float32")
    losses = model.fit(x, x[:, 0, :1], epochs=30, verbose=0).history["loss"]
    assert all(ran) and losses[-1] < 0.95 * losses[0]


@torch_only
def test_numbers_that_the_operator_makes_have_the_type_of_the_cell(ran):
    spec = replace(kg.preset("slim_lstm3"), forget_gate=0.9)
    layers = [kg.GatedRNN(U, spec, dtype="float64", unroll=unroll) for unroll in (False, True)]
    x = np.random.default_rng(0).normal(size=(B, T, F))
    found = []
    for layer in layers:
        layer.build(x.shape)
        # Keras's matmul on torch computes in float32, so the kernels are zero.
        layer.set_weights([np.full(w.shape, 0.3 * (w.ndim == 1)) for w in layer.get_weights()])
        found.append(keras.ops.convert_to_numpy(layer(x)))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-14)
    assert ran[0] and not ran[-1]


@torch_only
def test_padding_may_be_anything_and_states_have_any_layout(ran):
    import torch

    spec = kg.CellSpec(
        memory="cell",
        input_gate=kg.Gate(),
        forget_gate=kg.Gate(),
        output_gate=kg.Gate(),
        input_projection=kg.Projection(),
    )
    x = torch.tensor(case("lstm").x, dtype=torch.float32)
    layer = kg.GatedRNN(U, spec)
    layer.build(x.shape)
    states = [torch.zeros((1, U)).expand(B, U), torch.ones((U, B)).T]
    slopes = []
    for padding in (0.0, float("nan")):
        padded = torch.where(torch.tensor(ENDS)[..., None], x, torch.tensor(padding))
        layer.zero_grad()
        layer(padded, mask=ENDS, initial_state=states).sum().backward()
        slopes.append([v.value.grad.clone() for v in layer.trainable_variables])
    assert all(ran)
    assert all(torch.equal(a, b) and a.isfinite().all() for a, b in zip(*slopes, strict=True))
