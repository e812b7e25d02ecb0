"""Dtype policies: types as Keras's, numbers near float32's, and a memory that loses nothing."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from tests.helpers import (
    BACKEND,
    QUICK,
    B,
    F,
    T,
    U,
    assert_close,
    case,
    gradients,
    run_and_differentiate,
)
from tests.typical import every_preset

MIXED = ["mixed_float16", "mixed_bfloat16"]
mixed = pytest.mark.parametrize("policy", MIXED)
POLICIES = ["float32", "float64", "float16", "bfloat16", *MIXED]


@pytest.mark.sampled(15)
@mixed
@every_preset
def test_numbers_are_near_those_of_the_witness(name, policy):
    """From which those in float32 differ a thousand times less."""
    this = case(name).until(5)
    found = this.layer(dtype=policy)(this.x, initial_state=this.initial_state)
    assert keras.backend.standardize_dtype(found.dtype) == policy.removeprefix("mixed_")
    assert_close(keras.ops.cast(found, "float32"), this.expected[0], policy, name)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", ["lstm_peephole", "gru", "gru_cho", "mgu", "min_gru", "fgr"])
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_near_those_of_float32(name, masked):
    this = case(name)
    call = {"mask": np.random.default_rng(3).random((B, T)) < 0.6} if masked else {}
    layers = [this.layer(dtype=dtype) for dtype in ("float32", *MIXED)]
    expected, *found = (gradients(layer, this.x, this.upstream, **call)[0] for layer in layers)
    for policy, slopes in zip(MIXED, found, strict=True):
        for index, (a, b) in enumerate(zip(slopes, expected, strict=True)):
            assert a.dtype == "float32"  # that of the weight
            scale = max(1.0, float(np.abs(b).max()))  # sums of many: relative to the greatest
            assert_close(a / scale, b / scale, policy, f"{name}: gradient {index}")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("unroll", [False, True])
def test_types_are_those_of_keras(policy, unroll):
    if BACKEND == "jax" and policy == "float64":
        pytest.skip("JAX has float64 where JAX_ENABLE_X64 is set; Keras's layers fail alike")
    arguments = {"return_state": True, "dtype": policy, "unroll": unroll, **QUICK}
    found = []
    for layer in (kg.GatedLSTM(U, **arguments), keras.layers.LSTM(U, **arguments)):
        results = layer(np.zeros((B, T, F), "float32"))
        found.append([keras.backend.standardize_dtype(t.dtype) for t in (*results, *layer.weights)])
    assert found[0] == found[1]


@pytest.mark.parametrize("policy", ["mixed_bfloat16"])
def test_a_cell_in_keras_own_loop(policy):
    this = case("lstm")
    found = []
    for dtype in (policy, "float32"):
        layer = keras.layers.RNN(kg.GatedCell(U, "lstm", dtype=dtype), dtype=dtype)
        layer.build((B, T, F))
        layer.cell.set_block_weights(this.weights)
        found.append(keras.ops.cast(layer(this.x), "float32"))
    assert_close(*found, policy, "RNN(GatedCell)")


def counting(policy: str, **arguments):
    """A layer that adds 1/4096 at each time step."""
    candidate = kg.Candidate(activation="linear", recurrent_kernel=None)
    spec = kg.CellSpec(
        forget_gate=1.0, input_gate=1.0, output_gate=1.0, candidate=candidate,
        output_activation="linear",
    )  # fmt: skip
    layer = kg.GatedRNN(1, spec, dtype=policy, use_bias=False, **arguments)
    layer.build((1, None, 1))
    layer.set_weights([np.full((1, 1), 2.0**-12)])
    return layer


@pytest.mark.sampled(2)
@mixed
@pytest.mark.parametrize("arguments", [{}, {"time_parallel": True}], ids=["loop", "at once"])
def test_the_memory_counts_on_where_16_bits_stand_still(policy, arguments):
    """1 + 1/4096 is 1 in either format of 16 bits."""
    steps = 8192
    x = np.ones((1, steps, 1), "float32")
    model = keras.Sequential([keras.Input((steps, 1)), counting(policy, **arguments)])
    model.compile(jit_compile=BACKEND != "torch")
    found = model.predict_on_batch(x)
    assert_close(found, [[2.0]], policy, "count")
    assert np.float16(1.0) + np.float16(2.0**-12) == 1.0


@pytest.mark.parametrize("policy", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["lstm", "gru", "gru_cho", "min_gru"])
def test_all_in_16_bits_is_near_the_witness(name, policy):
    """Where the states are rounded at each time step, too."""
    this = case(name).until(5)
    found = this.layer(dtype=policy)(this.x, initial_state=this.initial_state)
    assert keras.backend.standardize_dtype(found.dtype) == policy
    assert_close(keras.ops.cast(found, "float32"), this.expected[0], f"mixed_{policy}", name)


def test_what_overflows_in_16_bits_does_not_in_the_memory():
    candidate = kg.Candidate(activation="linear", recurrent_kernel=None)
    spec = kg.CellSpec(
        forget_gate=1.0, input_gate=1.0, output_gate=1.0, candidate=candidate,
        output_activation="tanh",
    )  # fmt: skip
    found = []
    x = np.concatenate([np.full((2, 75, 1), 2000.0), np.full((2, 75, 1), -2000.0)], axis=1)
    for policy in ("mixed_float16", "float32"):
        layer = kg.GatedRNN(1, spec, dtype=policy, return_sequences=True, use_bias=False)
        layer.build(x.shape)
        layer.set_weights([np.ones((1, 1))])
        (outputs,), slope, _ = run_and_differentiate(layer, x.astype("float32"), np.ones(x.shape))
        assert np.isfinite(slope[0]).all()
        found.append(outputs)
    assert_close(*found, "mixed_float16", "sums up to 150000")


@pytest.mark.long
@pytest.mark.skipif(BACKEND == "torch", reason="Keras scales no losses there without a GPU")
@pytest.mark.parametrize("steps", [20, 1500])
def test_training_goes_as_in_float32(steps):
    """With Keras's own scaling of the loss under mixed_float16; the scores are those at the end."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, steps, F)).astype("float32")
    y = np.tanh(x[:, -20:].sum((1, 2), keepdims=True)[:, 0] / 4)
    found = []
    for dtype in ("float32", *MIXED):
        keras.utils.set_random_seed(3)
        layers = [kg.GatedLSTM(8, dtype=dtype), keras.layers.Dense(1, dtype="float32")]
        model = keras.Sequential([keras.Input((None, F)), *layers])
        adam = keras.optimizers.Adam(0.01)
        scaled = keras.optimizers.LossScaleOptimizer(adam) if dtype == "mixed_float16" else adam
        model.compile(scaled, "mse", jit_compile=BACKEND == "jax")
        history = model.fit(x, y, batch_size=16, epochs=6, shuffle=False, verbose=0)
        found.append(np.array(history.history["loss"]))
    expected, *mixed = found
    assert expected[-1] < 0.9 * expected[0]
    for policy, loss in zip(MIXED, mixed, strict=True):
        assert_close(loss, expected, policy, "loss")
