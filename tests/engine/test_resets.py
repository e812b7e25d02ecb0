"""Sequences that begin inside a row: the same numbers and gradients as separate calls."""

from dataclasses import dataclass

import keras
import numpy as np
import pytest
from keras import ops

import keras_gated as kg
from keras_gated.engine import loop_plan
from keras_gated.engine import run as ways
from keras_gated.engine.backends.selected import backend
from keras_gated.spec.normal_form import resolve
from tests.helpers import (
    BACKEND,
    FINEST,
    HOLES,
    RESETS,
    SHORT,
    B,
    Joined,
    U,
    apart,
    assert_close,
    case,
    raises,
    run_and_differentiate,
)

FEW = ("lstm", "lstm_peephole", "gru", "gru_cho", "mut3", "fgr", "qrnn_ifo", "min_gru", "para_lstm")
NAMES = [k if k in FEW else pytest.param(k, marks=pytest.mark.long) for k in kg.presets]
LINEAR = [name for name in kg.presets if resolve(kg.presets[name].spec).linear_memory]
directions = pytest.mark.parametrize("go_backwards", [False, True], ids=["forwards", "backwards"])
masked = pytest.mark.parametrize("mask", [None, HOLES], ids=["whole", "masked"])


@dataclass
class Part:
    """A sequence inside a row.

    Attributes:
        is_first, is_last: whether it begins with the initial states, ends with the last ones.
    """

    row: int
    steps: slice
    is_first: bool
    is_last: bool


def parts_of(resets, go_backwards: bool) -> list[Part]:
    found = []
    for row, marks in enumerate(resets):
        edges = sorted({0, *np.flatnonzero(marks).tolist(), len(marks)})
        slices = [slice(a, b) for a, b in zip(edges, edges[1:], strict=False)]
        first, last = slices[0], slices[-1]
        if go_backwards:
            found += [Part(row, s, s is last, s is first) for s in slices]
        else:
            found += [Part(row, s, s is first and not marks[0], s is last) for s in slices]
    return found


def separately(layer, x, upstream, states, mask, resets):
    """What the sequences give as rows of their own, in the shape of one call, and the gradients."""
    parts, time = parts_of(resets, layer.go_backwards), x.shape[1]
    count = len(parts)
    xs, valid = np.zeros((count, *x.shape[1:]), x.dtype), np.zeros((count, time), bool)
    ups = np.zeros((count, *upstream.shape[1:]), upstream.dtype)
    firsts = [np.zeros((count, *s.shape[1:]), s.dtype) for s in states]
    for k, part in enumerate(parts):
        length = part.steps.stop - part.steps.start
        xs[k, :length] = x[part.row, part.steps]
        valid[k, :length] = True if mask is None else mask[part.row, part.steps]
        ups[k, :length] = upstream[part.row, part.steps]
        if part.is_last:
            ups[k, time:] = upstream[part.row, time:]
        for first, state in zip(firsts, states, strict=True):
            first[k] = state[part.row] if part.is_first else 0.0
    (rows,), of_weights, of_firsts = run_and_differentiate(
        Joined(layer), xs, ups, firsts, mask=valid
    )
    outputs = np.zeros((len(x), *rows.shape[1:]), rows.dtype)
    of_states = [np.zeros_like(s) for s in states]
    for k, part in enumerate(parts):
        outputs[part.row, part.steps] = rows[k, : part.steps.stop - part.steps.start]
        if part.is_last:
            outputs[part.row, time:] = rows[k, time:]
        if part.is_first:
            for whole, one in zip(of_states, of_firsts, strict=True):
                whole[part.row] = one[k]
    return outputs, of_weights, of_states


