"""Tasks of memory: adding, copying, digits and vowels."""

import importlib.util
import math

import numpy as np
import pytest
from study import memory

from tests.examples.needs import needs_sklearn, needs_sktime
from tests.examples.recordings import PARTS

FEW = 300, 20, 2_000


def is_adding(x, y):
    marked = np.flatnonzero(x[:, 1])
    ones = x[marked, 1].tolist() == [1.0, 1.0]
    return ones and math.isclose(y[0], sum(x[i, 0] for i in marked), rel_tol=1e-6)


def test_adding_and_what_is_known_of_it():
    task = memory.adding(length=50, sizes=FEW)
    x, y = task.test.sequences, task.test.targets
    assert x.shape == (2_000, 50, 2) and y.shape == (2_000, 1) and not task.each_step
    assert x.dtype == y.dtype == np.float32
    assert all(map(is_adding, x, y))
    assert not all(map(is_adding, x, np.roll(y, 1, axis=0)))
    assert x[:, :, 1].mean(axis=0).max() < 3 * 2 / 50  # marks stand anywhere
    first = np.take_along_axis(x[:, :, 0], x[:, :, 1].argmax(axis=1)[:, None], axis=1)
    reported = {"always 0": 0 * y, "always 1": 0 * y + 1, "one of the two remembered": first + 0.5}
    found = {name: np.mean(task.score(y, guess)) for name, guess in reported.items()}
    assert found["always 1"] == pytest.approx(1 / 6, abs=1e-2)
    assert found == pytest.approx(task.floors(), rel=0.05)
    assert np.max(task.score(y, y)) == 0


def is_copying(x, y, wait):
    symbols = [int(step.argmax()) for step in x[:10]]
    displayed = symbols + [0] * (wait - 1) + [9] * 11
    reported = [0] * (wait + 10) + symbols
    return [int(step.argmax()) for step in x] == displayed and y.tolist() == reported


def test_copying_and_what_is_known_of_it():
    task = memory.copying(length=30, sizes=FEW)
    x, y = task.test.sequences, np.array(task.test.targets)
    assert x.shape == (2_000, 50, 10) and y.shape == (2_000, 50) and task.each_step
    assert x.dtype == np.float32 and (x.sum(axis=-1) == 1).all()
    assert set(x[:, :10].argmax(axis=-1).ravel()) == set(range(1, 9))
    assert all(is_copying(one, reported, 30) for one, reported in zip(x, y, strict=True))
    assert not any(
        is_copying(one, np.roll(reported, 1), 30) for one, reported in zip(x, y, strict=True)
    )
    shares = np.bincount(y.ravel(), minlength=10) / y.size
    known = np.full((50, 10), -50.0)
    known[:40, 0] = known[40:, 1:9] = 0.0
    logits = {
        "all classes alike": np.zeros(10),
        "classes by their share": np.log(shares + 1e-9),
        "all but the symbols known": known,
    }
    guesses = {name: np.broadcast_to(np.float32(v), x.shape) for name, v in logits.items()}
    found = {name: np.mean(task.score(y, guess)) for name, guess in guesses.items()}
    assert found == pytest.approx(task.floors(), abs=1e-2)
    guessed = np.where(y > 0, np.random.default_rng(1).integers(1, 9, y.shape), 0)
    right = {
        "classes by their share": (y == 0).mean(),
        "all but the symbols known": (y == guessed).mean(),
    }
    assert right == pytest.approx(task.right(), abs=5e-3)


def test_the_published_floor_of_copying():
    found = [memory.copying(length=n, sizes=(1, 1, 1)).floors() for n in (100, 1_000)]
    reported = [round(floors["all but the symbols known"], 4) for floors in found]
    assert reported == [0.1733, 0.0204]


