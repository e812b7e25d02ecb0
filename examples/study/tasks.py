"""The table of tasks by name."""

import dataclasses
import hashlib
from functools import cache, partial
from pathlib import Path

from study import memory, music, speech
from study.task import Task

ENDINGS = ".mat", ".pickle", ".pkl", ".wav"
LENGTHS = 100, 200, 400
SYNTHETIC = {
    **{f"adding_{n}": partial(memory.adding, length=n) for n in LENGTHS},
    **{f"copying_{n}": partial(memory.copying, length=n) for n in LENGTHS},
}
TASKS = {
    **{name: partial(music.music, name) for name in ("chorales", *music.FILES)},
    **{name: partial(speech.speech, name, **given) for name, given in speech.SETS.items()},
    **SYNTHETIC,
    "digits": memory.digits,
    "vowels": memory.vowels,
}
SETTINGS: dict[str, dict] = {}  # of the runs of tasks that a plugin registers
FROM_FILES = {*music.FILES, *speech.SETS}


def source(name: str, data: Path | None) -> str:
    """Returns a hash of the names and sizes of the files that a task reads, "" if it reads none."""
    if name not in FROM_FILES or data is None:
        return ""
    found = (path for path in Path(data).rglob("*") if path.suffix.lower() in ENDINGS)
    names = sorted((path.relative_to(data).as_posix(), path.stat().st_size) for path in found)
    return hashlib.sha256(repr(names).encode()).hexdigest()[:12]


@cache
def load(name: str, data: Path | None = None, small: int | None = None) -> Task:
    """Returns the task of that name.

    Args:
        name: in TASKS.
        data: folder of the tasks that read files.
        small: number of sequences of each part, None for all.
    """
    if name not in TASKS:
        raise ValueError(f"A task must be one of {sorted(TASKS)}. Received: {name!r}.")
    if small:
        return load(name, data).smaller(small)
    return dataclasses.replace(TASKS[name](data), name=name)