def check(name: str, mask=None, resets=RESETS, constants=None, **arguments) -> None:
    """Raises where one call with `resets` differs from separate calls."""
    this = case(name, FINEST, **(constants or {})).until(SHORT)
    layer = this.layer(return_state=True, **arguments)
    count = len(layer.cell.state_size)
    more = np.random.default_rng(1).normal(size=(B, count, U)).astype(FINEST)
    upstream = np.concatenate([this.upstream, more], axis=1)
    (found,), *gradients = run_and_differentiate(
        Joined(layer), this.x, upstream, this.initial_state, mask=mask, resets=resets
    )
    plain = {k: v for k, v in arguments.items() if k not in ("time_parallel", "unroll")}
    reference = this.layer(return_state=True, **plain)
    data = this.x, upstream, this.initial_state
    outputs, *expected = separately(reference, *data, mask, resets)
    assert_close(found, outputs, "chunks", f"{name}: outputs and last states")
    for of, ours, theirs in zip(("weight", "state"), gradients, expected, strict=True):
        for at, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            assert_close(a, b, f"keras {FINEST}", f"{name}: gradient of {of} {at}")


@pytest.mark.sampled(5)
@pytest.mark.catalogue
@pytest.mark.parametrize("name", NAMES)
def test_equals_separate_calls(name):
    """Outputs, last states, gradients of weights and initial states, with holes."""
    check(name, HOLES)


@pytest.mark.sampled(5)
@directions
@masked
@pytest.mark.parametrize("name", ["lstm", "gru_cho", "qrnn_ifo", "fgr"])
def test_in_both_directions(name, mask, go_backwards):
    check(name, mask, go_backwards=go_backwards)


@pytest.mark.sampled(5)
@directions
@masked
@pytest.mark.parametrize("name", ["min_gru", "qrnn_ifo", "t_lstm"])
def test_all_time_steps_at_once(name, mask, go_backwards):
    check(name, mask, go_backwards=go_backwards, time_parallel=True)


@pytest.mark.long
@pytest.mark.parametrize("name", LINEAR)
def test_all_time_steps_at_once_in_other_cells(name):
    check(name, HOLES, time_parallel=True)


@pytest.mark.sampled(3)
@directions
@masked
@pytest.mark.parametrize("size", [2, 3, 5])
def test_a_window_does_not_reach_back(size, mask, go_backwards):
    check("qrnn_fo", mask, constants={"window": size}, go_backwards=go_backwards)


@pytest.mark.parametrize(
    "arguments",
    [
        {"unroll": True},
        {"zero_output_for_mask": True},
        {"zoneout": 0.3},
        {"zoneout": (0.0, 0.4)},
        {"state_clip": 0.2},
    ],
    ids=str,
)
def test_however_it_runs(arguments):
    check("lstm", HOLES, **arguments)


@pytest.mark.skipif(BACKEND == "torch", reason="torch does it at no batch")
@pytest.mark.sampled(3)
@directions
@pytest.mark.parametrize("name", ["lstm", "gru_cho", "qrnn_ifo"])
def test_products_in_each_step(name, go_backwards, monkeypatch):
    """As with a large batch."""
    chosen, right = [], ways.reads_input
    monkeypatch.setattr(backend, "LARGE_BATCH", 1)
    monkeypatch.setattr(ways, "reads_input", lambda call: chosen.append(right(call)) or chosen[-1])
    check(name, HOLES, go_backwards=go_backwards)
    assert chosen and all(chosen)


@pytest.mark.parametrize("option", ["dropout", "recurrent_dropout", "candidate_dropout", "zoneout"])
def test_in_training(option):
    """The engine's gradient against a loop that the backend differentiates, with equal masks."""
    this, found = case("lstm", FINEST).until(SHORT), []
    for unroll in (False, True):
        layer = this.layer(return_state=True, unroll=unroll, seed=5, **{option: 0.4})
        call = {"states": this.initial_state, "resets": RESETS, "mask": HOLES, "training": True}
        upstream = np.concatenate([this.upstream, this.upstream[:, :2]], axis=1)
        parts = run_and_differentiate(Joined(layer), this.x, upstream, **call)
        found.append([x for part in parts for x in part])
    for at, (ours, theirs) in enumerate(zip(*found, strict=True)):
        assert_close(ours, theirs, f"keras {FINEST}", f"{option}: tensor {at}")


