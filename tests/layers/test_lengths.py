"""Lengths instead of a mask, and masks beside other arguments."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from tests.helpers import BACKEND, B, F, T, U, apart, assert_close, case, raises

LENGTHS = np.array([T, 4, 0, 1], "int32")
MASK = np.arange(T)[None] < LENGTHS[:, None]
HOLES = np.random.default_rng(3).random((B, T)) < 0.6


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *((name, {}) for name in ("lstm", "gru", "min_gru", "fgr")),
        *((name, {"go_backwards": True}) for name in ("lstm", "fgr")),
        *((name, {"zero_output_for_mask": True}) for name in ("gru", "fgr")),
    ],
)
def test_lengths_are_a_mask(name, arguments):
    this = case(name)
    layer = this.layer(**arguments)
    call = {"initial_state": this.initial_state}
    found = layer(this.x, lengths=LENGTHS, **call)
    assert_close(found, layer(this.x, mask=MASK, **call), "reload", name)
    both = layer(this.x, lengths=LENGTHS, mask=HOLES, **call)
    assert_close(both, layer(this.x, mask=MASK & HOLES, **call), "reload", name)
    thick = layer(this.x, lengths=LENGTHS, mask=HOLES[..., None], **call)
    assert_close(thick, both, "reload", name)
    assert apart(found, layer(this.x, **call)) > 1e-3


def test_a_row_is_what_it_is_alone():
    this = case("lstm")
    layer = this.layer(return_sequences=False, return_state=True)
    found = layer(this.x, lengths=LENGTHS)
    for row, length in enumerate(LENGTHS):
        if length:
            alone = layer(this.x[row : row + 1, :length])
            for a, b in zip(found, alone, strict=True):
                assert_close(a[row : row + 1], b, "xla", f"row {row}")


def test_in_a_functional_model_that_is_saved(tmp_path):
    x, n = keras.Input((None, F), name="x"), keras.Input((), dtype="int32", name="n")
    y = kg.GatedGRU(U, return_sequences=True)(x, lengths=n)
    model = keras.Model([x, n], kg.GatedLSTM(4)(y, lengths=n))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    data = case("lstm").x
    found = loaded([data, LENGTHS])
    assert_close(found, model([data, LENGTHS]), "reload", "loaded")
    first, second = model.layers[-2:]
    inner = first(data, mask=MASK)
    assert_close(found, second(inner, mask=MASK), "xla", "by mask")


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the export runs on TensorFlow")
def test_lengths_leave_natively(tmp_path):
    x, n = keras.Input((None, F), name="x"), keras.Input((), dtype="int32", name="n")
    model = keras.Model([x, n], kg.GatedGRU(U, return_sequences=True)(x, lengths=n))
    report = kg.export_onnx(model, tmp_path / "model.onnx", verify=False)
    assert report.inputs == ("x", "n") and report.layers[0].operator == "GRU"
    onnxruntime = pytest.importorskip("onnxruntime")
    data = case("lstm").x
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(None, {"x": data, "n": LENGTHS})
    assert_close(found, model([data, LENGTHS]), "keras float32", "onnx")


@pytest.mark.parametrize(
    "lengths", [LENGTHS[:, None], LENGTHS.astype("float32"), np.int32(3)], ids=["2", "float", "0"]
)
def test_other_lengths_are_refused(lengths):
    layer = kg.GatedLSTM(U, name="cell")
    text = "`lengths`...(B,)...Received: "
    raises(lambda: layer(np.zeros((B, T, F), "float32"), lengths=lengths), text)


@pytest.mark.parametrize("given", ["nothing", "states", "lengths"])
def test_a_carried_mask_is_found_beside_other_arguments(given):
    """Keras's own layers lose it there."""
    this = case("lstm")
    x = this.x.copy()
    x[:, 2], x[1, 5:] = 0.0, 0.0
    mask = (x != 0.0).any(-1)
    call = {
        "nothing": {},
        "states": {"initial_state": [keras.ops.convert_to_tensor(s) for s in this.state]},
        "lengths": {"lengths": keras.ops.convert_to_tensor(LENGTHS)},
    }[given]
    layer = this.layer()
    carried = layer(keras.layers.Masking()(x), **call)
    assert_close(carried, layer(x, mask=mask, **call), "reload", given)
    assert apart(carried, layer(x, **call)) > 1e-3


