"""Tasks that need memory: two made from a seed, and two small sets of Python packages.

    adding    the sum of two marked numbers                     Hochreiter and Schmidhuber (1997)
    copying   ten symbols, repeated after a wait                in the form of Bai et al. (2018)
    digits    which digit, of 64 pixels one after the other     scikit-learn's `load_digits`
    vowels    which of nine men speaks, 7 to 29 steps of 12     JapaneseVowels, Kudo et al. (1999)

For the first two, the scores of models without memory are known exactly. Every function takes the
argument `folder`, as all tasks do, but none of these reads it.
"""

import importlib.util
import math
from functools import partial
from pathlib import Path

import numpy as np
from keras import ops

from study.task import Part, Task

SIZES = 10_000, 1_000, 1_000  # sequences to train, validate and test that are made
SYMBOLS, COPIED = 8, 10  # `copying` has 10 symbols of 8; class 0 is a blank, class 9 the signal
PARTS = "train", "valid", "test"


def squared_error(targets, predictions):
    """Returns the mean squared error of each row: (N, 1) -> (N,)."""
    return ops.mean(ops.square(targets - predictions), axis=-1)


def nats(targets, logits):
    """Returns the cross-entropy of one class in K: targets (...) are numbers, logits (..., K)."""
    return ops.sparse_categorical_crossentropy(targets, logits, from_logits=True)


classification = partial(Task, score=nats, accuracy=True)


# ----------------------------------------------------------------------------------- made by a seed


def adding(folder: Path | None = None, length: int = 100, seed: int = 0, sizes=SIZES) -> Task:
    """Returns the task: add two numbers of `length`, which are marked at random time steps.

    Sequences (length, 2): numbers uniform in (0, 1), and a mark: 1 at two steps, 0 at the others.
    Targets (N, 1). The floors are expectations, not counted on the test set.
    """
    rng = np.random.default_rng(seed)
    parts = {part: additions(rng, count, length) for part, count in zip(PARTS, sizes, strict=True)}
    known = {
        "always 0": 7 / 6,
        "always 1": 1 / 6,  # the variance of a sum of two; 1/12 each
        "one of the two remembered": 1 / 12,
    }
    unit = "mean squared error"
    return Task("adding", **parts, outputs=1, score=squared_error, unit=unit, floors=known.copy)


def additions(rng: np.random.Generator, count: int, length: int) -> Part:
    x = np.zeros((count, length, 2), np.float32)
    x[:, :, 0] = rng.random((count, length))
    places = rng.random((count, length)).argsort(axis=1)[:, :2]  # two different ones
    np.put_along_axis(x[:, :, 1], places, 1.0, axis=1)
    return Part(x, x.prod(axis=2).sum(axis=1, keepdims=True))


def copying(folder: Path | None = None, length: int = 100, seed: int = 0, sizes=SIZES) -> Task:
    """Returns the task: repeat ten symbols after `length` time steps.

    Sequences (length + 20, 10), one-hot: 10 symbols of 1 to 8, length - 1 blanks (0), 11 signals
    (9). Targets (length + 20,): blanks, and the symbols at the last 10 steps. The floors are
    expectations, not counted on the test set.
    """
    rng = np.random.default_rng(seed)
    parts = {part: copies(rng, count, length) for part, count in zip(PARTS, sizes, strict=True)}
    share = COPIED / (length + 2 * COPIED)  # of the steps with a symbol as target
    symbols, blanks = -share * math.log(share / SYMBOLS), -(1 - share) * math.log(1 - share)
    known = {
        "all classes alike": math.log(SYMBOLS + 2),
        "classes by their share": symbols + blanks,
        "all but the symbols known": share * math.log(SYMBOLS),
    }
    unit = "nats per time step"
    right = {
        "classes by their share": 1 - share,
        "all but the symbols known": 1 - share + share / SYMBOLS,
    }
    floors = {"floors": known.copy, "right": right.copy}
    return classification("copying", **parts, outputs=SYMBOLS + 2, unit=unit, **floors)


def copies(rng: np.random.Generator, count: int, length: int) -> Part:
    symbols = rng.integers(1, SYMBOLS + 1, (count, COPIED))
    x = np.zeros((count, length + 2 * COPIED), int)
    y = np.zeros_like(x)
    x[:, :COPIED], x[:, -COPIED - 1 :], y[:, -COPIED:] = symbols, SYMBOLS + 1, symbols
    return Part(np.eye(SYMBOLS + 2, dtype=np.float32)[x], list(y))


