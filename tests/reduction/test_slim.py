"""`slim` finds what was planted as doing nothing, and does not take what is needed."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import keras_gated as kg
from keras_gated.reduction.files import export_files
from keras_gated.reduction.gate_rows import GateReport, GateRow
from keras_gated.reduction.search import Goal, Search
from keras_gated.reduction.slim import direction_of
from keras_gated.reduction.slim_result import Point

LAYERS = keras.layers
T, F = 8, 3


def task(seed, count=64):
    """The sum of the inputs over time: a cell without any gate can say it."""
    x = np.random.default_rng(seed).standard_normal((count, T, F)).astype("float32") / T
    return x, x.sum(axis=1)


TRAIN, VALIDATION = task(0), task(1)


def compiled():
    keras.utils.set_random_seed(2)
    model = keras.Sequential(
        [keras.Input((T, F)), kg.GatedRNN(4, "mgu", name="cell"), LAYERS.Dense(F, name="sum")]
    )
    # Each step makes a new model: compiling them all would take most of the time of the tests.
    model.compile(keras.optimizers.Adam(0.02), "mse", metrics=["mae"], run_eagerly=True)
    return model


@pytest.fixture(scope="module")
def trained():
    model = compiled()
    model.fit(*TRAIN, epochs=40, batch_size=64, verbose=0)
    return model


ARGUMENTS = {"epochs": 2, "tolerance": 0.5, "verbose": 0}


@pytest.fixture(scope="module")
def result(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    return kg.slim(trained, TRAIN, VALIDATION, folder=folder, **ARGUMENTS), folder


@pytest.mark.long
def test_the_path_goes_down_within_the_tolerance(trained, result):
    found, _ = result
    weights = [point.weights for point in found.path]
    assert weights == sorted(weights, reverse=True) and len(set(weights)) == len(weights) > 1
    assert found.path[0].weights == trained.count_params()
    limit = 1.5 * found.path[0].value
    assert found.limit == pytest.approx(limit)
    for point in found.path:
        assert point.value <= limit and point.weights == point.model.count_params()
        loss = point.model.evaluate(*VALIDATION, verbose=0, return_dict=True)["loss"]
        assert loss == pytest.approx(point.value, rel=1e-4)
    assert all(point.value > limit for point in found.rejected)
    assert found.model is found.path[-1].model
    assert found.control.weights == trained.count_params()
    assert found.front[-1] is found.path[-1] and all(point in found.path for point in found.front)
    assert found.plot().axes[0].get_xlabel() == "weights of the model"
    assert str(found).startswith(f"{weights[0]} -> {weights[-1]} weights")


@pytest.mark.long
def test_it_goes_on_where_it_was_stopped(trained, result):
    """Half of the record is deleted: the second run ends as the first did."""
    found, folder = result
    file = folder / "search.json"
    record = json.loads(file.read_text())
    record["tried"] = record["tried"][: len(record["tried"]) // 2]
    file.write_text(json.dumps(record))
    again = kg.slim(trained, TRAIN, VALIDATION, folder=folder, **ARGUMENTS)
    assert [p.title for p in again.path] == [p.title for p in found.path]
    np.testing.assert_allclose(
        [p.value for p in again.path], [p.value for p in found.path], rtol=1e-5
    )
    assert again.path[1].changes == found.path[1].changes


@pytest.mark.long
def test_another_search_in_the_same_folder(trained, result):
    _, folder = result
    other = ARGUMENTS | {"epochs": 3}
    with pytest.raises(ValueError, match="`folder` must be empty.*other values of epochs"):
        kg.slim(trained, TRAIN, VALIDATION, folder=folder, **other)


@pytest.mark.long
def test_nothing_smaller_is_as_good(trained):
    """The model gives the mean of the targets, so that every other one is worse."""
    x, y = VALIDATION[0], keras.ops.convert_to_numpy(trained(VALIDATION[0]))
    around = (np.concatenate([x, x]), np.concatenate([y + 0.5, y - 0.5]))
    random = (x, np.random.default_rng(5).standard_normal(y.shape))
    found = kg.slim(trained, random, around, epochs=1, tolerance=0.0, verbose=0)
    assert [point.title for point in found.path] == ["the model given"] and found.rejected
    assert found.model.count_params() == trained.count_params()
    assert str(found).startswith("Nothing smaller is as good")


@pytest.mark.long
def test_several_seeds_datasets_and_files(trained, tmp_path):
    tf = pytest.importorskip("tensorflow")
    train = tf.data.Dataset.from_tensor_slices(TRAIN).batch(32)
    validation = kg.PaddedBatches(list(VALIDATION[0]), VALIDATION[1], with_lengths=False)
    arguments = ARGUMENTS | {"seeds": 2, "target": "bytes", "tolerance": 1.0}
    found = kg.slim(trained, train, validation, **arguments)
    assert all(len(point.values) == 2 for point in found.path[1:])
    files = found.export(tmp_path)
    assert set(files) == {"float32", "int8", "stream"}
    assert files["float32"].bytes == files["float32"].path.stat().st_size > 0
    assert files["stream"].microseconds > 0


@pytest.mark.parametrize(
    ("monitor", "sign"),
    [
        *(("val_loss", 1.0), ("val_accuracy_loss", 1.0), ("val_mean_absolute_error", 1.0)),
        *(("val_accuracy", -1.0), ("val_cosine_similarity", -1.0), ("val_fbeta_score", -1.0)),
    ],
)
def test_which_way_is_better(monitor, sign):
    assert direction_of(monitor, "auto") == sign
    assert direction_of(monitor, "max") == -1.0


def test_a_name_that_does_not_say_which_way_is_better():
    with pytest.raises(ValueError, match="`mode` must be 'min' or 'max'.*monitor='val_gain'"):
        direction_of("val_gain", "auto")


@pytest.mark.parametrize(
    ("loss", "increases", "tolerance", "tried"),
    [
        (1.0, [0.2, 0.3, 2.0], 0.01, 1),  # a quarter of the loss
        (0.01, [0.02, 0.05, 3.0], 0.01, 2),  # a fiftieth of what the worst costs
        (0.01, [0.02, 0.05, float("inf")], 0.01, 0),  # infinity says nothing of that
        (1.0, [0.2, 0.9, 2.0], 1.0, 2),  # what is within the tolerance as it is
    ],
)
def test_which_steps_are_tried(loss, increases, tolerance, tried):
    rows = [
        GateRow("cell", "input", f"{k}", loss + more, more, 50, 0, None, "LSTM", {})
        for k, more in enumerate(increases)
    ]
    report = GateReport(loss, 100, tuple(rows))
    survey = SimpleNamespace(report=lambda: report, reducer=SimpleNamespace(layers={}))
    goal = Goal("val_loss", 1.0, tolerance, loss)
    search = Search(goal, None, None, 1, 1, native=False, log=None)
    assert search._rows(survey, []) == rows[:tried] and search.untried == 3 - tried
    first = Point("the model given", {}, 100, (loss,), True, None)
    result = kg.SlimResult((first,), (), first, "val_loss", goal.limit, untried=search.untried)
    assert f"not tried {3 - tried} steps" in str(result)


def test_the_front_of_values_of_which_more_is_better():
    points = [
        Point(str(w), {}, w, (v,), True, None) for w, v in ((100, 0.9), (50, 0.9), (20, 0.95))
    ]
    found = kg.SlimResult(tuple(points), (), points[0], "val_acc", 0.9, sign=-1.0)
    assert [point.weights for point in found.front] == [20]


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tolerance": -0.1}, "`tolerance` must be a number >= 0.*Received: tolerance=-0.1"),
        ({"epochs": 0}, "`epochs` must be an integer > 0. Received: epochs=0"),
        ({"mode": "up"}, "`mode` must be one of 'auto', 'min', 'max'. Received: mode='up'"),
        ({"target": "time"}, "`target` must be one of 'weights', 'bytes'"),
        (
            {"monitor": "val_acc"},
            "`monitor` must be one of val_loss, val_mae. Received: monitor='v",
        ),
        ({"train": TRAIN[0]}, r"`train` must be \(x, y\).*Received: ndarray"),
        ({"validation": iter([TRAIN])}, "`validation` must be .*can be read again"),
    ],
)
def test_bad_arguments(arguments, message):
    given = {"train": TRAIN, "validation": VALIDATION, **ARGUMENTS, **arguments}
    with pytest.raises(ValueError, match=message):
        kg.slim(compiled(), **given)


def test_files_of_a_model_with_a_mask_as_an_input_are_timed(tmp_path):
    x, mask = keras.Input((None, 3)), keras.Input((None,), dtype="bool", name="mask")
    model = keras.Model([x, mask], kg.GatedGRU(4)(x, mask=mask))
    files = export_files(model, tmp_path)
    assert files["float32"].microseconds > 0
