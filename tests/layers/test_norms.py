"""Normalisation and dropout of the candidate, beside steps from the papers."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from keras_gated.engine.formula import DropoutMasks
from keras_gated.engine.run import run_by
from tests.helpers import (
    BACKEND,
    FINEST,
    HOLES,
    SHORT,
    B,
    F,
    T,
    U,
    apart,
    assert_close,
    case,
    compare,
    gradients,
)
from tests.layers.helpers import P
from tests.reference import run
from tests.reference.base import sigmoid

RNG = np.random.default_rng(31)
X = RNG.normal(size=(B, T, F)).astype(FINEST)
GRADIENT = f"gradient {FINEST}"


def states_of(layer) -> list:
    rng = np.random.default_rng(5)
    return [0.7 * rng.normal(size=(B, size)).astype(FINEST) for size in layer.cell.state_size]


def drawn(name, **options):
    """A built layer with random weights, gains around 1."""
    options = {"return_sequences": True, "return_state": True, "dtype": FINEST, **options}
    layer = kg.GatedRNN(U, name, **options)
    layer.build(X.shape)
    rng = np.random.default_rng(7)
    for weight in layer.trainable_weights:
        plus = 1.0 if "gain" in weight.name or "gamma" in weight.name else 0.0
        weight.assign(plus + 0.5 * rng.normal(size=weight.shape))
    return layer


def blocks_of(layer) -> dict:
    blocks = layer.block_weights()
    to_numpy = keras.ops.convert_to_numpy
    return {b: {k: np.float64(to_numpy(v)) for k, v in keys.items()} for b, keys in blocks.items()}


def normal(a, gain, shift=0.0):
    """LN of Ba et al. 2016, eq. 4, its ε 1e-5."""
    mean = a.mean(axis=-1, keepdims=True)
    deviation = np.sqrt(((a - mean) ** 2).mean(axis=-1, keepdims=True) + 1e-5)
    return (a - mean) / deviation * gain + shift


def side_by_side(w, key, order):
    return np.concatenate([w[name][key] for name in order], axis=-1)


def lstm_step(w, x, h, c, ln=lambda a, *_: a):
    """The LSTM; with ln=normal that of Ba et al. 2016, eq. 20 to 22."""
    order = ("forget", "input", "output", "candidate")
    of_x, of_h = (
        x @ side_by_side(w, "kernel", order),
        h @ side_by_side(w, "recurrent_kernel", order),
    )
    if ln is normal:
        of_x = ln(of_x, side_by_side(w, "kernel_gain", order))
        of_h = ln(of_h, side_by_side(w, "recurrent_gain", order))
    f, i, o, g = np.split(of_x + of_h + side_by_side(w, "bias", order), 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    normalized = ln(c, w["memory"]["gain"], w["memory"]["shift"]) if ln is normal else c
    h = sigmoid(o) * np.tanh(normalized)
    return (h @ w["output_projection"]["kernel"] if "output_projection" in w else h), c


def gru_step(w, x, h):
    """The GRU with layer normalisation, reset after the product; each product normalised whole."""
    order = ("reset", "forget", "candidate")
    of_x = normal(x @ side_by_side(w, "kernel", order), side_by_side(w, "kernel_gain", order))
    of_h = normal(
        h @ side_by_side(w, "recurrent_kernel", order), side_by_side(w, "recurrent_gain", order)
    )
    r, z, g = np.split(of_x + side_by_side(w, "bias", order), 3, axis=-1)
    r_h, z_h, g_h = np.split(of_h + side_by_side(w, "recurrent_bias", order), 3, axis=-1)
    z = sigmoid(z + z_h)
    return (z * h + (1 - z) * np.tanh(g + sigmoid(r + r_h) * g_h),)


def rnn_step(w, x, h):
    k = w["candidate"]
    of_x = normal(x @ k["kernel"], k["kernel_gain"])
    return (np.tanh(of_x + normal(h @ k["recurrent_kernel"], k["recurrent_gain"]) + k["bias"]),)


STEPS = {
    "lstm": ({"layer_norm": True}, lambda *a: lstm_step(*a, ln=normal)),
    "gru": ({"layer_norm": True}, gru_step),
    "elman": ({"layer_norm": True}, rnn_step),
    "lstm projected": ({"projection_units": P}, lstm_step),
    "lstm of both": (
        {"projection_units": P, "layer_norm": True},
        lambda *a: lstm_step(*a, ln=normal),
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_numbers_are_those_of_the_paper(name):
    options, step = STEPS[name]
    layer = drawn(name.split()[0], **options)
    state, w, outputs = [np.float64(s) for s in states_of(layer)], blocks_of(layer), []
    for t in range(T):
        state = step(w, np.float64(X[:, t]), *state)
        outputs.append(state[0])
    y, *last = layer(X, initial_state=states_of(layer))
    assert_close(y, np.stack(outputs, axis=1), FINEST, name)
    for mine, other in zip(last, state, strict=True):
        assert_close(mine, other, FINEST, name)


def check_slopes(layer, x, **call) -> None:
    """Compares the gradient with central differences along a random direction of each weight."""
    rng, states = np.random.default_rng(2), states_of(layer)
    size = layer.cell.output_size
    upstream = rng.normal(size=(B, x.shape[1], size))

    def objective():
        y = layer(x, initial_state=states, **call)[0]
        return float(np.sum(upstream * keras.ops.convert_to_numpy(y)))

    of_weights, of_states = gradients(layer, x, upstream, states, **call)
    for weight, slope in zip(layer.trainable_weights, of_weights, strict=True):
        remaining, way = keras.ops.convert_to_numpy(weight), rng.normal(size=weight.shape)
        weight.assign(remaining + 1e-6 * way)
        above = objective()
        weight.assign(remaining - 1e-6 * way)
        below = objective()
        weight.assign(remaining)
        assert_close(np.sum(slope * way), (above - below) / 2e-6, GRADIENT, weight.path)
        assert np.abs(slope).max() > 1e-6, weight.path
    for state, slope in zip(states, of_states, strict=True):
        way = rng.normal(size=state.shape)
        remaining = state.copy()
        state[:] = remaining + 1e-6 * way
        above = objective()
        state[:] = remaining - 1e-6 * way
        below = objective()
        state[:] = remaining
        assert_close(np.sum(slope * way), (above - below) / 2e-6, GRADIENT, "initial state")


SLOPES = {
    "layer_norm": ["lstm_peephole", "gru", "gru_cho", "min_gru", "fgr"],
    "batch_norm": ["lstm", "gru_cho", "li_gru", "min_gru"],
    "projection_units": ["lstm", "lstm_peephole", "fgr"],
    "zoneout": ["lstm", "gru"],
    "state_clip": ["lstm", "gru"],
}


VALUES = {
    "layer_norm": True,
    "batch_norm": True,
    "projection_units": P,
    "zoneout": 0.3,
    "state_clip": 0.9,
}


PAIRS = [(option, name) for option, names in SLOPES.items() for name in names]


@pytest.mark.sampled(4)
@pytest.mark.skipif(FINEST != "float64", reason="central differences need float64")
@pytest.mark.parametrize(("option", "name"), PAIRS)
def test_the_gradient_is_that_of_central_differences(option, name):
    layer = drawn(name, **{option: VALUES[option]})
    training = option == "batch_norm"  # where it takes the statistics of the batch
    check_slopes(layer, X[:, :4], mask=HOLES[:, :4], training=training)


def with_batch_statistics(blocks, x, gain, valid=None) -> dict:
    """Weights that have the batch's statistics in them."""
    rows = x.reshape(-1, x.shape[-1]) if valid is None else x[valid]
    gains, found = np.split(gain, len(blocks)), {}
    for (name, block), g in zip(blocks.items(), gains, strict=True):
        a = np.float64(rows) @ block["kernel"]
        count = len(a) + (0 if valid is None else 1e-7)  # which Keras adds where there is a mask
        mean = a.sum(axis=0) / count
        scale = g / np.sqrt(((a - mean) ** 2).sum(axis=0) / count + 1e-3)  # Keras's ε
        bias = block["bias"] - mean * scale
        found[name] = {**block, "kernel": block["kernel"] * scale, "bias": bias}
    return found


