"""All time steps at once by an associative scan, against the same layer run in the loop."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from keras_gated.engine import parallel_scan as parallel
from keras_gated.spec.normal_form import resolve
from tests.helpers import (
    BACKEND,
    FINEST,
    B,
    F,
    T,
    U,
    assert_close,
    case,
    raises,
    run_and_differentiate,
)

LINEAR = [name for name in kg.presets if resolve(kg.presets[name].spec).linear_memory]
MASK = np.ones((B, T), bool)
MASK[0, 3:5] = MASK[1, :2] = MASK[2, 6:] = False  # holes, left, right; the last row is whole


def test_which_cells_have_a_linear_memory():
    expected = "levy_srnn_hidden t_rnn t_gru t_lstm gilr min_gru min_lstm hgrn_real rg_lru"
    assert set(LINEAR) == {*expected.split(), "qrnn_f", "qrnn_fo", "qrnn_ifo"}


def check(name: str, mask=None, **arguments) -> None:
    this = case(name, FINEST)
    found = []
    for time_parallel in (True, False):
        layer = this.layer(time_parallel=time_parallel, return_state=True, **arguments)
        upstream = this.upstream if layer.return_sequences else this.upstream[:, 0]
        parts = run_and_differentiate(layer, this.x, upstream, this.initial_state, mask=mask)
        found.append([x for part in parts for x in part])
    for at, (ours, theirs) in enumerate(zip(*found, strict=True)):
        assert_close(ours, theirs, f"keras {FINEST}", f"{name}: tensor {at}")


@pytest.mark.sampled(6)
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
@pytest.mark.parametrize("name", LINEAR)
def test_equals_the_loop(name, mask):
    """Outputs, last states, and gradients also to the initial states, which are not zero."""
    check(name, mask)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["qrnn_fo", "min_gru"])
@pytest.mark.parametrize(
    "arguments",
    [{"go_backwards": True}, {"zero_output_for_mask": True}, {"return_sequences": False}],
    ids=lambda arguments: next(iter(arguments)),
)
def test_equals_the_loop_however_it_runs(name, arguments):
    check(name, MASK, **arguments)


def test_a_wrong_scan_is_found(monkeypatch):
    right = parallel._scan
    monkeypatch.setattr(
        parallel, "_scan", lambda remaining, written, start: right(remaining, written, 0.0)
    )
    with pytest.raises(AssertionError, match="differs by"):
        check("min_gru")


@pytest.mark.skipif(BACKEND != "tensorflow", reason="XLA through TensorFlow's graphs")
def test_runs_under_xla():
    import tensorflow as tf

    layer = kg.GatedRNN(U, "qrnn_fo", time_parallel=True, return_sequences=True)
    x = keras.random.normal((B, T, F), seed=1)
    expected = layer(x)
    assert_close(tf.function(layer, jit_compile=True)(x), expected, "xla", "qrnn_fo")


@pytest.mark.skipif(BACKEND != "tensorflow", reason="XLA through TensorFlow's graphs")
@pytest.mark.parametrize("time", [2, 3, 8, 9])
def test_its_gradient_runs_under_xla(time):
    """The recursion ends in another way at each of these lengths."""
    import tensorflow as tf

    forget, written = (keras.random.normal((B, time, U), seed=seed) for seed in (1, 2))

    def gradients(forget, written):
        with tf.GradientTape() as tape:
            tape.watch((forget, written))
            loss = tf.reduce_sum(parallel._from_zero(forget, written) ** 2)
        return tape.gradient(loss, (forget, written))

    xla = tf.function(gradients, jit_compile=True)(forget, written)
    eager = gradients(forget, written)
    for name, ours, expected in zip(("forget", "written"), xla, eager, strict=True):
        assert_close(ours, expected, "xla", name)


def test_an_unknown_length_runs_in_the_loop():
    inputs = keras.Input((None, F))
    layer = kg.GatedRNN(U, "min_gru", time_parallel=True)
    model = keras.Model(inputs, layer(inputs))
    assert model(np.ones((B, T, F), "float32")).shape == (B, U)


def test_auto_runs():
    this = case("min_gru", FINEST)
    layers = [this.layer(time_parallel=value) for value in ("auto", False)]
    found = [layer(this.x, initial_state=this.initial_state) for layer in layers]
    assert_close(*found, "xla", "min_gru")


@pytest.mark.parametrize("time_parallel", [True, False])
def test_what_a_masked_step_holds_does_not_matter(time_parallel):
    this = case("t_lstm", FINEST)
    layer = this.layer(time_parallel=time_parallel)
    spoilt = np.where(MASK[..., None], this.x, np.nan)
    assert_close(layer(spoilt, mask=MASK), layer(this.x, mask=MASK), "xla", "t_lstm")


def test_it_is_saved():
    layer = kg.GatedRNN(U, "min_gru", time_parallel="auto")
    assert kg.GatedRNN.from_config(layer.get_config()).time_parallel == "auto"


def test_errors():
    for wrong in (1.5, 1, 0, "yes", None):
        raises(
            lambda wrong=wrong: kg.GatedRNN(U, "min_gru", time_parallel=wrong),
            f"`time_parallel`...time_parallel={wrong!r}",
        )
    raises(
        lambda: kg.GatedRNN(U, "min_gru", time_parallel=True, unroll=True),
        "`time_parallel`...`unroll`...unroll=True",
    )
    raises(
        lambda: kg.GatedLSTM(U, time_parallel=True),
        "`time_parallel`...'min_gru' or 'qrnn_f'...time_parallel=True with spec=",
    )
