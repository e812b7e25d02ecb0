"""Bach's four-part chorales as piano rolls, read from the installed music21 wheel.

The wheel has some 400 scores by Bach as MusicXML. This module reads them with the standard library:
music21 must be installed, but it is never imported.

    train, valid, test = split(read_chorales())     # 217, 72 and 73 chorales
    train[0].shape     # (time steps, 88): one step is a quarter, column k is MIDI note 21 + k

Every chorale is transposed to C, so that a model learns harmony once and not in twelve keys.
A score that is equal to another one is left out. Bach set some tunes more than once: four pieces of
the validation and test sets share more than half their runs of four frames with a piece of the
training set (bwv227.1 nearly all).
"""

import contextlib
import gc
import importlib.util
import math
import random
import zipfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

KEYS = 88
LOWEST_NOTE = 21  # MIDI number of the lowest piano key, A0
SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
MAJOR_PROFILE = [6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88]
MINOR_PROFILE = [6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17]


# ---------------------------------------------------------------------------------------- reading


def corpus_folder():
    """The folder of Bach's scores inside the installed music21 wheel."""
    spec = importlib.util.find_spec("music21")
    if spec is None:
        raise ModuleNotFoundError(
            "The chorales come with the package music21, which is not installed. "
            'Install it with: pip install ".[examples]"'
        )
    return Path(spec.submodule_search_locations[0]) / "corpus" / "bach"


def read_score(path):
    """The root element of a MusicXML file, packed (.mxl) or plain (.xml)."""
    if path.suffix == ".xml":
        return ElementTree.parse(path).getroot()
    with zipfile.ZipFile(path) as archive:
        container = ElementTree.fromstring(archive.read("META-INF/container.xml"))
        score = next(container.iter("rootfile")).get("full-path")
        return ElementTree.fromstring(archive.read(score))


def midi_number(pitch):
    octave = int(pitch.findtext("octave"))
    alter = int(pitch.findtext("alter", "0"))
    return 12 * (octave + 1) + SEMITONES[pitch.findtext("step")] + alter


def read_measure(measure, start, divisions):
    """The notes of one measure as (onset, end, MIDI number) in quarters, and where it ends."""
    notes, now, onset, latest = [], start, start, start
    for element in measure:
        if element.tag == "attributes":
            divisions = float(element.findtext("divisions", divisions))
        if element.tag not in ("note", "backup", "forward") or element.find("grace") is not None:
            continue
        length = float(element.findtext("duration")) / divisions
        if element.tag == "backup":
            now -= length
            continue
        if element.find("chord") is None:  # a chord's further notes start with its first
            onset, now = now, now + length
        if (pitch := element.find("pitch")) is not None:
            notes.append((onset, onset + length, midi_number(pitch)))
        latest = max(latest, now)
    return notes, latest, divisions


def read_part(part):
    """The notes of one voice as (onset, end, MIDI number), in quarters from the beginning."""
    notes, now, divisions = [], 0.0, 1.0
    for measure in part.iter("measure"):
        more, now, divisions = read_measure(measure, now, divisions)
        notes += more
    return notes


def piano_roll(notes):
    """(T, 88) array of 0 and 1: which keys sound at each quarter, silent steps at the end cut."""
    roll = np.zeros((math.ceil(max(end for _, end, _ in notes)), KEYS), np.float32)
    for onset, end, note in notes:
        roll[math.ceil(onset) : math.ceil(end), note - LOWEST_NOTE] = 1.0
    return roll[: np.flatnonzero(roll.any(axis=1))[-1] + 1]


# ------------------------------------------------------------------------------- transposing to C


def tonic_by_signature(score):
    """Pitch class (C is 0) of the tonic that the first key signature states."""
    key = next(score.iter("key"))
    major = 7 * int(key.findtext("fifths")) % 12
    return (major + 9) % 12 if key.findtext("mode") == "minor" else major


def tonic_by_final_bass(roll):
    """Pitch class of the last bass note: most chorales end on their tonic."""
    return int(np.flatnonzero(roll[-1])[0] + LOWEST_NOTE) % 12


def tonic_by_profile(roll):
    """Pitch class whose major or minor key fits the notes best (Krumhansl and Kessler, 1982)."""
    counts = np.bincount((np.arange(KEYS) + LOWEST_NOTE) % 12, weights=roll.sum(axis=0))
    profiles = np.array([MAJOR_PROFILE, MINOR_PROFILE])
    profiles = (profiles - profiles.mean(axis=1, keepdims=True)) / profiles.std(axis=1)[:, None]
    fits = [np.roll(profiles, tonic, axis=1) @ counts for tonic in range(12)]
    return int(np.max(fits, axis=1).argmax())


def estimate_tonic(score, roll):
    """Majority of three estimates, each often wrong alone; the final bass where all differ."""
    votes = [tonic_by_final_bass(roll), tonic_by_signature(score), tonic_by_profile(roll)]
    return Counter(votes).most_common(1)[0][0]


def transpose_to_c(roll, tonic):
    """The same chorale with its tonic on the nearest C, at most 6 semitones down or 5 up."""
    return np.roll(roll, (6 - tonic) % 12 - 6, axis=1)


# ----------------------------------------------------------------------------- the set of chorales


def read_chorale(path):
    """The piano roll of one score, in C; None if it has not exactly four parts."""
    score = read_score(path)
    parts = score.findall("part")
    if len(parts) != 4:
        return None
    roll = piano_roll([note for part in parts for note in read_part(part)])
    return transpose_to_c(roll, estimate_tonic(score, roll))