@pytest.mark.parametrize("name", ["lstm", "li_gru", "gru_cho", "min_gru"])
@pytest.mark.parametrize("time_parallel", [False, True])
def test_batch_norm_takes_the_statistics_of_what_is_valid(name, time_parallel):
    if time_parallel and name != "min_gru":
        pytest.skip("its gates see h")
    layer = drawn(name, batch_norm=True, time_parallel=time_parallel)
    blocks, states = blocks_of(layer), states_of(layer)
    gain = np.float64(keras.ops.convert_to_numpy(layer.cell.normalizer.gamma))
    valid = np.arange(T) < np.array([T, 5, 1, 7])[:, None]
    y = layer(X, initial_state=states, mask=valid, training=True)[0]
    folded = with_batch_statistics(blocks, X, gain, valid)
    expected, _ = run(name, folded, X, states)
    y, expected = (
        np.where(valid[..., None], keras.ops.convert_to_numpy(a), 0) for a in (y, expected)
    )
    assert_close(y, expected, FINEST, name)


def test_batch_norm_at_inference_takes_what_training_gathered():
    layer = drawn("li_gru", batch_norm=True)
    states, one = states_of(layer), layer.cell.normalizer
    for _ in range(3):
        layer(X, training=True)
    before = [np.array(w) for w in one.non_trainable_weights]
    y = layer(X, initial_state=states)[0]
    for a, b in zip(before, one.non_trainable_weights, strict=True):
        np.testing.assert_array_equal(a, np.array(b))
    mean, variance = (np.float64(a) for a in before)
    gain = np.float64(keras.ops.convert_to_numpy(one.gamma))
    scale = gain / np.sqrt(variance + one.epsilon)
    folded = {}
    parts = zip(blocks_of(layer).items(), np.split(scale, 2), np.split(mean, 2), strict=True)
    for (name, block), s, m in parts:
        folded[name] = {**block, "kernel": block["kernel"] * s, "bias": block["bias"] - m * s}
    assert_close(y, run("li_gru", folded, X, states)[0], FINEST, "inference")


