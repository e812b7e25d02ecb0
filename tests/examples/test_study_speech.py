"""Speech for studies: files, frames and score."""

from functools import partial

import numpy as np
import pytest
from study import speech

from tests.examples.needs import needs_scipy
from tests.examples.recordings import LENGTH, PARTS, noise, write_wav


@pytest.fixture(scope="module")
def ramps(tmp_path_factory):
    """20 files of 1,000 samples; file k holds 1000 k, 1000 k + 1 and so on: a sample tells all."""
    folder = tmp_path_factory.mktemp("ramps")
    for k in range(20):
        write_wav(folder / f"{k % 3}" / f"{k}.wav", 1_000 * k + np.arange(1_000))
    return folder


def firsts(task):
    """Part -> the first sample of every sequence."""
    return {part: np.array([x[0, 0] for x in getattr(task, part).sequences]) for part in PARTS}


def raw(task):
    """The same before they were standardised; of ramps, and with all sequences kept."""
    found, x = firsts(task), task.train.sequences[0]
    step = (float(x[-1, -1]) - float(x[0, 0])) / (10 * (len(x) - 1) + 19)
    lowest = min(values.min() for values in found.values())
    return {part: np.rint((values.astype(float) - lowest) / step) for part, values in found.items()}


def is_framed(sequence, inputs, targets):
    """Whether step t is given samples 10 t to 10 t + 19 and told the 10 behind them."""
    steps = [t for t in range(len(sequence)) if 10 * t + 30 <= len(sequence)]
    given = [[sequence[10 * t + j] for j in range(20)] for t in steps]
    reported = [[sequence[10 * t + 20 + j] for j in range(10)] for t in steps]
    return np.array_equal(inputs, given) and np.array_equal(targets, reported)


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

    def reported(y, outputs):
        return np.asarray(speech.nats(np.float32(y), np.float32(outputs)))

    np.testing.assert_allclose(reported(y, outputs), expected, rtol=1e-5)
    swapped = np.concatenate(
        np.split(outputs, [20, 220], axis=-1)[::2] + [outputs[..., 20:220]], -1
    )
    by_sample = outputs[..., 20:].reshape(3, 4, 2, 20, 10).swapaxes(-1, -2).reshape(3, 4, 400)
    for wrong in (swapped, np.concatenate([outputs[..., :20], by_sample], -1)):
        assert np.abs(reported(y, wrong) - expected).max() > 0.1
    assert np.abs(reported(np.roll(y, 1, axis=1), outputs) - expected).max() > 0.1


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
    reported = speech.nats(y_test, np.float32(np.repeat(bias, len(y_test), axis=0)))
    assert float(np.mean(reported)) == pytest.approx(voices.floors()["iid"], abs=1e-3)
