"""Masks, lengths and initial states of every shape: taken, or refused with what was expected."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_gated as kg
from tests.helpers import (
    BACKEND,
    HOLES,
    SHORT,
    B,
    F,
    U,
    apart,
    assert_close,
    case,
    gradients,
    raises,
)

X = np.random.default_rng(0).normal(size=(B, SHORT, F)).astype("float32")
UPSTREAM = np.random.default_rng(1).normal(size=(B, SHORT, U)).astype("float32")


@pytest.mark.parametrize(
    "shape",
    [(B, SHORT, F), (B, SHORT, 2), (B, SHORT + 1), (B + 1, SHORT), (SHORT,), (B, SHORT, 1, 1)],
)
def test_a_mask_of_another_shape_is_refused(shape):
    for layer in (kg.GatedLSTM(U), kg.GatedRNN(U, "min_gru")):
        text = f"`mask`...({B}, {SHORT}, {F})...shape={shape}"
        raises(lambda layer=layer: layer(X, mask=np.ones(shape, bool)), text)


@pytest.mark.parametrize("name", ["lstm", "qrnn_fo", "fgr"])
def test_masks_that_are_taken(name):
    layer = case(name).layer()
    expected = layer(X, mask=HOLES)
    for mask in (HOLES[..., None], HOLES.astype("float32"), HOLES.astype("int32")):
        assert_close(layer(X, mask=mask), expected, "reload", str(mask.dtype))
    assert apart(layer(X), expected) > 1e-3


@pytest.mark.parametrize("lengths", [[3], [3] * (B + 1)])
def test_lengths_of_another_batch_are_refused(lengths):
    given = ops.convert_to_tensor(np.array(lengths, "int32"))
    raises(lambda: kg.GatedLSTM(U)(X, lengths=given), f"`lengths`...shape=({len(lengths)},)")


@pytest.mark.parametrize("wrong", [SHORT + 1, -1])
def test_lengths_out_of_range_are_said(wrong):
    layer, lengths = kg.GatedLSTM(U, return_sequences=True), np.array([wrong, 1, 2, 3], "int32")
    with pytest.warns(UserWarning, match=rf"`lengths`.*0 to {SHORT}.*{wrong}"):
        found = layer(X, lengths=lengths)
    assert_close(found, layer(X, lengths=np.clip(lengths, 0, SHORT)), "reload", "clipped")


@pytest.mark.parametrize(
    "shapes",
    [[(B, U + 1), (B, U)], [(B - 1, U), (B, U)], [(B, U, 1), (B, U)], [(B, U)], [()] * 2],
)
def test_initial_states_of_another_shape_are_refused(shapes):
    states = [np.zeros(shape, "float32") for shape in shapes]
    text = f"`initial_state`...h, c, of shapes ({B}, {U}), ({B}, {U})...{shapes[0]}"
    raises(lambda: kg.GatedLSTM(U)(X, initial_state=states), text)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", ["lstm", "gru", "qrnn_fo", "fgr", "min_gru"])
@pytest.mark.parametrize("rank", [1, 2])
def test_one_row_of_states_stands_for_the_batch(name, rank):
    """A learned initial state: its gradient is the sum of that of the rows."""
    this = case(name)
    layer = this.layer(time_parallel=name == "min_gru")
    rows = [state[:1] for state in this.initial_state]
    upstream = UPSTREAM[..., : layer.cell.output_size]
    weights, full = gradients(layer, X, upstream, [np.repeat(r, B, axis=0) for r in rows])
    given = rows if rank == 2 else [row[0] for row in rows]
    ours, found = gradients(layer, X, upstream, given)
    for a, b in zip(found, full, strict=True):
        b = b.sum(0, keepdims=rank == 2)
        assert_close(a, b, "keras float32", name)
    for a, b in zip(ours, weights, strict=True):
        assert_close(a, b, "keras float32", name)


def test_a_learned_initial_state_in_a_model():
    class Start(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.start = self.add_weight(shape=(1, U), initializer="glorot_uniform", name="h")
            self.gru = kg.GatedGRU(U)

        def call(self, x):
            return self.gru(x, initial_state=ops.convert_to_tensor(self.start))

    model = keras.Sequential([keras.Input((None, F)), Start()])
    before = ops.convert_to_numpy(model.layers[0].start)
    model.compile("sgd", "mse")
    model.fit(X, UPSTREAM[:, 0], verbose=0)
    assert apart(model.layers[0].start, before) > 0.0


@pytest.mark.parametrize(
    ("name", "more"),
    [
        *((name, {}) for name in ("lstm", "gru", "qrnn_fo", "fgr")),
        ("gru", {"unroll": True}),
        ("min_gru", {"time_parallel": True}),
        ("lstm", {"go_backwards": True}),
    ],
)
def test_nan_under_a_mask_reaches_no_gradient(name, more):
    layer = case(name).layer(**more)
    x = np.where(HOLES[..., None], X, np.nan).astype("float32")
    found, _ = gradients(layer, x, UPSTREAM, mask=HOLES)
    expected, _ = gradients(layer, X, UPSTREAM, mask=HOLES)
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b, "keras float32", name)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="what XLA is given is the same elsewhere")
def test_a_compiled_call_takes_them_too():
    import tensorflow as tf

    layer = kg.GatedGRU(U)
    start, lengths = tf.ones((1, U)), tf.constant([9, 1, 2, 3])
    compiled = tf.function(lambda x, n: layer(x, lengths=n, initial_state=start), jit_compile=True)
    expected = layer(X, lengths=np.array([SHORT, 1, 2, 3], "int32"), initial_state=start)
    assert_close(compiled(X, lengths), expected, "xla", "compiled")
