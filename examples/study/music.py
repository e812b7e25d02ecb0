"""Polyphonic music: which keys sound next. Four sets from your own files, or Bach's chorales.

The sets are those of Boulanger-Lewandowski, Bengio and Vincent (2012), in either of two common
formats: their own pickles, or .mat files with one matrix (T, 88) for each piece.
"""

import pickle
from functools import cache, partial
from pathlib import Path

import chorales
import keras
import numpy as np

from study.task import Part, Task

FILES = {  # set -> names of its file, without the ending
    "jsb": ("JSB_Chorales", "JSB Chorales"),
    "nottingham": ("Nottingham",),
    "muse": ("MuseData",),
    "piano": ("Piano_midi", "Piano-midi.de"),
}
PARTS = "train", "valid", "test"


def nats(targets, logits):
    """Cross-entropy of 88 keys that sound or not, summed over the keys."""
    each = keras.ops.binary_crossentropy(targets, logits, from_logits=True)
    return keras.ops.sum(each, axis=-1)


def music(name: str, folder: Path | None) -> Task:
    """Returns the task: predict the next frame of a piano roll, from the second frame on."""
    rolls = read_rolls(name, folder)
    parts = {key: next_frames(rolls[key]) for key in PARTS}
    floors = partial(chorales.floors, rolls["train"], rolls["test"])
    score = {"outputs": chorales.KEYS, "score": nats, "unit": "nats per time step"}
    return Task(name, **parts, **score, floors=floors, shares=shares(parts["train"]))


def shares(part: Part) -> np.ndarray:
    """Returns the log odds (88,) with which each key sounds."""
    frames = np.concatenate(part.targets)
    return chorales.log_odds(frames.sum(axis=0), len(frames))


def next_frames(rolls) -> Part:
    return Part([roll[:-1] for roll in rolls], [roll[1:] for roll in rolls])


@cache
def read_rolls(name: str, folder: Path | None) -> dict[str, list[np.ndarray]]:
    """Returns train, valid and test: lists of float32 arrays (T, 88) of 0 and 1."""
    if name == "chorales":
        return dict(zip(PARTS, chorales.split(chorales.read_chorales()), strict=True))
    path = find_file(name, folder)
    return read_mat(path) if path.suffix == ".mat" else read_pickle(path)


def find_file(name: str, folder: Path | None) -> Path:
    expected = [f"{stem}{end}" for stem in FILES[name] for end in (".mat", ".pickle", ".pkl")]
    for path in (Path(folder) / file for file in expected) if folder else ():
        if path.exists():
            return path
    raise FileNotFoundError(
        f"The set {name!r} is read from a folder of yours, which must hold one of {expected}. "
        f"Received: --data {folder}. Without files there is the set 'chorales'."
    )


def read_mat(path: Path) -> dict[str, list[np.ndarray]]:
    from scipy.io import loadmat

    found = loadmat(path)
    return {part: [roll.astype(np.float32) for roll in found[f"{part}data"][0]] for part in PARTS}


def read_pickle(path: Path) -> dict[str, list[np.ndarray]]:
    with open(path, "rb") as file:
        found = PlainUnpickler(file, encoding="latin1").load()
    return {part: [roll_of(piece) for piece in found[part]] for part in PARTS}


def roll_of(piece) -> np.ndarray:
    """(T, 88) from T tuples of MIDI numbers."""
    roll = np.zeros((len(piece), chorales.KEYS), np.float32)
    for step, notes in enumerate(piece):
        if not all(0 <= note - chorales.LOWEST_NOTE < chorales.KEYS for note in notes):
            raise ValueError(
                "A piece must hold MIDI numbers from 21 to 108, the keys of a piano. "
                f"Received: {list(notes)} at step {step}."
            )
        roll[step, [note - chorales.LOWEST_NOTE for note in notes]] = 1.0
    return roll


class PlainUnpickler(pickle.Unpickler):
    """Reads lists, tuples and numbers; a file that wants more could run anything."""

    def find_class(self, module, name):
        raise pickle.UnpicklingError(
            f"A set of music holds lists, tuples and numbers. Received: {module}.{name}."
        )