@pytest.mark.parametrize("make", [memory.adding, memory.copying], ids=["adding", "copying"])
def test_seeds_make_the_same_again(make):
    task, again, other = (make(length=20, seed=seed, sizes=(9, 9, 9)) for seed in (1, 1, 2))
    for part in PARTS:
        x = getattr(task, part).sequences
        np.testing.assert_array_equal(x, getattr(again, part).sequences)
        assert not np.array_equal(x, getattr(other, part).sequences)
    assert not np.array_equal(task.train.sequences, task.test.sequences)


@needs_sklearn
def test_digits_are_all_used_once():
    from sklearn.datasets import load_digits

    images = load_digits().images  # (1797, 8, 8), from 0 to 16
    task, again = memory.digits(seed=5), memory.digits(seed=5)
    parts = [getattr(task, part) for part in PARTS]
    assert [len(part.sequences) for part in parts] == [1_078, 359, 360]
    assert task.train.sequences.shape[1:] == (64, 1) and not task.each_step
    rows = np.concatenate([part.sequences for part in parts]).reshape(-1, 8, 8)
    assert sorted(map(bytes, rows)) == sorted(map(bytes, (images / 16).astype(np.float32)))
    for part, share in zip(parts, (0.6, 0.2, 0.2), strict=True):
        counts = np.bincount(part.targets) / np.bincount(load_digits().target)
        np.testing.assert_allclose(counts, share, atol=0.01)
    np.testing.assert_array_equal(task.valid.sequences, again.valid.sequences)
    assert not np.array_equal(memory.digits(seed=6).valid.targets, task.valid.targets)


@needs_sklearn
def test_floors_of_digits_are_those_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    task = memory.digits()
    nats = task.floors()
    right = task.right()
    for name, first in (("all pixels at once", 0), ("last row", 56)):
        x, x_test = (part.sequences[:, first:, 0] for part in (task.train, task.test))
        model = LogisticRegression(max_iter=2_000).fit(x, task.train.targets)
        expected = log_loss(task.test.targets, model.predict_proba(x_test))
        assert nats[name] == pytest.approx(expected, abs=1e-4)
        assert right[name] == pytest.approx(model.score(x_test, task.test.targets))
        logits = np.float32(model.decision_function(x_test))
        assert np.mean(task.score(task.test.targets, logits)) == pytest.approx(nats[name], abs=1e-4)
    assert right["all pixels at once"] > 0.94 and 0.4 < right["last row"] < 0.6


def test_a_ts_file_is_read(tmp_path):
    lines = "#1:2\n@dimensions 2\n@classLabel true 1 2\n@data\n1,2,3:4,5,6:2\n-1,0.5:7,8:1\n"
    (tmp_path / "a.ts").write_text(lines)
    (long, short), labels = memory.read_ts(tmp_path / "a.ts")
    np.testing.assert_array_equal(long, [[1, 4], [2, 5], [3, 6]])
    np.testing.assert_array_equal(short, [[-1, 7], [0.5, 8]])
    assert labels.tolist() == [1, 0]


def test_vowels_need_sktime(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps sktime"):
        memory.vowels_folder()


@needs_sktime
@needs_sklearn
def test_vowels():
    task, again = memory.vowels(), memory.vowels()
    parts = [getattr(task, part) for part in PARTS]
    assert [len(part.sequences) for part in parts] == [216, 54, 370]
    assert np.bincount(task.train.targets).tolist() == [24] * 9
    assert np.bincount(task.valid.targets).tolist() == [6] * 9
    assert np.bincount(task.test.targets).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    lengths = {len(x) for part in parts for x in part.sequences}
    assert task.input_dim == 12 and (min(lengths), max(lengths)) == (7, 29)
    steps = np.concatenate(task.train.sequences).astype(float)
    np.testing.assert_allclose(steps.mean(axis=0), 0.0, atol=1e-6)
    np.testing.assert_allclose(steps.std(axis=0), 1.0, atol=1e-6)
    np.testing.assert_array_equal(task.valid.targets, again.valid.targets)
    right = memory.floor_accuracies("vowels", task.train, task.test)
    assert 0.9 < right["last step"] < right["mean and deviation"] < 0.99
    assert all(0.05 < nats < 0.4 for nats in task.floors().values())