@pytest.mark.parametrize("state", [False, True])
def test_two_layers_stand_still_behind_the_end(state):
    """The second layer of a stack must see the mask too: on Keras 3.16 its own layers do not."""
    ids = np.array([[3, 1, 2, 0, 0], [1, 0, 0, 0, 0]])
    inputs = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(5, F, mask_zero=True)(inputs)
    x = kg.GatedLSTM(U, return_sequences=True, return_state=state)(x)
    x = kg.GatedGRU(U)(x[0] if state else x)
    model = keras.Model(inputs, x)
    longer = np.concatenate([ids, np.zeros((2, 4), ids.dtype)], axis=1)
    assert_close(model(longer), model(ids), "xla", "padding")


@pytest.mark.parametrize("backwards", [(True, False), (False, True), (True, True)])
def test_two_layers_of_which_one_runs_backwards(backwards):
    """A row with padding is the row alone: the mask is turned round with the outputs."""
    this = case("lstm")
    layers = [
        kg.GatedLSTM(U, return_sequences=True, go_backwards=way, seed=k)
        for k, way in enumerate(backwards)
    ]
    x = np.where(MASK[..., None], this.x, 0.0).astype("float32")
    found = layers[1](layers[0](keras.layers.Masking()(x)))
    for row, length in enumerate(LENGTHS):
        if length:
            alone = layers[1](layers[0](x[row : row + 1, :length]))
            ours = (
                found[row : row + 1, :length]
                if backwards[0] == backwards[1]
                else (found[row : row + 1, T - length :])
            )
            assert_close(ours, alone, "xla", f"row {row}")


def test_a_mask_goes_on_whatever_keras_own_layers_do(monkeypatch):
    """As in Keras 3.16, whose recurrent layers drop it."""

    def dropping(self, *args, **kwargs):
        made(self, *args, **kwargs)
        self.supports_masking = False

    made = keras.layers.RNN.__init__
    monkeypatch.setattr(keras.layers.RNN, "__init__", dropping)
    monkeypatch.setattr(keras.layers.RNN, "compute_mask", keras.layers.Layer.compute_mask)
    test_two_layers_stand_still_behind_the_end(True)
    test_nothing_carries_a_mask_where_no_sequence_comes_out()


@pytest.mark.filterwarnings("ignore:Layer 'bidirectional.* does not support masking:UserWarning")
def test_behind_keras_own_wrappers_each_layer_is_given_the_mask(monkeypatch):
    """`Bidirectional` of Keras 3.16 drops it, whatever is inside."""
    made = keras.layers.Bidirectional.__init__

    def dropping(self, *args, **kwargs):
        made(self, *args, **kwargs)
        self.supports_masking = False

    monkeypatch.setattr(keras.layers.Bidirectional, "__init__", dropping)
    monkeypatch.setattr(keras.layers.Bidirectional, "compute_mask", lambda *_: None)
    first = keras.layers.Bidirectional(kg.GatedLSTM(U, return_sequences=True, seed=1))
    second, x = kg.GatedGRU(U, seed=2), case("lstm").x
    found = second(first(x, mask=MASK), mask=MASK)
    assert apart(found, second(first(x, mask=MASK))) > 1e-3
    for row, length in enumerate(LENGTHS):
        if length:
            alone = second(first(x[row : row + 1, :length]))
            assert_close(found[row : row + 1], alone, "xla", f"row {row}")


def test_nothing_carries_a_mask_where_no_sequence_comes_out():
    layer = kg.GatedLSTM(U, return_state=True)
    layer.build((B, T, F))
    assert layer.compute_mask(None, MASK) == [None, None, None]
    layer.return_sequences = True
    mask, *rest = layer.compute_mask(None, MASK)
    assert mask is MASK and rest == [None, None]