def read_chorales(folder=None):
    """Name -> piano roll (T, 88) of every four-part chorale, sorted by name, duplicates dropped."""
    folder = corpus_folder() if folder is None else Path(folder)
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".mxl", ".xml"))
    rolls, seen = {}, set()
    with garbage_collection_paused():
        for path in paths:
            roll = read_chorale(path)
            if roll is not None and roll.tobytes() not in seen:
                seen.add(roll.tobytes())
                rolls[path.stem] = roll
    return rolls


@contextlib.contextmanager
def garbage_collection_paused():
    """Pauses the garbage collector: trees of XML have no cycles, and it doubles the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def split(rolls, seed=0):
    """Lists (train, valid, test) of three, one and one fifth of the chorales, shuffled by name."""
    names = sorted(rolls)
    random.Random(seed).shuffle(names)
    first, second = 3 * len(names) // 5, 4 * len(names) // 5
    return tuple(
        [rolls[name] for name in part]
        for part in (names[:first], names[first:second], names[second:])
    )


def pad(rolls, length=None, rows=1):
    """Arrays for next-frame prediction, filled up with zeros at the end.

    Args:
        rolls: list of piano rolls (T, 88).
        length: number of steps of a row; by default as many as the longest roll needs. A longer
            roll goes on in further rows, so that no step is lost.
        rows: the number of rows N is made a multiple of this by empty rows.

    Returns:
        inputs (N, length, 88): all frames but the last.
        targets (N, length, 88): all frames but the first, which nothing precedes.
        mask (N, length): 1 where there is a target, 0 in the padding.
    """
    length = length or max(map(len, rolls)) - 1
    pieces = [
        roll[start : start + length + 1]
        for roll in rolls
        for start in range(0, len(roll) - 1, length)
    ]
    inputs = np.zeros((math.ceil(len(pieces) / rows) * rows, length, KEYS), np.float32)
    targets, mask = np.zeros_like(inputs), np.zeros(inputs.shape[:2], np.float32)
    for n, piece in enumerate(pieces):
        steps = len(piece) - 1
        inputs[n, :steps], targets[n, :steps], mask[n, :steps] = piece[:-1], piece[1:], 1.0
    return inputs, targets, mask


def weighted(rolls, length, rows):
    """`pad`'s inputs and targets, and weights (N, length) for a loss in nats per time step.

    Keras takes the mean of the cross-entropy over keys, steps and rows, padding included. With
    these weights that is a sum over the keys and a mean over the steps that are no padding; over
    several batches too, as long as all have the same number of rows.
    """
    inputs, targets, mask = pad(rolls, length, rows)
    return inputs, targets, KEYS * mask / mask.mean()


# -------------------------------------------------------------- the scores of models without memory


def floors(train, test):
    """Nats per time step on `test`, all steps pooled, of three models fitted to `train`.

    marginal: every key sounds with its own probability, whatever came before.
    bigram: the probability of a key depends on whether the same key sounds in the step before.
    logistic: the probability of a key depends on all 88 keys in the step before.
    """
    x, y = frame_pairs(train)
    x_test, y_test = frame_pairs(test)
    logits = {
        "marginal": log_odds(y.sum(axis=0), len(y)),
        "bigram": np.where(x_test, bigram_logits(x, y), bigram_logits(1 - x, y)),
        "logistic": logistic_logits(x, y, x_test),
    }
    return {name: nats_per_step(value, y_test) for name, value in logits.items()}


def frame_pairs(rolls):
    """All (frame, next frame) of all chorales, each as (steps, 88)."""
    return (
        np.concatenate([roll[:-1] for roll in rolls]).astype(float),
        np.concatenate([roll[1:] for roll in rolls]).astype(float),
    )


def nats_per_step(logits, targets):
    """Sigmoid cross-entropy, summed over the 88 keys, averaged over the steps."""
    return float((np.logaddexp(0.0, logits) - targets * logits).sum() / len(targets))


def log_odds(ones, total):
    """Returns the logit of the share ones / total, with half a count added to both outcomes."""
    return np.log((ones + 0.5) / (total - ones + 0.5))


def bigram_logits(condition, y):
    return log_odds((condition * y).sum(axis=0), condition.sum(axis=0))


def logistic_logits(x, y, x_test, penalty=1.0):
    """Fits one logistic regression for each key; keys unseen in training keep their marginal."""
    seen_x, seen_y = x.any(axis=0), y.any(axis=0)
    design, design_test = (
        np.column_stack([part[:, seen_x], np.ones(len(part))]) for part in (x, x_test)
    )
    logits = np.tile(log_odds(y.sum(axis=0), len(y)), (len(x_test), 1))
    logits[:, seen_y] = design_test @ fit_logistic(design, y[:, seen_y], penalty)
    return logits


def fit_logistic(design, targets, penalty, tolerance=1e-3):
    """Weights (D, keys) of penalised logistic regressions from the same inputs, by Newton's method.

    Chorales come back to the same chords: equal rows of the design are counted, not repeated.
    """
    rows, which, counts = np.unique(design, axis=0, return_inverse=True, return_counts=True)
    size, keys = rows.shape[1], targets.shape[1]
    ones = np.zeros((len(rows), keys))
    np.add.at(ones, which.ravel(), targets)
    products = (rows[:, :, None] * rows[:, None, :]).reshape(len(rows), -1)
    weights = np.zeros((size, keys))
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-rows @ weights))
        gradient = rows.T @ (counts[:, None] * p - ones) + penalty * weights
        curvature = (counts[:, None] * p * (1.0 - p)).T @ products
        hessian = curvature.reshape(-1, size, size) + penalty * np.eye(size)
        step = np.linalg.solve(hessian, gradient.T[..., None])[..., 0].T
        weights -= step
        if np.abs(step).max() < tolerance:
            return weights
    raise RuntimeError("Newton's method did not converge in 50 steps; raise `penalty`.")
