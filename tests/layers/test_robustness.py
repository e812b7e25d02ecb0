"""What comes from real data and programs: not numbers, extreme sizes, threads, repetition."""

import gc
import os
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_gated as kg
from tests.helpers import BACKEND, B, F, T, U, apart, assert_close, case
from tests.layers.helpers import PAIRS, as_list, both, data

NAMES = ["lstm", "gru", "gru_cho", "min_gru", "fgr", "slim_lstm5"]
names = pytest.mark.parametrize("name", NAMES)


# Not a number -----------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", PAIRS)
def test_what_is_not_finite_goes_through_as_in_keras(pair):
    mine, theirs = both(pair, return_sequences=True)
    x, _ = data(pair, initial_state=False)
    x[1:, 3, 0] = np.nan, np.inf, -np.inf
    ours, stock = (keras.ops.convert_to_numpy(layer(x)) for layer in (mine, theirs))
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(stock))
    clean = np.isfinite(stock)
    assert clean[0].all() and clean[:, :3].all()  # no other row, no earlier time step
    assert np.isnan(stock[1, 3:]).all()
    assert_close(np.where(clean, ours, 0.0), np.where(clean, stock, 0.0), "keras float32", pair)


@names
def test_what_is_masked_may_be_anything(name):
    this = case(name)
    mask = np.random.default_rng(3).random((B, T)) < 0.6
    spoilt = np.where(mask[..., None], this.x, np.nan).astype("float32")
    layer = this.layer()
    assert_close(layer(spoilt, mask=mask), layer(this.x, mask=mask), "reload", name)


# Sizes ------------------------------------------------------------------------------------------


@pytest.mark.sampled(5)
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("shape", [(1, T, F), (B, 1, F), (1, 1, F), (B, T, 1)])
def test_shapes_at_the_edge(pair, shape):
    ours, stock, own = PAIRS[pair]
    mine, theirs = (make(1, return_state=True, **own) for make in (ours, stock))
    x = np.random.default_rng(1).standard_normal(shape).astype("float32")
    for layer in (mine, theirs):
        layer.build(shape)
    mine.set_weights(theirs.get_weights())
    for index, (a, b) in enumerate(zip(as_list(mine(x)), as_list(theirs(x)), strict=True)):
        assert_close(a, b, "keras float32", f"result {index}")


def in_a_graph(model, jit_compile: bool):
    """The model's `predict_on_batch`, compiled once for each shape: an eager loop is slow."""
    model.compile(jit_compile=jit_compile or BACKEND == "jax")
    return model.predict_on_batch


@pytest.mark.skipif(BACKEND == "jax", reason="JAX's scan of nothing: Keras's layers fail alike")
@names
def test_an_empty_batch_gives_empty_outputs(name):
    outputs, *states = case(name).layer(return_state=True)(np.zeros((0, T, F), "float32"))
    assert tuple(outputs.shape) == (0, T, U)
    assert all(len(state) == 0 for state in states)


@pytest.mark.skipif(BACKEND == "torch", reason="torch has no compiled loop: minutes")
@pytest.mark.parametrize("name", ["lstm", "gru", "min_gru"])
def test_ten_thousand_time_steps(name):
    """In four parts, the states passed on, they give the same."""
    this = case(name)
    x = np.random.default_rng(2).standard_normal((1, 10_000, F)).astype("float32")
    states = [np.zeros((1, U), "float32") for _ in this.state]
    ports = [keras.Input((None, F)), *(keras.Input((U,)) for _ in states)]
    called = this.layer(return_state=True)(ports[0], initial_state=ports[1:])
    run = in_a_graph(keras.Model(ports, called), jit_compile=True)
    outputs, *last = run([x, *states])
    for part, y in zip(*(np.split(a, 4, axis=1) for a in (x, outputs)), strict=True):
        found, *states = run([part, *states])
        assert_close(found, y, "chunks", name)
    for a, b in zip(states, last, strict=True):
        assert_close(a, b, "chunks", name)


@names
def test_a_long_masked_tail_changes_nothing(name):
    this = case(name)
    layer = this.layer(return_state=True)
    outputs, *last = layer(this.x)
    tail = np.full((B, 500, this.x.shape[-1]), 7.0, "float32")
    mask = np.arange(T + 500)[None].repeat(B, 0) < T
    ports = [keras.Input((None, F)), keras.Input((None,), dtype="bool")]
    run = in_a_graph(keras.Model(ports, layer(ports[0], mask=ports[1])), jit_compile=False)
    longer, *after = run([np.concatenate([this.x, tail], axis=1), mask])
    assert_close(longer[:, :T], outputs, "xla", name)
    assert_close(longer[:, -1], outputs[:, -1], "xla", name)
    for a, b in zip(after, last, strict=True):
        if a.shape == b.shape:
            assert_close(a, b, "xla", name)


# Programs ---------------------------------------------------------------------------------------


@pytest.mark.sampled(2)
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("name", "arguments"), [("lstm", {}), ("fgr", {}), ("lstm", {"layer_norm": True})]
)
def test_inference_from_several_threads(name, arguments, compiled):
    """With the engine's gradient and the automatic one."""
    if compiled and BACKEND == "jax":
        pytest.skip("Keras's predict gives the weights away and takes them back")
    this = case(name)
    layer = kg.GatedRNN(U, name, seed=1, **arguments) if arguments else this.layer()
    model = keras.Sequential([keras.Input((None, F)), layer])
    model.compile(jit_compile=BACKEND != "torch")
    count = 4 if BACKEND == "jax" else 16  # there, each call compiles anew
    inputs = [this.x[:, :4] * scale for scale in np.linspace(0.1, 2.0, count)]

    def reported(x):
        return keras.ops.convert_to_numpy(model.predict_on_batch(x) if compiled else layer(x))

    expected = [reported(x) for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(reported, inputs * 3))
    for a, b in zip(found, expected * 3, strict=True):
        assert_close(a, b, "reload", "thread")


