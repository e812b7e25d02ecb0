"""Sequences packed into rows: every one once, and what a layer computes for each alone."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from keras_gated.packed_batches import pack_rows
from tests.helpers import F, U, assert_close, case, gradients, raises


def sequences(count=23, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, F)).astype("float32") for n in rng.integers(1, 12, size=count)]


def found_in(batches):
    """Each sequence of the batches, as (inputs, targets, weights), without padding."""
    for (x, resets), y, weights in (batches[k] for k in range(len(batches))):
        assert x.shape[:2] == resets.shape == y.shape[:2] == weights.shape
        for row in range(len(x)):
            edges = [*np.flatnonzero(resets[row]), x.shape[1]]
            for begin, end in zip(edges, edges[1:], strict=False):
                if weights[row, begin:end].any():
                    yield x[row, begin:end], y[row, begin:end], weights[row, begin:end]
                else:
                    assert not x[row, begin:end].any() and not y[row, begin:end].any()


def test_rows_are_packed_by_best_fit():
    assert pack_rows([5, 4, 3, 2, 1], 6) == [[0, 4], [1, 3], [2]]
    lengths = sorted(np.random.default_rng(0).integers(1, 50, size=500).tolist(), reverse=True)
    rows = pack_rows(lengths, 60)
    assert sorted(place for row in rows for place in row) == list(range(500))
    assert all(sum(lengths[place] for place in row) <= 60 for row in rows)
    assert len(rows) <= 1.02 * sum(lengths) / 60 + 1


def test_every_sequence_is_there_once_in_batches_of_one_shape():
    data = sequences()
    labels = np.arange(1, len(data) + 1)
    batches = kg.PackedBatches(data, labels, batch_size=3, length=20)
    orders, count = [], len(batches)
    for _ in range(2):
        seen = []
        for x, y, weights in found_in(batches):
            assert weights.tolist() == [0.0] * (len(x) - 1) + [1.0] and not y[:-1].any()
            assert_close(x, data[y[-1] - 1], "reload", "sequence")
            seen.append(int(y[-1]))
        assert sorted(seen) == labels.tolist() and len(batches) == count
        assert {batches[k][0][0].shape for k in range(count)} == {(3, 20, F)}
        orders.append(seen)
        batches.on_epoch_end()
    assert orders[0] != orders[1]
    again = kg.PackedBatches(data, labels, batch_size=3, length=20)
    assert [int(y[-1]) for _, y, _ in found_in(again)] == orders[0]
    other = kg.PackedBatches(data, labels, batch_size=3, length=20, seed=1)
    assert [int(y[-1]) for _, y, _ in found_in(other)] != orders[0]
    still = kg.PackedBatches(data, labels, batch_size=3, length=20, shuffle=False)
    first = [int(y[-1]) for _, y, _ in found_in(still)]
    still.on_epoch_end()
    assert [int(y[-1]) for _, y, _ in found_in(still)] == first


def test_the_share_of_padding():
    data = [np.ones((n, F)) for n in (10, 9, 1, 2)]
    batches = kg.PackedBatches(data, batch_size=8)
    assert batches.padding == pytest.approx(8 / 30)  # rows of 10, of 9 and 1, and of 2
    assert batches.padding_saved == pytest.approx(1 - 8 / 18)  # four rows of 10 hold 18 of padding
    equal = kg.PackedBatches([np.ones((4, F))] * 3)
    assert equal.padding == equal.padding_saved == 0.0
    longer = kg.PackedBatches(sequences(200), length=64)
    assert longer.padding < 0.03 and longer.padding_saved > 0.9
    (inputs,) = longer[0]
    assert [part.shape for part in inputs] == [(32, 64, F), (32, 64)]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("go_backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("name", ["gru", "qrnn_fo"])
def test_the_gradient_is_the_sum_of_those_of_the_sequences_alone(name, go_backwards):
    data = sequences(7)
    rng = np.random.default_rng(2)
    upstream = [rng.normal(size=(len(x), U)).astype("float32") for x in data]
    layer = case(name).layer(go_backwards=go_backwards)
    batches = kg.PackedBatches(data, upstream, batch_size=4, length=16)
    assert len(batches) == 1
    (x, resets), y, _ = batches[0]
    y, each = (y[:, ::-1], [u[::-1] for u in upstream]) if go_backwards else (y, upstream)
    found, _ = gradients(layer, x, y.copy(), resets=resets)
    alone = [gradients(layer, s[None], u[None].copy())[0] for s, u in zip(data, each, strict=True)]
    for at, a in enumerate(found):
        assert_close(a, sum(parts[at] for parts in alone), "keras float32", f"weight {at}")


def test_the_loss_is_that_of_the_sequences_alone():
    data = sequences()
    targets = [x[:, :1] * 2.0 for x in data]
    x, r = keras.Input((None, F)), keras.Input((None,), dtype="bool")
    hidden = kg.GatedGRU(U, return_sequences=True, seed=1)(x, resets=r)
    model = keras.Model([x, r], keras.layers.Dense(1)(hidden))
    model.compile("sgd", keras.losses.MeanSquaredError("mean_with_sample_weight"))
    packed = model.evaluate(kg.PackedBatches(data, targets, batch_size=16), verbose=0)
    errors = []
    for s, y in zip(data, targets, strict=True):
        none = np.zeros((1, len(s)), bool)
        errors.append((keras.ops.convert_to_numpy(model([s[None], none]))[0] - y) ** 2)
    assert_close(packed, np.concatenate(errors).mean(), "float32", "loss")
    history = model.fit(kg.PackedBatches(data, targets, batch_size=4), epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_several_inputs_and_targets_by_name():
    data = sequences()
    speaker = np.arange(1, len(data) + 1, dtype="float32")[:, None]
    targets = {"tags": [np.ones((len(x), 2)) for x in data], "mood": speaker}
    batches = kg.PackedBatches({"audio": data, "speaker": speaker}, targets, batch_size=4)
    inputs, y, weights = batches[0]
    assert sorted(inputs) == ["audio", "resets", "speaker"]
    ends = weights["mood"] > 0
    assert_close(inputs["speaker"][ends], y["mood"][ends], "reload", "rows")
    assert_close(inputs["speaker"][..., 0] > 0, weights["tags"], "reload", "padding")
    assert weights["mood"].sum() == (inputs["resets"] & (weights["tags"] > 0)).sum()


def test_weights_of_classes_and_of_samples():
    data, rng = sequences(), np.random.default_rng(5)
    labels, own = rng.integers(0, 3, size=len(data)), rng.random(len(data))
    more = {"batch_size": 4, "class_weight": {0: 2.0, 2: 0.5}}
    of_class = np.choose(labels, [2.0, 1.0, 0.5])
    for y in (labels, np.eye(3)[labels], labels[:, None]):
        batches = kg.PackedBatches(data, y, sample_weight=own, **more)
        found = np.concatenate([weights[weights > 0] for _, _, weights in batches])
        assert_close(sorted(found), sorted(own * of_class), "float32", "weights")
    by_step = [rng.random(len(x)) for x in data]
    batches = kg.PackedBatches(data, labels, sample_weight=by_step, **more)
    found = np.concatenate([weights[weights > 0] for _, _, weights in batches])
    last = np.array([w[-1] for w in by_step])
    assert_close(sorted(found), sorted(last * of_class), "float32", "last steps")
    steps = [rng.integers(0, 3, size=len(x)) for x in data]
    for given in (own, by_step):
        batches = kg.PackedBatches(data, steps, sample_weight=given, **more)
        found = np.concatenate([weights[weights > 0] for _, _, weights in batches])
        pairs = zip(given, steps, strict=True)
        expected = np.concatenate([w * np.choose(y, [2.0, 1.0, 0.5]) for w, y in pairs])
        assert_close(sorted(found), sorted(expected), "float32", "weights of steps")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"length": 10}, "`length`...longest sequence, 11...Received: length=10...Cut"),
        ({"length": 40.0}, "`length`...integer > 0. Received: length=40.0"),
        ({"batch_size": 0}, "`batch_size`...batch_size=0"),
        ({"targets": np.ones(2)}, "`targets`...Received: 2 for 23"),
        ({"sample_weight": np.ones(2)}, "`sample_weight`...Received: 2 for 23"),
        ({"sequences": []}, "`sequences`...Received: 0 arrays"),
        (
            {"sequences": [np.ones((0, F)), np.ones((2, F))], "targets": np.ones(2)},
            "`sequences`...at least one time step...Received: 1 without any",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_does_not_fit_is_refused(arguments, text):
    data = {"sequences": sequences(), "targets": np.ones(23), **arguments}
    assert max(map(len, sequences())) == 11
    raises(lambda: kg.PackedBatches(**data), text)


def test_no_input_may_have_the_name_of_the_marks():
    data = {"x": sequences(), "resets": np.ones(23)}
    raises(lambda: kg.PackedBatches(data, np.ones(23)), "`sequences`...Received: ['resets', 'x']")
