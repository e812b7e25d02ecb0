"""Raw speech: the next 10 samples of a recording, after 20, as a mixture of 20 Gaussians.

The task of Chung, Gulcehre, Cho and Bengio (2014, arXiv:1412.3555) on your own recordings, since
theirs are private. Set A has sequences of 500 samples, set B of 8,000. Scores depend on recordings
and loudness, so do not compare them with that paper's table. Free recordings of one voice are
Debian's packages `asterisk-core-sounds-en-wav` (25 minutes) and `festvox-ru` (100 minutes).
"""

import math
import random
import wave
from functools import cache, partial
from pathlib import Path

import numpy as np
from keras import ops

from study.task import Part, Task

RATE = 8_000  # samples per second, after resampling
GIVEN, NEXT = 20, 10  # samples in and out at a time step; the next step starts NEXT later
COMPONENTS = 20
OUTPUTS = COMPONENTS * (1 + NEXT + NEXT)
SILENT = 1e-3  # of full scale: a file with a lower deviation has only background noise
SETS = {  # name -> samples and number of the paper's training sequences
    "speech_a": {"length": 500, "limit": 7_230},
    "speech_b": {"length": 8_000, "limit": 800},
}
PARTS = "train", "valid", "test"

# This is added to every standard deviation, in units of the recordings' own deviation. Samples are
# whole numbers: in pauses of digital silence a density would have no bound, and the pauses would
# decide the score. 40 dB below the level of speech there is only noise and rounding.
LEAST_DEVIATION = 0.01


def speech(
    name: str,
    folder: Path | None,
    length: int = 500,
    limit: int | None = 7_230,
    seed: int = 0,
) -> Task:
    """Returns the task: predict the next samples; 8 in 10 files train, 1 validates, 1 tests.

    Args:
        name: as in the registry.
        folder: of WAV files with 16 bits and one channel, in it or in folders below.
        length: of a sequence in samples; the rest of a file is dropped.
        limit: number of training sequences, None for all; validation and test have an eighth of it.
        seed: of the order in which files are split, and of the choice of sequences.
    """
    files = split(read_folder(folder), seed)
    sequences = {part: cut(files[part], length) for part in PARTS}
    if not all(sequences.values()):
        raise ValueError(
            "Arguments `folder` and `length` must leave a sequence for training, validation and "
            f"test. Received: length={length} and {sum(map(len, files.values()))} files with "
            f"speech, which leave {[len(sequences[part]) for part in PARTS]} sequences. "
            "Take more files or a lower length."
        )
    train = np.concatenate(files["train"])
    mean, deviation = float(train.mean(dtype=float)), float(train.std(dtype=float))
    eighth = limit and math.ceil(limit / 8)
    counts = {"train": limit, "valid": eighth, "test": eighth}
    parts = {}
    for part in PARTS:
        chosen = choose(sequences[part], counts[part], seed)
        parts[part] = frames([(sequence - mean) / deviation for sequence in chosen])
    score = {"outputs": OUTPUTS, "score": nats, "unit": "nats per time step"}
    return Task(name, **parts, **score, floors=partial(floors, parts["train"], parts["test"]))


# ----------------------------------------------------------------------------- files to sequences


@cache
def read_folder(folder: Path | None) -> dict[str, np.ndarray]:
    """Returns name -> samples (S,) of every WAV file with speech, sorted by name."""
    paths = sorted(Path(folder).rglob("*")) if folder else []
    paths = [path for path in paths if path.suffix.lower() == ".wav"]
    if not paths:
        raise FileNotFoundError(
            "Speech is read from a folder of yours, which must hold WAV files, in it or in folders "
            f"below. Received: --data {folder}. On Debian there are some after `apt-get download "
            "asterisk-core-sounds-en-wav` and `dpkg -x` of that file."
        )
    found = {path.relative_to(folder).as_posix(): read_wav(path) for path in paths}
    return {name: found[name] for name in sorted(found) if has_speech(found[name])}


def has_speech(samples: np.ndarray) -> bool:
    return len(samples) > 0 and samples.std() >= SILENT


def read_wav(path: Path) -> np.ndarray:
    """Returns a float32 array (S,) at 8 kHz, as shares of full scale."""
    try:
        with wave.open(str(path), "rb") as file:
            channels, bits = file.getnchannels(), 8 * file.getsampwidth()
            rate, data = file.getframerate(), file.readframes(file.getnframes())
        kind = f"{channels} channels of {bits} bits"
    except (wave.Error, EOFError) as error:
        kind = str(error) or "a file that ends too early"
    if kind != "1 channels of 16 bits":
        raise ValueError(
            "Argument `folder` must hold WAV files of 16-bit PCM with one channel. Received: "
            f"{path} with {kind}. Convert it, as with: sox {path.name} -b 16 -c 1 converted.wav"
        )
    return resample(np.frombuffer(data, "<i2").astype(np.float32) / 2**15, rate)


def resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """Resamples from `rate` to 8 kHz, with a filter against aliasing."""
    if rate == RATE or not len(samples):
        return samples
    from scipy.signal import resample_poly

    common = math.gcd(RATE, rate)
    return resample_poly(samples, RATE // common, rate // common).astype(np.float32)


def split(files: dict[str, np.ndarray], seed: int) -> dict[str, list[np.ndarray]]:
    """Returns eight tenths, one tenth and one tenth of the files; no file is in two parts.

    The names are shuffled: in sorted order the last ones would be of one kind, such as letters.
    """
    names = sorted(files)
    random.Random(seed).shuffle(names)
    first, second = 8 * len(names) // 10, 9 * len(names) // 10
    parts = names[:first], names[first:second], names[second:]
    return {key: [files[name] for name in part] for key, part in zip(PARTS, parts, strict=True)}


def cut(files: list[np.ndarray], length: int) -> list[np.ndarray]:
    """Returns sequences (length,) without overlap."""
    return [
        file[start : start + length]
        for file in files
        for start in range(0, len(file) - length + 1, length)
    ]


def choose(sequences: list, count: int | None, seed: int) -> list:
    """Returns `count` of the sequences, in their order; all if there are not more."""
    if count is None or count >= len(sequences):
        return sequences
    rows = np.random.default_rng(seed).choice(len(sequences), count, replace=False)
    return [sequences[row] for row in sorted(rows)]


def frames(sequences: list[np.ndarray]) -> Part:
    """Returns inputs (T, 20) and targets (T, 10).

    Step t has samples 10 t to 10 t + 19 as input and the next 10 as target. Both are views of the
    samples, so that memory holds each sample once.
    """
    windows = [
        np.lib.stride_tricks.sliding_window_view(np.float32(sequence), GIVEN + NEXT)[::NEXT]
        for sequence in sequences
    ]
    return Part([w[:, :GIVEN] for w in windows], [w[:, GIVEN:] for w in windows])


# ------------------------------------------------------------------------------------- the score


def nats(targets, outputs):
    r"""Negative log-likelihood of a mixture of Gaussians with independent samples.

    $$ -\log \sum_k \pi_k \prod_j N(y_j; \mu_{kj}, \sigma_{kj}), \quad \pi = softmax(a),
       \quad \sigma = e^s + 0.01 $$

    Args:
        targets: y (..., 10).
        outputs: (..., 420): a (20), then mu (20 * 10), then s (20 * 10), component by component.

    Returns:
        (...), in nats per time step of 10 samples.
    """
    shape = (*ops.shape(outputs)[:-1], COMPONENTS, NEXT)
    a, mu, s = ops.split(outputs, [COMPONENTS, COMPONENTS * (1 + NEXT)], axis=-1)
    mu, s = ops.reshape(mu, shape), ops.reshape(s, shape)  # (..., 20, 10)
    log_sigma = ops.logaddexp(s, math.log(LEAST_DEVIATION))
    z = (ops.expand_dims(targets, -2) - mu) * ops.exp(-log_sigma)
    log_density = -ops.sum(z * z / 2 + log_sigma, axis=-1) - NEXT * math.log(2 * math.pi) / 2
    log_weights = a - ops.logsumexp(a, axis=-1, keepdims=True)
    return -ops.logsumexp(log_weights + log_density, axis=-1)


# --------------------------------------------------------- the scores of Gaussians without a cell


def floors(train: Part, test: Part) -> dict[str, float]:
    """Returns nats per time step on `test` of three Gaussians fitted to `train`.

    iid: every sample has the same mean and variance.
    linear: means are linear in the 20 input samples; each of the 10 has its own variance.
    linear, full covariance: the covariance of the 10 samples is fitted, too. A mixture of
        independent samples can only imitate it by its components.
    """
    fitted, tested = moments(train), moments(test)
    size = 1 + GIVEN  # of a row (1, input samples); the next samples follow
    line = np.linalg.solve(fitted[:size, :size], fitted[:size, size:])
    flat = np.zeros_like(line)
    flat[0] = fitted[0, size:].mean()
    variance = np.diag(left_over(fitted, flat)).mean()
    rest, tested_rest = left_over(fitted, line), left_over(tested, line)
    return {
        "iid": gaussian_nats(variance * np.eye(NEXT), left_over(tested, flat)),
        "linear": gaussian_nats(np.diag(np.diag(rest)), tested_rest),
        "linear, full covariance": gaussian_nats(rest, tested_rest),
    }


def moments(part: Part) -> np.ndarray:
    """Returns (31, 31): the mean over all time steps of products of (1, 20 samples, 10 samples)."""
    total = np.zeros((1 + GIVEN + NEXT,) * 2)
    for given, next_ones in zip(part.sequences, part.targets, strict=True):
        row = np.column_stack([np.ones(len(given)), given, next_ones]).astype(float)
        total += row.T @ row
    return total / total[0, 0]


def left_over(moments: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Returns (10, 10): the mean product of the errors of the prediction (1, inputs) @ line."""
    error = np.vstack([-line, np.eye(NEXT)])
    return error.T @ moments @ error


def gaussian_nats(covariance: np.ndarray, errors: np.ndarray) -> float:
    """Returns the mean negative log-density of errors with this mean product, in nats per step."""
    distance = np.trace(np.linalg.solve(covariance, errors))
    return float((distance + np.linalg.slogdet(2 * np.pi * covariance)[1]) / 2)