def test_a_unit_that_zoneout_keeps_starts_from_zero():
    this = case("lstm").until(SHORT)
    layer = this.layer(zoneout=0.5, seed=3)
    starts = np.ones((B, SHORT), bool)
    call = {"initial_state": this.initial_state, "training": True}
    found = ops.convert_to_numpy(layer(this.x, resets=starts, **call))
    assert 0.3 < (found == 0.0).mean() < 0.7


@pytest.mark.parametrize("name", ["lstm", "qrnn_fo"])
def test_stateful(name):
    """The states of a batch go on in the next one, up to a mark; a mark at its beginning counts."""
    this = case(name)
    resets = np.zeros(this.x.shape[:2], bool)
    resets[0, 4] = resets[1, [2, 7]] = resets[3, [0, 5]] = True
    stateful, plain = this.layer(stateful=True), this.layer()
    cuts = [(x, r) for x, r in zip(*(np.split(a, [4], axis=1) for a in (this.x, resets)), strict=1)]
    chunks = [ops.convert_to_numpy(stateful(x, resets=r)) for x, r in cuts]
    assert_close(np.concatenate(chunks, axis=1), plain(this.x, resets=resets), "chunks", name)


def test_no_number_of_the_sequence_before_matters():
    """Not even NaN, in the loop."""
    this = case("lstm").until(SHORT)
    layer, resets = this.layer(), np.zeros((B, SHORT), bool)
    resets[:, 3] = True
    spoilt = this.x.copy()
    spoilt[:, :3] = np.nan
    found = ops.convert_to_numpy(layer(spoilt, resets=resets))
    assert_close(found[:, 3:], layer(this.x[:, 3:]), "chunks", "lstm")


def test_one_row_stands_for_all():
    this = case("qrnn_fo").until(SHORT)
    layer, row = this.layer(), RESETS[:1]
    whole = layer(this.x, resets=np.repeat(row, B, axis=0))
    assert_close(layer(this.x, resets=row), whole, "reload", "one row")
    numbers = layer(this.x, resets=row.astype("int32"))
    assert_close(numbers, whole, "reload", "0 and 1")


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(dtype):
    this = case("lstm").until(SHORT)
    found = this.layer(dtype=dtype)(this.x, resets=RESETS)
    assert_close(ops.cast(found, "float32"), this.layer()(this.x, resets=RESETS), dtype, "lstm")


def test_the_operator_of_torch_does_not_run_it(monkeypatch):
    answers, right = [], ways.runs_fused
    monkeypatch.setattr(ways, "runs_fused", lambda call: answers.append(right(call)) or answers[-1])
    this = case("lstm").until(SHORT)
    layer = this.layer()
    layer(this.x)
    layer(this.x, resets=RESETS)
    assert answers == [BACKEND == "torch", False]


@pytest.mark.parametrize("wrong", ["_zeros_unless", "states_before"])
def test_a_missing_part_is_found(wrong, traced_anew, monkeypatch):
    """Planted: states go on through a mark; or the gradient takes states from before it."""
    before = loop_plan.states_before
    planted = {
        "_zeros_unless": lambda goes_on, states: states,
        "states_before": lambda inputs, states: before(inputs._replace(goes_on=None), states),
    }
    monkeypatch.setattr(loop_plan, wrong, planted[wrong])
    with pytest.raises(AssertionError, match="differs by"):
        check("lstm")