# ------------------------------------------------------------------------- from installed packages


def digits(folder: Path | None = None, seed: int = 0) -> Task:
    """Returns the task: handwritten digits, 8 x 8 pixels, as sequences (64, 1) from 0 to 1.

    Of each digit, three fifths train, one validates, one tests.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)[:, :, None]
    draw = partial(train_test_split, random_state=seed)
    x, x_rest, y, y_rest = draw(x, y, test_size=0.4, stratify=y)
    x_valid, x_test, y_valid, y_test = draw(x_rest, y_rest, test_size=0.5, stratify=y_rest)
    parts = Part(x, y), Part(x_valid, y_valid), Part(x_test, y_test)
    return probed("digits", parts, outputs=10)


def vowels(folder: Path | None = None, seed: int = 0) -> Task:
    """Returns the task: which of nine men says 'ae'? 12 linear prediction coefficients a step.

    Sequences (T, 12), T from 7 to 29, every coefficient with mean 0 and deviation 1 over the steps
    of the training sequences. The test set is as given; of the training set one fifth validates.
    """
    from sklearn.model_selection import train_test_split

    x, y = read_ts(vowels_folder() / "JapaneseVowels_TRAIN.ts")
    x_test, y_test = read_ts(vowels_folder() / "JapaneseVowels_TEST.ts")
    x, x_valid, y, y_valid = train_test_split(x, y, test_size=0.2, stratify=y, random_state=seed)
    steps = np.concatenate(x)
    mean, deviation = steps.mean(axis=0), steps.std(axis=0)
    parts = [
        Part([((one - mean) / deviation).astype(np.float32) for one in sequences], labels)
        for sequences, labels in ((x, y), (x_valid, y_valid), (x_test, y_test))
    ]
    return probed("vowels", parts, outputs=9)


def vowels_folder() -> Path:
    """Returns a folder of the installed sktime wheel. sktime itself is never imported."""
    spec = importlib.util.find_spec("sktime")
    if spec is None:
        raise ModuleNotFoundError(
            "The vowels come with the package sktime, which is not installed. "
            "Its files suffice, install it with: pip install --no-deps sktime"
        )
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "JapaneseVowels"


def read_ts(path: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """Returns sequences (T, F) and classes, from 0, of a .ts file, whose classes count from 1.

    Each line after @data is a sequence: its features, then its class, separated by colons.
    """
    sequences, labels = [], []
    for line in path.read_text(encoding="utf-8").partition("@data")[2].split():
        *features, label = line.split(":")
        sequences.append(np.array([feature.split(",") for feature in features], float).T)
        labels.append(int(label) - 1)
    return sequences, np.array(labels)


# -------------------------------------------------------------- the scores of models without memory

VIEWS = {  # task -> name of a floor -> features of a sequence (T, F) for a logistic regression
    "digits": {"all pixels at once": np.ravel, "last row": lambda x: x[-8:, 0]},
    "vowels": {
        "mean and deviation": lambda x: np.concatenate([x.mean(axis=0), x.std(axis=0)]),
        "last step": lambda x: x[-1],
    },
}


def probed(name: str, parts, outputs: int) -> Task:
    named = dict(zip(PARTS, parts, strict=True))
    floors, right = (
        partial(score, name, named["train"], named["test"])
        for score in (floor_nats, floor_accuracies)
    )
    return classification(name, **named, outputs=outputs, unit="nats", floors=floors, right=right)


def floor_nats(name: str, train: Part, test: Part) -> dict[str, float]:
    """Returns the cross-entropy on `test` of a logistic regression, for each view of the task."""
    views, rows = logistic(name, train, test), np.arange(len(test.targets))
    return {view: float(-np.log(p[rows, test.targets]).mean()) for view, p in views.items()}


def floor_accuracies(name: str, train: Part, test: Part) -> dict[str, float]:
    """Returns the share of right answers of the same logistic regressions."""
    views = logistic(name, train, test)
    return {view: float((p.argmax(axis=1) == test.targets).mean()) for view, p in views.items()}


def logistic(name: str, train: Part, test: Part) -> dict[str, np.ndarray]:
    """Returns view -> probabilities (N, classes) on `test`, fitted to `train`, L2 penalty 1."""
    from sklearn.linear_model import LogisticRegression

    found = {}
    for view, features in VIEWS[name].items():
        x, x_test = (np.stack([features(one) for one in part.sequences]) for part in (train, test))
        found[view] = LogisticRegression(max_iter=2_000).fit(x, train.targets).predict_proba(x_test)
    return found
