"""The tasks that cells are compared on: what is given, what is told, and how that is scored."""

import importlib.util
import math
import wave
from functools import partial

import keras
import numpy as np
import pytest
from study import memory, speech
from study.task import Score

PARTS = "train", "valid", "test"
LENGTH = 500

needs_scipy = pytest.mark.skipif(importlib.util.find_spec("scipy") is None, reason="no scipy")
needs_sklearn = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="no scikit-learn"
)
needs_sktime = pytest.mark.skipif(
    importlib.util.find_spec("sktime") is None,
    reason="the vowels come with sktime, which is not installed",
)


def write_wav(path, samples, rate=8_000, channels=1, bits=16):
    path.parent.mkdir(exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(bits // 8)
        file.setframerate(rate)
        file.writeframes(np.asarray(samples, f"<i{bits // 8}").tobytes())
    return path


def noise(rng, size):
    """Filtered noise, louder at times: what comes depends on what was."""
    x = rng.normal(size=size) * (1 + np.arange(size) % 300 / 100)
    return 300 * np.convolve(x, 0.9 ** np.arange(30), "same")


@pytest.fixture(scope="module")
def ramps(tmp_path_factory):
    """20 files of 1,000 samples; file k holds 1000 k, 1000 k + 1 and so on: a sample tells all."""
    folder = tmp_path_factory.mktemp("ramps")
    for k in range(20):
        write_wav(folder / f"{k % 3}" / f"{k}.wav", 1_000 * k + np.arange(1_000))
    return folder


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    """A task of 20 files of filtered noise."""
    folder, rng = tmp_path_factory.mktemp("voices"), np.random.default_rng(1)
    for k in range(20):
        write_wav(folder / f"{k}.WAV", noise(rng, 2_600))
    return speech.speech("voices", folder, LENGTH, None)


def firsts(task):
    """Part -> the first sample of every sequence."""
    return {part: np.array([x[0, 0] for x in getattr(task, part).sequences]) for part in PARTS}


def raw(task):
    """The same before they were standardised; of ramps, and with all sequences kept."""
    found, x = firsts(task), task.train.sequences[0]
    step = (float(x[-1, -1]) - float(x[0, 0])) / (10 * (len(x) - 1) + 19)
    lowest = min(values.min() for values in found.values())
    return {part: np.rint((values.astype(float) - lowest) / step) for part, values in found.items()}


# --------------------------------------------------------------------------------- speech: frames


def is_framed(sequence, inputs, targets):
    """Whether step t is given samples 10 t to 10 t + 19 and told the 10 behind them."""
    steps = [t for t in range(len(sequence)) if 10 * t + 30 <= len(sequence)]
    given = [[sequence[10 * t + j] for j in range(20)] for t in steps]
    told = [[sequence[10 * t + 20 + j] for j in range(10)] for t in steps]
    return np.array_equal(inputs, given) and np.array_equal(targets, told)


@pytest.mark.parametrize("length", [30, 39, 40, 500])
def test_a_step_is_given_twenty_samples_and_told_ten(length):
    sequence = np.random.default_rng(0).normal(size=length).astype(np.float32)
    part = speech.frames([sequence])
    (x,), (y,) = part.sequences, part.targets
    assert x.dtype == y.dtype == np.float32
    assert is_framed(sequence, x, y)
    assert not is_framed(sequence, x, np.roll(y, 1, axis=1))
    if len(y) > 1:
        assert not is_framed(sequence, x, np.roll(y, 1, axis=0))  # one frame late
        assert not is_framed(sequence, x[:-1], y[:-1])  # a step lost


def test_shapes_of_speech(voices):
    assert [len(getattr(voices, part).sequences) for part in PARTS] == [16 * 5, 2 * 5, 2 * 5]
    assert voices.each_step and voices.input_dim == 20 and voices.outputs == 420
    assert {x.shape for x in voices.train.sequences} == {(48, 20)}
    assert {y.shape for y in voices.train.targets} == {(48, 10)}


# ---------------------------------------------------------------------- speech: files and sequences


def test_no_file_is_in_two_parts(ramps):
    first = raw(speech.speech("ramps", ramps, LENGTH))
    files = {part: set(values // 1_000) for part, values in first.items()}
    assert [len(files[part]) for part in PARTS] == [16, 2, 2]
    assert set.union(*files.values()) == set(range(20))
    assert sorted(np.concatenate(list(first.values()))) == list(range(0, 20_000, LENGTH))


def test_standardised_by_the_training_files(ramps):
    task = speech.speech("ramps", ramps, LENGTH)
    first = raw(task)
    train = np.concatenate([start + np.arange(LENGTH) for start in first["train"]])
    for part in PARTS:
        expected = (first[part] - train.mean()) / train.std()
        np.testing.assert_allclose(firsts(task)[part], expected, atol=1e-5)


def test_the_seed_orders_files_and_keeps_sequences(ramps):
    draw = partial(speech.speech, "ramps", ramps, LENGTH, 9)
    task, again, other = draw(seed=3), draw(seed=3), draw(seed=4)
    assert [len(getattr(task, part).sequences) for part in PARTS] == [9, 2, 2]
    for part in PARTS:
        np.testing.assert_array_equal(firsts(task)[part], firsts(again)[part])
    assert set(firsts(task)["train"]) != set(firsts(other)["train"])
    every, else_ = (speech.speech("ramps", ramps, LENGTH, None, seed=seed) for seed in (3, 4))
    assert set(firsts(task)["train"]) < set(firsts(every)["train"])
    assert set(raw(every)["test"] // 1_000) != set(raw(else_)["test"] // 1_000)


def test_files_without_speech_are_left_out(tmp_path):
    rng = np.random.default_rng(0)
    write_wav(tmp_path / "pause.wav", rng.integers(-2, 3, 2_000))
    write_wav(tmp_path / "zero.wav", np.zeros(2_000))
    write_wav(tmp_path / "empty.wav", [])
    write_wav(tmp_path / "voice.wav", noise(rng, 2_000))
    (tmp_path / "notes.txt").write_text("no sound")
    assert list(speech.read_folder(tmp_path)) == ["voice.wav"]


@needs_scipy
@pytest.mark.parametrize("rate", [16_000, 22_050])
def test_resampling_keeps_what_8_khz_hold_and_no_more(tmp_path, rate):
    seconds, eighth = np.arange(rate) / rate, np.arange(8_000) / 8_000
    low, high = (10_000 * np.sin(2 * np.pi * f * seconds) for f in (440, 6_000))
    found = speech.read_wav(write_wav(tmp_path / "a.wav", low + high, rate))
    expected = 10_000 / 2**15 * np.sin(2 * np.pi * 440 * eighth)
    inner = slice(100, -100)  # the filter starts from silence
    assert found.shape == (8_000,) and found.dtype == np.float32
    np.testing.assert_allclose(found[inner], expected[inner], atol=0.01)
    taken = np.interp(eighth, seconds, (low + high) / 2**15)  # without a filter 6 kHz is 2 kHz
    assert np.abs(taken[inner] - expected[inner]).max() > 0.1


def test_errors_of_speech_say_what_to_do(tmp_path):
    stereo = write_wav(tmp_path / "stereo.wav", np.zeros(60), channels=2)
    with pytest.raises(ValueError, match=r"16-bit PCM.*2 channels of 16 bits.*sox stereo.wav"):
        speech.read_wav(stereo)
    with pytest.raises(ValueError, match="Received: .*1 channels of 8 bits"):
        speech.read_wav(write_wav(tmp_path / "bytes.wav", np.zeros(60), bits=8))
    (tmp_path / "text.wav").write_text("no sound, but long enough for a header")
    with pytest.raises(ValueError, match="16-bit PCM.*does not start with RIFF"):
        speech.read_wav(tmp_path / "text.wav")
    (tmp_path / "bare").mkdir()
    for folder in (None, tmp_path / "bare"):
        with pytest.raises(FileNotFoundError, match="WAV files.*--data.*apt-get"):
            speech.speech("speech_a", folder)


def test_a_part_without_sequences_is_refused(ramps, tmp_path):
    with pytest.raises(ValueError, match=r"length=1001 and 20 files .*\[0, 0, 0\]"):
        speech.speech("ramps", ramps, length=1_001)
    write_wav(tmp_path / "only.wav", np.arange(1_000))
    with pytest.raises(ValueError, match=r"1 files .*\[0, 0, 2\]"):
        speech.speech("only", tmp_path, LENGTH)


# ---------------------------------------------------------------------------------- speech: score


def mixture_nats(y, outputs):
    """Float64, of one target (10,) and its outputs (420,), one component after the other."""
    from scipy.special import logsumexp
    from scipy.stats import norm

    weights, densities = np.exp(outputs[:20]) / np.exp(outputs[:20]).sum(), []
    for k in range(20):
        mean = outputs[20 + 10 * k : 30 + 10 * k]
        sigma = np.exp(outputs[220 + 10 * k : 230 + 10 * k]) + 0.01
        densities.append(norm.logpdf(y, mean, sigma).sum())
    return -logsumexp(densities, b=weights)


@needs_scipy
def test_the_score_is_that_of_a_mixture():
    rng = np.random.default_rng(2)
    y, outputs = rng.normal(size=(3, 4, 10)), rng.normal(size=(3, 4, 420))
    outputs[0, :, 220:] -= 4.0  # where what is added to deviations counts
    expected = [[mixture_nats(y[n, t], outputs[n, t]) for t in range(4)] for n in range(3)]

    def told(y, outputs):
        return np.asarray(speech.nats(np.float32(y), np.float32(outputs)))

    np.testing.assert_allclose(told(y, outputs), expected, rtol=1e-5)
    swapped = np.concatenate(
        np.split(outputs, [20, 220], axis=-1)[::2] + [outputs[..., 20:220]], -1
    )
    by_sample = outputs[..., 20:].reshape(3, 4, 2, 20, 10).swapaxes(-1, -2).reshape(3, 4, 400)
    for wrong in (swapped, np.concatenate([outputs[..., :20], by_sample], -1)):
        assert np.abs(told(y, wrong) - expected).max() > 0.1
    assert np.abs(told(np.roll(y, 1, axis=1), outputs) - expected).max() > 0.1


@pytest.mark.parametrize("value", [-1e4, -80.0, 80.0, 1e4])
def test_the_score_is_finite_far_from_all(value):
    outputs = np.zeros((1, 420), np.float32)
    for part in (slice(0, 7), slice(20, 220), slice(220, 420)):
        outputs[:] = 0.0
        outputs[:, part] = value
        assert np.isfinite(np.asarray(speech.nats(np.ones((1, 10), np.float32), outputs))).all()


def test_a_density_has_a_bound():
    outputs = np.zeros((1, 420), np.float32)
    outputs[:, 220:] = -1e4
    found = np.asarray(speech.nats(np.zeros((1, 10), np.float32), outputs))
    np.testing.assert_allclose(found, 10 * (np.log(0.01) + np.log(2 * np.pi) / 2), rtol=1e-5)


# --------------------------------------------------------------------------------- speech: floors


@needs_scipy
def test_floors_of_speech_are_those_of_scipy(voices):
    from scipy.stats import multivariate_normal, norm

    (x, y), (x_test, y_test) = (
        (np.concatenate(part.sequences).astype(float), np.concatenate(part.targets).astype(float))
        for part in (voices.train, voices.test)
    )
    design, design_test = (np.column_stack([np.ones(len(part)), part]) for part in (x, x_test))
    line = np.linalg.lstsq(design, y, rcond=None)[0]
    rest, rest_test = y - design @ line, y_test - design_test @ line
    full = multivariate_normal(np.zeros(10), rest.T @ rest / len(rest))
    sigma = np.sqrt((rest**2).mean(axis=0))
    expected = {
        "iid": -norm.logpdf(y_test, y.mean(), y.std()).sum(axis=1).mean(),
        "linear": -norm.logpdf(rest_test, 0.0, sigma).sum(axis=1).mean(),
        "linear, full covariance": -full.logpdf(rest_test).mean(),
    }
    found = voices.floors()
    assert found == pytest.approx(expected, abs=1e-6)
    assert found["iid"] > found["linear"] + 1 > found["linear, full covariance"] + 2


def test_the_floors_are_scores(voices):
    """A mixture whose components are all the iid Gaussian scores as it does."""
    y = np.concatenate(voices.train.targets).astype(float)
    bias = np.zeros((1, 420))
    bias[:, 20:220], bias[:, 220:] = y.mean(), np.log(y.std() - 0.01)
    y_test = np.concatenate(voices.test.targets)
    told = speech.nats(y_test, np.float32(np.repeat(bias, len(y_test), axis=0)))
    assert float(np.mean(told)) == pytest.approx(voices.floors()["iid"], abs=1e-3)


# ---------------------------------------------------------------------------------- made by a seed

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
    told = {"always 0": 0 * y, "always 1": 0 * y + 1, "one of the two remembered": first + 0.5}
    found = {name: np.mean(task.score(y, guess)) for name, guess in told.items()}
    assert found["always 1"] == pytest.approx(1 / 6, abs=1e-2)
    assert found == pytest.approx(task.floors(), rel=0.05)
    assert np.max(task.score(y, y)) == 0


def is_copying(x, y, wait):
    symbols = [int(step.argmax()) for step in x[:10]]
    shown = symbols + [0] * (wait - 1) + [9] * 11
    told = [0] * (wait + 10) + symbols
    return [int(step.argmax()) for step in x] == shown and y.tolist() == told


def test_copying_and_what_is_known_of_it():
    task = memory.copying(length=30, sizes=FEW)
    x, y = task.test.sequences, np.array(task.test.targets)
    assert x.shape == (2_000, 50, 10) and y.shape == (2_000, 50) and task.each_step
    assert x.dtype == np.float32 and (x.sum(axis=-1) == 1).all()
    assert set(x[:, :10].argmax(axis=-1).ravel()) == set(range(1, 9))
    assert all(is_copying(one, told, 30) for one, told in zip(x, y, strict=True))
    assert not any(is_copying(one, np.roll(told, 1), 30) for one, told in zip(x, y, strict=True))
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
    told = [round(floors["all but the symbols known"], 4) for floors in found]
    assert told == [0.1733, 0.0204]


@pytest.mark.parametrize("make", [memory.adding, memory.copying], ids=["adding", "copying"])
def test_seeds_make_the_same_again(make):
    task, again, other = (make(length=20, seed=seed, sizes=(9, 9, 9)) for seed in (1, 1, 2))
    for part in PARTS:
        x = getattr(task, part).sequences
        np.testing.assert_array_equal(x, getattr(again, part).sequences)
        assert not np.array_equal(x, getattr(other, part).sequences)
    assert not np.array_equal(task.train.sequences, task.test.sequences)


# ------------------------------------------------------------------------- from installed packages


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


# ------------------------------------------------------------------------------------ as trained on


def tasks_as_trained(voices):
    yield voices
    yield memory.adding(length=12, sizes=(10, 1, 1))
    yield memory.copying(length=12, sizes=(10, 1, 1))
    if importlib.util.find_spec("sklearn"):
        yield memory.digits()


def test_the_loss_of_a_batch_is_the_mean_score(voices):
    """What fills up a batch, here all but 3 sequences, weighs nothing."""
    for task in tasks_as_trained(voices):
        part = task.train.first(3)
        ((x, lengths), y, weights) = part.batches(8, [len(part.sequences[0])])[0]
        guess = np.random.default_rng(0).normal(size=(*weights.shape, task.outputs))
        guess = guess.astype(np.float32)
        each = keras.ops.convert_to_numpy(task.score(y, guess))
        assert each.shape == weights.shape and x.shape[:2] == (8, len(part.sequences[0]))
        loss = Score(task.score)(y, guess, weights)
        assert float(loss) == pytest.approx(each[:3].mean(), rel=1e-5)
        assert lengths.tolist()[3:] == [0] * 5