def test_frozen_statistics_stay_frozen_in_every_copy(tmp_path):
    layer = kg.GatedLSTM(U, batch_norm=True)
    model = keras.Sequential([keras.Input((None, F)), layer])
    model(X, training=True)
    model.trainable = False
    model.save(tmp_path / "model.keras")
    copies = [keras.models.clone_model(model), keras.saving.load_model(tmp_path / "model.keras")]
    for copy in copies:
        copy.set_weights(model.get_weights())
        assert not copy.layers[0].cell.normalizer.trainable
        assert_close(copy(X, training=True), model(X, training=True), "reload", "frozen")
        copy.layers[0].trainable = True
        assert copy.layers[0].cell.normalizer.trainable


def test_li_gru_has_the_paper_s_weights():
    layer = drawn("li_gru", batch_norm=True)
    trainable = sum(int(np.prod(w.shape)) for w in layer.trainable_weights)
    assert trainable == 2 * (F * U + U * U) + 4 * U


def test_the_candidate_is_dropped_and_the_memory_not():
    this = case("lstm", FINEST)
    mask = (RNG.random((B, U)) < 0.5) / 0.5
    cell = this.layer().cell
    dropped = DropoutMasks(candidate=keras.ops.convert_to_tensor(mask, dtype=FINEST))
    x, states = (keras.ops.convert_to_tensor(a) for a in (this.x[:, 0], np.stack(this.state)))
    terms = cell.input_terms(cell.tensors, x)
    _, found = cell.formula.step(cell.tensors, terms, list(keras.ops.unstack(states)), dropped)
    state = [np.float64(s) for s in this.state]
    _, (h, c) = run("lstm", this.weights, this.x[:, :1], state)
    _, (_, written) = run("lstm", this.weights, this.x[:, :1], [state[0], 0 * state[1]])
    memory = c - written + mask * written
    assert_close(found[1], memory, FINEST, "memory")
    assert_close(found[0], h / np.tanh(c) * np.tanh(memory), GRADIENT, "output")


@pytest.mark.parametrize("name", ["lstm_peephole", "gru_cho", "elman", "min_gru"])
def test_the_automatic_gradient_drops_the_same_candidate(name):
    this = case(name, FINEST).until(SHORT)
    call = {"states": this.initial_state, "mask": HOLES, "training": True}
    arguments = {"candidate_dropout": 0.4, "seed": 3}
    found = [gradients(this.layer(**arguments), this.x, this.upstream, **call)]
    with run_by(lambda _: None):  # the backend differentiates the loop
        found.append(gradients(this.layer(**arguments), this.x, this.upstream, **call))
    compare(*found, name)
    plain = this.layer()(this.x, initial_state=this.initial_state)
    dropped = this.layer(**arguments)(this.x, initial_state=this.initial_state, training=True)
    assert apart(plain, dropped) > 1e-3
    if name == "min_gru":
        at_once = this.layer(**arguments, time_parallel=True)
        compare(gradients(at_once, this.x, this.upstream, **call), found[0], name)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", ["lstm_peephole", "gru", "gru_cho", "mgu"])
@pytest.mark.parametrize("more", [{}, {"go_backwards": True}, {"zoneout": 0.2}], ids=str)
def test_batch_norm_is_the_same_with_the_automatic_gradient(name, more):
    """Numbers, gradients and statistics, under a mask that hides a whole row."""
    this, mask = case(name, FINEST).until(SHORT), HOLES.copy()
    mask[1] = False
    call = {"states": this.initial_state, "mask": mask, "training": True}
    found, statistics = [], []
    for unroll in (False, True):
        layer = this.layer(batch_norm=True, seed=3, unroll=unroll, **more)
        found.append(gradients(layer, this.x, this.upstream, **call))
        weights = layer.cell.normalizer.non_trainable_weights
        statistics.append([keras.ops.convert_to_numpy(w) for w in weights])
    compare(*found, name)
    if BACKEND != "jax":  # where a gradient is a pure function: it keeps no statistics
        assert np.abs(statistics[0][0]).max() > 1e-3
        for a, b in zip(*statistics, strict=True):
            assert_close(a, b, FINEST, "statistics")


def test_describe_tells_what_runs_where():
    text = kg.describe(kg.GatedLSTM(U, layer_norm=True, zoneout=0.1))
    assert "Options       zoneout=0.1, layer_norm=True\n" in text
    assert "Gradient      automatic: the engine has no gradient of layer_norm\n" in text
    assert "ONNX          Scan, since zoneout=0.1" in text
    plain = kg.describe(kg.GatedCell(U, "gru", candidate_dropout=0.3))
    assert "Options       candidate_dropout=0.3\n" in plain and "Gradient" not in plain
    projected = kg.describe(kg.GatedLSTM(U, projection_units=P, unroll=True))
    assert "Gradient      automatic: unroll=True\n" in projected
    assert "ONNX          LSTM; projection_units as a matrix product after it" in projected
    assert "ONNX          GRU" in plain and kg.describe("gru").count("Options") == 0
