"""A small run of a study, for the tests of studies."""

from argparse import Namespace

import keras
import numpy as np
from study import music
from study.identity import spec_text
from study.task import Task
from study.training import Run

COMPILED = keras.backend.backend() == "jax"  # on which a run without XLA takes minutes
RUN = Run(
    "tones",
    "gru",
    5,
    seed=3,
    learning_rate=5e-3,
    spec=spec_text("gru"),
    epochs=3,
    buckets=2,
    compiled=COMPILED,
)


def tones(folder=None) -> Task:
    """Frames of 88 keys of which the next is the last, shifted; pieces of different lengths."""
    rng = np.random.default_rng(0)
    rolls = [np.eye(88, dtype="float32")[np.arange(n) + rng.integers(40)] for n in range(5, 29)]
    parts = [music.next_frames(rolls[at::3]) for at in range(3)]
    return Task("tones", *parts, 88, music.nats, "nats per time step", lambda: {"chance": 61.0})


def numbers(result: dict) -> dict:
    return {key: value for key, value in result.items() if "seconds" not in key}


def options(**given) -> Namespace:
    usual = {"engine": "here", "workers": 1, "address": None, "smoke": False}
    return Namespace(**{**usual, **given})
