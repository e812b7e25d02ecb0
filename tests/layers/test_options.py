"""Options that every cell has: zoneout, noise on the weights, a bound on the memory."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from keras_gated import cell
from keras_gated.engine import random_masks as random_masks
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
    largest,
)
from tests.reference import WITNESSES, run

RATES = {1: (0.3,), 2: (0.2, 0.6)}  # of each state
KINDS = [
    "lstm",
    "lstm_peephole",
    "gru",
    "gru_cho",
    "elman",
    "mgu",
    "janet",
    "min_gru",
    "mut1",
    "cfn",
]


FEW = ["lstm_peephole", "gru_cho", "elman", "fgr"]


some = pytest.mark.parametrize("name", KINDS)


few = pytest.mark.parametrize("name", FEW)


def rates(name: str) -> tuple:
    return RATES[min(2, WITNESSES[name].states)]


def zoned_by_hand(this, keep) -> tuple[np.ndarray, list]:
    """The witness's outputs and last states, each state keeping its share of itself each step."""
    state, outputs = [s.astype("float64") for s in this.state], []
    for t in range(this.x.shape[1]):
        _, new = run(this.name, this.weights, this.x[:, t : t + 1], state)
        shares = [*keep, *[0.0] * (len(new) - len(keep))]
        state = [d * old + (1 - d) * n for d, old, n in zip(shares, state, new, strict=True)]
        outputs.append(state[0])
    return np.stack(outputs, axis=1), state


@some
def test_zoneout_at_inference_is_the_expectation(name):
    this, keep = case(name, FINEST), rates(name)
    layer = this.layer(zoneout=keep, return_state=True)
    outputs, *states = layer(this.x, initial_state=this.initial_state)
    expected, last = zoned_by_hand(this, keep)
    assert_close(outputs, expected, FINEST, name)
    for mine, other in zip(states, last, strict=False):
        assert_close(mine, other, FINEST, name)


@pytest.mark.sampled(3)
@few
@pytest.mark.parametrize("training", [False, True])
def test_the_automatic_gradient_draws_and_gives_the_same(name, training):
    arguments = {"zoneout": rates(name), "weight_noise": 0.1, "state_clip": 0.4, "seed": 7}
    arguments |= {"recurrent_dropout": 0.2}
    this = case(name, FINEST).until(SHORT)
    call = {"states": this.initial_state, "mask": HOLES, "training": training}
    found = [gradients(this.layer(**arguments), this.x, this.upstream, **call)]
    with run_by(lambda _: None):  # the backend differentiates the loop
        found.append(gradients(this.layer(**arguments), this.x, this.upstream, **call))
    compare(*found, name)


def test_in_training_units_stay_or_move():
    layer = case("lstm", FINEST).layer(zoneout=0.5, seed=3)
    x = case("lstm", FINEST).x
    y = keras.ops.convert_to_numpy(layer(x, training=True))
    stays = np.mean(y[:, 1:] == y[:, :-1])
    assert 0.35 < stays < 0.65  # of B (T - 1) U drawn
    other = keras.ops.convert_to_numpy(layer(x, training=True))
    assert np.abs(other - y).max() > 1e-3  # drawn anew


def test_the_mean_over_many_draws_of_one_step_is_the_expectation():
    this = case("lstm", FINEST).until(1)
    layer = this.layer(zoneout=(0.3, 0.0), seed=5)
    x, state = np.repeat(this.x[:1], 4000, 0), [np.repeat(s[:1], 4000, 0) for s in this.state]
    drawn = keras.ops.convert_to_numpy(layer(x, initial_state=state, training=True))
    expected = keras.ops.convert_to_numpy(layer(x[:1], initial_state=[s[:1] for s in state]))
    error = 4 * drawn.std(axis=0).max() / np.sqrt(len(drawn))
    assert np.abs(drawn.mean(axis=0) - expected[0]).max() < error


@some
def test_the_memory_stays_within_its_bound(name):
    this = case(name, FINEST)
    layer = this.layer(state_clip=0.25, return_state=True)
    *_, memory = layer(this.x, initial_state=this.initial_state)
    assert largest(memory) <= 0.25
    free = this.layer(return_state=True)(this.x, initial_state=this.initial_state)
    assert largest(free[-1]) > 0.25
    wide = this.layer(state_clip=1e3)(this.x, initial_state=this.initial_state)
    assert_close(wide, free[0], FINEST, name)


