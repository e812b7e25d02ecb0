"""Batches of padded sequences in few shapes."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from tests.helpers import BACKEND, F, U, assert_close, case, gradients, raises


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
        "`sequences`...Received: 0 arrays with features []",
    )
    raises(
        lambda: kg.PaddedBatches([*data, np.zeros((3, F + 1))]), "Received: 4 arrays with features"
    )
    raises(
        lambda: kg.PaddedBatches(data, buckets=[2]),
        "`buckets`...buckets=[2]",
    )
    raises(lambda: kg.PaddedBatches(data, batch_size=0), "`batch_size`...batch_size=0")
    raises(
        lambda: kg.PaddedBatches(data, np.ones(2)),
        "`targets`...Received: 2 for 3",
    )
    raises(
        lambda: kg.PaddedBatches(data, [1, 0, 1]),
        "`targets`...Received: arrays of lengths [1, 1, 1]",
    )


def test_weights_of_classes_and_of_sequences():
    data = sequences()
    rng = np.random.default_rng(5)
    labels, own = rng.integers(0, 3, size=len(data)), rng.random(len(data))
    more = {"batch_size": 4, "class_weight": {0: 2.0, 2: 0.5}, "sample_weight": own}
    expected = sorted(own * np.choose(labels, [2.0, 1.0, 0.5]))
    for y in (labels, np.eye(3)[labels], labels[:, None]):
        batches = kg.PaddedBatches(data, y, **more)
        found = np.concatenate([weights[weights > 0] for _, _, weights in batches])
        assert_close(sorted(found), expected, "float32", "weights")
    steps = [rng.integers(0, 3, size=len(x)) for x in data]
    batches = kg.PaddedBatches(data, steps, **more)
    found = np.concatenate([weights[weights > 0] for _, _, weights in batches])
    by_step = [w * np.choose(y, [2.0, 1.0, 0.5]) for w, y in zip(own, steps, strict=True)]
    assert_close(sorted(found), sorted(np.concatenate(by_step)), "float32", "weights of steps")


def test_several_inputs_and_targets_by_name():
    data = sequences()
    speaker = np.arange(len(data), dtype="float32")[:, None]
    targets = {"tags": [np.ones((len(x), 2)) for x in data], "mood": speaker}
    batches = kg.PaddedBatches(
        {"audio": data, "speaker": speaker},
        targets,
        batch_size=4,
        sample_weight={"mood": speaker[:, 0]},
    )
    inputs, y, weights = batches[0]
    assert_close(inputs["speaker"], y["mood"], "reload", "rows")
    assert weights["tags"].sum() == inputs["lengths"].sum() and weights["mood"].shape == (4,)
    x, s = keras.Input((None, F), name="audio"), keras.Input((1,), name="speaker")
    n = keras.Input((), dtype="int32", name="lengths")
    steps = kg.GatedGRU(U, return_sequences=True)(x, lengths=n)
    last = keras.layers.Concatenate()([kg.GatedGRU(U)(x, lengths=n), s])
    outputs = {"tags": keras.layers.Dense(2)(steps), "mood": keras.layers.Dense(1)(last)}
    model = keras.Model({"audio": x, "speaker": s, "lengths": n}, outputs)
    model.compile("sgd", {"tags": "mse", "mood": "mse"})
    history = model.fit(batches, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"sample_weight": np.ones(2)}, "`sample_weight`...Received: 2 for 23"),
        ({"sample_weight": {"tags": np.ones(23)}}, "`sample_weight`...Received: ['tags']"),
        ({"targets": {"a": np.ones(3)}}, "`targets` (of 'a')...Received: 3 for 23"),
        ({"targets": None, "class_weight": {0: 1.0}}, "`class_weight`...Received: ['']"),
    ],
)
def test_weights_that_do_not_fit(arguments, text):
    data = sequences()
    raises(lambda: kg.PaddedBatches(data, **{"targets": np.ones(23), **arguments}), text)
