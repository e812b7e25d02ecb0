"""Nonlinear cells for all time steps at once by Newton's method, against the loop."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_gated as kg
from keras_gated.engine import newton
from keras_gated.engine import run as ways
from keras_gated.spec.normal_form import resolve
from tests.helpers import (
    BACKEND,
    FINEST,
    HOLES,
    RESETS,
    SHORT,
    B,
    F,
    Joined,
    T,
    U,
    apart,
    assert_close,
    case,
    raises,
    run_and_differentiate,
)

NAMES = [name for name in kg.presets if resolve(kg.presets[name].spec).unit_by_unit]
FEW = ("para_gru", "para_lstm", "ind_rnn", "brc")
LISTED = [k if k in FEW else pytest.param(k, marks=pytest.mark.long) for k in NAMES]


def test_which_cells_are_nonlinear_with_units_that_see_only_themselves():
    assert set(FEW) <= set(NAMES)
    assert not {"lstm", "gru", "min_gru", "qrnn_fo", "elman", "fgr"} & set(NAMES)


def check(name: str, time: int = T, **arguments) -> None:
    """Raises where outputs, states or gradients differ from those of the loop."""
    call = {k: arguments.pop(k) for k in ("mask", "resets", "training") if k in arguments}
    this, found = case(name, FINEST).until(time), []
    for time_parallel in (True, False):
        layer = this.layer(return_state=True, time_parallel=time_parallel, seed=4, **arguments)
        count = len(layer.cell.state_size)
        more = np.random.default_rng(1).normal(size=(B, count, U)).astype(FINEST)
        upstream = np.concatenate([this.upstream, more], axis=1)
        states = this.initial_state
        parts = run_and_differentiate(Joined(layer), this.x, upstream, states, **call)
        found.append([x for part in parts for x in part])
    for at, (ours, theirs) in enumerate(zip(*found, strict=True)):
        assert_close(ours, theirs, f"keras {FINEST}", f"{name}: tensor {at}")


@pytest.fixture
def answers(monkeypatch):
    """Whether each call ran so."""
    found, right = [], ways.runs_newton
    monkeypatch.setattr(ways, "runs_newton", lambda call: found.append(right(call)) or found[-1])
    return found


@pytest.mark.parametrize("name", LISTED)
def test_equals_the_loop(name, answers):
    """Outputs, last states, gradients of weights and initial states, which are not zero."""
    check(name)
    assert answers == [True, False]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", FEW)
def test_with_masks_and_resets(name):
    check(name, SHORT, mask=HOLES, resets=RESETS)
    check(name, SHORT, mask=HOLES, resets=RESETS, go_backwards=True)


@pytest.mark.parametrize("time", [1, 2, 3, 8])
def test_at_any_length(time):
    check("para_lstm", time)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "arguments",
    [
        {"zoneout": 0.3},
        {"state_clip": 0.2},
        {"zoneout": 0.3, "training": True},
        {"recurrent_dropout": 0.3, "candidate_dropout": 0.3, "training": True},
        {"weight_noise": 0.1, "dropout": 0.2, "training": True},
    ],
    ids=str,
)
def test_with_options(arguments):
    check("para_lstm", SHORT, mask=HOLES, **arguments)


def test_without_sequences():
    this, found = case("para_gru", FINEST), []
    for time_parallel in (True, False):
        layer = this.layer(return_sequences=False, time_parallel=time_parallel)
        parts = run_and_differentiate(layer, this.x, this.upstream[:, 0], this.initial_state)
        found.append([x for part in parts for x in part])
    for at, (ours, theirs) in enumerate(zip(*found, strict=True)):
        assert_close(ours, theirs, f"keras {FINEST}", f"tensor {at}")


def rounds_of(layer, x) -> tuple[int, bool]:
    """The rounds that a call takes, and whether they are enough."""
    return kg.newton_rounds(layer, x)[layer.name]


@pytest.mark.parametrize("name", FEW)
def test_few_rounds_are_enough(name):
    """Far fewer than time steps, after which any correction is exact."""
    x = np.random.default_rng(5).normal(size=(B, 64, F)).astype("float32")
    rounds, converged = rounds_of(case(name).layer(), x)
    assert converged and 1 < rounds <= 12


@pytest.mark.filterwarnings("ignore")  # torch warns of all that it records
@pytest.mark.skipif(BACKEND != "torch", reason="torch records one branch")
def test_what_torch_records_is_the_loop():
    import torch

    layer = kg.GatedRNN(U, "para_gru", return_sequences=True, time_parallel=True)
    model = keras.Sequential([keras.Input((T, F)), layer])
    x = np.random.default_rng(6).normal(size=(B, T, F)).astype("float32")
    recorded = torch.jit.trace(model, torch.zeros(B, T, F), check_trace=False)
    assert_close(recorded(torch.tensor(30.0 * x)), model(30.0 * x), "xla", "other numbers")


@pytest.mark.parametrize("most", [0, 1, 2])
def test_the_loop_runs_where_they_are_not(most, monkeypatch):
    monkeypatch.setattr(newton, "MOST_ROUNDS", most)
    this = case("para_lstm")
    assert rounds_of(this.layer(), this.x) == (most, False)
    check("para_lstm")


def test_what_is_not_finite_is_that_of_the_loop():
    this = case("ind_rnn")
    spoilt = this.x.copy()
    spoilt[1, 4], spoilt[2, 3] = np.nan, np.inf
    loop = ops.convert_to_numpy(this.layer()(spoilt))
    found = ops.convert_to_numpy(this.layer(time_parallel=True)(spoilt))
    assert np.array_equal(np.isnan(loop), np.isnan(found)) and np.isnan(loop).any()
    good = np.isfinite(loop)
    assert_close(found[good], loop[good], "xla", "finite numbers")


def test_a_wrong_slope_costs_rounds_but_no_number(monkeypatch):
    """Planted: with half the slopes the states are those of the loop, or the loop runs."""
    right = newton.solve_recurrence

    def halved(slopes, b):
        return right([[None if x is None else 0.5 * x for x in row] for row in slopes], b)

    this = case("para_gru")
    expected, (rounds, _) = this.layer()(this.x), rounds_of(this.layer(), this.x)
    monkeypatch.setattr(newton, "solve_recurrence", halved)
    assert_close(this.layer(time_parallel=True)(this.x), expected, "xla", "para_gru")
    assert rounds_of(this.layer(), this.x)[0] > rounds


def test_a_wrong_gradient_is_found(traced_anew, monkeypatch):
    right = newton._back_over_time

    def halved(*arguments):
        return [d / 2 for d in right(*arguments)]

    monkeypatch.setattr(newton, "_back_over_time", halved)
    with pytest.raises(AssertionError, match="differs by"):
        check("para_gru")


@pytest.mark.skipif(BACKEND != "tensorflow", reason="others know the shape when they compile")
@pytest.mark.sampled(2)
@pytest.mark.parametrize("jit_compile", [True, False])
@pytest.mark.parametrize("name", ["para_lstm", "para_gru"])
def test_with_an_open_batch_and_length(name, jit_compile, answers):
    import tensorflow as tf

    this = case(name)
    layer = this.layer(time_parallel=True)

    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x) ** 2)
        return tape.gradient(loss, [x, *(w.value for w in layer.trainable_weights)])

    signature = [tf.TensorSpec((None, None, this.x.shape[-1]))]
    compiled = tf.function(step, jit_compile=jit_compile, input_signature=signature)
    for time in (1, 5, T):
        x = tf.constant(this.x[:, :time])
        for a, b in zip(compiled(x), step(x), strict=True):
            assert_close(a, b, "xla", f"{name}: {time} time steps")
    assert answers == [True] * 4


@pytest.mark.skipif(BACKEND != "tensorflow", reason="others know the shape when they run")
@pytest.mark.parametrize("time", [1, 2, 7, 8])
def test_a_recurrence_of_open_length(time):
    """With slopes of every kind: some are 0, written None."""
    import tensorflow as tf

    rng = np.random.default_rng(time)
    j, b = (rng.normal(size=(n, time, B, U)).astype("float32") for n in (3, 2))
    expected = np.zeros((2, B, U))
    open_series = [tf.TensorSpec((None, B, U))] * 5
    solve = tf.function(
        lambda *t: newton.solve_recurrence([[t[0], None], [t[1], t[2]]], list(t[3:])),
        input_signature=open_series,
    )
    found = solve(*j, *b)
    for t in range(time):
        h, c = expected
        expected = np.stack([j[0, t] * h, j[1, t] * h + j[2, t] * c]) + b[:, t]
        for state, series in zip(expected, found, strict=True):
            assert_close(series[t], state, "xla", f"step {t}")


def steep(time: int, **arguments):
    """A layer whose slopes are 2.5 at inputs of zero: their products grow beyond all floats."""
    layer = kg.GatedRNN(2, "ind_rnn", activation="tanh", return_sequences=True, **arguments)
    layer.build((1, time, 2))
    layer.set_weights([np.full(w.shape, 2.5 * (len(w.shape) == 1)) for w in layer.weights])
    return layer


def gradient_of_the_first_steps(layer, x):
    """With 0 behind them: 0 times an infinite product of slopes."""
    upstream = np.zeros((*x.shape[:2], 2), "float32")
    upstream[:, :20] = 1.0
    return run_and_differentiate(layer, x, upstream)


@pytest.mark.parametrize("time", [40, 400])
def test_the_loop_runs_back_where_products_of_slopes_overflow(time):
    x = np.zeros((1, time, 2), "float32")
    found = [
        gradient_of_the_first_steps(steep(time, time_parallel=way), x) for way in (True, False)
    ]
    for ours, theirs in zip(*(keras.tree.flatten(f) for f in found), strict=True):
        assert np.isfinite(theirs).all()
        assert_close(ours, theirs, "xla", f"{time} time steps")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_states_of_16_bits_run_in_the_loop(dtype, answers):
    layer = kg.GatedRNN(U, "para_gru", return_sequences=True, time_parallel=True, dtype=dtype)
    loop = kg.GatedRNN(U, "para_gru", return_sequences=True, dtype=dtype)
    x = case("para_gru").x
    layer(x), loop(x)
    loop.set_weights(layer.get_weights())
    assert apart(layer(x), loop(x)) == 0.0 and not any(answers)
    raises(lambda: kg.newton_rounds(layer, x), "`model_or_layer`...32 or 64 bits")


def test_no_rows():
    layer = case("para_lstm").layer(time_parallel=True)
    assert tuple(layer(np.zeros((0, T, F), "float32")).shape) == (0, T, U)


def test_auto_is_the_loop(answers):
    this = case("para_gru")
    auto = this.layer(time_parallel="auto")
    assert apart(auto(this.x), this.layer()(this.x)) == 0.0 and not any(answers)


def test_what_it_excludes():
    raises(
        lambda: kg.GatedRNN(U, "para_lstm", time_parallel=True, layer_norm=True),
        "`time_parallel=True`...`layer_norm=True` exclude each other...no gradient of layer_norm",
    )
    raises(
        lambda: kg.GatedGRU(U, time_parallel=True),
        "`time_parallel`...'min_gru' or 'qrnn_f'...'para_gru'...time_parallel=True with spec=",
    )
    raises(
        lambda: kg.GatedRNN(U, "para_gru", time_parallel=True, unroll=True),
        "`time_parallel`...`unroll`...unroll=True",
    )
