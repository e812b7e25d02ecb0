"""A cell and a task of one's own for the studies: a file for the option --plugin.

    python examples/ablation_study.py --plugin examples/study_plugin.py --tasks order \
        --vanilla lstm --cells lstm_light gru --parameters 1000
    python examples/long_memory.py --plugin examples/study_plugin.py --tasks order --data DIR

The task: two sensors each have one short pulse, in noise. Which was first? With --data it reads
all files DIR/*.csv, each one sequence: a line for each time step, the numbers separated by commas.
A name that begins with "1_" is that of class 1. Without --data it makes 300 sequences from a seed.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from study.plugin import add_task, nats, split

import keras_gated as kg

# A cell of one's own: any specification, under a new name.
LIGHT = replace(
    kg.preset("lstm"),
    forget_gate=kg.Gate(recurrent_kernel=None, bias_initializer="ones"),
)
kg.presets.add(
    "lstm_light", "LSTM, forget gate sees only x_t", LIGHT, paper="examples/study_plugin.py"
)


def read(folder: Path | None) -> dict[str, tuple]:
    """Returns the three parts of the data: sequences (T, 2), and a class for each."""
    sequences, classes = made() if folder is None else from_files(folder)
    return split(sequences, np.array(classes), seed=0)


def from_files(folder: Path) -> tuple[list[np.ndarray], list[int]]:
    paths = sorted(folder.glob("*.csv"))
    sequences = [np.loadtxt(path, delimiter=",", ndmin=2) for path in paths]
    return sequences, [int(path.name.startswith("1_")) for path in paths]


def made(count: int = 300, seed: int = 0) -> tuple[list[np.ndarray], list[int]]:
    """Returns sequences of 20 to 40 steps, and 1 where the second sensor was first."""
    rng = np.random.default_rng(seed)
    sequences, classes = [], []
    for _ in range(count):
        x = rng.normal(0.0, 0.1, (rng.integers(20, 41), 2))
        pulses = rng.choice(len(x), 2, replace=False)  # of the first sensor, of the second
        x[pulses, [0, 1]] += 1.0
        sequences.append(x)
        classes.append(int(pulses[1] < pulses[0]))
    return sequences, classes


add_task("order", read, score=nats, outputs=2, unit="nats", accuracy=True, epochs=40)
