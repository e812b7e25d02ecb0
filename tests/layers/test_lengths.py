"""Lengths instead of a mask, masks beside other arguments, and batches of padded sequences."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from tests.helpers import BACKEND, B, F, T, U, apart, assert_close, case, gradients, raises

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


# A mask that the sequences carry -----------------------------------------------------------------


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


# Batches ----------------------------------------------------------------------------------------


def test_bucket_lengths_add_least():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 14, size=30).tolist()
    for count in (1, 2, 3):
        found = kg.bucket_lengths(lengths, count)
        assert len(found) == count and found == sorted(found) and found[-1] == max(lengths)
        assert added(lengths, found) == least_added(lengths, count)
    assert kg.bucket_lengths(lengths, 99) == sorted(set(lengths))
    assert kg.bucket_lengths([10, 11, 11, 90, 100], count=2) == [11, 100]
    raises(lambda: kg.bucket_lengths([]), "Received: 0 lengths, count=")
    raises(lambda: kg.bucket_lengths([3], 0), "Received: 1 lengths, count=0")


def added(lengths, buckets) -> int:
    return sum(min(b for b in buckets if b >= n) - n for n in lengths)


def least_added(lengths, count) -> int:
    from itertools import combinations

    *lower, top = sorted(set(lengths))
    return min(added(lengths, [*some, top]) for some in combinations(lower, count - 1))


def sequences(count=23, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, F)).astype("float32") for n in rng.integers(1, 12, size=count)]


def test_batches_hold_every_sequence_once_in_few_shapes():
    data = sequences()
    labels = np.arange(len(data))
    batches = kg.PaddedBatches(data, labels, batch_size=4, buckets=3)
    shapes, seen, orders = set(), [], []
    for _ in range(2):
        seen.clear()
        for (x, n), y, weight in (batches[k] for k in range(len(batches))):
            shapes.add(x.shape)
            assert n.shape == y.shape == weight.shape == (4,)
            assert ((n > 0) == (weight == 1.0)).all()
            for row in np.flatnonzero(weight):
                label = y[row]
                seen.append(int(label))
                assert_close(x[row, : n[row]], data[label], "reload", "sequence")
                assert not x[row, n[row] :].any()
        assert sorted(seen) == labels.tolist()
        orders.append(list(seen))
        batches.on_epoch_end()
    assert len(shapes) == 3 and orders[0] != orders[1]
    again = kg.PaddedBatches(data, labels, batch_size=4, buckets=3)
    assert [y.tolist() for _, y, _ in (again[k] for k in range(len(again)))] == [
        y.tolist() for _, y, _ in (kg.PaddedBatches(data, labels, batch_size=4, buckets=3))
    ]


def test_targets_of_each_time_step_and_none():
    data = sequences()
    targets = [np.arange(len(s)) for s in data]
    batches = kg.PaddedBatches(data, targets, batch_size=5, buckets=[6, 11], with_lengths=False)
    x, y, weight = batches[0]
    assert x.shape[:2] == y.shape == weight.shape and x.shape[1] in (6, 11)
    assert (y[weight == 0.0] == 0).all() and (
        weight.sum(1) == (y.max(1) + 1) * (weight[:, 0])
    ).all()
    (inputs,) = kg.PaddedBatches(data, with_lengths=False)[0]
    assert inputs.ndim == 3


def test_padding_changes_no_number_of_a_training_step():
    """The gradient of a padded batch is the sum of those of its sequences alone."""
    data = sequences(5)
    layer = case("gru").layer(return_sequences=False)
    upstream = np.random.default_rng(2).normal(size=(5, U)).astype("float32")
    batches = kg.PaddedBatches(data, np.arange(5), batch_size=8, buckets=1, shuffle=False)
    (x, n), y, weight = batches[0]
    padded = np.zeros((8, U), "float32")
    padded[:5] = upstream[y[:5]]
    found, _ = gradients(layer, x, padded, lengths=keras.ops.convert_to_tensor(n))
    alone = [gradients(layer, s[None], u[None])[0] for s, u in zip(data, upstream, strict=True)]
    for at, a in enumerate(found):
        assert_close(a, sum(parts[at] for parts in alone), "keras float32", f"weight {at}")


@pytest.mark.skipif(BACKEND != "tensorflow", reason="counts traces of TensorFlow")
def test_a_step_is_compiled_once_for_each_length():
    x, n = keras.Input((None, F)), keras.Input((), dtype="int32")
    model = keras.Model([x, n], keras.layers.Dense(1)(kg.GatedRNN(U, "elman")(x, lengths=n)))
    traced = []

    class Counted(keras.losses.Loss):
        def call(self, y, found):
            traced.append(1)
            return keras.ops.mean((y - found) ** 2, -1)

    model.compile("sgd", Counted(), jit_compile=True)
    data = sequences(23)
    batches = kg.PaddedBatches(data, np.ones((23, 1), "float32"), batch_size=4, buckets=2)
    model.fit(batches, epochs=3, verbose=0)
    assert len(batches) > 5 and len(traced) <= 3  # one more while the model is built


def test_what_does_not_fit_is_refused():
    data = sequences(3)
    raises(
        lambda: kg.PaddedBatches([]),
        "`sequences`...Received: 0 with features []",
    )
    raises(lambda: kg.PaddedBatches([*data, np.zeros((3, F + 1))]), "Received: 4 with features")
    raises(
        lambda: kg.PaddedBatches(data, buckets=[2]),
        "`buckets`...buckets=[2]",
    )
    raises(lambda: kg.PaddedBatches(data, batch_size=0), "`batch_size`...batch_size=0")
    raises(
        lambda: kg.PaddedBatches(data, np.ones(2)),
        "`targets`...Received: 2 targets for 3",
    )
    raises(
        lambda: kg.PaddedBatches(data, [1, 0, 1]),
        "`targets`...Received: lengths [1, 1, 1]",
    )