@pytest.mark.sampled(1)
@pytest.mark.skipif(BACKEND != "tensorflow", reason="JAX compiles all of these tests")
@pytest.mark.parametrize("name", ["lstm", "qrnn_fo", "min_gru"])
def test_compiled_with_open_batch_and_length(name):
    import tensorflow as tf

    this = case(name)
    layer = this.layer()
    signature = tf.TensorSpec((None, None, this.x.shape[-1])), tf.TensorSpec((None, None), "bool")

    def step(x, resets):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, resets=resets)
            loss = tf.reduce_sum(y**2)
        return y, *tape.gradient(loss, [x, *(w.value for w in layer.trainable_weights)])

    compiled = tf.function(step, jit_compile=True, input_signature=signature)
    for time in (SHORT, 4):
        data = tf.constant(this.x[:, :time]), tf.constant(RESETS[:, :time])
        for a, b in zip(compiled(*data), step(*data), strict=True):
            assert_close(a, b, "xla", name)


def test_in_a_model_that_is_trained_saved_and_traced(tmp_path):
    this = case("lstm").until(SHORT)
    x, r = keras.Input((None, this.x.shape[-1])), keras.Input((None,), dtype="bool")
    inner = kg.GatedGRU(U, return_sequences=True, name="gru")(x, resets=r)
    y = kg.GatedRNN(U, "qrnn_fo", return_sequences=True, name="qrnn")(inner, resets=r)
    model = keras.Model([x, r], y)
    model.compile("sgd", "mse")
    assert np.isfinite(model.fit([this.x, RESETS], this.upstream, verbose=0).history["loss"]).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    found = model([this.x, RESETS])
    assert_close(loaded([this.x, RESETS]), found, "reload", "loaded")
    trace = kg.trace_gates(model, [this.x, RESETS])
    assert_close(trace["qrnn"]["h"], found, "chunks", "trace")
    alone = kg.trace_gates(model, [this.x[:1, 3:], np.zeros((1, 3), bool)])
    for name in ("forget", "h"):
        assert_close(trace["gru"][name][:1, 3:], alone["gru"][name], "chunks", name)


def test_two_layers_in_place_of_bidirectional():
    """`keras.layers.Bidirectional` passes no resets on; the route of the guide."""
    this = case("lstm").until(SHORT)
    wrapped = keras.layers.Bidirectional(kg.GatedLSTM(U, return_sequences=True, seed=2))
    wrapped.build(this.x.shape)
    forwards, backwards = wrapped.forward_layer, wrapped.backward_layer
    both = [forwards(this.x, resets=RESETS), ops.flip(backwards(this.x, resets=RESETS), axis=1)]
    found = ops.convert_to_numpy(ops.concatenate(both, axis=-1))
    for part in parts_of(RESETS, go_backwards=False):
        alone = wrapped(this.x[part.row : part.row + 1, part.steps])
        assert_close(found[part.row : part.row + 1, part.steps], alone, "chunks", "both")


@pytest.mark.parametrize(
    ("resets", "received"),
    [
        (np.zeros((B, SHORT - 1), bool), f"shape=({B}, {SHORT - 1})"),
        (np.zeros((B - 1, SHORT), bool), f"shape=({B - 1}, {SHORT})"),
        (np.zeros((B, SHORT, 1), bool), f"shape=({B}, {SHORT}, 1)"),
        (np.zeros(SHORT, bool), f"shape=({SHORT},)"),
    ],
    ids=["time", "batch", "rank 3", "rank 1"],
)
def test_other_resets_are_refused(resets, received):
    this = case("lstm").until(SHORT)
    layer = this.layer(name="cell")
    text = f"`resets` of cell...bool (batch, time)...({B}, {SHORT}, 3)...Received: {received}...np."
    raises(lambda: layer(this.x, resets=resets), text)


def test_without_marks_nothing_changes():
    this = case("lstm").until(SHORT)
    layer = this.layer()
    found = layer(this.x, initial_state=this.initial_state, resets=np.zeros((B, SHORT), bool))
    assert_close(found, layer(this.x, initial_state=this.initial_state), "chunks", "no mark")
    assert apart(found, layer(this.x, resets=RESETS)) > 1e-3