def model_with_dropout():
    layer = kg.GatedLSTM(U, dropout=0.3, recurrent_dropout=0.3, seed=1)
    model = keras.Sequential([keras.Input((T, F)), layer, keras.layers.Dense(1)])
    model.compile("adam", "mse", jit_compile=BACKEND == "jax")
    return model


def test_the_same_seed_gives_the_same_training():
    x, y = np.random.default_rng(0).normal(size=(8, T, F)), np.zeros((8, 1))
    found = []
    for seed in (5, 5, 6):
        keras.utils.set_random_seed(seed)
        model = model_with_dropout()
        for _ in range(3):
            model.train_on_batch(x, y)
        found.append(model.get_weights())
    first, again, other = ([w for w in weights if w.ndim] for weights in found)
    for a, b in zip(first, again, strict=True):
        assert_close(a, b, "reload", "weight")
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(first, other, strict=True))


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's count of memory")
def test_memory_does_not_grow_over_a_thousand_steps():
    keras.utils.set_random_seed(0)
    model = model_with_dropout()
    x, y = np.random.default_rng(0).normal(size=(8, T, F)), np.zeros((8, 1))
    used = []
    for _ in range(6):
        for _ in range(250):
            model.train_on_batch(x, y)
        gc.collect()
        used.append(resident())
    assert used[-1] - used[1] < 8 * 2**20, used  # 8 kB for each of the last thousand


def resident() -> int:
    """Memory in bytes that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("copied", [deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
@pytest.mark.parametrize("make", [kg.GatedLSTM, kg.GatedGRU, lambda n: kg.GatedRNN(n, "mgu")])
def test_a_model_can_be_copied_and_pickled(copied, make):
    model = keras.Sequential([keras.Input((T, F)), make(U), keras.layers.Dense(2)])
    x = np.random.default_rng(1).standard_normal((B, T, F)).astype("float32")
    twin = copied(model)
    assert_close(twin(x), model(x), "reload", "copy")
    twin.set_weights([w + 1.0 for w in twin.get_weights()])
    assert apart(twin(x), model(x)) > 1e-3  # weights of its own


# Training as Keras's layers have it ---------------------------------------------------------------


@pytest.mark.sampled(2)
@pytest.mark.parametrize("pair", PAIRS)
def test_regularizers_and_constraints_are_those_of_keras(pair):
    arguments = {
        "kernel_regularizer": "l2",
        "recurrent_regularizer": keras.regularizers.L1(0.03),
        "bias_regularizer": "l1",
        "kernel_constraint": "non_neg",
        "recurrent_constraint": keras.constraints.MaxNorm(0.3),
        "bias_constraint": "unit_norm",
    }
    if pair != "elman":  # keras.layers.SimpleRNN takes one and does nothing with it
        arguments["activity_regularizer"] = "l2"
    x, _ = data(pair, initial_state=False)
    found = []
    for layer in both(pair, **arguments):
        model = keras.Sequential([keras.Input((T, F)), layer])
        model.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=BACKEND == "jax")
        loss = [model.train_on_batch(x, np.ones((B, U))) for _ in range(3)]
        found.append([np.array(loss, "float64"), *layer.get_weights()])
    for index, (a, b) in enumerate(zip(*found, strict=True)):
        assert_close(a, b, "keras float32", f"{pair}: {index}")
    assert found[0][1].min() >= 0.0


@pytest.mark.long
def test_a_layer_can_be_frozen_midway():
    first, second = kg.GatedLSTM(U, return_sequences=True), kg.GatedGRU(U)
    model = keras.Sequential([keras.Input((T, F)), first, second])
    x, y = np.random.default_rng(0).normal(size=(8, T, F)), np.ones((8, U))
    model.compile("sgd", "mse", jit_compile=BACKEND == "jax")
    model.fit(x, y, verbose=0)
    first.trainable = False
    model.compile("sgd", "mse", jit_compile=BACKEND == "jax")
    before = [layer.get_weights() for layer in (first, second)]
    model.fit(x, y, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before[0], first.get_weights(), strict=True))
    changed = [
        not np.array_equal(a, b) for a, b in zip(before[1], second.get_weights(), strict=True)
    ]
    assert any(changed) and first.trainable_weights == []
    first.trainable = True
    assert len(first.trainable_weights) == 3


@pytest.mark.parametrize("make", [kg.GatedLSTM, kg.GatedCell])
def test_what_recurrent_layers_do_not_have_is_refused(make):
    layer = make(U, name="cell")
    layer.build((B, F) if make is kg.GatedCell else (B, T, F))
    with pytest.raises(NotImplementedError, match="cell.*mode='int8'.*_onnx"):
        layer.quantize("int8")
    with pytest.raises(NotImplementedError, match="cell.*LoRA.*rank=4"):
        layer.enable_lora(4)


def test_a_model_that_is_quantised_warns_and_says_what_to_do():
    model = keras.Sequential([keras.Input((None, F)), kg.GatedLSTM(U), keras.layers.Dense(1)])
    with warnings.catch_warnings(record=True) as reported:  # of the input, too
        warnings.simplefilter("always")
        model.quantize("int8")
    assert any("gated_cell cannot be quantised" in str(w.message) for w in reported)
    assert model.layers[-1].quantization_mode == "int8"
