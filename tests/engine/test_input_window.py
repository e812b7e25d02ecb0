"""Cells that see several inputs at once: the window holds valid steps, in running direction."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from tests.helpers import BACKEND, B, F, T, U, assert_close, case
from tests.reference import WITNESSES, run

WINDOWED = [name for name, witness in WITNESSES.items() if witness.window > 1]
windowed = pytest.mark.parametrize("name", WINDOWED)
rows = pytest.mark.parametrize(
    ("name", "given"),
    [*((name, {}) for name in WINDOWED), ("qrnn_ifo", {"window": 3}), ("qrnn_f", {"window": 1})],
)
directions = pytest.mark.parametrize("go_backwards", [False, True], ids=["forwards", "backwards"])


def masks() -> dict:
    """What of (B, T) is valid, with row lengths from 1 (shorter than the window) to T."""
    right = np.arange(T) < np.array([T, 6, 1, 4])[:, None]
    holes = np.array([[0, 1, 0, 0, 1, 1, 0, 1, 0], [1, 0, 0, 1, 1, 0, 1, 0, 0]], bool)
    row = np.zeros(T, bool)
    return {"right": right, "mixed": np.stack([holes[0], right[3, ::-1], row, holes[1]])}


def expected_of(this, mask, go_backwards=False):
    """The witness run row by row on the valid steps alone: (outputs (B, T, U), final states).

    A masked step repeats the output before it, 0 where there is none.
    """
    outputs, final = np.zeros((B, T, U)), [np.array(s, "float64") for s in this.state]
    for row in range(B):
        steps = np.flatnonzero(mask[row])[:: -1 if go_backwards else 1]
        if not len(steps):
            continue
        state = [s[row : row + 1] for s in this.state]
        values, last = run(
            this.name, this.weights, this.x[row : row + 1, steps], state, **this.constants
        )
        for whole, one in zip(final, last, strict=True):
            whole[row] = one[0]
        order = range(T)[:: -1 if go_backwards else 1]
        now, left = np.zeros(U), list(values[0])
        for place, t in enumerate(order):  # backwards, Keras gives the outputs in running order
            now = left.pop(0) if mask[row, t] else now
            outputs[row, place] = now
    return outputs, final


@pytest.mark.sampled(6)
@rows
@directions
@pytest.mark.parametrize("kind", list(masks()))
def test_masked_equals_the_witness_on_the_valid_steps(name, given, kind, go_backwards):
    this, mask = case(name, **given), masks()[kind]
    layer = this.layer(return_state=True, go_backwards=go_backwards)
    outputs, *states = layer(this.x, initial_state=this.initial_state, mask=mask)
    expected, final = expected_of(this, mask, go_backwards)
    assert_close(outputs, expected, "float32", f"{name}: outputs")
    for index, state in enumerate(final):
        assert_close(states[index], state, "float32", f"{name}: state {index}")


@rows
@directions
def test_without_a_mask_and_backwards(name, given, go_backwards):
    this = case(name, **given)
    layer = this.layer(go_backwards=go_backwards)
    expected, _ = expected_of(this, np.ones((B, T), bool), go_backwards)
    outputs = layer(this.x, initial_state=this.initial_state)
    assert_close(outputs, expected, "float32", name)


# Chunks -----------------------------------------------------------------------------------------

CUTS = [[4], [1, 2, 8]]  # also chunks shorter than the window
cuts = pytest.mark.parametrize("cut", CUTS, ids=str)


@pytest.mark.sampled(6)
@rows
@cuts
@pytest.mark.parametrize("kind", ["none", "mixed"])
def test_chunks_with_carried_states_equal_one_call(name, given, cut, kind):
    this, mask = case(name, **given), masks().get(kind, np.ones((B, T), bool))
    layer = this.layer(return_state=True)
    whole, *final = layer(this.x, initial_state=this.initial_state, mask=mask)
    states, found = this.initial_state, []
    for x, valid in zip(np.split(this.x, cut, axis=1), np.split(mask, cut, axis=1), strict=True):
        outputs, *states = layer(x, initial_state=states, mask=valid)
        found.append(keras.ops.convert_to_numpy(outputs))
    for index, (a, b) in enumerate(zip(states, final, strict=True)):
        assert_close(a, b, "chunks", f"{name}: state {index}")
    # A chunk begins anew where nothing was valid yet in it; there the outputs are not comparable.
    starts = np.concatenate([p.cumsum(axis=1) > 0 for p in np.split(mask, cut, axis=1)], axis=1)
    whole, found = keras.ops.convert_to_numpy(whole), np.concatenate(found, axis=1)
    assert_close(found[starts], whole[starts], "chunks", name)


@pytest.mark.sampled(5)
@rows
@cuts
def test_stateful_chunks_equal_one_call(name, given, cut):
    this = case(name, **given)
    stateful, plain = this.layer(stateful=True), this.layer()
    for _ in range(2):
        chunks = [stateful(x) for x in np.split(this.x, cut, axis=1)]
        found = np.concatenate([keras.ops.convert_to_numpy(c) for c in chunks], axis=1)
        assert_close(found, plain(this.x), "chunks", name)
        stateful.reset_state()


@windowed
def test_bidirectional_is_the_two_directions_side_by_side(name):
    this = case(name)
    wrapped = keras.layers.Bidirectional(kg.GatedRNN(U, name, return_sequences=True))
    both = wrapped(this.x)
    alone = [wrapped.forward_layer(this.x), keras.ops.flip(wrapped.backward_layer(this.x), 1)]
    expected = keras.ops.concatenate(alone, axis=-1)
    assert_close(both, expected, "reload", name)


@windowed
def test_bare_cell_takes_the_window_side_by_side(name):
    this = case(name)
    cell = kg.GatedCell(U, name)
    cell.build((B, 2 * F))
    cell.set_block_weights(this.weights)
    states, before = this.state, np.zeros_like(this.x[:, 0])
    for t in range(3):
        step = np.concatenate([this.x[:, t], before], axis=-1)
        output, states = cell(step, states)
        before = this.x[:, t]
    assert_close(output, this.expected[0][:, 2], "float32", name)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="fit is slow and alike elsewhere")
def test_length_and_batch_may_vary_in_a_compiled_model():
    model = keras.Sequential(
        [keras.Input((None, F)), kg.GatedRNN(U, kg.preset("qrnn_fo", window=3))]
    )
    for batch, time in ((2, 1), (3, 2), (4, 7)):
        x = np.random.default_rng(1).standard_normal((batch, time, F)).astype("float32")
        assert_close(model.predict(x, verbose=0), model.layers[0](x), "xla", f"{batch} {time}")