def test_a_clipped_memory_step_by_step():
    this, bound = case("lstm", FINEST), 0.3
    outputs, state = [], [s.astype("float64") for s in this.state]
    for t in range(T):
        x = this.x[:, t : t + 1]
        _, (h, c) = run("lstm", this.weights, x, state)
        gate = h / np.tanh(c)  # the output gate, which does not see the memory
        c = np.clip(c, -bound, bound)
        state = [gate * np.tanh(c), c]
        outputs.append(state[0])
    y = this.layer(state_clip=bound)(this.x, initial_state=this.initial_state)
    assert_close(y, np.stack(outputs, axis=1), f"gradient {FINEST}", "clip")


def test_noise_on_the_kernels_is_drawn_anew_and_in_training_alone():
    this = case("gru", FINEST)
    layer, plain = this.layer(weight_noise=0.2, seed=1), this.layer()
    assert_close(layer(this.x), plain(this.x), FINEST, "inference")
    first, second = (layer(this.x, training=True) for _ in range(2))
    assert apart(first, plain(this.x)) > 1e-3 and apart(first, second) > 1e-3
    before = plain.get_weights()
    for a, b in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("given", [{}, {"layer_norm": True}], ids=["engine", "loop"])
def test_noise_is_drawn_once_for_all_time_steps(given, monkeypatch):
    drawn, draw = [], cell.normal
    monkeypatch.setattr(cell, "normal", lambda *a: drawn.append(a) or draw(*a))
    this = case("lstm", FINEST)
    layer = kg.GatedLSTM(U, weight_noise=0.2, **given)
    drawn.clear()
    layer(this.x, training=True)
    assert len(drawn) == 2  # kernel and recurrent kernel


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "xla"])
def test_what_is_drawn_has_the_share_and_the_spread_asked_for(compiled):
    if compiled and BACKEND != "tensorflow":
        pytest.skip("Keras's own generators")
    n, seed = 40_000, keras.random.SeedGenerator(5)

    def draw():
        numbers = random_masks.normal((n,), seed, 0.3, "float32")
        return numbers, random_masks.bernoulli((n,), seed, 0.2, "float32")

    if compiled:
        import tensorflow as tf

        draw = tf.function(draw, jit_compile=True)
    numbers, ones = (keras.ops.convert_to_numpy(x) for x in draw())
    assert abs(numbers.mean()) < 4 * 0.3 / n**0.5
    assert abs(numbers.std() - 0.3) < 4 * 0.3 / (2 * n) ** 0.5
    assert abs(ones.mean() - 0.2) < 4 * (0.2 * 0.8 / n) ** 0.5 and set(ones) == {0.0, 1.0}
    assert abs(np.corrcoef(numbers, ones)[0, 1]) < 4 / n**0.5


def test_numbers_of_numpy_are_numbers():
    given = {
        "zoneout": np.float32(0.25),
        "weight_noise": np.float64(0.1),
        "state_clip": np.int64(2),
    }
    layer = kg.GatedLSTM(U, **given, candidate_dropout=np.float16(0.5))
    assert layer.cell.options() == given | {"candidate_dropout": 0.5}
    assert all(type(value) is float for value in layer.cell.options().values())


def test_noise_has_the_given_deviation():
    cell = kg.GatedCell(60, "lstm", weight_noise=0.075, seed=2)
    cell.build((None, 50))
    still = cell.tensors
    noisy = cell.noisy_tensors()
    to_numpy = keras.ops.convert_to_numpy
    noise = to_numpy(noisy["recurrent_kernel"] - still["recurrent_kernel"])
    assert abs(noise.std() - 0.075) < 0.002 and abs(noise.mean()) < 0.002
    assert np.array_equal(to_numpy(noisy["bias"]), to_numpy(still["bias"]))


@pytest.mark.sampled(1)
@pytest.mark.skipif(BACKEND != "tensorflow", reason="XLA by tf.function")
@pytest.mark.parametrize("name", ["lstm_peephole", "fgr"])
def test_a_training_step_under_xla(name):
    import tensorflow as tf

    this = case(name).until(SHORT)
    layer = this.layer(zoneout=rates(name), weight_noise=0.1, state_clip=0.5, seed=7)

    @tf.function(jit_compile=True)
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x, training=True) ** 2)
        return tape.gradient(loss, [v.value for v in layer.trainable_weights])

    for slope in step(this.x):
        assert np.isfinite(slope).all() and np.abs(slope).max() > 0


def test_saved_and_loaded(tmp_path):
    options = {"zoneout": (0.1, 0.2), "weight_noise": 0.3, "state_clip": 2.0}
    layer = kg.GatedLSTM(U, **options)
    model = keras.Sequential([keras.Input((None, F)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for name, value in options.items():
        assert keras.tree.flatten(getattr(loaded.layers[0], name)) == keras.tree.flatten(value)
    x = np.ones((B, T, F), "float32")
    assert_close(loaded(x), model(x), "float32", "loaded")
